"""CONTRACT.md, "One's own loop": X1, what is around the call of a timer: exceptions, contexts, writes, the end of its loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import weakref

import pytest
from support import Recorder, accepted, calls_run, data_segments_received, spin
from support.asyncio_loops import each_host, new_host, run_of
from support.threads import in_thread

import pybuntcp
from pybuntcp import call_later, call_soon, every


def raiser(error):
    raise error


# ---------------------------------------------------------------- exceptions


def test_x1_an_exception_of_a_timer_is_reported_and_the_others_are_called(loop):
    called = []
    with loop.reports() as reported:
        call_later(0.001, raiser, LookupError("in a timer"))
        call_later(0.002, called.append, "next")
        loop.run()
    assert called == ["next"]
    assert [type(error) for error in reported] == [LookupError]


def test_x1_an_every_that_raises_is_called_again(loop):
    called = []

    def tick():
        called.append(1)
        if len(called) == 3:
            timer.cancel()
        raise LookupError("in every")

    with loop.reports() as reported:
        timer = every(0.001, tick)
        loop.run()
    assert len(called) == len(reported) == 3


def test_x1_a_callback_that_returns_a_coroutine_is_reported(loop, recwarn):
    async def work():
        """Nobody runs it."""

    with loop.reports() as reported:
        call_soon(lambda: work())
        loop.run()
    assert [type(error) for error in reported] == [TypeError]
    assert not recwarn.list  # such as "was never awaited"


@calls_run
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_x1_a_timer_that_stops_the_loop_leaves_the_others_due(loop, kind):
    called = []
    call_soon(raiser, kind("stop"))
    call_soon(called.append, "next")
    with pytest.raises(kind, match="stop"):
        pybuntcp.run()
    assert called == []
    pybuntcp.run()
    assert called == ["next"]


@each_host
def test_x1_a_keyboard_interrupt_of_a_timer_comes_out_of_asyncios_run(host):
    async def main():
        call_later(0.001, raiser, KeyboardInterrupt("stop"))
        await asyncio.get_running_loop().create_future()

    with pytest.raises(KeyboardInterrupt):
        run_of(host)(main())


@calls_run
def test_x1_running_the_loop_in_a_timer_is_a_runtime_error(loop):
    with loop.reports() as reported:
        call_soon(pybuntcp.run)
        pybuntcp.run()
    assert [type(error) for error in reported] == [RuntimeError]


# ---------------------------------------------------------------- contexts, writes


def test_x1_a_timer_is_called_in_the_context_in_which_it_was_made(loop):
    name = contextvars.ContextVar("name", default="none")
    called, once = [], []

    def tick():
        called.append(name.get())
        name.set("tick")
        if len(called) == 3:
            timer.cancel()

    name.set("then")
    timer = every(0.001, tick)
    call_later(0.002, lambda: once.append(name.get()))
    name.set("now")
    loop.run()
    assert called == ["then", "tick", "tick"]
    assert once == ["then"]
    assert name.get() == "now"


def test_x1_what_a_timer_writes_is_gathered_as_in_a_handler(loop, tcp):
    socket, peer = accepted(loop, tcp, Recorder())

    def write():
        for _ in range(100):
            socket.write(b"x")
        assert socket.pending == 100

    before = data_segments_received(peer.sock)
    call_soon(write)
    assert loop.wait(peer.recv_exactly(100)) == b"x" * 100
    assert data_segments_received(peer.sock) - before == 1
    socket.terminate()


def test_x1_a_timer_may_close_sockets_and_stop_listeners(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder)
    peer = transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    loop.wait(peer.connected)
    call_later(0.001, listener.stop, True)
    loop.run()
    assert recorder.count("close") == 1


# ---------------------------------------------------------------- threads, the end of the loop


def test_x1_a_timer_used_from_another_thread_is_a_runtime_error_that_names_both(loop):
    timer = call_later(60, print)
    for verb in (timer.cancel, timer.ref, timer.unref):
        refused = in_thread(verb)
        assert type(refused) is RuntimeError
        assert "'MainThread'" in str(refused)
        assert "'another'" in str(refused)
    assert timer.active
    timer.cancel()


class Owner:
    """Something to which a callback refers."""

    def call(self):
        """Never called."""


@each_host
def test_x1_timers_end_uncalled_with_their_loop_and_release_their_callbacks(host, recwarn):
    owners = [Owner()]
    gone = weakref.ref(owners[0])

    async def main():
        return [call_later(60, owners[0].call), every(60, owners[0].call), call_later(0.5, owners[0].call)]

    loop = new_host(host)
    timers = loop.run_until_complete(main())
    assert all(timer.active for timer in timers)
    loop.close()
    assert not any(timer.active for timer in timers)
    owners.clear()
    gc.collect()
    assert gone() is None
    timers[0].cancel()
    assert not recwarn.list


def test_x1_a_threads_timers_end_with_it():
    owners, timers = [Owner()], []
    gone = weakref.ref(owners[0])
    in_thread(lambda: timers.append(call_later(60, owners[0].call)))
    assert not timers[0].active
    owners.clear()
    gc.collect()
    assert gone() is None


def test_x1_a_called_timer_that_is_kept_keeps_nothing(loop):
    owner = Owner()
    gone = weakref.ref(owner)
    timer = call_soon(owner.call)
    del owner
    loop.run()
    assert gone() is None
    assert not timer.active


def test_x1_a_cycle_through_a_timer_is_collected(loop):
    owner = Owner()
    owner.timer = call_later(60, owner.call)
    gone = weakref.ref(owner)
    owner.timer.cancel()
    other = Owner()
    other.timer = call_soon(other.call)
    other_gone = weakref.ref(other)
    loop.run()
    del owner, other
    gc.collect()
    assert gone() is other_gone() is None


def test_x1_a_forked_child_calls_no_timer_of_its_parent(loop):
    called = []
    timer = call_later(0.001, called.append, 1)
    child = os.fork()
    if not child:
        try:
            asyncio._set_running_loop(None)
            pybuntcp.run(timeout=0.01)
            timer.cancel()
            os._exit(3 if called or timer.active else 0)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    loop.run()
    assert called == [1]


@calls_run
def test_x1_a_signals_handler_may_cancel_a_timer_that_is_due(loop):
    called = []
    before = signal.signal(signal.SIGUSR1, lambda *_: timer.cancel())
    try:
        call_later(0.001, os.kill, os.getpid(), signal.SIGUSR1)
        timer = call_later(0.001, called.append, "cancelled")
        spin(0.003)  # both are due in one turn
        pybuntcp.run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert called == []
