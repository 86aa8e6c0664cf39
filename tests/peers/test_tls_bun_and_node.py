"""Node and Bun as clients and servers: `node:tls` of both (tls_peer.mjs), and Bun's own sockets (tls_peer_bun.ts)."""

from __future__ import annotations

import hashlib
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from support import Recorder
from support.programs import find_bun, tool
from support.tls import CA, CLIENT, CLIENT_TLS, OTHER_CA, SERVER, SERVER_TLS, STRANGE_CLIENT, needs_borrowed

HERE = Path(__file__).parent
NAME = "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1"
BLOB = b"0123456789abcdef" * 65536
DIGEST = hashlib.sha256(BLOB).hexdigest()
ROOM = 4 * len(BLOB)  # as high_water_mark: what is echoed is taken whole
VERSIONS = pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
ASKING = {**SERVER_TLS, "request_cert": True, "ca": CA.pem}
node_alone = pytest.mark.parametrize("runtime", ["node"], indirect=True)


class Runtime:
    """A program of one of the runtimes: what it tells is heard by `event`, and it does what it is told."""

    def __init__(self, loop: Any, program: Any) -> None:
        self.loop, self.program = loop, program
        self.do = program.say

    @property
    def port(self) -> int:
        return self.program.port

    def event(self, name: str) -> Any:
        """The next of this name."""
        head = f'{{"event":"{name}"'
        self.loop.wait(self.program.hear(head))
        return json.loads(head + self.loop.wait(self.program.hear("}\n")))

    def data(self, last: bytes) -> Any:
        """Wait until it has received what ends so."""
        return self.loop.wait(self.program.hear(f'{last[-32:].decode()}"}}\n'))


@pytest.fixture(params=["node", "bun, node:tls", "bun"])
def runtime(request, loop, start):
    """Start one of them: `client(listener, **options)` or `server(**options)`; options are those of node:tls."""
    if request.param == "node":
        path = tool("node")
    else:
        path, reason = find_bun()
        if path is None:
            pytest.skip(reason)
    script = HERE / ("tls_peer_bun.ts" if request.param == "bun" else "tls_peer.mjs")

    class Starter:
        name = request.param

        def client(self, listener, **options):
            return self._run(role="client", port=listener.port, options=trusting(options), echo=False)

        def server(self, **options):
            own = {"key": SERVER.key.decode(), "cert": SERVER.cert.decode()}
            running = self._run(role="server", options={**own, **options})
            running.program.port = running.event("listening")["port"]
            return running

        def _run(self, **config):
            return Runtime(loop, start(path, script, json.dumps(config)))

    return Starter()


def trusting(options):
    return {"ca": CA.pem.decode(), "servername": "localhost", **options}


def echo(socket, chunk):
    socket.write(chunk)


# ---------------------------------------------------------------------------- their client, our server


@VERSIONS
def test_a_client_of_theirs_and_our_server_agree(loop, tcp, runtime, version):
    recorder = Recorder(data=echo)
    tls = {**SERVER_TLS, "alpn_protocols": ["h2", "http/1.1"], "max_version": version}
    listener = tcp.listen(recorder, tls=tls)
    client = runtime.client(listener, ALPNProtocols=["http/1.1", "h2"])
    secure = client.event("secure")
    client.do("send hello")
    client.data(b"hello")
    client.do("end")
    loop.run_until(lambda: recorder.count("close"))
    listener.stop()
    socket = recorder.socket
    named = {"version": socket.get_tls_version(), "suite": socket.get_cipher()["name"], "alpn": "h2", "peer": NAME}
    if runtime.name == "bun" and secure["suite"] != named["suite"]:  # it gives the suites of TLS 1.2 their RFC names
        named["suite"] = socket.get_cipher()["standard_name"]
    assert {name: secure[name] for name in named} == named
    assert secure["authorized"]
    assert socket.get_tls_version() == version
    assert socket.alpn_protocol == "h2"
    assert socket.get_servername() == "localhost"
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None


def test_a_megabyte_goes_to_our_server_and_back(loop, tcp, runtime):
    recorder = Recorder(data=echo)
    listener = tcp.listen(recorder, tls=SERVER_TLS, high_water_mark=ROOM)
    client = runtime.client(listener)
    client.event("secure")
    client.do(f"blob {len(BLOB)}")
    loop.run_until(lambda: recorder.sockets and recorder.socket.bytes_read == len(BLOB))
    recorder.socket.end()
    end = client.event("end")
    assert (end["size"], end["digest"]) == (len(BLOB), DIGEST)
    assert hashlib.sha256(recorder.received()).hexdigest() == DIGEST
    listener.stop()


@VERSIONS
@pytest.mark.parametrize(("who", "let_in"), [(CLIENT, True), (None, False), (STRANGE_CLIENT, False)])
def test_our_server_lets_in_whoever_of_theirs_shows_a_good_certificate(loop, tcp, runtime, version, who, let_in):
    recorder = Recorder(data=echo)
    listener = tcp.listen(recorder, tls={**ASKING, "max_version": version})
    own = {} if who is None else {"key": who.key.decode(), "cert": who.cert.decode()}
    client = runtime.client(listener, **own)
    if let_in:
        client.event("secure")
        client.do("send hello")
        client.data(b"hello")
        assert recorder.socket.authorized
        client.do("end")
    client.event("close")
    listener.stop()
    loop.run()
    assert recorder.order() == (["open", "data", "end", "close"] if let_in else [])


def test_a_client_of_theirs_that_does_not_trust_our_server_says_nothing(loop, tcp, runtime):
    recorder = Recorder(data=echo, error=lambda *_: None)
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    client = runtime.client(listener, ca=OTHER_CA.pem.decode())
    client.event("close")
    listener.stop()
    loop.run()
    assert "UNABLE_TO_VERIFY_LEAF_SIGNATURE" in client.program.said.decode()
    assert "data" not in recorder.names()


@node_alone
@VERSIONS
def test_their_client_ends_and_reads_on(loop, tcp, runtime, version):
    recorder = Recorder(end=lambda socket: socket.end(BLOB))
    tls = {**SERVER_TLS, "max_version": version}
    listener = tcp.listen(recorder, tls=tls, allow_half_open=True, high_water_mark=ROOM)
    client = runtime.client(listener, allowHalfOpen=True)
    client.event("secure")
    client.do("send hello")
    client.do("end")
    assert client.event("end")["digest"] == DIGEST
    listener.stop()
    loop.run()
    assert recorder.received() == b"hello"
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None


@node_alone
@VERSIONS
def test_our_server_ends_and_reads_on(loop, tcp, runtime, version):
    recorder = Recorder(open=lambda socket: socket.end(b"only this"))
    listener = tcp.listen(recorder, tls={**SERVER_TLS, "max_version": version}, allow_half_open=True)
    client = runtime.client(listener, allowHalfOpen=True)
    client.event("end")
    client.do(f"blob {len(BLOB)}")
    client.do("end")
    listener.stop()
    loop.run()
    assert hashlib.sha256(recorder.received()).hexdigest() == DIGEST
    assert recorder.close_error is None


@node_alone
@VERSIONS
def test_their_client_resumes_its_session(loop, tcp, runtime, version):
    recorder = Recorder(data=echo)
    listener = tcp.listen(recorder, tls={**SERVER_TLS, "max_version": version})
    client = runtime.client(listener)
    assert not client.event("secure")["reused"]
    client.event("session")
    client.do("end")
    client.event("close")
    client.do("again")
    assert client.event("secure")["reused"]
    loop.run_until(lambda: len(recorder.sockets) == 2)
    assert [socket.is_session_reused() for socket in recorder.sockets] == [False, True]
    client.do("end")
    listener.stop()


@node_alone
@needs_borrowed
@VERSIONS
def test_keying_material_and_finished_messages_are_theirs(loop, tcp, runtime, version):
    recorder = Recorder()
    listener = tcp.listen(recorder, tls={**SERVER_TLS, "max_version": version})
    client = runtime.client(listener)
    client.event("secure")
    client.do("exported")
    theirs = client.event("exported")
    ours = recorder.socket
    assert theirs["material"] == ours.export_keying_material(32, "EXPORTER-test", b"context").hex()
    assert theirs["finished"] == ours.get_tls_peer_finished_message().hex()
    assert theirs["peerFinished"] == ours.get_tls_finished_message().hex()
    client.do("end")
    listener.stop()


@node_alone
def test_a_client_of_theirs_that_is_gone_without_close_notify_was_cut_off(loop, tcp, runtime):
    recorder = Recorder(data=echo)
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    client = runtime.client(listener)
    client.event("secure")
    client.do("send hello")
    client.data(b"hello")
    client.program.kill()
    listener.stop()
    loop.run()
    assert recorder.order() == ["open", "data", "close"]
    assert type(recorder.close_error) is ssl.SSLEOFError


# ---------------------------------------------------------------------------- our client, their server


@VERSIONS
def test_our_client_and_a_server_of_theirs_agree(loop, tcp, runtime, version):
    server = runtime.server(ALPNProtocols=["h2", "http/1.1"])
    recorder = Recorder(open=lambda socket: socket.write(b"hello"), data=lambda socket, _: socket.end())
    tcp.connect(recorder, server, tls={**CLIENT_TLS, "max_version": version, "alpn_protocols": ["http/1.1", "h2"]})
    loop.run()
    secure, socket = server.event("secure"), recorder.socket
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.received() == b"hello"
    assert recorder.close_error is None
    assert socket.get_tls_version() == secure["version"] == version
    assert secure["suite"] in socket.get_cipher().values()
    assert socket.alpn_protocol == secure["alpn"] == "h2"
    assert socket.authorized


def test_a_megabyte_goes_to_their_server_and_back(loop, tcp, runtime):
    recorder = Recorder(open=lambda socket: socket.write(BLOB))
    tcp.connect(recorder, runtime.server(), tls=CLIENT_TLS, high_water_mark=ROOM)
    loop.run_until(lambda: recorder.sockets and recorder.socket.bytes_read == len(BLOB))
    recorder.socket.end()
    loop.run()
    assert hashlib.sha256(recorder.received()).hexdigest() == DIGEST
    assert recorder.close_error is None


@VERSIONS
@pytest.mark.parametrize(("who", "let_in"), [(CLIENT, True), (None, False), (STRANGE_CLIENT, False)])
def test_their_server_lets_us_in_with_a_good_certificate(loop, tcp, runtime, version, who, let_in):
    server = runtime.server(requestCert=True, rejectUnauthorized=True, ca=CA.pem.decode())
    recorder = Recorder(open=lambda socket: socket.write(b"hello"), data=lambda socket, _: socket.end(), error=ignored)
    own = {} if who is None else who.options
    connecting = tcp.connect(recorder, server, tls={**CLIENT_TLS, **own, "max_version": version})
    loop.run()
    if let_in:
        assert recorder.received() == b"hello"
        assert "email:client@example.test" in server.event("secure")["peer"]
    else:
        told = [args[0] for name, _, args in recorder.events if name in ("connect_error", "close")]
        assert len(told) == 1
        assert isinstance(told[0], (ssl.SSLError, ConnectionResetError))
        assert "data" not in recorder.names()
        assert connecting.exception() is told[0] or recorder.names()[0] == "open"


def ignored(socket, error):
    """It is told again, by `close`."""


def test_a_server_of_theirs_that_we_do_not_trust_is_refused(loop, tcp, runtime):
    recorder = Recorder()
    tcp.connect(recorder, runtime.server(), tls={"ca": OTHER_CA.pem})
    loop.run()
    assert recorder.names() == ["connect_error"]
    assert isinstance(recorder.args("connect_error")[0][0], ssl.SSLCertVerificationError)


@node_alone
@needs_borrowed
@VERSIONS
def test_our_client_resumes_its_session(loop, tcp, runtime, version):
    server, session, reused = runtime.server(), None, []
    for _ in range(2):
        recorder = Recorder(open=lambda socket: socket.write(b"hello"))
        tcp.connect(recorder, server, tls={**CLIENT_TLS, "max_version": version, "session": session})
        loop.run_until(lambda recorder=recorder: recorder.received() == b"hello")
        session = recorder.socket.get_session()
        recorder.socket.end()
        loop.run()
        reused.append((recorder.socket.is_session_reused(), server.event("secure")["reused"]))
    assert reused == [(False, False), (True, True)]
