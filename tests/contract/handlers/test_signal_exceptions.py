"""Contract, Handlers (H1): what a Python signal handler raises, and that nothing is lost by it.

Where it arrives inside a handler, it is that handler's exception; anywhere else it comes out of `run()`.
"""

from __future__ import annotations

import contextlib
import signal
import sys

import pytest
from support import Recorder, accepted
from support.programs import run_program


@contextlib.contextmanager
def raising(error):
    """SIGUSR1 raises `error` wherever Python is."""

    def handler(number, frame):
        raise error

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


EXCEPTIONS = {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit, "another": LookupError}
exceptions = pytest.mark.parametrize("exception", EXCEPTIONS.values(), ids=EXCEPTIONS)

# Both wake the loop together: the other thread holds the GIL from before the bytes to after the signal.
TOGETHER = """
    import ctypes, threading
    libc = ctypes.PyDLL(None)
    one, other = socket.socketpair()
    fd, pid, parked = other.fileno(), os.getpid(), threading.Lock()

    def boom(number, frame):
        raise {exception}("boom")

    def both():
        parked.acquire()
        libc.send(fd, b"precious", 8, 0)
        libc.kill(pid, signal.SIGUSR1)

    class Handlers:
        def open(socket):
            parked.release()

        def data(socket, chunk):
            say(chunk.decode())
            socket.write(b"thanks")
            socket.end()

        def error(socket, error):
            say("error")

    signal.signal(signal.SIGUSR1, boom)
    parked.acquire()
    thread = threading.Thread(target=both)
    thread.start()
    pybuntcp.connect(fd=one.detach(), socket=Handlers)
    try:
        pybuntcp.run()
    except {exception}:
        say("out of run")
    thread.join()
    other.settimeout(10)
    say(other.recv(100).decode())
    other.close()
    pybuntcp.run()
    say(pybuntcp.stats()["open_sockets"])
"""


@exceptions
@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="who holds the GIL has the order of events"
)
def test_h1_a_signal_that_comes_with_data_is_heard_before_and_takes_none_of_it(exception):
    heard = run_program(TOGETHER.format(exception=exception.__name__))
    assert heard == ["precious", "out of run", "thanks", 0]


@pytest.mark.parametrize("event", ["open", "data", "end"])
def test_h1_what_a_signal_handler_raises_inside_a_handler_is_that_handlers(loop, transport, event):
    def raises(socket, *args):
        signal.raise_signal(signal.SIGUSR1)
        for _ in range(1000):  # a signal is heard soon, not at once
            pass

    recorder = Recorder(**{event: raises}, error=lambda socket, error: None)
    with raising(LookupError("boom")):
        _socket, peer = accepted(loop, transport, recorder)
        peer.send(b"x").ignore()
        peer.shutdown().ignore()
        loop.run()
    assert recorder.count("error") == 1
    assert [str(arguments[0]) for name, _, arguments in recorder.events if name == "error"] == ["boom"]
    assert recorder.count("close") == 1
    if event != "open":
        assert b"".join(arguments[0] for name, _, arguments in recorder.events if name == "data") == b"x"
