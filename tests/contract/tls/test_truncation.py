"""CONTRACT.md, "TLS": S4, the peer's FIN without its close_notify is a truncation, whenever it comes.

What the bytes mean is for the engine to say, which knows no loops: the first test runs on all of them, the others on one.
"""

from __future__ import annotations

import ssl

import pytest
from support import Recorder, finish_and_wait, pattern, send_and_wait
from support.asyncio_loops import on_every_loop
from support.coroutines import done
from support.tls import SERVER_TLS, TLSRecorder
from support.tls_peer import (
    accepting,
    client_context,
    context_of,
    dialling,
    server_context,
    tls_accepted,
    tls_sides,
    versions,
)

from pybuntcp import ReadyState

one_loop = pytest.mark.standalone("what the bytes mean is the engine's to say, which knows no loops")


def cut_off(recorder):
    """It was told of a truncation, last of all, and of no end."""
    assert recorder.count("end") == 0
    assert recorder.names()[-1] == "close"
    assert type(recorder.close_error) is ssl.SSLEOFError
    return True


@tls_sides
def test_s4_fin_without_close_notify_is_close_with_ssl_eof_error_and_no_end(loop, tcp, side):
    recorder = Recorder()
    _socket, peer = side(loop, tcp, recorder)
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert cut_off(recorder)


@one_loop
@tls_sides
def test_s4_close_notify_and_then_fin_is_an_orderly_end(loop, tcp, side):
    recorder = Recorder()
    _socket, peer = side(loop, tcp, recorder)
    peer.notify()
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["open", "end", "close"]
    assert recorder.close_error is None
    assert peer.read_to_end().result() == (b"", "close_notify")


@one_loop
@versions
@tls_sides
def test_s4_bytes_before_the_truncation_are_delivered_first(loop, tcp, side, version):
    recorder = Recorder()
    context = context_of(side, version)
    _socket, peer = side(loop, tcp, recorder, context)
    peer.write(pattern(200_000))
    peer.shutdown()
    loop.run()
    assert recorder.received() == pattern(200_000)
    assert recorder.order() == ["open", "data", "close"]
    assert cut_off(recorder)


@one_loop
@tls_sides
def test_s4_a_record_that_is_cut_is_a_truncation_and_not_delivered(loop, tcp, side):
    recorder = Recorder()
    _socket, peer = side(loop, tcp, recorder)
    peer.write(b"whole")
    peer.send(peer.seal(b"never whole").result()[:-1])
    peer.shutdown()
    loop.run()
    assert recorder.received() == b"whole"
    assert cut_off(recorder)


@one_loop
@tls_sides
def test_s4_a_truncation_while_paused_is_reported_at_resume_after_the_bytes_before_it(loop, tcp, side):
    recorder = Recorder()
    socket, peer = side(loop, tcp, recorder)
    socket.pause()
    send_and_wait(socket, peer, peer.seal(b"before it").result())
    finish_and_wait(socket, peer)
    loop.settle()
    assert recorder.names() == ["open"]
    socket.resume()
    loop.run()
    assert recorder.received() == b"before it"
    assert recorder.names() == ["open", "data", "close"]
    assert cut_off(recorder)


@one_loop
def test_s4_a_truncation_behind_a_handler_that_pauses_is_reported_at_resume(loop, tcp):
    recorder = Recorder(data=lambda socket, chunk: socket.pause())
    socket, peer = tls_accepted(loop, tcp, recorder)
    send_and_wait(socket, peer, peer.seal(b"before it").result())
    finish_and_wait(socket, peer)
    loop.run_until(lambda: recorder.count("data"))
    loop.settle()
    assert recorder.names() == ["open", "data"]
    socket.resume()
    loop.run()
    assert recorder.names() == ["open", "data", "close"]
    assert cut_off(recorder)


@one_loop
@tls_sides
def test_s4_a_truncation_after_our_end_is_one_too(loop, tcp, side):
    recorder = Recorder()
    socket, peer = side(loop, tcp, recorder)
    assert socket.end(b"bye") == 3
    assert loop.wait(peer.read_to_end()) == (b"bye", "close_notify")
    peer.write(b"answer")
    peer.shutdown()
    loop.run()
    assert recorder.received() == b"answer"
    assert recorder.order() == ["open", "data", "close"]
    assert cut_off(recorder)


@one_loop
def test_s4_a_truncation_closes_a_half_open_socket_too(loop, tcp):
    recorder = Recorder()
    socket, peer = tls_accepted(loop, tcp, recorder, allow_half_open=True)
    peer.shutdown()
    loop.run()
    assert cut_off(recorder)
    assert socket.ready_state == ReadyState.CLOSED
    assert socket.write(b"x") == -1


@one_loop
def test_s4_after_close_no_handler_is_called_for_a_truncation(loop, tcp):
    recorder = Recorder()
    socket, peer = tls_accepted(loop, tcp, recorder)
    socket.close()
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert recorder.close_error is None
    assert peer.read_to_end().result() == (b"", "close_notify")


@one_loop
@tls_sides
def test_s4_a_reset_is_a_reset_and_no_truncation(loop, tcp, side):
    recorder = Recorder()
    _socket, peer = side(loop, tcp, recorder)
    peer.write(b"before it")
    peer.reset()
    loop.run()
    assert recorder.order() == ["open", "data", "close"]
    assert type(recorder.close_error) is ConnectionResetError


# ---------------------------------------------------------------- in the handshake


@one_loop
@pytest.mark.parametrize("size", [0, 1, 5, 100, None], ids=["nothing", "1", "header", "100", "whole"])
def test_s4_a_client_that_goes_in_the_handshake_is_never_opened(loop, tcp, size):
    recorder = Recorder()
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    peer = dialling(tcp, listener, client_context())
    peer.send(peer.step().result()[:size])
    peer.shutdown()
    loop.wait(peer.raw_to_end())
    assert recorder.events == []
    assert listener.connections == 0


@one_loop
@pytest.mark.parametrize("size", [0, 100, None], ids=["nothing", "100", "whole"])
def test_s4_a_handshake_handler_is_given_a_truncation_and_close_follows(loop, tcp, size):
    recorder = TLSRecorder()
    listener = tcp.listen(recorder, tls=SERVER_TLS)
    peer = dialling(tcp, listener, client_context())
    peer.send(peer.step().result()[:size])
    peer.shutdown()
    loop.wait(peer.raw_to_end())
    loop.run_until(lambda: recorder.count("close"))
    assert recorder.names() == ["open", "handshake", "close"]
    success, error = recorder.verdict
    assert not success
    assert type(error) is ssl.SSLEOFError
    assert recorder.close_error is error


@one_loop
@pytest.mark.parametrize("size", [0, 1, 100], ids=["nothing", "1", "100"])
def test_s4_a_server_that_goes_in_the_handshake_is_a_connect_error(loop, tcp, size):
    recorder = Recorder()
    server = tcp.raw_server()
    peer = server.accept()
    connecting = tcp.connect(recorder, server, tls=True)
    loop.wait(peer.recv(5))
    peer.send(b"\x16\x03\x03\x01\x00".ljust(size, b"\x02")[:size])
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["connect_error"]
    assert type(connecting.exception()) is ssl.SSLEOFError
    assert recorder.args("connect_error")[0][0] is connecting.exception()


@one_loop
def test_s4_a_server_that_goes_in_the_handshake_is_reported_by_handshake_and_close(loop, tcp):
    recorder = TLSRecorder()
    server = tcp.raw_server()
    peer = server.accept()
    connecting = tcp.connect(recorder, server, tls=True)
    loop.wait(peer.recv(5))
    peer.shutdown()
    loop.run()
    assert recorder.names() == ["open", "handshake", "close"]
    assert type(recorder.close_error) is ssl.SSLEOFError
    assert connecting.exception() is recorder.close_error


# ---------------------------------------------------------------- who reads by itself


@on_every_loop
async def test_s4_a_reader_does_not_take_a_truncation_for_the_end(tcp):
    """What came before is read; then the error is raised, and no b"" returned."""
    server = tcp.raw_server()
    peer = accepting(tcp, server, server_context())
    job = peer.handshake()
    socket = await tcp.connect(None, server, tls={"ca": None, "reject_unauthorized": False})
    await done(job)
    reader = socket.reader()
    peer.write(b"before it").ignore()
    assert await reader.readexactly(9) == b"before it"
    peer.shutdown().ignore()
    with pytest.raises(ssl.SSLEOFError):
        await reader.read()
    socket.terminate()
