"""API.md, `SocketSink`: `end`, `close`, the peer's end, sockets that are gone, other threads."""

from __future__ import annotations

import errno

import pytest
from support import Recorder, accepted, pattern, send_and_wait, sides
from support.sinks import BIG, DrainCallback, ended, stuffed, writes
from support.threads import in_thread

# ---------------------------------------------------------------- end


@sides
def test_end_delivers_what_is_pending_and_its_data_and_then_fin(loop, transport, side):
    socket, peer = stuffed(loop, transport, Recorder(), side)
    sink = socket.sink()
    sink.write(b"before ")
    assert sink.end("ünd") == 4
    assert loop.wait(peer.recv_until_eof()) == pattern(BIG) + b"before " + "ünd".encode()


def test_end_without_data_is_nothing_more(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    sink = socket.sink()
    sink.write(b"all")
    assert sink.end() == 0
    assert loop.wait(peer.recv_until_eof()) == b"all"


def test_end_sends_at_once(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    sink = socket.sink()
    before = writes()
    sink.write(b"request ")
    sink.end(b"end")
    assert (socket.pending, writes() - before) == (0, 1 + transport.has_tls)  # its close_notify
    assert peer.recv_until_eof().result() == b"request end"


def test_end_in_a_handler_comes_behind_every_write_before_it(loop, transport):
    def data(socket, chunk):
        sink = socket.sink()
        assert socket.write(b"1") == 1
        sink.write(b"2")
        with socket.cork():
            assert socket.write(b"3") == 1
            sink.end(b"4")

    _socket, peer = accepted(loop, transport, Recorder(data=data))
    peer.send(b"go")
    assert loop.wait(peer.recv_until_eof()) == b"1234"


def test_after_end_the_socket_still_reads(loop, transport):
    recorder = Recorder()
    socket, peer = accepted(loop, transport, recorder)
    socket.sink().end(b"question")
    assert loop.wait(peer.recv_until_eof()) == b"question"
    peer.send(b"answer").result()
    peer.shutdown()
    loop.run()
    assert recorder.received() == b"answer"
    assert recorder.close_error is None


VERBS = {
    "write": lambda sink: sink.write(b"late"),
    "write of nothing": lambda sink: sink.write(b""),
    "flush": lambda sink: sink.flush(),
    "end": lambda sink: sink.end(),
    "end of data": lambda sink: sink.end(b"late"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("over", ["end", "close"])
def test_every_verb_after_end_or_close_is_a_value_error(loop, transport, over, verb):
    socket, peer = accepted(loop, transport, Recorder())
    sink = socket.sink()
    sink.write(b"taken")
    getattr(sink, over)()
    with pytest.raises(ValueError, match=verb.split()[0]):
        VERBS[verb](sink)
    assert loop.wait(peer.recv_until_eof()) == b"taken"
    peer.close()
    loop.run()
    with pytest.raises(ValueError, match=verb.split()[0]):
        VERBS[verb](sink)


def test_an_end_past_the_limit_is_a_buffer_error_and_ends_nothing(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    sink = socket.sink(limit=3)
    with pytest.raises(BufferError):
        sink.end(b"four")
    assert sink.write(b"abc") == 3
    sink.end(b"def")
    assert loop.wait(peer.recv_until_eof()) == b"abcdef"


def test_a_sink_ended_by_another_is_a_broken_pipe(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    one, two = socket.sink(), socket.sink()
    one.end()
    with pytest.raises(BrokenPipeError):
        two.write(b"x")
    with pytest.raises(BrokenPipeError):
        two.end()


# ---------------------------------------------------------------- close


def test_close_delivers_what_is_pending_then_closes_both_ways(loop, transport):
    recorder = Recorder()
    socket, peer = stuffed(loop, transport, recorder)
    sink = socket.sink()
    sink.write(b"tail")
    sink.close()
    assert loop.wait(peer.recv_until_eof()) == pattern(BIG) + b"tail"
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert recorder.close_error is None


def test_close_is_idempotent_also_after_end_and_when_the_socket_is_gone(loop, transport):
    recorder = Recorder()
    socket, _peer = accepted(loop, transport, recorder)
    sink = socket.sink()
    sink.end()
    for _ in range(3):
        assert sink.close() is None
    loop.run()
    assert sink.close() is None
    assert recorder.names() == ["open", "close"]


def test_a_close_with_a_request_unread_loses_nothing(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    send_and_wait(socket, peer, b"pipelined" * 1000)
    sink = socket.sink()
    sink.write(pattern(2_500_000))
    sink.close()
    assert loop.wait(peer.recv_until_eof()) == pattern(2_500_000)


# ---------------------------------------------------------------- the peer ends


def test_what_is_written_in_the_end_handler_is_delivered(loop, transport):
    def end(socket):
        socket.sink().write(pattern(300_000))
        socket.sink().write(b"bye")

    _socket, peer = accepted(loop, transport, Recorder(end=end))
    peer.shutdown()
    assert loop.wait(peer.recv_until_eof()) == pattern(300_000) + b"bye"


def test_half_open_a_sink_writes_on_after_the_peers_fin(loop, transport):
    recorder = Recorder()
    socket, peer = accepted(loop, transport, recorder, allow_half_open=True)
    peer.shutdown()
    loop.run_until(lambda: recorder.count("end"))
    loop.settle()
    sink = socket.sink()
    sink.write(pattern(BIG))
    told = DrainCallback()
    sink.add_drain_callback(told)
    sink.end(b"bye")
    assert loop.wait(peer.recv_until_eof()) == pattern(BIG) + b"bye"
    loop.run()
    assert told.error is None
    assert recorder.names() == ["open", "end", "close"]


# ---------------------------------------------------------------- a socket that is gone


@pytest.mark.parametrize("verb", ["end", "shutdown", "close", "terminate"])
def test_on_a_socket_ended_otherwise_write_and_end_are_a_broken_pipe(loop, transport, verb):
    socket, peer = accepted(loop, transport, Recorder())
    sink = socket.sink()
    getattr(socket, verb)()
    for _ in range(2):  # before `close`, and after
        for late in (lambda: sink.write(b"late"), lambda: sink.write(""), sink.end):
            with pytest.raises(BrokenPipeError) as caught:
                late()
            assert (caught.value.errno, caught.value.code) == (errno.EPIPE, "EPIPE")
        assert sink.pending == 0
        peer.close()
        loop.run()


def test_after_a_reset_write_and_drain_raise_the_real_error(loop, transport):
    seen = []

    def close(socket, error):
        with pytest.raises(ConnectionResetError):
            sink.write(b"in close")
        seen.append(error)

    socket, peer = stuffed(loop, transport, Recorder(close=close))
    sink = socket.sink()
    peer.close()  # with bytes unread
    loop.run()
    assert isinstance(seen[0], ConnectionResetError)
    with pytest.raises(ConnectionResetError) as caught:
        sink.write(b"late")
    assert caught.value.code == "ECONNRESET"
    with pytest.raises(ConnectionResetError):
        ended(sink.drain())
    assert "SocketSink" in repr(sink)


def test_a_sink_made_of_a_closed_socket_raises_at_the_first_write(loop, transport):
    socket, _peer = accepted(loop, transport, Recorder())
    socket.terminate()
    loop.run()
    with pytest.raises(BrokenPipeError):
        socket.sink().write(b"x")


# ---------------------------------------------------------------- other threads

FOREIGN = {
    **VERBS,
    "close": lambda sink: sink.close(),
    "pending": lambda sink: sink.pending,
    "full": lambda sink: sink.full,
    "drain": lambda sink: ended(sink.drain()),
    "add_drain_callback": lambda sink: sink.add_drain_callback(print),
    "socket.sink": lambda sink: sink.socket.sink(),
}


@pytest.mark.parametrize("verb", FOREIGN)
def test_a_sink_used_from_another_thread_is_a_runtime_error_and_nothing_happens(loop, transport, verb):
    socket, peer = accepted(loop, transport, Recorder())
    sink = socket.sink()
    sink.write(b"mine ")
    error = in_thread(lambda: FOREIGN[verb](sink))
    assert isinstance(error, RuntimeError)
    assert "another" in str(error)
    assert sink.pending == 5
    assert sink.write(b"alone") == 5
    sink.end()
    assert loop.wait(peer.recv_until_eof()) == b"mine alone"
