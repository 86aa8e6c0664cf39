"""The life of `run()`: when it returns, nesting, Ctrl-C and other signals."""

from __future__ import annotations

import contextlib
import signal
import socket as stdlib
import time

import pytest
from support import TIMEOUT, Peer, Recorder, accepted
from support.addresses import dialled
from support.handlers import QUIET
from support.programs import Program, run_program

import pybuntcp

CTRL_C_SECONDS = 0.1


# ---------------------------------------------------------------- run()


def test_run_with_nothing_to_wait_for_returns_at_once():
    assert pybuntcp.run() is None
    assert pybuntcp.run() is None


def test_run_can_be_called_again_and_again(loop, transport):
    for _ in range(5):
        recorder = Recorder(data=lambda socket, chunk: socket.end(chunk))
        _, peer = accepted(loop, transport, recorder)
        peer.send(b"x")
        answer = peer.recv_until_eof()
        peer.shutdown()
        loop.run()
        assert answer.result() == b"x"


def test_run_inside_a_handler_is_a_runtime_error_and_harmless(loop, transport):
    def data(socket, chunk):
        with pytest.raises(RuntimeError, match="run"):
            pybuntcp.run()
        socket.write(chunk)

    recorder = Recorder(data=data)
    _, peer = accepted(loop, transport, recorder)
    peer.send(b"hello")
    assert loop.wait(peer.recv_exactly(5)) == b"hello"


@pytest.mark.parametrize("event", ["open", "end", "close"])
def test_run_inside_any_handler_is_a_runtime_error(loop, transport, event):
    refused = []

    def nested(socket, *args):
        try:
            pybuntcp.run()
        except RuntimeError as error:
            refused.append(error)

    recorder = Recorder(**{event: nested})
    _, peer = accepted(loop, transport, recorder)
    peer.close()
    loop.run()
    assert len(refused) == 1


def test_run_inside_connect_error_is_a_runtime_error(loop, unix):
    refused = []

    def failed(socket, error):
        try:
            pybuntcp.run()
        except RuntimeError as nested:
            refused.append(nested)

    recorder = Recorder(connect_error=failed)
    pybuntcp.connect(unix=unix.listen_options()["unix"], socket=recorder.handlers)
    loop.run()
    assert len(refused) == 1


# ---------------------------------------------------------------- Ctrl-C


INTERRUPTED = """
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": lambda socket, chunk: socket.write(chunk)})
    say(listener.port)
    try:
        pybuntcp.run()
    except KeyboardInterrupt:
        say(time.monotonic())
    listener.stop(True)
    pybuntcp.run()
    say(pybuntcp.stats()["open_sockets"])
"""


def test_ctrl_c_comes_out_of_an_idle_run_within_100_ms():
    delays = []
    for _ in range(3):  # the best of three: what a busy machine adds is not ours
        with Program(INTERRUPTED) as program:
            program.hear()
            wait_until_sleeping(program.process.pid)
            start = time.monotonic()
            program.signal()
            delays.append(program.hear() - start)
            assert program.finish() == [0]
    assert 0 <= min(delays) < CTRL_C_SECONDS


def wait_until_sleeping(pid):
    """Until the process waits in its poll; where /proc does not tell, a moment."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/wchan") as file:
                if "epoll" in file.read() or "ep_poll" in file.read():
                    return
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "S":
                    return
        except FileNotFoundError:
            return


def test_ctrl_c_comes_out_of_a_busy_run_within_100_ms():
    """An echo that never ends: the loop is never idle when the signal comes."""
    delays = []
    for _ in range(3):
        with Program(INTERRUPTED) as program, Peer(lambda: dialled(program.hear())) as peer:
            peer.send(b"x")
            peer.recv_exactly(1).result()
            peer.call(ping_pong, peer.sock)
            start = time.monotonic()
            program.signal()
            delays.append(program.hear() - start)
            assert program.finish() == [0]
    assert 0 <= min(delays) < CTRL_C_SECONDS


def ping_pong(client):
    """Keep an echo server busy for as long as it answers."""
    with contextlib.suppress(OSError):
        client.sendall(b"x" * 1000)
        while client.recv(65536):
            client.sendall(b"x" * 1000)


def test_ctrl_c_ends_a_program_as_pythons_own():
    with Program("""
        pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print})
        say("ready")
        pybuntcp.run()
    """) as program:
        assert program.hear() == "ready"
        program.signal()
        program.finish(status=-signal.SIGINT)


def test_ctrl_c_inside_a_handler_comes_out_of_run():
    answer = run_program("""
        def data(socket, chunk):
            signal.raise_signal(signal.SIGINT)
            for _ in range(1000): pass
            say("not reached")

        one, other = socket.socketpair()
        pybuntcp.connect(fd=one.detach(), socket={"data": data, "error": lambda socket, error: say("error")})
        other.send(b"x")
        try:
            pybuntcp.run()
        except KeyboardInterrupt:
            say("interrupted")
    """)
    assert answer == ["interrupted"]


def test_connections_survive_a_ctrl_c():
    with (
        Program("""
        listener = pybuntcp.listen(hostname="127.0.0.1", port=0,
                                   socket={"data": lambda socket, chunk: socket.write(chunk)})
        say(listener.port)
        while True:
            try:
                pybuntcp.run()
                break
            except KeyboardInterrupt:
                say("interrupted")
                listener.stop()
    """) as program,
        dialled(program.hear()) as client,
    ):
        client.sendall(b"before")
        assert client.recv(6) == b"before"
        program.signal()
        assert program.hear() == "interrupted"
        client.sendall(b"after")
        assert client.recv(5) == b"after"
        client.close()
        program.finish()


def test_a_python_signal_handler_runs_while_the_loop_is_idle():
    with Program("""
        signal.signal(signal.SIGUSR1, lambda *_: listener.stop())
        listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print})
        say("ready")
        pybuntcp.run()
        say("returned")
    """) as program:
        assert program.hear() == "ready"
        wait_until_sleeping(program.process.pid)
        program.signal(signal.SIGUSR1)
        assert program.hear() == "returned"
        program.finish()


def test_run_gives_back_the_wakeup_descriptor_it_found():
    reader, writer = stdlib.socketpair()
    writer.setblocking(False)
    with reader, writer:
        before = signal.set_wakeup_fd(writer.fileno())
        try:
            with pybuntcp.listen(hostname="127.0.0.1", port=0, socket=QUIET) as listener:
                listener.unref()
                pybuntcp.run()
            assert signal.set_wakeup_fd(-1) == writer.fileno()
        finally:
            signal.set_wakeup_fd(before)
