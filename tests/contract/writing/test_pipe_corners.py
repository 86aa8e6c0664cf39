"""X4 at its edges: which sockets can be piped, what is refused, and what handlers, loops and forks do meanwhile."""

from __future__ import annotations

import os
import socket as stdlib_socket
import ssl

import pytest
from support import (
    Recorder,
    TlsTransport,
    accepted,
    finish_and_wait,
    metronome,
    pattern,
    send_and_wait,
    shrink_send_buffer,
)
from support.handlers import QUIET
from support.piping import apart, piped, proxied
from support.slots import settle_until
from support.threads import in_thread

import pybuntcp
from pybuntcp import testing

standalone = pytest.mark.standalone("what is refused does not depend on who turns the loop")
MUCH = pattern(1 << 20)


def end_both(loop, pair):
    pair.source.terminate()
    pair.target.terminate()
    loop.run()


# ---------------------------------------------------------------- what is refused


@standalone
@pytest.mark.parametrize("target", [None, 1, "socket", object()])
def test_x4_a_target_that_is_no_socket_is_a_type_error(loop, tcp, target):
    socket, _peer = accepted(loop, tcp, Recorder())
    with pytest.raises(TypeError, match="target must be a Socket"):
        socket.pipe(target)
    with pytest.raises(TypeError):
        socket.pipe(socket, True)
    socket.terminate()


@standalone
def test_x4_a_socket_is_piped_into_one_target_at_a_time(loop, tcp):
    pair = piped(loop, tcp)
    for target in (pair.target, pair.source):
        with pytest.raises(RuntimeError, match=r"piped already: call unpipe\(\) first"):
            pair.source.pipe(target)
    end_both(loop, pair)


@standalone
@pytest.mark.parametrize("verb", ["end", "shutdown", "close", "terminate"])
def test_x4_a_target_that_takes_no_more_is_refused_and_the_source_lives_on(loop, tcp, verb):
    pair = apart(loop, tcp)
    getattr(pair.target, verb)()
    with pytest.raises(BrokenPipeError, match="target takes no more bytes"):
        pair.source.pipe(pair.target)
    pair.sender.send(b"to data")
    loop.run_until(lambda: pair.at_source.received() == b"to data")
    end_both(loop, pair)


@standalone
def test_x4_a_target_that_was_reset_is_refused_with_its_error(loop, tcp):
    pair = apart(loop, tcp)
    pair.receiver.reset()
    loop.run_until(lambda: pair.at_target.count("close"))
    with pytest.raises(ConnectionResetError):
        pair.source.pipe(pair.target)
    end_both(loop, pair)


@standalone
def test_x4_a_socket_of_another_thread_is_refused_naming_both(loop, tcp):
    pair = apart(loop, tcp)
    for call in (lambda: pair.source.pipe(pair.target), pair.source.unpipe):
        error = in_thread(call)
        assert isinstance(error, RuntimeError)
        assert "'MainThread'" in str(error)
        assert "'another'" in str(error)
    end_both(loop, pair)


@standalone
def test_x4_a_closed_source_of_another_thread_keeps_what_its_reader_holds(loop, tcp):
    def pipe_to_a_socket_of_this_thread():
        ends = testing.pair(QUIET)
        try:
            source.pipe(ends[0])
        finally:
            for end in ends:
                end.terminate()
            pybuntcp.run()

    source, peer = accepted(loop, tcp, Recorder())
    reader = source.reader()
    peer.send(b"held")
    settle_until(loop, lambda: "4 bytes held" in repr(reader), "the bytes")
    source.close()
    peer.close()
    loop.run()
    error = in_thread(pipe_to_a_socket_of_this_thread)
    assert isinstance(error, RuntimeError)
    assert "'another'" in str(error)
    assert "4 bytes held" in repr(reader)


@standalone
def test_x4_tls_cannot_be_begun_on_a_socket_that_is_piped_or_piped_into(loop, tcp):
    pair = piped(loop, tcp)
    for socket in (pair.source, pair.target):
        with pytest.raises(RuntimeError, match="upgrade_tls: the socket is piped"):
            socket.upgrade_tls(tls={"server_name": "localhost"}, socket=Recorder().handlers)
    end_both(loop, pair)


# ---------------------------------------------------------------- sources and targets that are gone


@standalone
def test_x4_a_source_that_is_closed_ends_its_target_and_one_that_was_reset_resets_it(loop, tcp):
    closed = apart(loop, tcp)
    closed.source.close()
    closed.sender.close()
    loop.run_until(lambda: closed.at_source.count("close"))
    closed.source.pipe(closed.target)
    assert loop.wait(closed.receiver.recv_until_eof()) == b""

    reset = apart(loop, tcp)
    reset.sender.reset()
    loop.run_until(lambda: reset.at_source.count("close"))
    reset.source.pipe(reset.target)
    loop.wait(reset.receiver.recv_until_reset())


@standalone
def test_x4_two_closed_sockets_do_nothing_as_every_verb_of_a_closed_socket(loop, tcp):
    pair = apart(loop, tcp)
    end_both(loop, pair)
    assert pair.source.pipe(pair.target) is pair.source.pipe(pair.source) is pair.source.unpipe() is None


@standalone
def test_x4_a_chain_is_reset_to_its_end_and_a_ring_too(loop, tcp):
    """Each of five sockets is piped into the next one, and the last one into the first."""
    recorders = [Recorder() for _ in range(5)]
    pairs = [accepted(loop, tcp, recorder) for recorder in recorders]
    for (socket, _), (following, _) in zip(pairs, pairs[1:] + pairs[:1], strict=True):
        socket.pipe(following)
    pairs[2][1].reset()
    for number in (0, 1, 3, 4):
        loop.wait(pairs[number][1].recv_until_reset())
    loop.run()
    assert [type(recorder.close_error).__name__ for recorder in recorders].count("ConnectionAbortedError") == 4


# ---------------------------------------------------------------- handlers


def test_x4_piping_in_open_leaves_no_byte_to_data(loop, transport):
    target, receiver = accepted(loop, transport, Recorder())
    recorder = Recorder(open=lambda socket: socket.pipe(target))
    _socket, sender = accepted(loop, transport, recorder)
    sender.send(MUCH)
    assert loop.wait(receiver.recv_exactly(len(MUCH))) == MUCH
    assert recorder.count("data") == 0


@standalone
def test_x4_piping_in_data_moves_later_bytes_alone_and_the_order_is_kept(loop, tcp):
    target, receiver = accepted(loop, tcp, Recorder())

    def data(socket, chunk):
        target.write(bytes(chunk).upper())
        socket.pipe(target)

    _socket, sender = accepted(loop, tcp, Recorder(data=data))
    sender.send(b"header")
    assert loop.wait(receiver.recv_exactly(6)) == b"HEADER"
    sender.send(b"body")
    assert loop.wait(receiver.recv_exactly(4)) == b"body"


@standalone
@pytest.mark.parametrize("verb", ["close", "terminate", "unpipe", "end"])
@pytest.mark.parametrize("which", ["source", "target"])
def test_x4_whatever_a_handler_of_end_does_to_either_is_safe(loop, tcp, verb, which):
    pair = proxied(
        loop, tcp, lambda label: Recorder(label=label, end=lambda socket: getattr(getattr(pair, which), verb)())
    )
    pair.sender.send(b"x")
    assert loop.wait(pair.receiver.recv_exactly(1)) == b"x"
    pair.sender.shutdown()
    loop.run_until(lambda: pair.at_source.count("end"))
    end_both(loop, pair)
    assert pair.at_source.count("close") == pair.at_target.count("close") == 1


@standalone
def test_x4_a_reload_of_either_changes_handlers_and_not_the_pipe(loop, tcp):
    pair = piped(loop, tcp)
    after = Recorder(label="after")
    pair.source.reload(after.handlers)
    pair.target.reload(after.handlers)
    pair.sender.send(MUCH)
    pair.sender.shutdown()
    assert loop.wait(pair.receiver.recv_until_eof()) == MUCH
    pair.receiver.shutdown()
    loop.run()
    assert sorted(after.names()) == ["close", "close", "end", "end"]


@standalone
def test_x4_stopping_the_listener_ends_the_targets_of_its_sockets(loop, tcp):
    recorder = Recorder()
    listener = tcp.listen(recorder)
    sender = tcp.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    target, receiver = accepted(loop, tcp, Recorder())
    recorder.socket.pipe(target)
    sender.send(b"x")
    assert loop.wait(receiver.recv_exactly(1)) == b"x"
    listener.stop(True)
    assert loop.wait(receiver.recv_until_eof()) == b""
    assert loop.wait(sender.recv_until_eof()) == b""


# ---------------------------------------------------------------- corks, sinks, deadlines


@standalone
@pytest.mark.parametrize("mark", [1000, 65536])
def test_x4_bytes_that_a_cork_has_gathered_go_first_and_do_not_stop_the_pipe(loop, tcp, mark):
    pair = apart(loop, tcp, high_water_mark=mark)
    with pair.target.cork():
        pair.target.write(b"c" * 1000)
        pair.source.pipe(pair.target)
        pair.sender.send(MUCH)
        settle_until(loop, lambda: pair.target.bytes_written > 100_000, "what is piped under a cork")
    assert loop.wait(pair.receiver.recv_exactly(1000 + len(MUCH))) == b"c" * 1000 + MUCH


@standalone
def test_x4_a_sink_of_the_target_keeps_its_order_and_its_drain(loop, tcp):
    pair = piped(loop, tcp, small=True)
    sink = pair.target.sink()
    sink.write(b"a" * 300_000)
    pair.sender.send(MUCH)
    settle_until(loop, lambda: pair.target.pending, "what the kernel does not take")
    sink.write(b"z" * 300_000)
    received = loop.wait(pair.receiver.recv_exactly(len(MUCH) + 600_000))
    assert received.startswith(b"a" * 300_000)
    assert received[300_000:].replace(b"z" * 300_000, b"") == MUCH


@standalone
def test_x4_a_side_that_has_been_ended_is_not_cut_while_it_sends(loop, tcp):
    """Its peer needs longer than `linger_timeout` for all that it sends after the end; each byte counts."""
    pair = proxied(loop, tcp, linger_timeout=0.15)
    pair.sender.shutdown()
    assert loop.wait(pair.receiver.recv_until_eof()) == b""
    with metronome(loop, tcp, 0.05, 8, lambda: pair.receiver.send(b"x")) as over:
        loop.run_until(over)
    assert loop.wait(pair.sender.recv_exactly(8)) == b"x" * 8
    end_both(loop, pair)


@standalone
def test_x4_a_side_that_has_been_ended_is_not_cut_while_the_other_takes_nothing(loop, tcp):
    """The client has ended and does not read for three times `linger_timeout`; the answer is there in the end."""
    client, reader = accepted(loop, tcp, Recorder(), rcvbuf=65536, linger_timeout=0.1)
    upstream, writer = accepted(loop, tcp, Recorder(), linger_timeout=0.1)
    shrink_send_buffer(client)
    client.pipe(upstream)
    upstream.pipe(client)
    reader.shutdown()
    assert loop.wait(writer.recv_until_eof()) == b""
    writer.send(MUCH * 2)
    writer.shutdown()
    with metronome(loop, tcp, 0.06, 5, lambda: None) as over:
        loop.run_until(over)
    assert loop.wait(reader.recv_until_eof()) == MUCH * 2
    loop.run()


@standalone
def test_x4_a_side_that_has_been_ended_and_is_silent_is_reset_after_the_linger_time(loop, tcp):
    pair = proxied(loop, tcp, linger_timeout=0.05)
    pair.sender.shutdown()
    loop.wait(pair.sender.recv_until_reset())
    loop.run()
    assert isinstance(pair.at_target.close_error, TimeoutError)
    assert isinstance(pair.at_source.close_error, ConnectionAbortedError)


@standalone
def test_x4_bytes_that_are_piped_restart_the_idle_time_of_both(loop, tcp):
    pair = piped(loop, tcp, idle_timeout=0.2)
    with metronome(loop, tcp, 0.06, 7, lambda: pair.sender.send(b"x")) as over:
        loop.run_until(over)
    assert loop.wait(pair.receiver.recv_exactly(7)) == b"x" * 7
    assert pair.at_source.count("timeout") == pair.at_target.count("timeout") == 0
    end_both(loop, pair)


# ---------------------------------------------------------------- one among many


@standalone
def test_x4_a_pipe_that_always_has_bytes_does_not_keep_others_waiting(loop, tcp):
    """The echo is served while megabytes are on their way, and long before they have come."""
    pair = piped(loop, tcp)
    echo, peer = accepted(loop, tcp, Recorder(data=lambda socket, chunk: socket.write(chunk)))
    pair.sender.send(bytes(64 << 20)).ignore()
    received = pair.receiver.recv_exactly(64 << 20)
    settle_until(loop, lambda: pair.source.bytes_read > 1 << 20, "the flow")
    for _ in range(10):
        peer.send(b"ping")
        assert loop.wait(peer.recv_exactly(4)) == b"ping"
    assert not received.done()
    received.ignore()
    echo.terminate()
    end_both(loop, pair)


# ---------------------------------------------------------------- TLS


@pytest.fixture
def tls(no_leaks):
    transport = TlsTransport()
    yield transport
    transport.close()


@standalone
def test_x4_a_tls_connection_that_is_cut_is_no_end_but_resets_the_target(loop, tls, tcp):
    """S4: a FIN without close_notify is a truncation."""
    source, sender = accepted(loop, tls, secure := Recorder())
    target, receiver = accepted(loop, tcp, plain := Recorder())
    source.pipe(target)
    sender.send(b"the first half")
    assert loop.wait(receiver.recv_exactly(14)) == b"the first half"
    sender.call(lambda: sender.sock.raw.shutdown(stdlib_socket.SHUT_WR))
    loop.wait(receiver.recv_until_reset())
    loop.run()
    assert isinstance(secure.close_error, ssl.SSLEOFError)
    assert isinstance(plain.close_error, ConnectionAbortedError)


@standalone
@pytest.mark.parametrize("secured", ["source", "target"])
@pytest.mark.parametrize("mark", [1000, 65536])
def test_x4_tls_on_one_side_alone(loop, tls, tcp, secured, mark):
    first, second = (tls, tcp) if secured == "source" else (tcp, tls)
    source, sender = accepted(loop, first, Recorder(), high_water_mark=mark)
    target, receiver = accepted(loop, second, Recorder(), high_water_mark=mark, rcvbuf=65536)
    shrink_send_buffer(target)
    source.pipe(target)
    target.pipe(source)
    for sends, receives in ((sender, receiver), (receiver, sender)):
        sends.send(MUCH)
        sends.shutdown()
        received = receives.recv_until_eof()
        assert loop.wait(received) == MUCH
    loop.run()


# ---------------------------------------------------------------- forks


@standalone
def test_x4_a_forked_child_changes_nothing_for_a_pipe(loop, tcp):
    pair = proxied(loop, tcp)
    pair.sender.send(b"before")
    assert loop.wait(pair.receiver.recv_exactly(6)) == b"before"
    child = os.fork()
    if child == 0:
        os._exit(pybuntcp.stats()["pipes"])
    assert os.waitpid(child, 0)[1] == 0
    pair.sender.send(MUCH)
    assert loop.wait(pair.receiver.recv_exactly(len(MUCH))) == MUCH
    pair.sender.shutdown()
    pair.receiver.shutdown()
    loop.run()


# ---------------------------------------------------------------- half-open


@standalone
@pytest.mark.parametrize("half_open", [False, True])
def test_x4_a_target_whose_peer_has_ended_still_takes_what_is_piped(loop, tcp, half_open):
    pair = piped(loop, tcp, allow_half_open=half_open)
    finish_and_wait(pair.target, pair.receiver)
    loop.run_until(lambda: pair.at_target.count("end"))
    send_and_wait(pair.source, pair.sender, b"late")
    pair.sender.shutdown()
    assert loop.wait(pair.receiver.recv_until_eof()) == b"late"
    if half_open:
        pair.source.end()
    loop.run()
    assert pair.at_target.close_error is None
