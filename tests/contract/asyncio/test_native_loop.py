"""The native asyncio loop: `run(coro)`, runners, threads, debug mode, and its end."""

from __future__ import annotations

import asyncio
import gc
import inspect
import socket as stdlib
import subprocess
import sys
import threading
import time
import warnings

import pytest
from support import TIMEOUT, Recorder, descriptors, run_loop
from support.addresses import port_of, raw_tcp
from support.asyncio_loops import close_host, new_host, on_loop, open_host, run_in, run_on
from support.coroutines import LOCAL, async_answers, connection, turns, unclosed, until
from support.handlers import Boom, echo, ignore
from support.programs import run_program
from support.threads import in_thread

import pybuntcp.aio

ECHO = {"data": echo}


async def served():
    """Whether a listener of ours is served by the loop that runs."""
    with pybuntcp.listen(socket=ECHO, **LOCAL) as listener:
        return await async_answers(listener.port)


# ---------------------------------------------------------------- making and running


def test_the_native_loop_is_the_standard_librarys_selector_loop():
    loop = pybuntcp.new_event_loop()
    try:
        assert isinstance(loop, asyncio.SelectorEventLoop)
    finally:
        loop.close()


def test_run_gives_what_the_coroutine_returned():
    async def main():
        return "result", await served(), type(asyncio.get_running_loop())

    assert pybuntcp.run(main()) == ("result", True, pybuntcp.aio.EventLoop)


def test_run_raises_what_the_coroutine_raised():
    async def main():
        await served()
        raise Boom("from main")

    with pytest.raises(Boom, match="from main"):
        pybuntcp.run(main())


@pytest.mark.parametrize("exit", [KeyboardInterrupt, SystemExit])
def test_run_raises_the_exit_the_coroutine_raised(exit):
    async def main():
        await served()
        raise exit

    with pytest.raises(exit):
        pybuntcp.run(main())


def test_run_cancels_the_tasks_that_are_left():
    async def sleeper():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async def main():
        kept.append(asyncio.create_task(sleeper()))
        await asyncio.sleep(0)

    told, kept = [], []
    pybuntcp.run(main())
    assert told == ["cancelled"]


@pytest.mark.parametrize("debug", [True, False])
def test_run_takes_debug(debug):
    async def main():
        assert await served()
        return asyncio.get_running_loop().get_debug()

    assert pybuntcp.run(main(), debug=debug) is debug


@pytest.mark.parametrize("thing", [42, "main", lambda: None, served])
def test_run_of_what_is_no_coroutine_is_refused(thing):
    with pytest.raises((TypeError, ValueError), match=r"coroutine|awaitable"):
        pybuntcp.run(thing)


def test_run_of_a_coroutine_inside_a_handler_of_run_is_a_runtime_error():
    def opened(socket):
        coroutine = served()
        try:
            with pytest.raises(RuntimeError, match="run"):
                pybuntcp.run(coroutine)
        finally:
            coroutine.close()
            listener.stop(True)

    recorder = Recorder(open=opened)
    listener = pybuntcp.listen(socket=recorder.handlers, **LOCAL)
    pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket=ECHO)
    run_loop()
    assert recorder.count("open") == 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner came with Python 3.11")
def test_a_runner_makes_its_loop_by_new_event_loop():
    with asyncio.Runner(loop_factory=pybuntcp.new_event_loop) as runner:
        assert [runner.run(served()) for _ in range(3)] == [True] * 3
        assert runner.get_loop().is_running() is False


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run(loop_factory=) came with Python 3.12")
def test_asyncio_run_takes_new_event_loop_as_its_factory():
    assert "loop_factory" in inspect.signature(asyncio.run).parameters
    assert asyncio.run(served(), loop_factory=pybuntcp.new_event_loop) is True


def test_sockets_stay_open_between_two_runs_of_a_loop():
    async def start():
        return await connection(Recorder(data=echo), client)

    async def talk():
        connected.write(b"x")
        await until(lambda: client.received() == b"x")

    async def finish():
        listener.stop(True)
        await until(lambda: client.count("close"))

    client = Recorder()
    with open_host("native") as loop:
        listener, _, connected = run_in(loop, start)
        run_in(loop, talk)
        run_in(loop, finish)


def test_a_handler_may_stop_the_loop():
    async def start():
        return await connection(Recorder(data=lambda socket, chunk: loop.stop()), client)

    async def finish():
        listener.stop(True)
        await until(lambda: client.count("close"))

    client = Recorder()
    with open_host("native") as loop:
        listener, _, connected = run_in(loop, start)
        connected.write(b"stop")
        watchdog = loop.call_later(TIMEOUT, loop.stop)
        loop.run_forever()
        assert loop.time() < watchdog.when()
        watchdog.cancel()
        run_in(loop, finish)


def test_running_the_loop_inside_a_handler_is_a_runtime_error():
    async def main():
        listener, _, connected = await connection(Recorder(data=data), client)
        connected.write(b"x")
        await until(lambda: client.received() == b"x")
        listener.stop(True)
        await until(lambda: client.count("close"))

    def data(socket, chunk):
        with pytest.raises(RuntimeError, match="running"):
            loop.run_until_complete(loop.create_future())
        socket.write(chunk)

    client = Recorder()
    with open_host("native") as loop:
        run_in(loop, main)


def test_importing_pybuntcp_does_not_import_asyncio():
    assert run_program("say('asyncio' in sys.modules)") == [False]


def test_the_module_with_the_loops_class_is_imported_when_it_is_first_asked_for():
    source = "say('pybuntcp.aio' in sys.modules); say(pybuntcp.aio.EventLoop.__name__)"
    assert run_program(source) == [False, "EventLoop"]


# ---------------------------------------------------------------- threads and executors


@on_loop("native")
async def test_call_soon_threadsafe_wakes_an_idle_loop():
    loop = asyncio.get_running_loop()
    with pybuntcp.listen(socket=ECHO, **LOCAL):
        for _ in range(20):
            done = loop.create_future()
            threading.Timer(0.002, loop.call_soon_threadsafe, [done.set_result, None]).start()
            await done


def test_call_soon_threadsafe_from_four_threads_keeps_the_order_of_each():
    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def note(number, count):
            seen[number].append(count)
            if sum(map(len, seen)) == 4 * 500:
                done.set_result(None)

        def call(number):
            for count in range(500):
                loop.call_soon_threadsafe(note, number, count)

        client = Recorder()
        listener, _, connected = await connection(Recorder(data=echo), client)
        connected.write(b"busy")  # goes to and fro meanwhile
        client._functions["data"] = echo
        threads = [threading.Thread(target=call, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        await done
        for thread in threads:
            thread.join(TIMEOUT)
        listener.stop(True)
        await until(lambda: client.count("close"))

    seen = [[], [], [], []]
    run_on("native", main)
    assert seen == [list(range(500))] * 4


@on_loop("native")
async def test_executors_work_while_sockets_are_busy():
    loop = asyncio.get_running_loop()
    client = Recorder(data=echo)
    listener, _, connected = await connection(Recorder(data=echo), client)
    connected.write(b"busy")
    jobs = [loop.run_in_executor(None, threading.get_ident) for _ in range(20)]
    jobs += [asyncio.to_thread(time.sleep, 0.005) for _ in range(5)]
    idents = (await asyncio.gather(*jobs))[:20]
    rounds = client.count("data")
    await until(lambda: client.count("data") > rounds + 10)
    listener.stop(True)
    await until(lambda: client.count("close"))
    assert threading.get_ident() not in idents


def test_a_loop_runs_in_another_thread_than_made_it():
    """The sockets are of the thread that runs it."""
    loop = new_host("native")
    try:
        assert in_thread(lambda: run_in(loop, served)) is True
        assert run_in(loop, served) is True
    finally:
        close_host(loop)


@pytest.mark.parametrize("host", ["native", "asyncio"])
def test_a_drain_that_a_turn_reports_before_it_waits_wakes_its_task(host):
    """Nothing else happens. In another thread than the main one no look at signals wakes the loop, either."""

    async def main():
        with raw_tcp("127.0.0.1") as server:
            async with pybuntcp.connect(hostname="127.0.0.1", port=port_of(server)) as socket:
                sink = socket.sink()
                for _ in range(3):
                    await turns()
                    sink.write(b"x")
                    await sink.drain()
                pending = socket.pending
                socket.terminate()
        return pending

    assert in_thread(lambda: run_on(host, main)) == 0


@pytest.mark.parametrize("host", ["native", "asyncio"])
def test_an_end_that_a_turn_reports_before_it_waits_wakes_its_task(host):
    """As above. The connection stays half open, so its closing wakes nobody."""

    async def main():
        ended = asyncio.get_running_loop().create_future()
        handlers = {"data": ignore, "end": lambda socket: ended.set_result(socket.ready_state)}
        with raw_tcp("127.0.0.1") as server:
            socket = await pybuntcp.connect(
                hostname="127.0.0.1", port=port_of(server), socket=handlers, allow_half_open=True
            )
            reader = socket.reader()
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"x")
                peer.shutdown(stdlib.SHUT_WR)
                received = await reader.read()
                state = await ended
                socket.terminate()
        return received, state

    assert in_thread(lambda: run_on(host, main)) == (b"x", pybuntcp.ReadyState.ESTABLISHED)


def test_two_native_loops_run_in_two_threads_at_once():
    both = threading.Barrier(2, timeout=TIMEOUT)

    async def main():
        with pybuntcp.listen(socket=ECHO, **LOCAL) as listener:
            await asyncio.to_thread(both.wait)
            result = await async_answers(listener.port)
            await asyncio.to_thread(both.wait)
            return result

    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(run_on("native", main)))
    thread.start()
    try:
        assert run_on("native", main) is True
    finally:
        thread.join(TIMEOUT)
    assert outcome == [True]


# ---------------------------------------------------------------- debug mode


def test_debug_mode_tells_of_slow_callbacks_and_serves_as_ever(caplog):
    async def main():
        asyncio.get_running_loop().slow_callback_duration = 0.02
        assert await served()
        asyncio.get_running_loop().call_soon(time.sleep, 0.03)
        await asyncio.sleep(0)

    pybuntcp.run(main(), debug=True)
    assert "took 0.0" in caplog.text


def test_debug_mode_refuses_call_soon_from_another_thread():
    async def main():
        return in_thread(lambda: asyncio_loop.call_soon(print))

    with open_host("native") as asyncio_loop:
        asyncio_loop.set_debug(True)
        assert isinstance(run_in(asyncio_loop, main), RuntimeError)


# ---------------------------------------------------------------- the end


def test_a_loop_may_be_closed_twice():
    loop = new_host("native")
    run_in(loop, served)
    loop.close()
    loop.close()
    assert loop.is_closed()


def test_a_loop_that_never_ran_gives_its_descriptors_back():
    before = len(descriptors())
    loop = new_host("native")
    assert len(descriptors()) > before
    loop.close()
    assert len(descriptors()) == before


def test_a_closed_loop_refuses_to_run():
    loop = new_host("native")
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()


def test_an_unclosed_loop_is_warned_of_by_asyncio_and_given_back():
    before = len(descriptors())
    loop = new_host("native")
    run_in(loop, served)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        del loop
        gc.collect()
    assert any("unclosed event loop" in str(warning.message) for warning in caught)
    assert len(descriptors()) == before


def test_a_hundred_loops_leave_nothing():
    before = len(descriptors())
    with unclosed() as told:
        for _ in range(100):
            loop = new_host("native")
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
    assert told == []
    assert len(descriptors()) == before


def test_an_interpreter_that_exits_with_a_native_loop_open_says_nothing_of_ours():
    source = """
import asyncio, pybuntcp
loop = pybuntcp.new_event_loop()
async def main():
    global listener
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print})
loop.run_until_complete(main())
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b""
