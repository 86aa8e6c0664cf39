"""Who and where a socket is, from Cython: addresses, ports, descriptor, and the options of the descriptor."""

from __future__ import annotations

import os
import socket as stdlib

import pytest
from support import accepted, connected, linux_only, raw, sides
from support.addresses import needs_ipv6
from support.slots import Slots

import pybuntcp

ADDRESSES = ("remote_address", "local_address")


def finish(loop, handle, peer):
    peer.close()
    handle.close()
    loop.run()


# ---------------------------------------------------------------- addresses


@sides
def test_tcp_addresses_are_literals_and_ports_numbers(loop, tcp, side):
    handle, peer = side(loop, tcp, Slots())
    assert (handle.remote_address(), handle.local_address()) == (b"127.0.0.1", b"127.0.0.1")
    assert handle.remote_port == peer.sock.getsockname()[1]
    assert handle.local_port == peer.sock.getpeername()[1]
    finish(loop, handle, peer)


@needs_ipv6
def test_ipv6_addresses_are_literals(loop):
    slots = Slots(data=lambda handle, chunk: told.append((handle.remote_address(), handle.local_address())))
    told = []
    with (
        pybuntcp.listen(hostname="::1", port=0, socket=slots.handlers) as listener,
        stdlib.create_connection(("::1", listener.port), timeout=10) as client,
    ):
        client.sendall(b"x")
        loop.run_until(lambda: told)
        (handle,) = slots.sockets
        assert handle.remote_port == client.getsockname()[1]
    loop.run()
    assert told == [(b"::1", b"::1")]


def test_a_unix_listener_s_path_is_the_local_address_and_its_peer_has_no_name(loop, unix):
    handle, peer = accepted(loop, unix, Slots())
    assert handle.local_address() == os.fsencode(peer.sock.getpeername())
    assert handle.remote_address() == b""
    assert (handle.remote_port, handle.local_port) == (-1, -1)
    finish(loop, handle, peer)


def test_to_a_unix_client_the_path_is_the_remote_address(loop, unix):
    handle, peer = connected(loop, unix, Slots())
    assert handle.remote_address() == os.fsencode(peer.sock.getsockname())
    assert handle.local_address() == b""
    assert (handle.remote_port, handle.local_port) == (-1, -1)
    finish(loop, handle, peer)


def test_a_pair_has_no_names_at_all(loop):
    ours, theirs = stdlib.socketpair()
    slots = Slots()
    pybuntcp.connect(fd=ours.detach(), socket=slots.handlers)
    with theirs:
        loop.run_until(lambda: slots.sockets)
        (handle,) = slots.sockets
        assert (handle.remote_address(), handle.local_address()) == (b"", b"")
        assert (handle.remote_address(1), handle.local_address(0)) == (b"", -1)
    loop.run()


@linux_only
def test_an_abstract_name_begins_with_its_nul(loop):
    name = f"\0pybuntcp-{os.getpid()}-names"
    slots, client = Slots(), Slots()
    with pybuntcp.listen(unix=name, socket=slots.handlers):
        pybuntcp.connect(unix=name, socket=client.handlers)
        loop.run_until(lambda: slots.sockets and client.sockets)
        assert slots.sockets[0].local_address() == name.encode()
        assert client.sockets[0].remote_address() == name.encode()
    loop.run()


@pytest.mark.parametrize("which", ADDRESSES)
def test_too_little_room_is_minus_1_and_nothing_is_written_past_it(loop, transport, which):
    handle, peer = accepted(loop, transport, Slots())
    address = getattr(handle, which)
    length = len(address())
    assert address(length + 1) == address()
    for room in range(length + 1):  # the NUL needs its byte, too
        assert address(room) == -1
    finish(loop, handle, peer)


@sides
def test_names_are_those_of_the_python_object(loop, transport, side):
    handle, peer = side(loop, transport, Slots())
    sock = handle.object()
    assert handle.remote_address() == os.fsencode(sock.remote_address)
    assert handle.local_address() == os.fsencode(sock.local_address)
    assert handle.remote_port == (-1 if sock.remote_port is None else sock.remote_port)
    assert handle.local_port == (-1 if sock.local_port is None else sock.local_port)
    assert handle.fileno() == sock.fileno()
    finish(loop, handle, peer)


def test_addresses_can_be_read_in_every_slot_before_close(loop, tcp):
    def note(handle, *_):
        seen.append((handle.remote_address(), handle.remote_port))

    seen = []
    slots = Slots(open=note, data=note, end=note)
    _, peer = accepted(loop, tcp, slots)
    port = peer.sock.getsockname()[1]
    peer.send(b"x")
    peer.close()
    loop.run()
    assert seen == [(b"127.0.0.1", port)] * 3


@sides
def test_a_peer_that_is_gone_is_still_named(loop, tcp, side):
    """Its FIN is told, the descriptor is open."""
    slots = Slots()
    handle, peer = side(loop, tcp, slots, allow_half_open=True)
    port = peer.sock.getsockname()[1]
    peer.close().result()
    loop.run_until(lambda: slots.count("end"))
    assert (handle.remote_address(), handle.remote_port) == (b"127.0.0.1", port)
    handle.close()
    loop.run()


# ---------------------------------------------------------------- the descriptor


@sides
def test_fileno_is_the_socket_s_own_descriptor(loop, transport, side):
    handle, peer = side(loop, transport, Slots())
    with raw(handle) as duplicate:
        assert duplicate.getsockname() == peer.sock.getpeername()
    finish(loop, handle, peer)


@pytest.mark.parametrize("enable", [True, False])
@sides
def test_set_no_delay_sets_tcp_nodelay(loop, tcp, side, enable):
    handle, peer = side(loop, tcp, Slots(), no_delay=not enable)
    assert handle.set_no_delay(enable) == 0
    with raw(handle.object()) as duplicate:
        assert bool(duplicate.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY)) is enable
    finish(loop, handle, peer)


@linux_only
@pytest.mark.parametrize(("milliseconds", "seconds"), [(1000, 1), (1001, 2), (1, 1), (60000, 60)])
def test_set_keep_alive_counts_in_whole_seconds_rounded_up(loop, tcp, milliseconds, seconds):
    handle, peer = accepted(loop, tcp, Slots())
    assert handle.set_keep_alive(True, milliseconds) == 0
    with raw(handle.object()) as duplicate:
        assert duplicate.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE) != 0
        assert duplicate.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_KEEPIDLE) == seconds
    finish(loop, handle, peer)


@linux_only
def test_set_keep_alive_with_0_leaves_the_kernel_s_time(loop, tcp):
    handle, peer = accepted(loop, tcp, Slots())
    with raw(handle.object()) as duplicate:
        before = duplicate.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_KEEPIDLE)
        assert handle.set_keep_alive(True, 0) == 0
        assert duplicate.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_KEEPIDLE) == before
        assert duplicate.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE) != 0
    finish(loop, handle, peer)


@pytest.mark.parametrize("milliseconds", [32767001, 0xFFFFFFFF])
def test_set_keep_alive_refuses_more_than_the_kernel_takes_and_changes_nothing(loop, tcp, milliseconds):
    handle, peer = accepted(loop, tcp, Slots())
    assert handle.set_keep_alive(True, milliseconds) == -1
    with raw(handle.object()) as duplicate:
        assert duplicate.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE) == 0
    finish(loop, handle, peer)


def test_set_keep_alive_can_be_undone(loop, tcp):
    handle, peer = accepted(loop, tcp, Slots(), keep_alive=5)
    assert handle.set_keep_alive(False, 0) == 0
    with raw(handle.object()) as duplicate:
        assert duplicate.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE) == 0
    finish(loop, handle, peer)


@pytest.mark.parametrize("enable", [True, False])
def test_the_options_of_tcp_give_minus_1_on_unix_sockets(loop, unix, enable):
    handle, peer = accepted(loop, unix, Slots())
    assert handle.set_no_delay(enable) == -1
    assert handle.set_keep_alive(enable, 1000) == -1
    with raw(handle.object()) as duplicate:
        assert duplicate.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE) == 0
    finish(loop, handle, peer)


# ---------------------------------------------------------------- the Python object


@sides
def test_the_python_object_is_the_same_object_each_time(loop, transport, side):
    slots = Slots(data=lambda handle, chunk: objects.append(handle.object()))
    objects = []
    handle, peer = side(loop, transport, slots)
    objects.append(handle.object())
    peer.send(b"x")
    loop.run_until(slots.received)
    assert objects[0] is objects[1]
    assert isinstance(objects[0], pybuntcp.Socket)
    finish(loop, handle, peer)


def test_an_object_made_in_close_is_closed_and_lives_on(loop, transport):
    slots = Slots(close=lambda handle, error: kept.append(handle.object()))
    kept = []
    _, peer = accepted(loop, transport, slots)
    peer.send(b"12345")
    peer.close()
    loop.run()
    (sock,) = kept
    assert sock.ready_state is pybuntcp.ReadyState.CLOSED
    assert (sock.bytes_read, sock.write(b"x"), sock.fileno()) == (5, -1, -1)


def test_an_object_made_before_the_close_keeps_the_addresses(loop, tcp):
    slots = Slots(end=lambda handle: kept.append(handle.object()))
    kept = []
    _, peer = accepted(loop, tcp, slots)
    port = peer.sock.getsockname()[1]
    peer.close()
    loop.run()
    (sock,) = kept
    assert (sock.remote_address, sock.remote_port) == ("127.0.0.1", port)


def test_the_awaitable_gives_the_object_of_a_socket_that_slots_serve(loop, transport):
    slots = Slots()
    server = transport.raw_server()
    peer = server.accept()
    connecting = transport.connect(slots, server)
    loop.run_until(lambda: slots.sockets)
    assert connecting.result() is slots.sockets[0].object()
    peer.close()
    loop.run()
