"""The native asyncio loop: signals, Ctrl-C and child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time

import pytest
from support import TIMEOUT, Recorder
from support.asyncio_loops import on_loop, run_on
from support.coroutines import LOCAL, connection, until
from support.handlers import QUIET, echo
from support.programs import Program

import pybuntcp

SOON = 0.1  # seconds in which a signal is told
OPEN = pytest.mark.parametrize("opened", [True, False], ids=["a listener open", "nothing open"])


async def idle(opened, body):
    """`body()` in a loop that waits, with something of ours open or with nothing."""
    if not opened:
        return await body()
    with pybuntcp.listen(socket=QUIET, **LOCAL):
        return await body()


def killed_soon(number):
    """Send this process a signal while the loop waits; a list that will have the instant."""
    instant = []

    def kill():
        instant.append(time.monotonic())
        os.kill(os.getpid(), number)

    threading.Timer(0.02, kill).start()
    return instant


# ---------------------------------------------------------------- handlers


@OPEN
def test_add_signal_handler_is_called_within_100_ms_while_idle(opened):
    async def body():
        loop = asyncio.get_running_loop()
        delays = []
        for _ in range(3):  # the best of three: what a busy machine adds is not ours
            told = loop.create_future()
            loop.add_signal_handler(signal.SIGUSR1, lambda told=told: told.set_result(time.monotonic()))
            sent = killed_soon(signal.SIGUSR1)
            delays.append(await told - sent[0])
        assert loop.remove_signal_handler(signal.SIGUSR1) is True
        return min(delays)

    assert run_on("native", lambda: idle(opened, body)) < SOON


@OPEN
def test_a_handler_of_signal_signal_runs_within_100_ms_while_idle(opened):
    """Nothing of asyncio's wakes the loop for it."""

    async def body():
        delays = []
        for _ in range(3):
            called = []
            signal.signal(signal.SIGUSR1, lambda *_, called=called: called.append(time.monotonic()))
            sent = killed_soon(signal.SIGUSR1)
            await asyncio.sleep(0.3)
            delays.append(called[0] - sent[0])
        return min(delays)

    before = signal.getsignal(signal.SIGUSR1)
    try:
        assert run_on("native", lambda: idle(opened, body)) < SOON
    finally:
        signal.signal(signal.SIGUSR1, before)


@OPEN
def test_a_handler_of_signal_signal_that_raises_ends_the_run(opened):
    class Boom(Exception):
        pass

    def boom(*_):
        raise Boom

    async def body():
        killed_soon(signal.SIGUSR1)
        await asyncio.sleep(TIMEOUT)

    before = signal.signal(signal.SIGUSR1, boom)
    try:
        with pytest.raises(Boom):
            run_on("native", lambda: idle(opened, body))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_wakeup_descriptor_is_as_before_after_a_run():
    async def main():
        with pybuntcp.listen(socket=QUIET, **LOCAL):
            await asyncio.sleep(0.01)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        run_on("native", main)
        assert signal.set_wakeup_fd(before) == writer
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def test_a_wakeup_descriptor_that_is_somebody_elses_gets_the_signals():
    """Whoever set one before the loop ran goes on getting its bytes."""

    async def main():
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        loop.add_reader(reader, lambda: told.done() or told.set_result(os.read(reader, 1)))
        with pybuntcp.listen(socket=QUIET, **LOCAL):
            killed_soon(signal.SIGUSR1)
            byte = await told
        loop.remove_reader(reader)
        return byte

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handler = signal.signal(signal.SIGUSR1, lambda *_: None)
    before = signal.set_wakeup_fd(writer)
    try:
        assert run_on("native", main) == bytes([signal.SIGUSR1])
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGUSR1, handler)
        os.close(reader)
        os.close(writer)


# ---------------------------------------------------------------- Ctrl-C

INTERRUPTED = """
    import asyncio

    async def main():
        if sys.argv[2] == "open":
            kept.append(pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print}))
        say("waiting")
        try:
            await asyncio.sleep(60)
        finally:
            for listener in kept:
                listener.stop()

    kept = []
    loop = pybuntcp.new_event_loop()
    try:
        if sys.argv[1] == "run":
            pybuntcp.run(main())
        else:
            loop.run_until_complete(main())
    except KeyboardInterrupt:
        say(time.monotonic())
    if sys.argv[1] != "run":
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
    loop.close()
"""


@pytest.mark.parametrize("how", ["run", "run_until_complete"])
@pytest.mark.parametrize("what", ["open", "nothing"])
def test_ctrl_c_comes_out_of_an_idle_loop_within_100_ms(how, what):
    delays = []
    for _ in range(3):
        with Program(INTERRUPTED, how, what) as program:
            assert program.hear() == "waiting"
            time.sleep(0.03)  # until it waits in its poll: a late signal is only told sooner
            start = time.monotonic()
            program.signal()
            delays.append(program.hear() - start)
            assert program.finish() == []
    assert 0 <= min(delays) < SOON


# ---------------------------------------------------------------- child processes


async def child(*source, **options):
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-c", *source, stdin=pipe, stdout=pipe, **options)


@OPEN
def test_subprocesses_are_talked_to_and_waited_for(opened):
    async def body():
        process = await child("import sys; print(sys.stdin.read().upper(), end=''); sys.exit(3)")
        out, _ = await process.communicate(b"hello")
        return out, process.returncode

    assert run_on("native", lambda: idle(opened, body)) == (b"HELLO", 3)


@OPEN
def test_a_child_that_is_killed_is_noticed_while_idle(opened):
    async def body():
        process = await child("import time; time.sleep(60)")
        process.kill()
        return await process.wait()

    assert run_on("native", lambda: idle(opened, body)) == -signal.SIGKILL


@on_loop("native")
async def test_subprocesses_run_while_sockets_are_busy():
    client = Recorder(data=echo)
    listener, _, connected = await connection(Recorder(data=echo), client)
    connected.write(b"busy")
    processes = await asyncio.gather(*[child("print(input())") for _ in range(3)])
    outputs = await asyncio.gather(*[process.communicate(b"x\n") for process in processes])
    listener.stop(True)
    await until(lambda: client.count("close"))
    assert [out for out, _ in outputs] == [b"x\n"] * 3


LISTED = "import os, sys; print([number for number in sys.argv[1:] if os.path.exists(f'/dev/fd/{number}')])"


@on_loop("native")
async def test_a_child_process_inherits_no_socket_of_ours():
    client = Recorder()
    listener, accepted, connected = await connection(Recorder(), client)
    numbers = [accepted.fileno(), connected.fileno(), listener.fd]
    process = await child(LISTED, *map(str, numbers), close_fds=False)
    out, _ = await process.communicate()
    listener.stop(True)
    await until(lambda: client.count("close"))
    assert out.strip() == b"[]"
