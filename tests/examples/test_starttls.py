"""examples/starttls.py: both sides against real ones, what is refused, and what came before the handshake."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from programs import EXAMPLES, HOST, Service, example, example_module, output_of, tool
from support import TIMEOUT

KIND = trustme.KeyType.ECDSA


class Files(NamedTuple):
    cert: Path
    key: Path
    ca: Path
    other_ca: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A certificate for this host, its key, who has signed it, and who has not."""
    folder = tmp_path_factory.mktemp("starttls")
    ca = trustme.CA(key_type=KIND)
    issued = ca.issue_cert("localhost", HOST, key_type=KIND)
    made = Files(*(folder / name for name in ("cert.pem", "key.pem", "ca.pem", "other.pem")))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(made.cert), append=True)
    issued.private_key_pem.write_to_path(str(made.key))
    ca.cert_pem.write_to_path(str(made.ca))
    trustme.CA(key_type=KIND).cert_pem.write_to_path(str(made.other_ca))
    return made


@pytest.fixture
def server(files):
    options = ("--host", HOST, "--port", "0", "--cert", str(files.cert), "--key", str(files.key))
    with example("starttls.py", "serve", *options) as program:
        yield program


@pytest.fixture(scope="session")
def starttls():
    return example_module("starttls")


def talk(server: Service, *lines: bytes) -> bytes:
    """All that the server says to these lines, sent in one piece after its greeting."""
    with socket.create_connection((HOST, server.port), TIMEOUT) as client, client.makefile("rb") as replies:
        assert replies.readline() == b"220 example ESMTP\r\n"
        client.sendall(b"".join(line + b"\r\n" for line in lines))
        return replies.read()


# --- the two together ------------------------------------------------------------------------------------


def test_a_mail_is_delivered_over_tls(server, files, starttls):
    said = asyncio.run(starttls.send(HOST, server.port, files.ca, "<me@example>", "one\n.two\n\nthree"))
    assert said == "taken"
    assert server.wait_for_line("TLS:") == "TLS: TLSv1.3"
    server.wait_for_line("mail for <<me@example>>:")
    assert server.stop().partition("me@example>>:\n")[2].startswith("one\n.two\n\nthree\n")


def test_the_client_refuses_a_server_that_it_cannot_verify(server, files, starttls):
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
        asyncio.run(starttls.send(HOST, server.port, files.other_ca, "me@example", "secret"))
    assert "unknown ca" in server.wait_for_line("TLS:")
    assert "secret" not in server.stop()


def test_the_program_says_what_went_wrong(server, files):
    options = ("--host", HOST, "--port", str(server.port), "--ca", str(files.other_ca))
    command = [sys.executable, EXAMPLES / "starttls.py", "send", *options]
    done = subprocess.run(command, input="secret", capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1
    assert done.stderr.startswith("not delivered: [SSL: CERTIFICATE_VERIFY_FAILED]")
    assert len(done.stderr.splitlines()) == 1


def test_a_long_mail_arrives_whole(server, files, starttls):
    lines = [f"line {number}" for number in range(20_000)]
    sent = starttls.send(HOST, server.port, files.ca, "me@example", "\n".join(lines))
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(asyncio.run, sent)
        server.wait_for_line(lines[-1])  # the server prints it before it says so
        assert done.result(TIMEOUT) == "taken"
    printed = server.stop().splitlines()
    assert printed[printed.index(lines[0]) :][: len(lines)] == lines


def test_a_mail_that_is_too_long_is_not_taken(server, files, starttls):
    with pytest.raises(starttls.Refused, match="552 too much mail"):
        asyncio.run(starttls.send(HOST, server.port, files.ca, "me@example", "z\n" * 600_000))
    assert "z\n" not in server.stop()


# --- the server, and real clients ------------------------------------------------------------------------


def test_the_standard_librarys_client_delivers(server, files):
    context = ssl.create_default_context(cafile=files.ca)
    with smtplib.SMTP(HOST, server.port, "client.example", TIMEOUT) as client:
        with pytest.raises(smtplib.SMTPSenderRefused, match="must issue a STARTTLS command first"):
            client.sendmail("me@example", ["you@example"], "too early")
        assert client.starttls(context=context)[0] == 220
        assert client.sendmail("me@example", ["you@example", "them@example"], ".a\r\n..b\r\n") == {}
    server.wait_for_line("mail for <you@example>, <them@example>:")
    assert server.stop().partition("them@example>:\n")[2].startswith(".a\n..b\n")


def test_the_openssl_client_reaches_it(server, files):
    options = ("-connect", f"{HOST}:{server.port}", "-starttls", "smtp", "-CAfile", str(files.ca), "-crlf")
    said = output_of(tool("openssl"), "s_client", *options, "-verify_return_error", "-ign_eof", stdin=b"noop\nquit\n")
    assert "Verify return code: 0 (ok)" in said
    assert "250 ok" in said
    assert "221 bye" in said


def test_what_came_in_plain_text_is_not_taken_for_what_came_over_tls(server):
    """The command injection of CVE-2011-0411: a command right behind STARTTLS."""
    said = talk(server, b"EHLO x", b"STARTTLS", b"RCPT TO:<thief@example>", b"NOOP")
    assert said.startswith(b"250-example\r\n250 STARTTLS\r\n220 go ahead\r\n")
    assert b"250 ok" not in said
    assert "SSL" in server.wait_for_line("TLS:")


def test_what_was_said_before_the_handshake_is_forgotten(server, files):
    with smtplib.SMTP(HOST, server.port, "client.example", TIMEOUT) as client:
        client.starttls(context=ssl.create_default_context(cafile=files.ca))
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.docmd("DATA")[0] == 503


def test_plain_text_is_answered_and_takes_no_mail(server):
    said = talk(server, b"NOOP", b"MAIL FROM:<me@example>", b"DATA", b"HELP", b"\xff\xff\xff", b"QUIT")
    assert [line[:3] for line in said.splitlines()] == [b"250", b"530", b"530", b"502", b"502", b"221"]


def test_a_client_that_asks_and_does_not_read_is_reset(server):
    def ask_for_ever() -> None:
        while True:
            client.sendall(b"NOOP\r\n" * 10_000)

    with socket.create_connection((HOST, server.port), TIMEOUT) as client, pytest.raises(ConnectionError):
        ask_for_ever()


def test_a_line_without_an_end_is_refused(server):
    with socket.create_connection((HOST, server.port), TIMEOUT) as client, client.makefile("rb") as replies:
        client.sendall(b"x" * 5000)
        assert replies.read() == b"220 example ESMTP\r\n500 line too long\r\n"


# --- the client, and servers that do not play along ------------------------------------------------------


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ([b"220 here\r\n", b"250 nothing else\r\n"], "the server has no STARTTLS"),
        ([b"220 here\r\n", b"250-x\r\n250 STARTTLS\r\n", b"454 not now\r\n"], "454 not now"),
        ([b"554 go away\r\n"], "554 go away"),
        ([b""], "the server has gone"),
    ],
)
def test_the_client_says_nothing_private_without_tls(replies, said, files, starttls):
    async def converse() -> bytes:
        heard = bytearray()

        async def answer(reader, writer):
            for reply in replies:
                writer.write(reply)
                if reply is not replies[-1]:
                    heard.extend(await reader.readline())
            writer.close()

        async with await asyncio.start_server(answer, HOST, 0) as fake:
            port = fake.sockets[0].getsockname()[1]
            with pytest.raises(starttls.Refused, match=said):
                await asyncio.wait_for(starttls.send(HOST, port, files.ca, "me@example", "secret"), TIMEOUT)
        return bytes(heard)

    heard = asyncio.run(converse())
    assert b"secret" not in heard
    assert b"MAIL" not in heard
