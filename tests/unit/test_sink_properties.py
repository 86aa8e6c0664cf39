"""`ArrayBufferSink` against a simple model, and against a simulated kernel that takes what it likes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pybuntcp import ArrayBufferSink

# Small, around the first chunk, around the size from which views are given away, and beyond.
EDGES = st.sampled_from([0, 1, 2, 1023, 1024, 1025, 8191, 8192, 8193, 20_000])
SIZES = st.integers(0, 60) | EDGES
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
FORMS = st.sampled_from([bytes, bytearray, memoryview])

quick = settings(max_examples=100, deadline=None, derandomize=True)


class Numbers:
    """Bytes that show their place: one that is lost, doubled or moved shows."""

    def __init__(self):
        self.at = 0

    def take(self, size):
        words = range(self.at, self.at + size)
        self.at += size
        return bytes((number * 151 + number // 251) & 255 for number in words)


class Kernel:
    """Takes a part of what it is given, the size said beforehand; keeps it."""

    def __init__(self):
        self.taken = b""

    def write(self, data, part):
        count = min(part, len(data))
        self.taken += bytes(data[:count])
        return count


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), SIZES),
        st.tuples(st.just("text"), TEXTS),
        st.tuples(st.just("flush"), SIZES),
    ),
    max_size=40,
)


def deliver(sink, steps):
    """Perform the steps, sending at each flush and once at the end; (what was written, what arrived)."""
    numbers, kernel, written = Numbers(), Kernel(), b""
    for verb, value in steps:
        if verb == "flush":
            data = sink.flush()
            sink.requeue(data[kernel.write(data, value) :])
            continue
        chunk = numbers.take(value) if verb == "write" else value
        size = sink.write(chunk)
        chunk = chunk.encode() if isinstance(chunk, str) else chunk
        assert size == len(chunk)
        written += chunk
    kernel.write(sink.end(), len(written))
    return written, kernel.taken


@given(steps=STEPS, as_memoryview=st.booleans(), mark=st.none() | SIZES)
@quick
def test_whatever_the_kernel_takes_it_gets_exactly_the_concatenation_once(steps, as_memoryview, mark):
    sink = ArrayBufferSink()
    sink.start(stream=True, as_memoryview=as_memoryview, high_water_mark=mark)
    written, arrived = deliver(sink, steps)
    assert arrived == written


@given(
    rounds=st.lists(st.tuples(st.lists(SIZES, min_size=1, max_size=5), st.data()), max_size=8),
    as_memoryview=st.booleans(),
)
@quick
def test_several_flushes_under_way_requeued_last_first_keep_their_order(rounds, as_memoryview):
    """Each round flushes several times before the kernel says how much it took of them all."""
    sink = ArrayBufferSink()
    sink.start(stream=True, as_memoryview=as_memoryview)
    numbers, written, arrived = Numbers(), b"", b""
    for sizes, draw in rounds:
        flushed = []
        for size in sizes:
            chunk = numbers.take(size)
            sink.write(chunk)
            written += chunk
            flushed.append(sink.flush())
        taken = draw.draw(st.integers(0, sum(map(len, flushed))))
        for place in reversed(range(len(flushed))):
            before = sum(map(len, flushed[:place]))
            sink.requeue(flushed[place][max(0, taken - before) :])
        arrived += b"".join(map(bytes, flushed))[:taken]
    assert arrived + bytes(sink.end()) == written


class SinkMachine(RuleBasedStateMachine):
    """A sink and its model: bytes held, how many of them were counted, what was given out."""

    @initialize()
    def begin(self):
        self.numbers = Numbers()
        self.given = []  # (result, what it was when it was given)
        self.make()

    def make(self):
        self.sink = ArrayBufferSink()
        self.state = "open"
        self.stream, self.as_memoryview, self.mark = False, False, None
        self.forget()

    def forget(self):
        self.held, self.counted = b"", 0

    def give(self, result, expected):
        assert type(result) is (memoryview if self.as_memoryview else bytes)
        assert result == expected
        self.given.append((result, expected))

    @precondition(lambda self: self.state != "closed")
    @rule(stream=st.booleans(), as_memoryview=st.booleans(), mark=st.none() | SIZES)
    def start(self, stream, as_memoryview, mark):
        self.sink.start(stream=stream, as_memoryview=as_memoryview, high_water_mark=mark)
        self.stream, self.as_memoryview, self.mark = stream, as_memoryview, mark
        self.state = "open"
        self.forget()

    @precondition(lambda self: self.state == "open")
    @rule(size=SIZES, form=FORMS)
    def write(self, size, form):
        chunk = self.numbers.take(size)
        assert self.sink.write(form(chunk)) == size
        self.held += chunk

    @precondition(lambda self: self.state == "open")
    @rule(text=TEXTS)
    def write_text(self, text):
        assert self.sink.write(text) == len(text.encode())
        self.held += text.encode()

    @precondition(lambda self: self.state == "open")
    @rule(size=SIZES, form=FORMS)
    def requeue(self, size, form):
        tail = self.numbers.take(size)
        self.sink.requeue(form(tail))
        self.held = tail + self.held

    @precondition(lambda self: self.state == "open" and self.given)
    @rule(draw=st.data())
    def requeue_a_part_of_a_result(self, draw):
        result, expected = draw.draw(st.sampled_from(self.given))
        start = draw.draw(st.integers(0, len(expected)))
        self.sink.requeue(result[start:])
        self.held = expected[start:] + self.held

    @precondition(lambda self: self.state == "open")
    @rule()
    def flush(self):
        if self.stream:
            self.give(self.sink.flush(), self.held)
            self.forget()
        else:
            assert self.sink.flush() == len(self.held) - self.counted
            self.counted = len(self.held)

    @precondition(lambda self: self.state == "open")
    @rule()
    def end(self):
        self.give(self.sink.end(), self.held)
        self.forget()
        self.state = "ended"

    @rule()
    def close(self):
        self.sink.close()
        self.forget()
        self.state = "closed"

    @precondition(lambda self: self.state == "closed")
    @rule()
    def another(self):
        self.make()

    @precondition(lambda self: self.state != "open")
    @rule(verb=st.sampled_from(["write", "requeue", "flush", "end"]))
    def use_afterwards(self, verb):
        args = (b"late",) if verb in ("write", "requeue") else ()
        with pytest.raises(ValueError, match=verb):
            getattr(self.sink, verb)(*args)

    @precondition(lambda self: self.given)
    @rule(draw=st.data())
    def drop_a_result(self, draw):
        self.given.pop(draw.draw(st.integers(0, len(self.given) - 1)))

    @invariant()
    def the_length_is_what_is_held(self):
        assert len(self.sink) == len(self.held)

    @invariant()
    def full_is_what_came_since_the_last_flush_against_the_mark(self):
        expected = self.mark is not None and len(self.held) - self.counted >= self.mark
        assert self.sink.full is expected

    @invariant()
    def no_result_has_changed(self):
        for result, expected in self.given:
            assert result == expected


SinkMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None, derandomize=True)
TestSinkMachine = SinkMachine.TestCase
