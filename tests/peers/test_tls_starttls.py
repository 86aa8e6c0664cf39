"""TLS from the middle of a connection on: SMTP's STARTTLS and PostgreSQL's SSLRequest, each with a real client of our
server, and a real server of our client."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import smtplib
import socket
import ssl
import struct
import sys
from pathlib import Path

import pytest
from support import Peer, Recorder, pattern
from support.programs import HOST, tool
from support.servers import postgres_server
from support.tls import CA, CLIENT, CLIENT_TLS, OTHER_CA, SERVER_TLS

NAMED = {**CLIENT_TLS, "server_name": "localhost"}
LETTER = "\r\n".join(pattern(60_000).hex()[at : at + 70] for at in range(0, 120_000, 70))


# ---------------------------------------------------------------------------- our mail server


class MailServer:
    """As much of SMTP (RFC 5321, RFC 3207) as it takes to hand over one letter, after STARTTLS alone."""

    def __init__(self, tls=SERVER_TLS):
        self.plain = Recorder(open=self.greet, data=self.hear)
        self.secured = Recorder(data=self.hear, error=lambda *_: None)  # `close` is told the same
        self.tls = tls
        self.lines: list[str] = []
        self.rest = b""
        self.letter: list[bytes] | None = None
        self.letters: list[bytes] = []

    def greet(self, socket):
        socket.write(b"220 localhost ESMTP\r\n")

    def hear(self, socket, chunk):
        *lines, self.rest = (self.rest + chunk).split(b"\r\n")
        for line in lines:
            self.obey(socket, line)

    def obey(self, socket, line):
        if self.letter is not None:
            self.collect(socket, line)
            return
        verb = line[:4].upper()
        self.lines.append(line.decode())
        if verb == b"EHLO":
            socket.write(
                b"250-localhost\r\n250 8BITMIME\r\n"
                if self.is_secured(socket)
                else b"250-localhost\r\n250 STARTTLS\r\n"
            )
        elif line.upper() == b"STARTTLS":
            socket.write(b"220 go ahead\r\n")
            socket.upgrade_tls(tls=self.tls, socket=self.secured.handlers, server=True, initial_data=self.rest)
            self.rest = b""
        elif not self.is_secured(socket):
            socket.write(b"530 Must issue a STARTTLS command first\r\n")
        elif verb == b"DATA":
            self.letter = []
            socket.write(b"354 go on\r\n")
        elif verb == b"QUIT":
            socket.end(b"221 bye\r\n")
        else:
            socket.write(b"250 ok\r\n")

    def collect(self, socket, line):
        if line != b".":
            self.letter.append(line)
            return
        self.letters.append(b"\r\n".join(self.letter))
        self.letter = None
        socket.write(b"250 kept\r\n")

    def is_secured(self, socket):
        return bool(self.secured.sockets) and socket is self.secured.socket


def test_s_client_starts_tls_in_the_middle(loop, tcp, openssl, files):
    server = MailServer()
    listener = tcp.listen(server.plain)
    trust = ("-CAfile", files.ca, "-verify_return_error", "-verify_hostname", "localhost")
    program = openssl("s_client", "-starttls", "smtp", "-crlf", "-connect", f"{HOST}:{listener.port}", *trust)
    loop.wait(program.hear("Verify return code: 0 (ok)"))
    program.say("EHLO again")
    loop.wait(program.hear("250 8BITMIME"))
    program.say("quit")  # Q would be a command to s_client
    loop.wait(program.hear("221 bye"))
    listener.stop()
    loop.run()
    assert server.lines[-3:] == ["STARTTLS", "EHLO again", "quit"]
    assert server.plain.names(without=("data",)) == ["open"]  # the connection is the secured socket's now
    assert server.secured.order() == ["open", "data", "end", "close"]
    assert server.secured.close_error is None


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_smtplib_hands_over_a_letter(loop, tcp, client_of, version):
    server = MailServer({**SERVER_TLS, "max_version": version})
    listener = tcp.listen(server.plain)

    def deliver(context):
        with smtplib.SMTP(HOST, listener.port, timeout=10) as client:
            client._host = "localhost"  # what the certificate is checked for
            client.starttls(context=context)
            client.sendmail("me@example.test", ["you@example.test"], LETTER)

    loop.wait(client_of(deliver))
    listener.stop()
    loop.run()
    assert server.letters == [LETTER.encode()]
    assert server.secured.socket.get_tls_version() == version
    assert server.plain.names(without=("data",)) == ["open"]


def test_smtplib_that_does_not_trust_us_says_no_more(loop, tcp, client_of):
    server = MailServer({**SERVER_TLS, **OTHER_CA.issue("localhost").options})
    listener = tcp.listen(server.plain)

    def deliver(context):
        with smtplib.SMTP(HOST, listener.port, timeout=10) as client:
            client._host = "localhost"
            with pytest.raises(ssl.SSLCertVerificationError):
                client.starttls(context=context)
            client.close()

    loop.wait(client_of(deliver))
    listener.stop()
    loop.run()
    assert server.lines[-1] == "STARTTLS"
    assert "data" not in server.secured.names()
    assert server.secured.count("close") == 1


@pytest.fixture
def client_of(files):
    """Run a function in a thread, with a context that trusts our authority."""
    peers = []

    def begin(function):
        peers.append(Peer(socket.socket))  # for its thread
        return peers[-1].call(function, ssl.create_default_context(cafile=files.ca))

    yield begin
    for peer in peers:
        peer.stop()


# ---------------------------------------------------------------------------- a real mail server

AIOSMTPD = """
import asyncio, hashlib, ssl, sys
from aiosmtpd.smtp import SMTP

class Handler:
    async def handle_DATA(self, server, session, envelope):
        digest = hashlib.sha256(envelope.original_content).hexdigest()
        print("letter", digest, session.ssl is not None, flush=True)
        return "250 kept"

async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*sys.argv[1:])
    make = lambda: SMTP(Handler(), hostname="localhost", tls_context=context, require_starttls=True, loop=asyncio.get_running_loop())
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    print("listening on", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def test_our_client_hands_a_letter_to_a_real_mail_server(loop, tcp, start, files):
    if importlib.util.find_spec("aiosmtpd") is None:
        pytest.skip("aiosmtpd is not installed")
    server = start(sys.executable, "-W", "ignore", "-c", AIOSMTPD, *files.server)
    server.hear("listening on ").result()
    server.port = int(server.hear("\n").result())
    letter = LETTER.encode() + b"\r\n"
    digest = hashlib.sha256(letter).hexdigest()
    after_tls = [
        b"EHLO me",
        b"MAIL FROM:<me@example.test>",
        b"RCPT TO:<you@example.test>",
        b"DATA",
        letter + b".",
        b"QUIT",
    ]
    replies: list[bytes] = []

    def say_next(socket):
        socket.write(after_tls.pop(0) + b"\r\n")

    def hear_secured(socket, chunk):
        replies.append(chunk)
        if after_tls and last_line(b"".join(replies)):
            say_next(socket)

    def hear_plain(socket, chunk):
        replies.append(chunk)
        if not last_line(b"".join(replies)):
            return
        told = b"".join(replies)
        if b"220 Ready to start TLS" in told:
            socket.upgrade_tls(tls=NAMED, socket=secured.handlers)
        else:
            socket.write(b"STARTTLS\r\n" if b"250-STARTTLS" in told else b"EHLO me\r\n")

    secured = Recorder(open=say_next, data=hear_secured)
    plain = Recorder(data=hear_plain)
    tcp.connect(plain, server, high_water_mark=1 << 20)
    loop.run()
    assert f"letter {digest} True" in server.hear("letter").result() + server.hear("\n").result()
    assert b"".join(replies).splitlines()[-1].startswith(b"221 ")
    assert secured.order() == ["open", "data", "end", "close"]
    assert plain.names(without=("data",)) == ["open"]


def last_line(text: bytes) -> bool:
    """Is the last reply whole? Its last line has no hyphen behind the code."""
    return text.endswith(b"\r\n") and text.splitlines()[-1][3:4] == b" "


# ---------------------------------------------------------------------------- PostgreSQL

SSL_REQUEST = struct.pack("!II", 8, 80877103)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def startup(database: str) -> bytes:
    words = ("user", "postgres", "database", database, "")
    return message(b"", struct.pack("!I", 3 << 16) + b"".join(word.encode() + b"\0" for word in words))


@pytest.fixture(scope="module")
def postgres(files):
    """A real server, with our certificate."""

    def prepare(folder, user):
        shutil.copytree(files.folder, folder, dirs_exist_ok=True)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o700 if path.is_dir() else 0o600)
            if user is not None:
                shutil.chown(path, user)
        rules = "hostssl template1 all 127.0.0.1/32 trust clientcert=verify-ca\nhostssl all all 127.0.0.1/32 trust\n"
        (folder / "data" / "pg_hba.conf").write_text(rules)

    secured = {"ssl_cert_file": "../server.cert", "ssl_key_file": "../server.key", "ssl_ca_file": "../ca"}
    with postgres_server(prepare, ssl="on", **secured) as program:
        yield program


class Conversation:
    """Ours with a PostgreSQL server: SSLRequest, TLS, then what `say` has, until the server has answered."""

    def __init__(self, loop, tcp, server, say, tls=NAMED):
        self.say = say
        self.secured = Recorder(open=lambda socket: socket.write(say[0]), data=self.hear, error=lambda *_: None)
        self.plain = Recorder(open=lambda socket: socket.write(SSL_REQUEST), data=self.upgrade)
        self.tls = tls
        self.at = 0
        tcp.connect(self.plain, server)
        loop.run()

    def upgrade(self, socket, chunk):
        assert chunk == b"S"
        socket.upgrade_tls(tls=self.tls, socket=self.secured.handlers)

    def hear(self, socket, chunk):
        if self.secured.received().endswith(b"Z\0\0\0\5I"):  # ReadyForQuery
            self.at += 1
            socket.write(self.say[self.at])


def test_our_client_starts_tls_with_postgresql(loop, tcp, postgres):
    query = b"select version, bits, 'x' || repeat('y', 300000) from pg_stat_ssl where pid = pg_backend_pid()\0"
    talk = Conversation(loop, tcp, postgres, [startup("postgres"), message(b"Q", query), message(b"X", b"")])
    socket, received = talk.secured.socket, talk.secured.received()
    assert socket.get_tls_version().encode() in received
    assert b"x" + b"y" * 300000 in received
    assert talk.plain.names() == ["open", "data"]
    assert talk.secured.order()[:2] == ["open", "data"]


def test_postgresql_is_checked_as_other_servers_are(loop, tcp, postgres):
    talk = Conversation(loop, tcp, postgres, [startup("postgres")], {"ca": OTHER_CA.pem, "server_name": "localhost"})
    (told,) = [args[0] for name, _, args in talk.secured.events if name in ("close", "connect_error")]
    assert isinstance(told, ssl.SSLCertVerificationError)
    assert not talk.secured.sockets


@pytest.mark.parametrize(("own", "let_in"), [({}, False), (CLIENT.options, True)])
def test_postgresql_sees_our_certificate(loop, tcp, postgres, own, let_in):
    talk = Conversation(loop, tcp, postgres, [startup("template1"), message(b"X", b"")], {**NAMED, **own})
    assert (b"Z\0\0\0\5I" in talk.secured.received()) == let_in
    assert (b"requires a valid client certificate" in talk.secured.received()) != let_in


def test_psql_starts_tls_with_our_server(loop, tcp, start, files):
    told = []

    def hear_plain(socket, chunk):
        assert chunk == SSL_REQUEST
        socket.write(b"S")
        socket.upgrade_tls(tls={**SERVER_TLS, "request_cert": True, "ca": CA.pem}, socket=secured.handlers, server=True)

    def hear_secured(socket, chunk):
        told.append(chunk)
        socket.end(message(b"E", b"SFATAL\0C28000\0Mclosed on Mondays\0\0"))

    secured = Recorder(data=hear_secured)
    plain = Recorder(data=hear_plain)
    listener = tcp.listen(plain)
    where = f"host=localhost hostaddr={HOST} port={listener.port} dbname=shop user=me gssencmode=disable"
    own = f"sslmode=verify-full sslrootcert={files.ca} sslcert={files.client[0]} sslkey={files.client[1]}"
    Path(files.client[1]).chmod(0o600)
    program = start(tool("psql"), f"{where} {own}")
    assert "FATAL:  closed on Mondays" in loop.wait(program.finished())
    listener.stop()
    loop.run()
    assert b"user\0me\0database\0shop\0" in told[0]
    assert secured.socket.get_peer_certificate()["raw"] == CLIENT.der
    assert secured.order()[:2] == ["open", "data"]
