"""The addresses of a connection of which no handler but `close` ever heard."""

from __future__ import annotations

import pytest
from support import Recorder, wait_for
from support.marks import names_lost_peers

QUIET = ("open", "drain", "end", "error", "timeout", "connect_error")


@pytest.fixture
def noting():
    """Handlers `data` and `close` alone; the `close` reads the addresses for the first time."""
    recorder = Recorder(without=QUIET, close=lambda socket, error: recorder.seen.append(addresses(socket)))
    recorder.seen = []
    return recorder


def addresses(socket):
    """All that a socket knows of where it is."""
    return {
        "remote": (socket.remote_address, socket.remote_port, socket.remote_family),
        "local": (socket.local_address, socket.local_port, socket.local_family),
    }


def accept(loop, listener, count=1):
    """Turn until that many are accepted, which no handler is told."""

    def accepted():
        loop.settle()
        return listener.connections == count

    wait_for(accepted, f"{count} to be accepted")


@names_lost_peers
@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("moment", ["before it is accepted", "after"])
def test_a_peer_that_goes_without_a_word_has_its_addresses_in_close(loop, tcp, noting, ending, moment):
    listener = tcp.listen(noting)
    peer = tcp.peer(listener)
    theirs, ours = peer.sock.getsockname(), peer.sock.getpeername()
    if moment == "after":
        accept(loop, listener)
    getattr(peer, ending)().result()
    loop.run_until(lambda: noting.seen)
    (seen,) = noting.seen
    assert seen["remote"] == (*theirs, "IPv4")
    if (ending, moment) == ("reset", "after"):
        assert seen["local"] == (*ours, "IPv4")
    assert seen["local"][1] == ours[1]


@names_lost_peers
@pytest.mark.parametrize("moment", ["before it is accepted", "after"])
def test_the_error_of_a_peer_that_resets_without_a_word_names_it(loop, tcp, noting, moment):
    listener = tcp.listen(noting)
    peer = tcp.peer(listener)
    theirs = peer.sock.getsockname()
    if moment == "after":
        accept(loop, listener)
    peer.reset().result()
    loop.run_until(lambda: noting.seen)
    assert isinstance(noting.close_error, ConnectionResetError)
    assert (noting.close_error.address, noting.close_error.port) == theirs


def test_a_unix_peer_that_goes_without_a_word_has_its_path_in_close(loop, unix, noting):
    listener = unix.listen(noting)
    unix.peer(listener).close().result()
    loop.run_until(lambda: noting.seen)
    assert noting.seen == [{"remote": ("", None, "unix"), "local": (listener.unix, None, "unix")}]


@pytest.mark.parametrize("verb", ["close", "terminate"])
def test_a_connection_that_we_end_has_its_addresses_in_close(loop, tcp, noting, verb):
    """Of which `data` is the first to hear, and ends it."""
    noting._functions["data"] = lambda socket, chunk: getattr(socket, verb)()
    listener = tcp.listen(noting)
    peer = tcp.peer(listener)
    theirs, ours = peer.sock.getsockname(), peer.sock.getpeername()
    peer.send(b"x")
    loop.run_until(lambda: noting.seen)
    assert noting.seen == [{"remote": (*theirs, "IPv4"), "local": (*ours, "IPv4")}]


def test_stop_tells_addresses_of_connections_that_never_said_a_word(loop, tcp, noting):
    listener = tcp.listen(noting)
    peers = [tcp.peer(listener) for _ in range(3)]
    theirs = {peer.sock.getsockname() for peer in peers}
    accept(loop, listener, 3)
    listener.stop(True)
    loop.run()
    assert {seen["remote"][:2] for seen in noting.seen} == theirs
    assert len(noting.seen) == 3


def test_a_close_handler_that_came_by_reload_after_the_closing_gets_a_readable_socket(loop, tcp):
    """Nobody had looked at the connection while its descriptor could still tell anything."""
    kept = []
    handlers = {"data": lambda socket, chunk: None}
    listener = tcp.listen(handlers)
    tcp.peer(listener)
    accept(loop, listener)

    def swap():
        listener.stop(True)
        listener.reload({**handlers, "close": lambda socket, error: kept.append(socket)})

    loop.wait(loop.call(swap))
    loop.run()
    (socket,) = kept
    assert (socket.ready_state, socket.bytes_read, socket.bytes_written, socket.fileno()) == (0, 0, 0, -1)
