"""`ArrayBufferSink`: what `flush` and `end` give, what `requeue` takes back, and what is an error afterwards."""

from __future__ import annotations

import gc
import itertools
import threading

import pytest
from support import pattern

from pybuntcp import ArrayBufferSink

GIFT = 8192  # from here on a flushed memoryview is not a copy
SIZES = [1, 100, GIFT - 1, GIFT, GIFT + 1, 100_000]
views = pytest.mark.parametrize("as_memoryview", [False, True], ids=["bytes", "memoryview"])


def streaming(**options):
    sink = ArrayBufferSink()
    sink.start(stream=True, **options)
    return sink


# ---------------------------------------------------------------- flush


@pytest.mark.parametrize("size", [0, *SIZES])
def test_flush_gives_bytes_when_streaming(size):
    sink = streaming()
    sink.write(pattern(size))
    taken = sink.flush()
    assert type(taken) is bytes
    assert taken == pattern(size)


@pytest.mark.parametrize("size", [0, *SIZES])
def test_flush_gives_a_read_only_memoryview_of_bytes_when_asked(size):
    sink = streaming(as_memoryview=True)
    sink.write(pattern(size))
    taken = sink.flush()
    assert type(taken) is memoryview
    assert (taken.readonly, taken.format, taken.ndim, taken.c_contiguous) == (True, "B", 1, True)
    assert taken == pattern(size)


@views
def test_flush_gives_what_was_written_since_the_last_one(as_memoryview):
    sink = streaming(as_memoryview=as_memoryview)
    for piece in (b"one", pattern(GIFT), b"", b"two", pattern(100_000), b"three"):
        sink.write(piece[: len(piece) // 2])
        sink.write(piece[len(piece) // 2 :])
        assert sink.flush() == piece


@views
def test_flush_of_nothing_is_empty(as_memoryview):
    sink = streaming(as_memoryview=as_memoryview)
    assert sink.flush() == b""
    sink.write(b"a")
    sink.flush()
    assert sink.flush() == b""


def test_flush_counts_since_the_last_one_when_not_streaming():
    sink = ArrayBufferSink()
    counts = []
    for piece in (b"abc", b"", "äö", bytes(100_000)):
        sink.write(piece)
        counts.append(sink.flush())
    assert counts == [3, 0, 4, 100_000]
    assert sink.end() == b"abc" + "äö".encode() + bytes(100_000)


def test_flush_counts_what_was_requeued_when_not_streaming():
    sink = ArrayBufferSink()
    sink.write(b"abc")
    assert sink.flush() == 3
    sink.requeue(b"12")
    assert sink.flush() == 2
    assert sink.flush() == 0
    assert sink.end() == b"12abc"


# ---------------------------------------------------------------- requeue


def test_buns_documented_pattern_works_literally():
    """write, write, flush, `socket.write`, and the rest is written back."""
    sink = ArrayBufferSink()
    sink.start(stream=True, high_water_mark=1024)
    sink.write("hello")
    sink.write(" world")
    data = sink.flush()
    wrote = 5  # what socket.write said
    if wrote < len(data):
        sink.write(data[wrote:])
    assert sink.flush() == b" world"


@views
def test_the_pattern_with_requeue_keeps_order_though_new_data_came_in_between(as_memoryview):
    sink = streaming(as_memoryview=as_memoryview)
    sink.write(b"AAAA")
    data = sink.flush()
    sink.write(b"BBBB")
    sink.requeue(data[2:])
    assert sink.flush() == b"AABBBB"


def test_of_two_tails_the_later_goes_back_first():
    sink = streaming()
    sink.write(b"first")
    first = sink.flush()
    sink.write(b"second")
    second = sink.flush()
    sink.write(b"new")
    sink.requeue(second)
    sink.requeue(first[2:])
    assert sink.flush() == b"rstsecondnew"


def test_a_tail_may_be_requeued_again_and_again():
    sink = streaming(as_memoryview=True)
    sink.write(pattern(100_000))
    sent = bytearray()
    for size in itertools.cycle([1, 5000, 0, 3]):
        data = sink.flush()
        sent += data[:size]
        sink.requeue(data[size:])
        if not len(sink):
            break
    assert sent == pattern(100_000)


def test_requeue_into_a_new_sink_is_like_a_write():
    sink = streaming()
    sink.requeue(b"tail")
    sink.write(b"new")
    assert sink.flush() == b"tailnew"


@pytest.mark.parametrize("tail", [0, 1, 1023, 1024, 1025, 5000, GIFT, 50_000])
@pytest.mark.parametrize("new", [0, 1, 1023, 1024, 5000, 50_000])
@views
def test_requeue_of_any_size_goes_in_front_of_any_size(as_memoryview, tail, new):
    sink = streaming(as_memoryview=as_memoryview)
    sink.write(pattern(60_000))
    data = sink.flush()
    sink.write(bytes(new))
    sink.requeue(data[60_000 - tail :])
    assert len(sink) == tail + new
    assert sink.flush() == pattern(60_000)[60_000 - tail :] + bytes(new)


def test_a_requeue_larger_than_what_was_flushed_is_taken():
    sink = streaming(high_water_mark=16)
    sink.write(b"small")
    sink.flush()
    sink.write(b"new")
    sink.requeue(pattern(100_000))
    assert sink.flush() == pattern(100_000) + b"new"


# ---------------------------------------------------------------- results never change


def stir(sink, data):
    """Everything a sink does, over memory that it might have given away."""
    sink.write(b"\xff" * 3)
    sink.requeue(data[len(data) // 2 :])
    sink.write(b"\xff" * 200_000)
    sink.flush()
    sink.requeue(b"\xff" * 10_000)
    sink.write(b"\xff" * 10_000)
    sink.end()
    sink.start(stream=True, high_water_mark=len(data), as_memoryview=True)
    sink.write(b"\xff" * len(data))
    sink.flush()
    sink.write(b"\xff" * len(data))
    sink.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("verb", ["flush", "end"])
@views
def test_a_result_never_changes_later(as_memoryview, verb, size):
    sink = streaming(as_memoryview=as_memoryview, high_water_mark=size)
    sink.write(pattern(size))
    taken = getattr(sink, verb)()
    if verb == "end":
        sink.start(stream=True, as_memoryview=as_memoryview)
    stir(sink, taken)
    assert taken == pattern(size)


@pytest.mark.parametrize("size", SIZES)
@views
def test_a_result_after_a_requeue_never_changes_later(as_memoryview, size):
    """A chunk given away that does not begin where its memory does."""
    sink = streaming(as_memoryview=as_memoryview)
    sink.write(pattern(size))
    data = sink.flush()
    sink.requeue(data[size // 2 :])
    taken = sink.flush()
    stir(sink, taken)
    assert data == pattern(size)
    assert taken == pattern(size)[size // 2 :]


@views
def test_many_results_live_side_by_side(as_memoryview):
    sink = streaming(as_memoryview=as_memoryview)
    pieces = [pattern(size)[::-1] for size in (10, GIFT, 3, 20_000, GIFT - 1, 100_000)]
    taken = []
    for piece in pieces:
        sink.write(piece)
        taken.append(sink.flush())
    assert [bytes(each) for each in taken] == pieces


def test_a_view_of_a_result_outlives_the_result():
    sink = streaming(as_memoryview=True)
    sink.write(pattern(100_000))
    part = sink.flush()[1000:2000]
    sink.write(b"\xff" * 200_000)
    del sink
    assert part == pattern(100_000)[1000:2000]


def test_a_released_result_may_be_released_and_the_sink_goes_on():
    sink = streaming(as_memoryview=True)
    sink.write(pattern(GIFT))
    sink.flush().release()
    sink.write(b"on")
    assert sink.flush() == b"on"


@pytest.fixture
def eager_gc():
    """Collects at nearly every allocation (up to Python 3.11, where allocating may collect)."""
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize("size", [10, 50_000])
@pytest.mark.parametrize("verb", ["flush", "end"])
@views
def test_what_a_finalizer_writes_meanwhile_is_kept_and_changes_no_result(eager_gc, as_memoryview, verb, size):
    class Late:
        def __init__(self):
            self.me = self

        def __del__(self):
            if threading.get_ident() == here:  # another thread that collects would come between writing and noting it
                written.append(b"y" * sink.write(b"y" * 2 * size))

    here = threading.get_ident()
    sink, written, taken = streaming(as_memoryview=as_memoryview), [], []
    for _ in range(50):
        written.append(b"x" * sink.write(b"x" * size))
        Late()
        taken.append(sink.flush())
    gc.collect()
    taken.append(getattr(sink, verb)())
    assert b"".join(map(bytes, taken)) == b"".join(written)


@pytest.mark.parametrize("size", [10, 50_000])
@pytest.mark.parametrize("verb", ["flush", "end"])
def test_without_memory_for_the_result_nothing_is_lost(verb, size):
    testcapi = pytest.importorskip("_testcapi")
    failures, taken = 0, None
    while taken is None:
        sink = streaming(as_memoryview=True)
        sink.write(pattern(size))
        take = getattr(sink, verb)
        try:
            testcapi.set_nomemory(failures, failures + 1)
            taken = take()
        except MemoryError:
            testcapi.remove_mem_hooks()
            failures += 1
            assert len(sink) == size
            sink.requeue(b"<")
            sink.write(b">")
            assert sink.end() == b"<" + pattern(size) + b">"
        finally:
            testcapi.remove_mem_hooks()
    assert failures > 0
    assert taken == pattern(size)


# ---------------------------------------------------------------- end, close


@pytest.mark.parametrize("stream", [False, True])
@views
def test_end_gives_all_that_is_held(stream, as_memoryview):
    sink = ArrayBufferSink()
    sink.start(stream=stream, as_memoryview=as_memoryview)
    sink.write(b"flushed")
    sink.flush()
    sink.write(b"held")
    taken = sink.end()
    assert type(taken) is (memoryview if as_memoryview else bytes)
    assert taken == (b"held" if stream else b"flushedheld")


@views
def test_end_of_nothing_is_empty_and_of_the_same_type(as_memoryview):
    sink = streaming(as_memoryview=as_memoryview)
    taken = sink.end()
    assert type(taken) is (memoryview if as_memoryview else bytes)
    assert taken == b""


VERBS = {
    "write": lambda sink: sink.write(b"late"),
    "write of nothing": lambda sink: sink.write(b""),
    "requeue": lambda sink: sink.requeue(b"late"),
    "flush": lambda sink: sink.flush(),
    "end": lambda sink: sink.end(),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("over", ["end", "close"])
@pytest.mark.parametrize("stream", [False, True])
def test_every_verb_after_end_or_close_is_a_value_error(stream, over, verb):
    sink = ArrayBufferSink()
    sink.start(stream=stream)
    sink.write(b"held")
    getattr(sink, over)()
    with pytest.raises(ValueError, match=verb.split()[0]):
        VERBS[verb](sink)
    assert len(sink) == 0


def test_start_after_end_begins_anew():
    sink = streaming()
    sink.write(b"old")
    sink.end()
    sink.start(stream=True)
    sink.write(b"new")
    assert sink.flush() == b"new"


def test_start_after_close_is_a_value_error():
    sink = streaming()
    sink.close()
    with pytest.raises(ValueError, match="closed"):
        sink.start()


def test_close_is_idempotent_and_drops_what_is_held():
    sink = streaming(high_water_mark=3)
    sink.write(b"abc")
    assert sink.close() is None
    assert sink.close() is None
    assert len(sink) == 0
    assert not sink.full


def test_close_after_end_is_allowed():
    sink = streaming()
    sink.end()
    sink.close()
    with pytest.raises(ValueError, match="closed"):
        sink.write(b"x")


def test_full_is_false_after_end():
    sink = streaming(high_water_mark=2)
    sink.write(b"ab")
    assert sink.full
    sink.end()
    assert not sink.full
