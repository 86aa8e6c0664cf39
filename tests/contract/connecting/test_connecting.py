"""Contract, Connecting (C1, C3): the awaitable, happy eyeballs, where from, wrong options."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import select
import socket as stdlib
import time

import pytest
from support import LATE, TIMEOUT, Recorder, descriptors, linux_only
from support.addresses import black_hole, bound_not_listening, needs_ipv6, one_port_of_both_families, port_of, raw_tcp
from support.endpoints import connect, finished
from support.handlers import ignore

STAGGER = 0.25  # seconds between two attempts, RFC 8305


# ---------------------------------------------------------------- the awaitable


def test_connect_gives_the_awaitable_the_socket_that_open_was_given(loop, transport):
    server, client = Recorder(), Recorder()
    listener = transport.listen(server)
    connecting = transport.connect(client, listener)
    assert not connecting.done()
    loop.run_until(lambda: client.sockets)
    assert connecting.done()
    assert connecting.result() is client.socket
    assert connecting.exception() is None
    assert not connecting.cancelled()


def test_connect_starts_at_once_and_not_when_awaited(loop, transport):
    raw = transport.raw_server()
    recorder = Recorder()
    transport.connect(recorder, raw)
    peer = raw.accept()
    peer.send(b"hello")
    loop.run_until(lambda: recorder.received() == b"hello")
    assert recorder.order() == ["open", "data"]


def test_an_unfinished_connect_has_no_result_yet(loop, transport):
    connecting = transport.connect(Recorder(), transport.raw_server())
    with pytest.raises(asyncio.InvalidStateError):
        connecting.result()
    with pytest.raises(asyncio.InvalidStateError):
        connecting.exception()


def test_connect_adopts_a_connected_descriptor(loop):
    ours, theirs = stdlib.socketpair()
    with theirs:
        recorder = Recorder(open=lambda socket: socket.write(b"hello"))
        connect(recorder, fd=ours.detach())
        theirs.sendall(b"x")
        loop.run_until(recorder.received)
        assert theirs.recv(5) == b"hello"
        recorder.socket.close()
        loop.run_until(lambda: recorder.count("close"))
        assert theirs.recv(1) == b""


# ---------------------------------------------------------------- C1: every address, happy eyeballs


def test_c1_localhost_reaches_a_listener_on_v4_alone(loop):
    with raw_tcp("127.0.0.1") as listener:
        recorder = Recorder()
        connect(recorder, hostname="localhost", port=port_of(listener))
        loop.run_until(lambda: recorder.sockets)
        assert (recorder.socket.remote_address, recorder.socket.remote_family) == ("127.0.0.1", "IPv4")
        recorder.socket.terminate()


@needs_ipv6
def test_c1_localhost_reaches_a_listener_on_v6_alone(loop):
    with raw_tcp("::1") as listener:
        recorder = Recorder()
        connect(recorder, hostname="localhost", port=port_of(listener))
        loop.run_until(lambda: recorder.sockets)
        assert (recorder.socket.remote_address, recorder.socket.remote_family) == ("::1", "IPv6")
        recorder.socket.terminate()


@needs_ipv6
def test_c1_of_two_families_that_answer_one_connection_is_made(loop):
    accepted = []
    opener = functools.partial(kept_listener, accepted)
    with one_port_of_both_families(opener, opener) as port:
        recorder = Recorder()
        connect(recorder, hostname="localhost", port=port)
        loop.run_until(lambda: recorder.sockets)
        asked = select.select(accepted, [], [], TIMEOUT)[0]
        assert [listener.getsockname()[0] for listener in asked] == [recorder.socket.remote_address]
        recorder.socket.terminate()
        loop.run_until(lambda: recorder.count("close"))
        assert recorder.names() == ["open", "close"]


@contextlib.contextmanager
def kept_listener(listeners, *address):
    with raw_tcp(*address) as listener:
        listeners.append(listener)
        try:
            yield listener
        finally:
            listeners.remove(listener)  # its port may be taken in the other family


@needs_ipv6
@linux_only
@pytest.mark.parametrize(
    ("six", "four"), [(raw_tcp, black_hole), (black_hole, raw_tcp)], ids=["v4 is silent", "v6 is silent"]
)
def test_c1_an_address_that_does_not_answer_costs_a_stagger_and_is_closed(loop, six, four):
    with one_port_of_both_families(six, four) as port:
        recorder = Recorder()
        loop.call(ignore, None)  # opens the harness's own descriptors
        before = len(descriptors())
        start = time.monotonic()
        connecting = connect(recorder, hostname="localhost", port=port)
        loop.run_until(lambda: recorder.sockets)
        assert time.monotonic() - start < STAGGER + LATE
        assert recorder.socket.remote_family == ("IPv6" if six is raw_tcp else "IPv4")
        assert len(descriptors()) == before + 1
        assert loop.gauges()["connecting"] == 0
        assert connecting.result() is recorder.socket
        recorder.socket.terminate()


@needs_ipv6
@linux_only
def test_c1_the_second_address_is_not_dialled_before_the_stagger_is_over(loop):
    """Whichever family is dialled first, in one of the two rounds it is the silent one."""
    took = []
    for six, four in ((raw_tcp, black_hole), (black_hole, raw_tcp)):
        with one_port_of_both_families(six, four) as port:
            took.append(quickest(loop, port))
    assert min(took) < STAGGER <= max(took) + 0.01


def quickest(loop, port):
    """Seconds until `open` of a connection to localhost, the best of three: what a busy machine adds is not ours."""
    took = []
    for _ in range(3):
        recorder = Recorder()
        start = time.monotonic()
        connect(recorder, hostname="localhost", port=port)
        loop.run_until(lambda recorder=recorder: recorder.sockets)
        took.append(time.monotonic() - start)
        recorder.socket.terminate()
        loop.run_until(lambda recorder=recorder: recorder.count("close"))
    return min(took)


@needs_ipv6
def test_c1_a_refused_address_is_followed_by_the_next_at_once(loop):
    for host in ("::1", "127.0.0.1"):
        with raw_tcp(host) as listener:
            assert quickest(loop, port_of(listener)) < STAGGER


def test_c1_when_every_address_fails_there_is_one_error(loop):
    with bound_not_listening() as port:
        recorder = Recorder()
        _, error = finished(loop, connect(recorder, hostname="localhost", port=port))
        assert recorder.names() == ["connect_error"]
        assert isinstance(error, ConnectionRefusedError)
        assert error.address in ("127.0.0.1", "::1")
        assert error.port == port


@needs_ipv6
def test_c1_brackets_around_an_ipv6_address_are_stripped(loop):
    with raw_tcp("::1") as listener:
        recorder = Recorder()
        connect(recorder, hostname="[::1]", port=port_of(listener))
        loop.run_until(lambda: recorder.sockets)
        assert recorder.socket.remote_address == "::1"
        recorder.socket.terminate()


# ---------------------------------------------------------------- where from


@linux_only
def test_local_address_and_port_are_those_the_peer_sees(loop, tcp):
    server, client = Recorder(), Recorder()
    listener = tcp.listen(server)
    with bound_not_listening("127.0.0.9") as port:
        pass
    tcp.connect(client, listener, local_address="127.0.0.9", local_port=port)
    loop.run_until(lambda: server.sockets and client.sockets)
    assert (server.socket.remote_address, server.socket.remote_port) == ("127.0.0.9", port)
    assert (client.socket.local_address, client.socket.local_port) == ("127.0.0.9", port)


# ---------------------------------------------------------------- C3: wrong options


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("port", {"hostname": "127.0.0.1"}),
        ("hostname", {"port": 80}),
        ("port", {"hostname": "127.0.0.1", "port": 70000}),
        ("unix", {"unix": 5}),
        ("fd", {"fd": "5"}),
        ("timeout", {"hostname": "127.0.0.1", "port": 80, "timeout": -1}),
        ("local_address", {"hostname": "127.0.0.1", "port": 80, "local_address": 5}),
        ("local_port", {"hostname": "127.0.0.1", "port": 80, "local_port": -1}),
    ],
)
def test_c3_a_wrong_option_raises_at_the_call_and_starts_nothing(loop, name, options):
    recorder = Recorder()
    with pytest.raises((TypeError, ValueError), match=name):
        connect(recorder, **options)
    assert set(loop.gauges().values()) == {0}
    loop.run()
    assert recorder.names() == []
