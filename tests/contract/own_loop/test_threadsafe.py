"""CONTRACT.md, "One's own loop": X2, `threadsafe`: calls from any thread and from signal handlers, into any kind of loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import threading
import time
import weakref

import pytest
from support import Recorder, accepted, calls_run, unreferenced
from support.asyncio_loops import each_host, new_host, on_every_loop
from support.programs import Program, run_program
from support.threads import in_thread

import pybuntcp
from pybuntcp import threadsafe

THREADS, CALLS = 4, 500


def start(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


# ---------------------------------------------------------------- calls


@calls_run
def test_x2_each_call_is_carried_out_once_and_in_order_for_each_thread(loop):
    called = []
    done = threadsafe(lambda: [call.close(), done.close()])
    call = threadsafe(lambda name, number: called.append((threading.get_ident(), name, number)))

    def post(name):
        for number in range(CALLS):
            assert call(name, number) is None

    def post_all():
        threads = [start(lambda name=name: post(name)) for name in range(THREADS)]
        for thread in threads:
            thread.join()
        done()

    thread = start(post_all)
    pybuntcp.run()
    thread.join()
    assert {ident for ident, _, _ in called} == {threading.get_ident()}
    for name in range(THREADS):
        assert [number for _, who, number in called if who == name] == list(range(CALLS))


@on_every_loop
async def test_x2_a_call_wakes_an_asyncio_loop_that_waits():
    woken = asyncio.get_running_loop().create_future()
    with threadsafe(woken.set_result) as call:
        thread = start(lambda: call("from a thread"))
        assert await asyncio.wait_for(woken, 5) == "from a thread"
        thread.join()
    await asyncio.sleep(0.01)


@calls_run
def test_x2_a_call_wakes_a_loop_that_waits_without_anything_else_open(loop):
    times = []
    call = threadsafe(lambda: [times.append(time.monotonic()), call.close()])
    posted = []
    thread = threading.Timer(0.05, lambda: [posted.append(time.monotonic()), call()])
    thread.start()
    pybuntcp.run()
    thread.join()
    assert 0 <= times[0] - posted[0] < 1


def test_x2_a_callback_uses_sockets_as_a_handler_does(loop, tcp):
    socket, peer = accepted(loop, tcp, Recorder())

    def say(*chunks):
        for chunk in chunks:
            socket.write(chunk)
        assert socket.pending == len(b"".join(chunks))
        call.close()

    call = threadsafe(say)
    in_thread(lambda: call(b"a", b"b"))
    assert loop.wait(peer.recv_exactly(2)) == b"ab"
    socket.terminate()


def test_x2_a_call_in_the_loops_own_thread_waits_for_its_turn(loop):
    called = []
    call = threadsafe(called.append)
    call(1)
    assert called == []
    call.close()
    loop.run_until(lambda: called)
    assert called == [1]


def test_x2_a_callback_that_posts_to_itself_does_not_keep_others_waiting(loop):
    called, ended = [], []

    def again():
        called.append(1)
        if len(called) == 1:
            pybuntcp.call_soon(lambda: [ended.append(1), call.close()])
        if not ended:
            call()

    call = threadsafe(again)
    call()
    loop.run()
    assert ended == [1]
    assert len(called) < 10


def test_x2_an_exception_is_reported_and_the_next_call_is_carried_out(loop):
    called = []

    def callback(number):
        called.append(number)
        if number == 1:
            raise LookupError("in a callback")

    with loop.reports() as reported:
        call = threadsafe(callback)
        call(1)
        call(2)
        call.close()
        loop.run_until(lambda: len(called) == 2)
    assert [type(error) for error in reported] == [LookupError]


@calls_run
def test_x2_a_callback_that_stops_the_loop_leaves_the_others_for_the_next_run(loop):
    called = []

    def stop():
        raise SystemExit("stop")

    first, second = threadsafe(stop), threadsafe(called.append)
    first()
    second(1)
    first.close()
    second.close()
    with pytest.raises(SystemExit, match="stop"):
        pybuntcp.run()
    assert called == []
    pybuntcp.run()
    assert called == [1]


def test_x2_a_callback_runs_in_the_context_in_which_the_callable_was_made(loop):
    name = contextvars.ContextVar("name", default="none")
    called = []
    name.set("then")
    call = threadsafe(lambda: called.append(name.get()))
    name.set("now")
    call()
    call.close()
    loop.run_until(lambda: called)
    assert called == ["then"]


@pytest.mark.parametrize("callback", [None, asyncio.sleep])
def test_x2_a_wrong_callback_is_refused(callback):
    with pytest.raises(TypeError, match="callback"):
        threadsafe(callback)


# ---------------------------------------------------------------- closing


def test_x2_what_was_posted_before_the_close_is_carried_out_and_later_calls_raise(loop):
    called = []
    call = threadsafe(called.append)
    in_thread(lambda: [call(1), call(2), call.close(), call.close()])
    with pytest.raises(RuntimeError, match="closed"):
        call(3)
    assert type(in_thread(call)) is RuntimeError
    loop.run_until(lambda: len(called) == 2)
    assert called == [1, 2]


@unreferenced
def test_x2_a_referenced_callable_keeps_run_going_and_an_unreferenced_one_does_not(loop):
    call = threadsafe(print)
    pybuntcp.run(timeout=0)
    call.unref()
    call.unref()
    pybuntcp.run()
    call.ref()
    pybuntcp.call_later(0.01, call.unref)
    pybuntcp.run()
    call.close()
    pybuntcp.run()


@unreferenced
def test_x2_a_callable_that_nobody_refers_to_does_not_keep_run_going(loop):
    calls = [threadsafe(print), threadsafe(print)]
    thread = threading.Timer(0.01, calls.clear)
    thread.start()
    pybuntcp.run()
    thread.join()
    assert calls == []


def test_x2_ref_and_unref_belong_to_the_loops_thread(loop):
    call = threadsafe(print)
    for verb in (call.ref, call.unref):
        assert type(in_thread(verb)) is RuntimeError
    call.close()
    loop.settle()


class Owner:
    """Something to which a callback refers."""

    def call(self):
        raise AssertionError("called after all")


@each_host
def test_x2_after_the_end_of_its_loop_a_call_raises(host):
    owner = Owner()
    gone = weakref.ref(owner)

    async def main(callback):
        return threadsafe(callback)

    loop = new_host(host)
    call = loop.run_until_complete(main(owner.call))
    call()  # it is dropped
    loop.close()
    with pytest.raises(RuntimeError, match="ended"):
        call()
    assert type(in_thread(call)) is RuntimeError
    call.close()
    call.ref()
    del owner
    gc.collect()
    assert gone() is None


def test_x2_calls_race_with_the_end_of_the_loop():
    """Threads that call while the loop's thread ends: each call is taken or refused, and nothing is touched afterwards."""
    for _ in range(6):
        made, refused = [], []
        ready, go = threading.Event(), threading.Barrier(3)

        def live(made=made, ready=ready, go=go):
            made.append(threadsafe(int))
            ready.set()
            go.wait()
            pybuntcp.run(timeout=0.001)

        def post(made=made, refused=refused, go=go):
            go.wait()
            try:
                while True:
                    made[0]()
            except RuntimeError as error:
                refused.append(error)

        thread = start(live)
        ready.wait()
        posters = [start(post) for _ in range(2)]
        for each in (thread, *posters):
            each.join(10)
            assert not each.is_alive()
        assert len(refused) == 2


def test_x2_in_a_forked_child_a_call_raises(loop):
    called = []
    call = threadsafe(called.append)
    call("for the parent")
    child = os.fork()
    if not child:
        status = 4
        try:
            asyncio._set_running_loop(None)
            call("child")
        except RuntimeError as error:
            status = 0 if "parent" in str(error) else 3
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    call.close()
    loop.run_until(lambda: called)
    assert called == ["for the parent"]


# ---------------------------------------------------------------- signals


@calls_run
def test_x2_a_signal_handler_may_call_at_any_moment_even_inside_a_call(loop):
    called = []
    call = threadsafe(called.append)
    before = signal.signal(signal.SIGALRM, lambda *_: call("signal"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        for _ in range(20_000):
            call("loop")
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    call.close()
    pybuntcp.run()
    assert called.count("loop") == 20_000
    assert called.count("signal") > 0


WAITING = """
    call = pybuntcp.threadsafe(lambda number, frame: [say(number), call.close()])
    signal.signal(signal.SIGUSR1, call)
    say("ready")
"""


def test_x2_a_signal_handler_wakes_a_loop_that_waits():
    with Program(WAITING + "    pybuntcp.run()\n") as program:
        assert program.hear() == "ready"
        program.signal(signal.SIGUSR1)
        assert program.hear() == signal.SIGUSR1
        program.finish()


def test_x2_a_program_that_ends_with_threads_that_call_ends():
    assert run_program("""
        import threading
        call = pybuntcp.threadsafe(int)
        call.unref()
        def post():
            try:
                while True: call()
            except RuntimeError:
                pass
        for _ in range(3):
            threading.Thread(target=post, daemon=True).start()
        pybuntcp.run(timeout=0.02)
        say("end")
    """) == ["end"]
