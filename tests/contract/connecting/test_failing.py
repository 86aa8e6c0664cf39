"""Contract, Connecting (C2): a connect that fails, who is told, when, and with what."""

from __future__ import annotations

import errno
import gc
import os
import socket as stdlib
import time
import warnings
from unittest.mock import ANY

import pytest
from support import Recorder, descriptors, linux_only
from support.addresses import black_hole, bound_not_listening, needs_ipv6, one_port_of_both_families, port_of
from support.endpoints import connect, finished
from support.handlers import ignore

import pybuntcp


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


def test_c2_a_refused_connect_calls_connect_error_once(loop, refusal, handlers):
    recorder = handlers()
    finished(loop, connect(recorder, **refusal.options))
    assert recorder.count("connect_error") == 1


def test_c2_the_awaitable_raises_the_error_that_connect_error_was_given(loop, refusal):
    recorder = Recorder()
    connecting = connect(recorder, **refusal.options)
    _, error = finished(loop, connecting)
    assert recorder.args("connect_error") == [(error,)]
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the fixture says which one
        connecting.result()
    assert caught.value is error


def test_c2_connect_error_comes_before_the_awaitable_is_done(loop, refusal, handlers):
    done = []
    recorder = handlers(connect_error=lambda socket, error: done.append(connecting.done()))
    connecting = connect(recorder, **refusal.options)
    loop.run()
    assert done == [False]
    assert connecting.done()


def test_c2_without_connect_error_the_awaitable_raises(loop, refusal, handlers):
    recorder = handlers(without=("connect_error",))
    _, error = finished(loop, connect(recorder, **refusal.options))
    assert isinstance(error, OSError)
    assert error.errno == refusal.code


def test_c2_no_other_handler_runs(loop, refusal, handlers):
    recorder = handlers()
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


def test_c2_nothing_is_left_of_a_failed_connect(loop, refusal, handlers):
    before = descriptors()
    finished(loop, connect(handlers(), **refusal.options))
    assert descriptors() == before
    assert set(loop.gauges().values()) == {0}


def test_c2_the_socket_of_a_failed_connect_is_detached(loop, refusal, handlers):
    seen = {}

    def failed(socket, error):
        seen.update(state=socket.ready_state, data=socket.data, fileno=socket.fileno())
        seen.update(write=socket.write(b"x"), end=socket.end(), close=socket.close(), pause=socket.pause())

    finished(loop, connect(handlers(connect_error=failed), data="mine", **refusal.options))
    assert seen["state"] == pybuntcp.ReadyState.DETACHED
    assert (seen["data"], seen["fileno"], seen["write"], seen["end"]) == ("mine", -1, -1, -1)


def test_c2_what_connect_error_raises_is_what_the_awaitable_raises(loop, refusal):
    boom = LookupError("from the handler")

    def failed(socket, error):
        raise boom

    with loop.reports() as told:
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


def test_c2_never_before_connect_has_returned(refusal, loop, handlers):
    returned = []
    recorder = handlers(connect_error=lambda socket, error: returned.append(connecting is not None))
    connecting = None
    connecting = connect(recorder, **refusal.options)
    assert recorder.names() == []
    assert not connecting.done()
    loop.run()
    assert returned == [True]


def test_c2_open_never_before_connect_has_returned(loop, transport, handlers):
    server, client = handlers(), handlers()
    listener = transport.listen(server)
    transport.connect(client, listener)
    assert client.names() == []
    loop.run_until(lambda: client.sockets)


def test_c2_open_of_an_adopted_descriptor_never_before_connect_has_returned(loop, handlers):
    ours, theirs = stdlib.socketpair()
    with theirs:
        recorder = handlers()
        connect(recorder, fd=ours.detach())
        assert recorder.names() == []
        loop.run_until(lambda: recorder.sockets)
        recorder.socket.close()


def test_c2_outcomes_that_are_known_at_once_are_reported_in_the_order_of_the_calls(loop, unix, handlers):
    order = []
    path = unix.listen_options()["unix"]
    for number in range(5):
        connect(handlers(connect_error=lambda socket, error, number=number: order.append(number)), unix=path)
    loop.run()
    assert order == [0, 1, 2, 3, 4]


def test_c2_a_connect_made_inside_a_handler_tells_after_that_handler(loop, refusal, tcp, handlers):
    order = []

    def opened(socket):
        connect(handlers(connect_error=lambda socket, error: order.append("connect_error")), **refusal.options)
        order.append("open returned")

    recorder = handlers(open=opened)
    tcp.peer(tcp.listen(recorder))
    loop.run_until(lambda: "connect_error" in order)
    assert order == ["open returned", "connect_error"]


def test_c2_never_awaited_and_with_connect_error_there_is_no_warning(loop, refusal):
    with loop.reports() as told, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        connect(Recorder(), **refusal.options)
        loop.run()
        gc.collect()
        assert told == []
        assert [str(warning.message) for warning in warned] == []


def test_c2_never_awaited_and_without_connect_error_the_failure_is_reported(loop, refusal):
    with loop.reports() as told:
        connect(Recorder(without=("connect_error",)), **refusal.options)
        loop.run()
        gc.collect()
        assert [error.errno for error in told] == [refusal.code]


def test_c2_awaited_without_connect_error_there_is_no_report(loop, refusal):
    with loop.reports() as told:
        connecting = connect(Recorder(without=("connect_error",)), **refusal.options)
        loop.run()
        assert isinstance(connecting.exception(), OSError)
        del connecting
        gc.collect()
        assert told == []


@linux_only
def test_c2_a_timeout_is_a_timeout_error_and_not_early(loop, handlers):
    with black_hole() as silent:
        port = port_of(silent)
        recorder = handlers()
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
def test_c2_the_timeout_covers_all_addresses_together(loop, handlers):
    with one_port_of_both_families(black_hole, black_hole) as port:
        start = time.monotonic()
        _, error = finished(loop, connect(handlers(), hostname="localhost", port=port, timeout=1.5))
        assert type(error) is TimeoutError
        assert 1.5 <= time.monotonic() - start < 2.9  # not one after the other


def test_c2_a_timeout_that_did_not_fire_leaves_no_timer(loop, transport, handlers):
    server, client = handlers(), handlers()
    listener = transport.listen(server)
    transport.connect(client, listener, timeout=30)
    loop.run_until(lambda: client.sockets and server.sockets)
    assert loop.gauges()["armed_timers"] == 0


@pytest.mark.parametrize("name", ["name.invalid", "a b", "127.0.0.1:80", "x" * 300])
def test_c2_a_name_that_does_not_resolve_is_a_gaierror(loop, name, handlers):
    recorder = handlers()
    _, error = finished(loop, connect(recorder, hostname=name, port=80))
    assert isinstance(error, stdlib.gaierror)
    assert error.code.startswith("EAI_")
    assert error.address == name
    assert recorder.names() == ["connect_error"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: os.open(os.devnull, os.O_RDWR),
        lambda: stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM).detach(),
        lambda: stdlib.socket(stdlib.AF_INET, stdlib.SOCK_STREAM).detach(),
    ],
    ids=["no socket", "a datagram socket", "not connected"],
)
def test_c2_a_bad_descriptor_fails_the_same_way_and_is_not_closed(loop, make, handlers):
    fd = make()
    try:
        before = os.fstat(fd)
        recorder = handlers()
        _, error = finished(loop, connect(recorder, fd=fd))
        assert isinstance(error, OSError)
        assert error.errno > 0
        assert recorder.names() == ["connect_error"]
        assert os.path.samestat(os.fstat(fd), before)
    finally:
        os.close(fd)
