"""CONTRACT.md, "Reading and closing": R7, what a closed socket still knows and what its verbs return."""

from __future__ import annotations

import pytest
from support import Feed, Recorder, accepted, reset_and_wait, sides
from support.marks import names_lost_peers

from pybuntcp import ReadyState

IDENTITY = ("remote_address", "remote_port", "remote_family", "local_address", "local_port", "local_family")


def identity(socket) -> dict:
    return {name: getattr(socket, name) for name in IDENTITY}


def _end(loop, socket, peer, how):
    if how == "reset":
        reset_and_wait(socket, peer)
    elif how == "fin":
        peer.close()
    else:
        getattr(socket, how)()


@names_lost_peers
@pytest.mark.parametrize("how", ["close", "terminate", "fin", "reset"])
@sides
def test_r7_addresses_stay_readable_after_close_though_never_read_before(loop, over_tcp, side, how):
    recorder = Recorder()
    socket, peer = side(loop, over_tcp, recorder)
    theirs, ours = peer.sock.getsockname(), peer.sock.getpeername()
    _end(loop, socket, peer, how)
    loop.run()
    assert identity(socket) == {
        "remote_address": theirs[0],
        "remote_port": theirs[1],
        "remote_family": "IPv4",
        "local_address": ours[0],
        "local_port": ours[1],
        "local_family": "IPv4",
    }


@pytest.mark.parametrize("how", ["close", "terminate", "fin"])
@sides
def test_r7_addresses_are_the_same_before_and_after_close(loop, transport, side, how, handlers):
    seen = []
    recorder = handlers(close=lambda socket, error: seen.append(identity(socket)))
    socket, peer = side(loop, transport, recorder)
    before = identity(socket)
    _end(loop, socket, peer, how)
    loop.run()
    assert seen == [before]
    assert identity(socket) == before
    assert before["local_family"] == ("unix" if transport.name == "unix" else "IPv4")


def test_r7_unix_addresses_are_paths_and_have_no_ports(loop, unix, handlers):
    client = handlers(label="client")
    server = handlers(label="server")
    listener = unix.listen(server)
    unix.connect(client, listener)
    loop.run_until(lambda: client.sockets and server.sockets)
    assert identity(client.socket) == {
        "remote_address": listener.unix,
        "remote_port": None,
        "remote_family": "unix",
        "local_address": "",
        "local_port": None,
        "local_family": "unix",
    }
    assert identity(server.socket) == {
        "remote_address": "",
        "remote_port": None,
        "remote_family": "unix",
        "local_address": listener.unix,
        "local_port": None,
        "local_family": "unix",
    }


def test_r7_data_and_counters_stay_readable(loop, transport, handlers):
    token = object()
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, data=token)
    peer.send(b"12345")
    loop.run_until(recorder.received)
    socket.end(b"123")
    peer.close()
    loop.run()
    assert socket.data is token
    assert (socket.bytes_read, socket.bytes_written, socket.pending) == (5, 3, 0)
    socket.data = "new"
    assert socket.data == "new"


@pytest.mark.parametrize("verb", ["terminate", "close"])
def test_r7_counters_are_right_at_every_moment_of_a_closing_that_drops_bytes(loop, transport, verb, handlers):
    seen = []
    recorder = handlers(close=lambda socket, error: seen.append((socket.pending, socket.bytes_written)))
    socket, peer = accepted(loop, transport, recorder, linger_timeout=0.01)
    Feed(8 << 20).fill(socket)
    sent = socket.bytes_written
    assert sent > 0
    getattr(socket, verb)()
    if verb == "terminate":
        assert (socket.pending, socket.bytes_written) == (0, sent)
    loop.run()
    assert seen == [(0, socket.bytes_written)]
    assert sent <= socket.bytes_written < 8 << 20
    peer.recv_until_eof().ignore()


CLOSED_VERBS = [
    ("write", (b"x",), -1),
    ("write", ("x",), -1),
    ("write", (b"x", 0, 1), -1),
    ("end", (), -1),
    ("end", (b"x",), -1),
    ("flush", (), None),
    ("close", (), None),
    ("terminate", (), None),
    ("shutdown", (), None),
    ("shutdown", (True,), None),
    ("pause", (), None),
    ("resume", (), None),
    ("ref", (), None),
    ("unref", (), None),
    ("timeout", (1,), None),
    ("timeout", (0,), None),
    ("set_no_delay", (), False),
    ("set_no_delay", (False,), False),
    ("set_keep_alive", (True, 1000), False),
    ("reload", ({"data": print},), None),
    ("fileno", (), -1),
]


@pytest.mark.parametrize("where", ["in close", "after run"])
@pytest.mark.parametrize("how", ["close", "terminate", "fin"])
@sides
def test_r7_verbs_after_close_give_minus_one_false_or_none(loop, transport, side, how, where):
    returned = []

    def use(socket, *_):
        for name, args, _ in CLOSED_VERBS:
            value = getattr(socket, name)(*args)
            returned.append((name, args, None if name == "flush" else value))
        with socket.cork():
            assert socket.write(b"corked") == -1
        with socket:
            pass

    recorder = Recorder(close=use if where == "in close" else lambda socket, error: None)
    socket, peer = side(loop, transport, recorder)
    _end(loop, socket, peer, how)
    loop.run()
    if where == "after run":
        use(socket)
        loop.run()
    assert returned == CLOSED_VERBS
    assert loop.gauges()["armed_timers"] == 0
    assert recorder.count("close") == 1


def test_r7_ready_state_is_zero_after_close(loop, transport, handlers):
    states = []
    recorder = handlers(close=lambda socket, error: states.append(socket.ready_state))
    socket, peer = accepted(loop, transport, recorder)
    peer.close()
    loop.run()
    assert states == [ReadyState.CLOSED]
    assert socket.ready_state == 0


def test_r7_between_close_and_its_event_the_socket_is_already_closed(loop, transport, handlers):
    socket, _peer = accepted(loop, transport, handlers())
    socket.close()
    assert socket.ready_state == ReadyState.CLOSED
    assert socket.write(b"x") == socket.end() == -1


def test_r7_a_socket_is_the_same_object_in_every_handler(loop, transport):
    recorder = Recorder()
    socket, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    loop.run_until(recorder.received)
    socket.timeout(0.001)
    loop.run()
    assert {id(who) for _, who, _ in recorder.events} == {id(socket)}
    assert recorder.order()[-2:] == ["timeout", "close"]
