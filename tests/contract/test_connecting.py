"""Contract, Connecting (C1, C2, C3, C5): happy eyeballs, failures and who is told, cancelling."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import os
import select
import socket as stdlib
import time
import warnings
from unittest.mock import ANY

import pytest
from support import Recorder, descriptors
from support_more import (
    black_hole,
    bound_not_listening,
    ignore,
    linux_only,
    needs_ipv6,
    one_port_of_both_families,
    port_of,
    raw_tcp,
    unraisable,
)

import pybuntcp

STAGGER = 0.25      # seconds between two attempts, RFC 8305
SILENT = ("open", "close", "error", "end", "data", "drain", "timeout")


class Refusal:
    """A place to connect to that fails, and with what."""

    def __init__(self, name, options, code, address, port):
        self.name, self.options, self.code, self.address, self.port = name, options, code, address, port


@pytest.fixture(params=["tcp", "unix", "unix file", "fd", "local address", "local port"])
def refusal(request, tmp_path):
    """Each kind of place that fails at once."""
    if request.param.startswith("unix"):
        path = str(tmp_path / "s")
        if request.param == "unix file":
            (tmp_path / "s").write_text("not a socket")
        code = errno.ENOENT if request.param == "unix" else errno.ECONNREFUSED
        yield Refusal(request.param, {"unix": path}, code, path, None)
    elif request.param == "fd":
        yield Refusal("fd", {"fd": unused_descriptor()}, errno.EBADF, ANY, None)
    else:
        with bound_not_listening() as port:
            options = {"hostname": "127.0.0.1", "port": port}
            if request.param == "tcp":
                yield Refusal("tcp", options, errno.ECONNREFUSED, "127.0.0.1", port)
            elif request.param == "local address":
                options["local_address"] = "192.0.2.1"
                yield Refusal("local address", options, errno.EADDRNOTAVAIL, ANY, ANY)
            else:
                options.update(local_address="127.0.0.1", local_port=port)
                yield Refusal("local port", options, errno.EADDRINUSE, ANY, ANY)


def unused_descriptor():
    """A number that is no open descriptor, nor soon will be."""
    return max(descriptors()) + 1000


def connect(recorder, **options):
    return pybuntcp.connect(socket=recorder.handlers, **options)


def finished(loop, connecting):
    """The awaitable's outcome as (socket, None) or (None, error), once the loop has nothing left to do."""
    loop.run()
    assert connecting.done()
    error = connecting.exception()
    return (None, error) if error is not None else (connecting.result(), None)


# ---------------------------------------------------------------- the awaitable


def test_connect_gives_the_awaitable_the_socket_that_open_was_told(loop, transport):
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
        asked = [listener for listener in accepted if select.select([listener], [], [], 0)[0]]
        assert [listener.getsockname()[0] for listener in asked] == [recorder.socket.remote_address]
        recorder.socket.terminate()
        loop.run_until(lambda: recorder.count("close"))
        assert recorder.names() == ["open", "close"]


@contextlib.contextmanager
def kept_listener(listeners, *address):
    with raw_tcp(*address) as listener:
        listeners.append(listener)
        yield listener


@needs_ipv6
@linux_only
@pytest.mark.parametrize(("six", "four"), [(raw_tcp, black_hole), (black_hole, raw_tcp)],
                         ids=["v4 is silent", "v6 is silent"])
def test_c1_an_address_that_does_not_answer_costs_a_stagger_and_is_closed(loop, six, four):
    with one_port_of_both_families(six, four) as port:
        recorder = Recorder()
        loop.call(ignore, None)      # opens the harness's own descriptors
        before = len(descriptors())
        start = time.monotonic()
        connecting = connect(recorder, hostname="localhost", port=port)
        loop.run_until(lambda: recorder.sockets)
        assert time.monotonic() - start < 4 * STAGGER
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
            recorder = Recorder()
            start = time.monotonic()
            connect(recorder, hostname="localhost", port=port)
            loop.run_until(lambda recorder=recorder: recorder.sockets)
            took.append(time.monotonic() - start)
            recorder.socket.terminate()
    assert min(took) < STAGGER <= max(took) + 0.01


@needs_ipv6
def test_c1_a_refused_address_is_followed_by_the_next_at_once(loop):
    for host in ("::1", "127.0.0.1"):
        with raw_tcp(host) as listener:
            recorder = Recorder()
            start = time.monotonic()
            connect(recorder, hostname="localhost", port=port_of(listener))
            loop.run_until(lambda recorder=recorder: recorder.sockets)
            assert time.monotonic() - start < STAGGER
            recorder.socket.terminate()
            loop.run_until(lambda recorder=recorder: recorder.count("close"))


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


# ---------------------------------------------------------------- C2: failure


def test_c2_a_refused_connect_calls_connect_error_once(loop, refusal):
    recorder = Recorder()
    finished(loop, connect(recorder, **refusal.options))
    assert recorder.count("connect_error") == 1


def test_c2_the_awaitable_raises_the_error_that_connect_error_was_told(loop, refusal):
    recorder = Recorder()
    connecting = connect(recorder, **refusal.options)
    _, error = finished(loop, connecting)
    assert recorder.args("connect_error") == [(error,)]
    with pytest.raises(OSError) as caught:      # noqa: PT011 - the fixture says which one
        connecting.result()
    assert caught.value is error


def test_c2_connect_error_comes_before_the_awaitable_is_done(loop, refusal):
    done = []
    recorder = Recorder(connect_error=lambda socket, error: done.append(connecting.done()))
    connecting = connect(recorder, **refusal.options)
    loop.run()
    assert done == [False]
    assert connecting.done()


def test_c2_without_connect_error_the_awaitable_raises(loop, refusal):
    recorder = Recorder(without=("connect_error",))
    _, error = finished(loop, connect(recorder, **refusal.options))
    assert isinstance(error, OSError)
    assert error.errno == refusal.code


def test_c2_no_other_handler_runs(loop, refusal):
    recorder = Recorder()
    finished(loop, connect(recorder, **refusal.options))
    assert recorder.names(without=("connect_error",)) == []


def test_c2_the_error_has_the_real_errno_address_and_port(loop, refusal):
    _, error = finished(loop, connect(Recorder(), **refusal.options))
    assert error.errno == refusal.code
    assert error.code == errno.errorcode[refusal.code]
    assert error.syscall in ("connect", "bind")
    assert error.address == refusal.address
    assert error.port == refusal.port
    assert isinstance(error, type(OSError(refusal.code, "as Python maps it")))


def test_c2_nothing_is_left_of_a_failed_connect(loop, refusal):
    before = descriptors()
    finished(loop, connect(Recorder(), **refusal.options))
    assert descriptors() == before
    assert set(loop.gauges().values()) == {0}


def test_c2_the_socket_of_a_failed_connect_is_detached(loop, refusal):
    seen = {}

    def failed(socket, error):
        seen.update(state=socket.ready_state, data=socket.data, fileno=socket.fileno())
        seen.update(write=socket.write(b"x"), end=socket.end(), close=socket.close(), pause=socket.pause())

    finished(loop, connect(Recorder(connect_error=failed), data="mine", **refusal.options))
    assert seen["state"] == pybuntcp.ReadyState.DETACHED
    assert (seen["data"], seen["fileno"], seen["write"], seen["end"]) == ("mine", -1, -1, -1)


def test_c2_what_connect_error_raises_is_what_the_awaitable_raises(loop, refusal):
    boom = LookupError("from the handler")

    def failed(socket, error):
        raise boom

    with unraisable() as told:
        connecting = connect(Recorder(connect_error=failed, error=ignore), **refusal.options)
        _, error = finished(loop, connecting)
        assert told == []
    assert error is boom
    with pytest.raises(LookupError):
        connecting.result()


def test_c2_what_connect_error_raises_does_not_go_to_error(loop, refusal):
    def failed(socket, error):
        raise LookupError

    recorder = Recorder(connect_error=failed, error=ignore)
    finished(loop, connect(recorder, **refusal.options))
    assert recorder.names() == ["connect_error"]


def test_c2_never_before_connect_has_returned(refusal, loop):
    returned = []
    recorder = Recorder(connect_error=lambda socket, error: returned.append(connecting is not None))
    connecting = None
    connecting = connect(recorder, **refusal.options)
    assert recorder.names() == []
    assert not connecting.done()
    loop.run()
    assert returned == [True]


def test_c2_open_never_before_connect_has_returned(loop, transport):
    server, client = Recorder(), Recorder()
    listener = transport.listen(server)
    transport.connect(client, listener)
    assert client.names() == []
    loop.run_until(lambda: client.sockets)


def test_c2_open_of_an_adopted_descriptor_never_before_connect_has_returned(loop):
    ours, theirs = stdlib.socketpair()
    with theirs:
        recorder = Recorder()
        connect(recorder, fd=ours.detach())
        assert recorder.names() == []
        loop.run_until(lambda: recorder.sockets)
        recorder.socket.close()


def test_c2_a_connect_made_inside_a_handler_tells_after_that_handler(loop, refusal, tcp):
    order = []

    def opened(socket):
        connect(Recorder(connect_error=lambda socket, error: order.append("connect_error")), **refusal.options)
        order.append("open returned")

    recorder = Recorder(open=opened)
    tcp.peer(tcp.listen(recorder))
    loop.run_until(lambda: "connect_error" in order)
    assert order == ["open returned", "connect_error"]


def test_c2_never_awaited_and_with_connect_error_there_is_no_warning(loop, refusal):
    with unraisable() as told, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        connect(Recorder(), **refusal.options)
        loop.run()
        gc.collect()
        assert told == []
        assert [str(warning.message) for warning in warned] == []


def test_c2_never_awaited_and_without_connect_error_the_failure_is_reported(loop, refusal):
    with unraisable() as told:
        connect(Recorder(without=("connect_error",)), **refusal.options)
        loop.run()
        gc.collect()
        assert [error.errno for error in told] == [refusal.code]


def test_c2_awaited_without_connect_error_there_is_no_report(loop, refusal):
    with unraisable() as told:
        connecting = connect(Recorder(without=("connect_error",)), **refusal.options)
        loop.run()
        assert isinstance(connecting.exception(), OSError)
        del connecting
        gc.collect()
        assert told == []


@linux_only
def test_c2_a_timeout_is_a_timeout_error_and_not_early(loop):
    with black_hole() as silent:
        port = port_of(silent)
        recorder = Recorder()
        start = time.monotonic()
        connecting = connect(recorder, hostname="127.0.0.1", port=port, timeout=0.2)
        _, error = finished(loop, connecting)
        took = time.monotonic() - start
        assert type(error) is TimeoutError
        assert (error.errno, error.code, error.syscall) == (errno.ETIMEDOUT, "ETIMEDOUT", "connect")
        assert (error.address, error.port) == ("127.0.0.1", port)
        assert recorder.names() == ["connect_error"]
        assert 0.2 <= took < 2.0


@needs_ipv6
@linux_only
def test_c2_the_timeout_covers_all_addresses_together(loop):
    with one_port_of_both_families(black_hole, black_hole) as port:
        start = time.monotonic()
        _, error = finished(loop, connect(Recorder(), hostname="localhost", port=port, timeout=0.6))
        assert type(error) is TimeoutError
        assert 0.6 <= time.monotonic() - start < 1.1


def test_c2_a_timeout_that_did_not_fire_leaves_no_timer(loop, transport):
    server, client = Recorder(), Recorder()
    listener = transport.listen(server)
    transport.connect(client, listener, timeout=30)
    loop.run_until(lambda: client.sockets)
    assert loop.gauges()["armed_timers"] == 0


@pytest.mark.parametrize("name", ["name.invalid", "a b", "127.0.0.1:80", "x" * 300])
def test_c2_a_name_that_does_not_resolve_is_a_gaierror(loop, name):
    recorder = Recorder()
    _, error = finished(loop, connect(recorder, hostname=name, port=80))
    assert isinstance(error, stdlib.gaierror)
    assert error.code.startswith("EAI_")
    assert error.address == name
    assert recorder.names() == ["connect_error"]


@pytest.mark.parametrize("make", [
    lambda: os.open(os.devnull, os.O_RDWR),
    lambda: stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM).detach(),
    lambda: stdlib.socket(stdlib.AF_INET, stdlib.SOCK_STREAM).detach(),
], ids=["no socket", "a datagram socket", "not connected"])
def test_c2_a_bad_descriptor_fails_the_same_way_and_is_not_closed(loop, make):
    fd = make()
    try:
        before = os.fstat(fd)
        recorder = Recorder()
        _, error = finished(loop, connect(recorder, fd=fd))
        assert isinstance(error, OSError)
        assert error.errno > 0
        assert recorder.names() == ["connect_error"]
        assert os.path.samestat(os.fstat(fd), before)
    finally:
        os.close(fd)


# ---------------------------------------------------------------- local_address


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


@pytest.mark.parametrize(("name", "options"), [
    ("port", {"hostname": "127.0.0.1"}),
    ("hostname", {"port": 80}),
    ("port", {"hostname": "127.0.0.1", "port": 70000}),
    ("unix", {"unix": 5}),
    ("fd", {"fd": "5"}),
    ("timeout", {"hostname": "127.0.0.1", "port": 80, "timeout": -1}),
    ("local_address", {"hostname": "127.0.0.1", "port": 80, "local_address": 5}),
    ("local_port", {"hostname": "127.0.0.1", "port": 80, "local_port": -1}),
])
def test_c3_a_wrong_option_raises_at_the_call_and_starts_nothing(loop, name, options):
    recorder = Recorder()
    with pytest.raises((TypeError, ValueError), match=name):
        connect(recorder, **options)
    assert set(loop.gauges().values()) == {0}
    loop.run()
    assert recorder.names() == []


# ---------------------------------------------------------------- C5: cancelling


@pytest.fixture(params=["tcp", "unix", "name", "fd", "refused", "black hole"])
def attempt(request, tcp, unix):
    """A connect that has just started, of each kind: its Recorder and its awaitable."""
    recorder = Recorder()
    if request.param in ("tcp", "name", "unix"):
        transport = unix if request.param == "unix" else tcp
        options = transport.connect_options(transport.raw_server())
        if request.param == "name":
            options["hostname"] = "localhost"
        yield recorder, connect(recorder, **options)
    elif request.param == "fd":
        ours, theirs = stdlib.socketpair()
        with theirs:
            yield recorder, connect(recorder, fd=ours.detach())
    elif request.param == "refused":
        with bound_not_listening() as port:
            yield recorder, connect(recorder, hostname="127.0.0.1", port=port)
    else:
        with black_hole() as silent:
            yield recorder, connect(recorder, hostname="127.0.0.1", port=port_of(silent))


def test_c5_cancelling_at_once_runs_no_handler(loop, attempt):
    recorder, connecting = attempt
    assert connecting.cancel() is True
    loop.run()
    assert recorder.names() == []
    assert connecting.cancelled()
    assert connecting.done()


def test_c5_cancelling_leaves_nothing(loop, attempt):
    _, connecting = attempt
    connecting.cancel()
    loop.run()
    assert set(loop.gauges().values()) == {0}


def test_c5_the_awaitable_of_a_cancelled_connect_raises_cancelled_error(loop, attempt):
    _, connecting = attempt
    connecting.cancel()
    loop.run()
    with pytest.raises(asyncio.CancelledError):
        connecting.result()


def test_c5_cancelling_twice_is_cancelling_once(loop, attempt):
    _, connecting = attempt
    assert connecting.cancel() is True
    assert connecting.cancel() is False
    loop.run()
    assert connecting.cancel() is False


def test_c5_cancelling_touches_no_descriptor_that_is_no_longer_ours(loop, attempt):
    _, connecting = attempt
    connecting.cancel()
    pipes = [os.pipe() for _ in range(8)]      # they take the numbers that the attempt gives back
    try:
        loop.run()
        pipes += [os.pipe() for _ in range(8)]
        loop.run()
        gc.collect()
        for reader, writer in pipes:
            os.write(writer, b"x")
            assert os.read(reader, 1) == b"x"
    finally:
        for fd in [fd for pipe in pipes for fd in pipe]:
            os.close(fd)


def test_c5_cancelling_after_it_is_done_changes_nothing(loop, transport):
    server, client = Recorder(), Recorder()
    connecting = transport.connect(client, transport.listen(server))
    loop.run_until(lambda: server.sockets and client.sockets)
    assert connecting.done()
    assert connecting.cancel() is False
    assert not connecting.cancelled()
    client.socket.write(b"x")
    loop.run_until(server.received)
    assert connecting.result() is client.socket


def test_c5_cancelling_inside_open_is_too_late(loop, transport):
    verdicts = []
    server = Recorder()
    client = Recorder(open=lambda socket: verdicts.append(connecting.cancel()))
    connecting = transport.connect(client, transport.listen(server))
    loop.run_until(lambda: client.sockets and server.sockets)
    assert (verdicts, connecting.cancelled()) == ([False], False)
    assert connecting.result() is client.socket


def test_c5_cancelling_inside_connect_error_is_harmless(loop, unix):
    recorder = Recorder(connect_error=lambda socket, error: connecting.cancel())
    connecting = connect(recorder, unix=unix.listen_options()["unix"])
    loop.run()
    assert connecting.done()
    assert recorder.names() == ["connect_error"]


def test_c5_cancelling_a_sibling_from_a_handler(loop, transport):
    def opened(socket):
        for connecting in attempts:
            connecting.cancel()

    server, client = Recorder(), Recorder(open=opened)
    listener = transport.listen(server)
    attempts = [transport.connect(client, listener) for _ in range(8)]
    loop.run_until(lambda: all(connecting.done() for connecting in attempts))
    won = [connecting for connecting in attempts if not connecting.cancelled()]
    assert len(won) == len(client.sockets) == 1
    assert won[0].result() is client.socket


@needs_ipv6
@linux_only
def test_c5_cancelling_between_two_addresses_closes_both_attempts(loop, unix):
    """A socket timeout cancels when the first address has been silent for longer than the stagger."""
    with one_port_of_both_families(black_hole, black_hole) as port:
        recorder = Recorder()
        connecting = connect(recorder, hostname="localhost", port=port)
        clock = Recorder(open=lambda socket: socket.timeout(1.5 * STAGGER),
                         timeout=lambda socket: connecting.cancel())
        unix.peer(unix.listen(clock))
        loop.run_until(lambda: clock.count("close"))
        assert connecting.cancelled()
        assert loop.gauges()["connecting"] == 0
        assert recorder.names() == []
