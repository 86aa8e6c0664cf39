"""Numbers at the ends of their ranges, and arguments that are code: times, windows, waits, corks, resolver errors."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys

import pytest
from support import Recorder, accepted, sides
from support.programs import Program, run_program

# ---------------------------------------------------------------- times

FAR = """
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(8)
    rung, sockets = [], []

    def opened(socket):
        sockets.append(socket)
        {arm}
        if len(sockets) == 40:
            near()

    def timeout(socket):
        rung.append(sockets.index(socket))
        socket.timeout(0)
        if len(rung) == 6:
            stats = pybuntcp.stats()
            say([rung, stats["armed_timers"], max(stats.values()) < 1 << 32])
            listener.stop(True)
        elif rung[-1] == len(sockets) - 1:
            near()

    def near():
        "Deadlines on the lower levels of the wheel, among those that are far."
        for place, seconds in enumerate((0.004, 0.03, 0.08)):
            sockets[len(sockets) - 3 + place].timeout(seconds)

    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={{
        "open": opened, "data": print, "timeout": timeout}}, {options})
    clients = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(40)]
    pybuntcp.run()
    stats = pybuntcp.stats()
    say([stats["armed_timers"], stats["open_sockets"], stats["closed"]])
"""


@pytest.mark.parametrize("seconds", ["1e8", "1e10", "2e10", "1e17", "1e300"])
def test_an_idle_timeout_of_many_years_never_comes_and_disturbs_no_other(seconds):
    answer = run_program(FAR.format(arm="pass", options=f"idle_timeout={seconds}"))
    assert answer == [[[37, 38, 39] * 2, 40, True], [0, 0, 40]]


@pytest.mark.parametrize("seconds", ["1e10", "1e17", "1e300"])
def test_a_timeout_of_many_years_never_comes_and_disturbs_no_other(seconds):
    answer = run_program(FAR.format(arm=f"socket.timeout({seconds})", options=""))
    assert answer == [[[37, 38, 39] * 2, 37, True], [0, 0, 40]]


@pytest.mark.parametrize("seconds", [1e10, 1e17, 1e300])
@sides
def test_a_timeout_of_many_years_can_be_cleared(loop, transport, side, seconds):
    recorder = Recorder()
    socket, _peer = side(loop, transport, recorder)
    for _ in range(2):
        socket.timeout(seconds)
        assert loop.gauges()["armed_timers"] == 1
        loop.settle()
        socket.timeout(0)
        assert loop.gauges()["armed_timers"] == 0
    assert recorder.names() == ["open"]


def waits_on(coroutine) -> bool:
    """Whether it still waits when asked for the first time."""
    with contextlib.closing(coroutine), contextlib.suppress(StopIteration):
        coroutine.send(None)
        return True
    return False


@pytest.mark.parametrize(
    ("timeout", "waits"),
    [
        (None, True),
        (1e9, True),
        (1.9e10, True),  # more nanoseconds than 64 bits hold
        (1e300, True),
        (float("inf"), True),
        (10**30, True),
        (0, False),
        (-1, False),
        (-1e300, False),
        (float("-inf"), False),
    ],
)
def test_wait_closed_waits_as_long_as_told_however_long_that_is(loop, unix, timeout, waits):
    recorder = Recorder()
    listener = unix.listen(recorder)
    unix.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    assert waits_on(listener.wait_closed(timeout)) is waits


# ---------------------------------------------------------------- windows

TURNING = """
    class Turns:
        "An argument whose code ends the connection and turns the loop until it is gone."
        def __index__(self):
            kept[0].terminate()
            kept[0].ref()
            pybuntcp.run()
            return 1
        def __buffer__(self, flags):
            self.__index__()
            return memoryview(b"data")

    def opened(one):
        kept.append(one)
        one.unref()

    kept = []
    ours, theirs = socket.socketpair()
    pybuntcp.connect(fd=ours.detach(), socket={"data": print, "open": opened})
    pybuntcp.run()
"""


@pytest.mark.parametrize("verb", ["write", "end"])
@pytest.mark.parametrize(
    "arguments",
    [
        "b'data', Turns()",
        "b'data', 0, Turns()",
        pytest.param(
            "Turns()", marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ is new in 3.12")
        ),
    ],
)
def test_an_argument_whose_code_ends_the_connection_makes_it_minus_one(verb, arguments):
    source = TURNING + f"    say([kept[0].{verb}({arguments}), kept[0].bytes_written, int(kept[0].ready_state)])\n"
    assert run_program(source) == [[-1, 0, 0]]


class Growing:
    """An integer that is another one each time it is asked for."""

    def __init__(self, *values):
        self.values = list(values)

    def __index__(self):
        return self.values.pop(0)


@pytest.mark.parametrize("verb", ["write", "end"])
def test_offset_and_length_are_each_asked_for_once(loop, transport, verb):
    socket, peer = accepted(loop, transport, Recorder())
    offset, length = Growing(1, 100, 100, 100), Growing(2, 200, 200, 200)
    assert getattr(socket, verb)(b"abcd", offset, length) == 2
    assert (len(offset.values), len(length.values)) == (3, 3)
    received = peer.recv_until_eof()
    socket.end()
    assert loop.wait(received) == b"bc"


@pytest.mark.parametrize("window", [(2**70,), (-(2**70),), (0, 2**70), (0, -(2**70)), (2**64,), (1, 2**64)])
@pytest.mark.parametrize("verb", ["write", "end"])
def test_an_offset_or_a_length_that_no_machine_word_holds_is_a_value_error(loop, transport, verb, window):
    socket, peer = accepted(loop, transport, Recorder())
    with pytest.raises(ValueError, match="length" if len(window) == 2 else "offset"):
        getattr(socket, verb)(b"0123456789", *window)
    assert socket.write(b"ok") == 2
    assert peer.recv_exactly(2).result() == b"ok"


# ---------------------------------------------------------------- corks


def test_any_number_of_corks_holds_the_bytes_until_the_last_is_left(loop, transport):
    """More than 16 bits count: they are counted right, or one too many is refused."""
    socket, peer = accepted(loop, transport, Recorder())
    corks = []
    with contextlib.suppress(RuntimeError):
        for _ in range(70_000):
            cork = socket.cork()
            cork.__enter__()
            corks.append(cork)
    assert len(corks) > 1000
    assert socket.write(b"held") == 4
    while len(corks) > 1:
        assert socket.pending == 4
        corks.pop().__exit__(None, None, None)
    assert socket.pending == 4
    assert socket.bytes_written == 0
    corks.pop().__exit__(None, None, None)
    assert socket.pending == 0
    assert peer.recv_exactly(4).result() == b"held"


# ---------------------------------------------------------------- errors of the resolver

RESOLVER = """
    #include <netdb.h>
    #include <stdlib.h>
    int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
        return atoi(getenv("RESOLVER_ERROR"));
    }
"""


@pytest.fixture(scope="module")
def resolver(tmp_path_factory):
    """A library that puts a resolver in front of the system's which fails as RESOLVER_ERROR says."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if platform.libc_ver()[0] != "glibc" or compiler is None or "LD_PRELOAD" in os.environ:
        pytest.skip("needs a C compiler and glibc")
    library = tmp_path_factory.mktemp("resolver") / "resolver.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=RESOLVER, text=True, check=True)
    return library


@pytest.mark.parametrize(
    ("number", "code"),
    [(-2, "EAI_NONAME"), (-3, "EAI_AGAIN"), (-8, "EAI_SERVICE"), (-12, "EAI_OVERFLOW"), (-101, "EAI_CANCELED")],
)
def test_every_error_of_the_resolver_is_a_gaierror(monkeypatch, resolver, number, code):
    monkeypatch.setenv("LD_PRELOAD", str(resolver))
    monkeypatch.setenv("RESOLVER_ERROR", str(number))
    with Program("""
        def failed(_, error):
            say([isinstance(error, socket.gaierror), error.code, -200 < error.errno < 0, error.syscall])

        pybuntcp.connect(hostname="a.name", port=9, socket={"data": print, "connect_error": failed})
        pybuntcp.run()
        try:
            pybuntcp.listen(hostname="a.name", port=0, socket={"data": print})
        except OSError as error:
            failed(None, error)
    """) as program:
        told = program.finish()
    assert told == [[True, code, True, "getaddrinfo"]] * 2
