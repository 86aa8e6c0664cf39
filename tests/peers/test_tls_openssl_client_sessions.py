"""`openssl s_client` against our server, over time: sessions, keys that change, small records, how either side goes."""

from __future__ import annotations

import hashlib
import re
import ssl

import pytest
from support import Recorder, pattern
from support.programs import HOST
from support.tls import CA, SERVER_TLS, needs_borrowed

VERSIONS = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])


@pytest.fixture
def s_client(openssl, files):
    """It, connected to a listener, checking who that is."""

    def begin(listener, *arguments):
        trust = ("-CAfile", files.ca, "-verify_return_error")
        return openssl("s_client", "-connect", f"{HOST}:{listener.port}", *trust, *arguments)

    return begin


@pytest.fixture
def visited(loop, tcp, s_client):
    """A listener of its own; then visits to it, each of which ends when the server has answered."""
    recorder = Recorder(data=lambda socket, chunk: socket.end(chunk.upper()))

    def listen(**tls):
        listener = tcp.listen(recorder, tls={**SERVER_TLS, **tls})

        def come(*arguments):
            program = s_client(listener, *arguments)
            program.say("hello")
            said = loop.wait(program.finished())
            loop.run_until(lambda: recorder.count("close") == len(recorder.sockets))
            assert "HELLO" in said
            return recorder.sockets[-1], said

        return come

    return listen


@pytest.fixture
def dialogue(loop, tcp, s_client):
    """A connection of it that stays, to a server that echoes: the server's recorder, and it."""

    def begin(*arguments, data=lambda socket, chunk: socket.write(chunk)):
        recorder = Recorder(data=data)
        listener = tcp.listen(recorder, tls=SERVER_TLS)
        program = s_client(listener, *arguments)
        loop.run_until(lambda: recorder.sockets)
        listener.stop()
        return recorder, program

    return begin


# ---------------------------------------------------------------------------- sessions


@VERSIONS
def test_a_session_is_resumed(visited, tmp_path, version):
    come, kept = visited(), str(tmp_path / "session")
    first, said = come(version, "-sess_out", kept)
    assert "New, " in said
    assert not first.is_session_reused()
    second, said = come(version, "-sess_in", kept)
    assert "Reused, " in said
    assert second.is_session_reused()


@VERSIONS
def test_a_session_is_resumed_by_the_clients_certificate_as_well(visited, files, tmp_path, version):
    come, kept = visited(request_cert=True, ca=CA.pem), str(tmp_path / "session")
    own = ("-cert", files.client[0], "-key", files.client[1])
    come(version, "-sess_out", kept, *own)
    socket, said = come(version, "-sess_in", kept, *own)
    assert "Reused, " in said
    assert socket.authorized
    assert ("email", "client@example.test") in socket.get_peer_certificate()["subjectAltName"]


@needs_borrowed
@VERSIONS
def test_a_session_of_one_name_is_not_resumed_under_another(visited, tmp_path, version):
    sni = {name: CA.issue(name).options for name in ("one.test", "two.test")}
    come, kept = visited(sni=sni), str(tmp_path / "session")
    come(version, "-servername", "one.test", "-sess_out", kept)
    _, said = come(version, "-servername", "one.test", "-sess_in", kept)
    assert "Reused, " in said
    socket, said = come(version, "-servername", "two.test", "-sess_in", kept)
    assert "New, " in said
    assert not socket.is_session_reused()


def test_a_client_that_connects_again_and_again_resumes_each_time(loop, tcp, s_client):
    recorder = Recorder()
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    program = s_client(listener, "-tls1_2", "-reconnect")
    program.say("Q")
    said = loop.wait(program.finished())
    listener.stop()
    loop.run()
    assert [socket.is_session_reused() for socket in recorder.sockets] == [False] + [True] * 5
    assert said.count("Reused, ") == 5


# ---------------------------------------------------------------------------- keys, records


@pytest.mark.parametrize("letter", ["k", "K"])
def test_data_goes_on_both_ways_after_the_client_has_changed_its_keys(loop, dialogue, letter):
    """k changes its own; K has us change ours, too."""
    recorder, program = dialogue("-tls1_3")
    for i in range(3):
        program.say(letter)
        loop.wait(program.hear("KEYUPDATE"))
        program.say(f"message {i}")
        loop.wait(program.hear(f"message {i}"))
    program.say("Q")
    loop.run()
    assert recorder.received() == b"message 0\nmessage 1\nmessage 2\n"
    assert recorder.close_error is None


def test_a_client_that_asks_to_renegotiate_is_refused_and_others_live_on(loop, tcp, s_client):
    errors = []
    recorder = Recorder(data=lambda socket, chunk: socket.write(chunk), error=lambda _, error: errors.append(error))
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    other, asking = s_client(listener, "-tls1_2"), s_client(listener, "-tls1_2")
    asking.say("before")
    loop.wait(asking.hear("before"))
    asking.say("R")
    assert "no renegotiation" in loop.wait(asking.finished())
    other.say("still here")
    loop.wait(other.hear("still here"))
    other.say("Q")
    listener.stop()
    loop.run()
    assert sorted(recorder.received(socket) for socket in recorder.sockets) == [b"before\n", b"still here\n"]
    assert [type(error) for error in errors] == [ssl.SSLError]  # it was the client who gave up, by an alert


@pytest.mark.parametrize("size", [512, 513, 16384])
def test_what_comes_in_records_of_any_size_comes_whole(loop, dialogue, size):
    blob = pattern(300_000)
    recorder, program = dialogue("-max_send_frag", str(size), "-nocommands", "-quiet", data=lambda *_: None)
    program.send(blob)
    loop.run_until(lambda: recorder.socket.bytes_read == len(blob))
    recorder.socket.end(b"enough")
    loop.wait(program.hear("enough"))
    loop.run()
    assert hashlib.sha256(recorder.received()).digest() == hashlib.sha256(blob).digest()


@needs_borrowed
@VERSIONS
def test_our_records_are_no_larger_than_was_set(loop, tcp, s_client, version):
    def opened(socket):
        assert socket.set_max_send_fragment(512)
        socket.end(b"x" * 5000)

    listener = tcp.listen(Recorder(open=opened), tls=SERVER_TLS)
    said = loop.wait(s_client(listener, version, "-msg").finished())
    listener.stop()
    loop.run()
    assert [len(found) for found in re.findall("x{99,}", said)] == [512] * 9 + [5000 % 512]


# ---------------------------------------------------------------------------- the end


@VERSIONS
def test_a_client_that_sends_close_notify_is_an_end_and_no_error(loop, dialogue, version):
    recorder, program = dialogue(version)
    program.say("last words")
    loop.wait(program.hear("last words"))
    program.shutdown()
    loop.run()
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None


@VERSIONS
def test_our_close_notify_is_understood(loop, dialogue, version):
    recorder, program = dialogue(version)
    recorder.socket.end(b"goodbye")
    said = loop.wait(program.finished())
    assert "goodbye" in said
    assert program.exit_code == 0
    loop.run()
    assert recorder.close_error is None


def test_a_client_that_is_killed_is_a_connection_cut_off(loop, dialogue):
    recorder, program = dialogue()
    program.say("last words")
    loop.wait(program.hear("last words"))  # with bytes unread, its end would be a reset
    program.kill()
    loop.run()
    assert recorder.order() == ["open", "data", "close"]
    assert type(recorder.close_error) is ssl.SSLEOFError


def test_certificates_are_replaced_under_open_connections(loop, tcp, openssl, files):
    recorder = Recorder(data=lambda socket, chunk: socket.write(chunk))
    listener = tcp.listen(recorder, tls=CA.issue("old.test").options)

    def s_client(name):
        trust = ("-CAfile", files.ca, "-verify_return_error", "-verify_hostname", name)
        return openssl("s_client", "-connect", f"{HOST}:{listener.port}", *trust)

    early = s_client("old.test")
    loop.run_until(lambda: recorder.sockets)
    listener.reload(tls=CA.issue("new.test").options)
    late = s_client("new.test")
    for program in (early, late):
        program.say("hello")
        loop.wait(program.hear("hello"))
        program.say("Q")
    listener.stop()
    loop.run()
    names = [socket.get_certificate()["subjectAltName"] for socket in recorder.sockets]
    assert names == [(("DNS", "old.test"),), (("DNS", "new.test"),)]
