"""Contract, Writing (W5): what was accepted arrives though the socket closes with the peer's bytes unread.

For input that lies unread at close(2) a kernel answers with a reset, which takes along what is under way.
Where the peer sends on for ever, a reset is its end all the same, but only after every byte of ours.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time

import pytest
from support import (
    LATE,
    TIMEOUT,
    Recorder,
    accepted,
    connected,
    linux_only,
    pattern,
    raw,
    send_and_wait,
    sides,
    unread_bytes,
    wait_for,
)
from support.marks import counts_unsent

ROOM = 8 << 20  # a high_water_mark under which every answer here is accepted whole
SIZES = [3, 100_000, 2_500_000]

VERBS = {
    "close": lambda socket: socket.close(),
    "stop(True)": lambda socket: socket.listener.stop(True),
}
verbs = pytest.mark.parametrize("verb", VERBS)


@contextlib.contextmanager
def uploading(peer):
    """The peer sends all the while, in a thread of its own, until the connection breaks."""

    def upload():
        with contextlib.suppress(OSError):
            while True:
                peer.sock.sendall(bytes(100_000))

    thread = threading.Thread(target=upload, name="upload", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            peer.sock.shutdown(2)  # wakes it where it waits for room
        thread.join(2 * TIMEOUT)
        assert not thread.is_alive()


def received_by(peer):
    """A job: the bytes before the end of file or the reset."""

    def receive():
        data = bytearray()
        with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):  # the other thread may be told of the reset
            while chunk := peer.sock.recv(65536):
                data += chunk
        return bytes(data)

    return peer.call(receive)


def answering(size, verb):
    """A recorder that at the first bytes of a request gives its whole answer and closes."""

    def data(socket, chunk):
        assert socket.write(pattern(size)) == size
        more_has_come(socket)
        VERBS[verb](socket)

    return Recorder(data=data)


def more_has_come(socket):
    """Wait until our kernel holds bytes of this peer that nobody has read."""
    with raw(socket) as duplicate:
        wait_for(lambda: unread_bytes(duplicate), "more of the upload")


# ---------------------------------------------------------------- the peer sends on


def check_answered_under_upload(loop, transport, side, size, verb):
    """Every byte of the answer arrives, and the connection ends in order."""
    recorder = answering(size, verb)
    _socket, peer = side(loop, transport, recorder, high_water_mark=ROOM)
    with uploading(peer):
        answer = loop.wait(received_by(peer))
        assert len(answer) == size
        assert answer == pattern(size)
        loop.run()
    assert recorder.names() == ["open", "data", "close"]
    assert recorder.close_error is None


@linux_only
@pytest.mark.parametrize("size", SIZES)
@verbs
def test_w5_a_peer_that_uploads_all_the_while_is_given_every_byte(loop, over_tcp, verb, size):
    check_answered_under_upload(loop, over_tcp, accepted, size, verb)


@linux_only
@pytest.mark.parametrize("size", SIZES)
def test_w5_a_client_that_closes_under_a_download_has_sent_every_byte(loop, over_tcp, size):
    check_answered_under_upload(loop, over_tcp, connected, size, "close")


@pytest.mark.parametrize("size", SIZES)
@verbs
def test_w5_a_unix_peer_that_uploads_all_the_while_is_given_every_byte(loop, unix, verb, size):
    check_answered_under_upload(loop, unix, accepted, size, verb)


@linux_only
def test_w5_stop_loses_nothing_of_many_that_upload_all_the_while(loop, over_tcp, handlers):
    def data(socket, chunk):
        assert socket.write(pattern(500_000)) == 500_000
        socket.pause()

    recorder = handlers(data=data)
    listener = over_tcp.listen(recorder, high_water_mark=ROOM)
    peers = [over_tcp.peer(listener) for _ in range(5)]
    with contextlib.ExitStack() as uploads:
        for peer in peers:
            uploads.enter_context(uploading(peer))
        loop.run_until(lambda: recorder.count("data") == 5)
        for socket in recorder.sockets:
            more_has_come(socket)
        listener.stop(True)
        for job in [received_by(peer) for peer in peers]:
            assert loop.wait(job) == pattern(500_000)
        loop.run()
    assert recorder.args("close") == [(None,)] * 5


@counts_unsent
@verbs
def test_w5_a_peer_that_sends_on_after_the_close_is_given_every_byte(loop, over_tcp, verb, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, over_tcp, recorder, rcvbuf=4096, high_water_mark=ROOM)
    assert socket.write(pattern(400_000)) == 400_000
    wait_for(lambda: socket.pending == 0, "our kernel to take it")
    VERBS[verb](socket)
    loop.settle()
    peer.send(b"late").result()
    assert loop.wait(received_by(peer)) == pattern(400_000)


# ---------------------------------------------------------------- a request that nobody reads


@pytest.mark.parametrize("size", SIZES)
@verbs
@sides
def test_w5_with_a_request_unread_every_byte_arrives_and_an_end(loop, transport, side, verb, size, handlers):
    if side is connected and verb != "close":
        pytest.skip("no listener on this side")
    recorder = handlers()
    socket, peer = side(loop, transport, recorder, high_water_mark=ROOM)
    send_and_wait(socket, peer, b"pipelined" * 1000)
    assert socket.write(pattern(size)) == size
    VERBS[verb](socket)
    assert loop.wait(peer.recv_until_eof()) == pattern(size)
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert recorder.close_error is None


def test_w5_what_a_handler_did_not_read_of_a_pause_is_no_loss(loop, transport, handlers):
    """Paused in the handler: the rest of the request stays in the kernel until the close."""

    def data(socket, chunk):
        socket.pause()
        assert socket.write(b"too much") == 8
        socket.timeout(0.02)

    recorder = handlers(data=data, timeout=lambda socket: socket.close())
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(pattern(100_000)).ignore()
    assert loop.wait(received_by(peer)) == b"too much"
    loop.run()
    assert recorder.order() == ["open", "data", "timeout", "close"]


# ---------------------------------------------------------------- promptly


def closing_time(loop, close):
    """Seconds from the call to the end of the loop; the peer does nothing meanwhile."""
    started = time.monotonic()
    close()
    loop.run()
    return time.monotonic() - started


@verbs
@pytest.mark.parametrize("unread", [0, 9000], ids=["all read", "unread"])
def test_w5_close_is_prompt_where_the_peer_has_everything_though_it_never_ends(loop, transport, verb, unread, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, linger_timeout=None)
    assert socket.write(pattern(50_000)) == 50_000
    assert loop.wait(peer.recv_exactly(50_000)) == pattern(50_000)
    if unread:
        send_and_wait(socket, peer, bytes(unread))
    assert closing_time(loop, lambda: VERBS[verb](socket)) < LATE
    assert recorder.names()[-1] == "close"
    assert recorder.close_error is None
    assert peer.recv_until_eof().result() == b""


@verbs
@pytest.mark.parametrize("unread", [0, 9000], ids=["all read", "unread"])
def test_w5_close_is_prompt_where_the_peers_kernel_has_everything(loop, transport, verb, unread, handlers):
    """The program there need not have read it."""
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, linger_timeout=None)
    if unread:
        send_and_wait(socket, peer, bytes(unread))
    assert socket.write(b"bye") == 3
    assert closing_time(loop, lambda: VERBS[verb](socket)) < LATE
    assert recorder.names()[-1] == "close"
    assert recorder.close_error is None
    assert peer.recv_until_eof().result() == b"bye"


@linux_only
def test_w5_close_is_prompt_while_the_peer_uploads_and_has_everything(loop, over_tcp):
    recorder = answering(1000, "close")
    _socket, peer = accepted(loop, over_tcp, recorder, linger_timeout=None)
    with uploading(peer):
        assert closing_time(loop, lambda: None) < LATE
        assert received_by(peer).result() == pattern(1000)
    assert recorder.close_error is None


# ---------------------------------------------------------------- not for ever


@linux_only
@verbs
def test_w5_a_close_that_waits_for_the_peer_is_over_after_linger_timeout(loop, over_tcp, verb, handlers):
    """Everything is with our kernel, the peer's has no room for it, and a request lies unread."""
    times = []
    recorder = handlers(close=lambda *_: times.append(time.monotonic()))
    socket, peer = accepted(loop, over_tcp, recorder, rcvbuf=4096, linger_timeout=0.1)
    send_and_wait(socket, peer, b"unread")
    assert socket.write(bytes(60_000)) == 60_000
    wait_for(lambda: socket.pending == 0, "our kernel to take it")
    started = time.monotonic()
    VERBS[verb](socket)
    loop.run()
    assert 0.1 <= times[0] - started < 0.1 + LATE
    assert recorder.names() == ["open", "close"]
    assert isinstance(recorder.close_error, TimeoutError)


@linux_only
def test_w5_terminate_does_not_wait_for_a_peer_that_uploads(loop, over_tcp, handlers):
    def data(socket, chunk):
        assert socket.write(bytes(2_500_000)) == 2_500_000
        socket.terminate()

    recorder = handlers(data=data)
    _socket, peer = accepted(loop, over_tcp, recorder, rcvbuf=4096, high_water_mark=ROOM, linger_timeout=None)
    with uploading(peer):
        assert closing_time(loop, lambda: None) < LATE
        assert len(received_by(peer).result()) < 2_500_000
    assert recorder.names() == ["open", "data", "close"]
    assert recorder.close_error is None
