"""[A15] Random programs of callbacks, timers and cancellations run as on asyncio's own loop, step by step, by a clock of the test's."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.asyncio_loops import open_host, run_turns

SECONDS = (0, 1, 1, 2, 2.5)

simple = st.one_of(
    st.tuples(st.just("soon"), st.none()),
    st.tuples(st.just("later"), st.sampled_from(SECONDS)),
    st.tuples(st.just("at"), st.sampled_from(SECONDS)),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("raise"), st.none()),
    st.tuples(st.just("stop"), st.none()),
)
step = st.one_of(
    st.tuples(st.just("callback"), st.lists(simple, max_size=4)),
    st.tuples(st.just("timer"), st.sampled_from(SECONDS), st.lists(simple, max_size=3)),
    st.tuples(st.just("turn"), st.sampled_from((0, 0.5, 1, 3))),
    simple,
)


class Program:
    """One loop that such a program runs on, and what it has done."""

    def __init__(self, loop):
        self.loop, self.now, self.log, self.handles = loop, 100.0, [], []
        loop.time = lambda: self.now
        loop.set_exception_handler(
            lambda loop, context: self.log.append((context["message"][:21], repr(context["handle"])[:13]))
        )

    def do(self, kind, *args):
        getattr(self, "do_" + kind)(*args)

    def call(self, number, steps):
        self.log.append(number)
        for each in steps:
            self.do(*each)

    def do_callback(self, steps):
        self.handles.append(self.loop.call_soon(self.call, len(self.handles), steps))

    def do_timer(self, seconds, steps):
        self.handles.append(self.loop.call_later(seconds, self.call, len(self.handles), steps))

    def do_soon(self, _):
        self.do_callback([])

    def do_later(self, seconds):
        self.do_timer(seconds, [])

    def do_at(self, seconds):
        self.handles.append(self.loop.call_at(100 + seconds, self.call, len(self.handles), []))

    def do_cancel(self, number):
        if self.handles:
            self.handles[number % len(self.handles)].cancel()

    def do_raise(self, _):
        self.loop.call_soon(int, "no number")

    def do_stop(self, _):
        self.loop.stop()

    def do_turn(self, seconds):
        self.now += seconds
        run_turns(self.loop)
        self.log.append(("turn", len(self.loop._ready), self.loop.is_running()))


def outcome(kind, steps):
    with open_host(kind) as loop:
        program = Program(loop)
        for each in [*steps, ("turn", 1), ("turn", 10), ("turn", 0)]:
            program.do(*each)
        return program.log, [handle.cancelled() for handle in program.handles], len(loop._scheduled)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(step, max_size=25))
def test_a_random_program_runs_as_on_asyncios_own_loop(steps):
    assert outcome("native", steps) == outcome("asyncio", steps)
