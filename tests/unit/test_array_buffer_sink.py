"""`ArrayBufferSink`: options, counts, order, and results that never change afterwards."""

from __future__ import annotations

import array
import ctypes
import gc
import sys

import pytest
from support import pattern

from pybuntcp import ArrayBufferSink

GIFT = 8192  # from here on a flushed memoryview is not a copy
MOST = 2**40


def started(**options):
    sink = ArrayBufferSink()
    sink.start(**options)
    return sink


def streaming(**options):
    return started(stream=True, **options)


# ---------------------------------------------------------------- options


def test_a_sink_is_usable_without_start():
    sink = ArrayBufferSink()
    assert sink.write(b"abc") == 3
    assert sink.flush() == 3
    assert sink.end() == b"abc"


def test_start_gives_nothing():
    assert ArrayBufferSink().start() is None


def test_the_constructor_takes_nothing():
    with pytest.raises(TypeError):
        ArrayBufferSink(stream=True)


@pytest.mark.parametrize("name", ["stream", "as_memoryview"])
@pytest.mark.parametrize("value", [1, 0, None, "yes", b"", 1.0])
def test_an_option_that_must_be_a_bool_is_a_type_error_by_name(name, value):
    with pytest.raises(TypeError, match=name):
        ArrayBufferSink().start(**{name: value})


@pytest.mark.parametrize("mark", [True, False, "65536", b"1", 1.0, float("nan"), []])
def test_a_mark_that_is_no_integer_is_a_type_error_by_name(mark):
    with pytest.raises(TypeError, match="high_water_mark"):
        ArrayBufferSink().start(high_water_mark=mark)


@pytest.mark.parametrize("mark", [-1, -(2**70), MOST + 1, 2**63, 2**64, 2**200])
def test_a_mark_out_of_range_is_a_value_error_by_name(mark):
    with pytest.raises(ValueError, match="high_water_mark"):
        ArrayBufferSink().start(high_water_mark=mark)


def test_an_unknown_option_is_a_type_error_by_name():
    with pytest.raises(TypeError, match="highWaterMark"):
        ArrayBufferSink().start(highWaterMark=5)


def test_a_mark_is_anything_with_an_index():
    class Ten:
        def __index__(self):
            return 10

    sink = streaming(high_water_mark=Ten())
    sink.write(bytes(9))
    assert not sink.full
    sink.write(b"x")
    assert sink.full


def test_an_index_that_raises_comes_out_of_start():
    class Bad:
        def __index__(self):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        ArrayBufferSink().start(high_water_mark=Bad())


@pytest.mark.parametrize("bad", [{"stream": 1}, {"high_water_mark": -1}, {"as_memoryview": None}])
def test_a_refused_start_changes_nothing(bad):
    sink = streaming(high_water_mark=4, as_memoryview=True)
    sink.write(b"held")
    with pytest.raises((TypeError, ValueError)):
        sink.start(**bad)
    assert sink.full
    taken = sink.flush()
    assert isinstance(taken, memoryview)
    assert taken == b"held"


def test_the_largest_mark_is_memory_or_a_memory_error_and_the_sink_lives_on():
    sink = streaming()
    sink.write(b"held")
    try:
        sink.start(stream=True, high_water_mark=MOST)
    except MemoryError:
        assert sink.flush() == b"held"
    else:
        assert sink.flush() == b""
    assert sink.write(b"on") == 2
    assert sink.flush() == b"on"


def test_start_again_drops_what_is_held():
    sink = streaming()
    sink.write(b"old")
    sink.start(stream=True)
    assert len(sink) == 0
    sink.write(b"new")
    assert sink.flush() == b"new"


def test_start_again_forgets_what_was_counted():
    sink = started(high_water_mark=4)
    sink.write(b"four")
    sink.flush()
    sink.start(high_water_mark=4)
    sink.write(b"fou")
    assert not sink.full
    assert sink.flush() == 3


def test_options_do_not_stick_from_one_start_to_the_next():
    sink = streaming(high_water_mark=1, as_memoryview=True)
    sink.start()
    sink.write(b"abc")
    assert not sink.full
    assert sink.flush() == 3
    assert type(sink.end()) is bytes


# ---------------------------------------------------------------- write


@pytest.mark.parametrize("text", ["", "ascii", "aä€😀", "\0", "😀" * 20_000])
def test_write_takes_str_as_utf8_and_counts_bytes(text):
    sink = streaming()
    assert sink.write(text) == len(text.encode())
    assert sink.flush() == text.encode()


@pytest.mark.parametrize("verb", ["write", "requeue"])
def test_lone_surrogates_are_refused_and_nothing_is_appended(verb):
    sink = streaming()
    sink.write(b"before")
    with pytest.raises(UnicodeEncodeError):
        getattr(sink, verb)("ok\ud800")
    assert sink.flush() == b"before"


BUFFERS = {
    "bytes": b"buffer",
    "empty": b"",
    "bytes subclass": type("B", (bytes,), {})(b"buffer"),
    "str subclass": type("S", (str,), {})("buffer"),
    "bytearray": bytearray(b"buffer"),
    "memoryview": memoryview(b"<buffer>")[1:-1],
    "empty slice": memoryview(b"ab")[1:1],
    "read-only view": memoryview(bytearray(b"buffer")).toreadonly(),
    "array of 16 bits": array.array("H", b"buffer"),
    "two dimensions": memoryview(b"buffer").cast("B", (2, 3)),
    "no dimension": ctypes.c_uint64(0x1122334455667788),
    "ctypes": (ctypes.c_char * 6)(*b"buffer"),
}


def bytes_of(buffer):
    return buffer.encode() if isinstance(buffer, str) else memoryview(buffer).tobytes()


@pytest.mark.parametrize("kind", BUFFERS)
def test_write_takes_any_c_contiguous_buffer(kind):
    sink = streaming()
    expected = bytes_of(BUFFERS[kind])
    assert sink.write(BUFFERS[kind]) == len(expected)
    assert sink.flush() == expected


@pytest.mark.parametrize("kind", BUFFERS)
def test_requeue_takes_any_c_contiguous_buffer(kind):
    sink = streaming()
    sink.write(b"<")
    assert sink.requeue(BUFFERS[kind]) is None
    assert sink.flush() == bytes_of(BUFFERS[kind]) + b"<"


@pytest.mark.parametrize("verb", ["write", "requeue"])
@pytest.mark.parametrize(
    "view",
    [memoryview(b"abcdef")[::2], memoryview(b"abcdef")[::-1], memoryview(array.array("I", range(9)))[::3]],
    ids=["every second", "backwards", "every third word"],
)
def test_a_non_contiguous_buffer_is_a_buffer_error_and_nothing_is_appended(verb, view):
    sink = streaming()
    sink.write(b"before")
    with pytest.raises(BufferError):
        getattr(sink, verb)(view)
    assert sink.flush() == b"before"


@pytest.mark.parametrize("verb", ["write", "requeue"])
@pytest.mark.parametrize("value", [None, 5, 1.5, [1, 2], object(), ["a"], {}])
def test_what_is_no_buffer_is_a_type_error_and_nothing_is_appended(verb, value):
    sink = streaming()
    sink.write(b"before")
    with pytest.raises(TypeError, match=type(value).__name__):
        getattr(sink, verb)(value)
    assert sink.flush() == b"before"


@pytest.mark.parametrize("verb", ["write", "requeue"])
def test_the_bytes_are_given_by_position_and_not_forgotten(verb):
    sink = streaming()
    with pytest.raises(TypeError):
        getattr(sink, verb)()
    with pytest.raises(TypeError):
        getattr(sink, verb)(chunk=b"x")


@pytest.mark.parametrize("verb", ["write", "requeue"])
@pytest.mark.parametrize("size", [10, GIFT, 100_000])
def test_a_bytearray_changed_after_it_was_given_changes_nothing(verb, size):
    sink = streaming()
    given = bytearray(pattern(size))
    getattr(sink, verb)(given)
    given[:] = bytes(size)
    assert sink.flush() == pattern(size)


def test_a_bytearray_is_not_held_after_it_was_given():
    sink = streaming()
    given = bytearray(b"abc")
    sink.write(given)
    sink.requeue(given)
    given.clear()  # BufferError while anybody exports it
    assert sink.flush() == b"abcabc"


def test_a_refused_write_does_not_hold_the_buffer():
    sink = streaming()
    given = bytearray(b"abc")
    sink.end()
    for verb in (sink.write, sink.requeue):
        with pytest.raises(ValueError, match="ended"):
            verb(given)
    given.clear()
    assert given == b""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ in Python came with 3.12")
@pytest.mark.parametrize("verb", ["write", "requeue"])
def test_a_buffer_whose_own_code_closes_the_sink_is_a_value_error(verb):
    class Closing:
        def __buffer__(self, flags):
            sink.close()
            return memoryview(b"late")

    sink = streaming()
    sink.write(b"before")
    with pytest.raises(ValueError, match="closed"):
        getattr(sink, verb)(Closing())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ in Python came with 3.12")
def test_a_buffer_whose_own_code_writes_to_the_sink_comes_after_what_it_wrote():
    class Writing:
        def __buffer__(self, flags):
            sink.write(pattern(100_000))
            return memoryview(b"mine")

    sink = streaming()
    assert sink.write(Writing()) == 4
    assert sink.flush() == pattern(100_000) + b"mine"


# ---------------------------------------------------------------- len, full


def test_len_is_the_bytes_held():
    sink = streaming()
    lengths = [len(sink)]
    for step in (lambda: sink.write(b"abc"), lambda: sink.write(""), lambda: sink.requeue(b"12"), sink.flush):
        step()
        lengths.append(len(sink))
    assert lengths == [0, 3, 3, 5, 0]


def test_len_not_streaming_is_all_that_end_will_give():
    sink = ArrayBufferSink()
    sink.write(b"abc")
    sink.flush()
    sink.write(b"de")
    assert len(sink) == 5
    assert sink.end() == b"abcde"
    assert len(sink) == 0


def test_full_is_false_without_a_mark():
    sink = streaming()
    sink.write(bytes(1 << 20))
    assert sink.full is False


def test_full_from_the_mark_on_until_the_next_flush():
    sink = streaming(high_water_mark=5)
    seen = []
    for step in (lambda: sink.write(b"1234"), lambda: sink.write(b"5"), lambda: sink.write(b"6"), sink.flush):
        step()
        seen.append(sink.full)
    assert seen == [False, True, True, False]


def test_full_not_streaming_counts_from_the_last_flush():
    sink = started(high_water_mark=5)
    sink.write(b"12345")
    assert sink.full
    assert sink.flush() == 5
    assert not sink.full
    sink.write(b"1234")
    assert not sink.full
    sink.write(b"5")
    assert sink.full
    assert sink.end() == b"1234512345"


def test_what_is_requeued_makes_full_too():
    sink = streaming(high_water_mark=4)
    sink.write(b"abcd")
    tail = sink.flush()[1:]
    sink.requeue(tail)
    assert not sink.full
    sink.write(b"e")
    assert sink.full


def test_a_mark_of_zero_is_always_full():
    sink = streaming(high_water_mark=0)
    assert sink.full
    sink.write(b"a")
    sink.flush()
    assert sink.full


def test_the_mark_is_no_limit():
    sink = streaming(high_water_mark=10)
    assert sink.write(pattern(100_000)) == 100_000
    assert sink.write(b"more") == 4
    assert sink.flush() == pattern(100_000) + b"more"


def test_full_cannot_be_set():
    with pytest.raises(AttributeError):
        ArrayBufferSink().full = True


def test_a_sink_that_nobody_holds_takes_its_memory_along_and_not_the_results():
    sink = streaming(as_memoryview=True)
    sink.write(pattern(GIFT))
    taken = sink.flush()
    sink.write(bytes(GIFT))
    del sink
    gc.collect()
    assert taken == pattern(GIFT)


def test_repr_tells_the_length_and_the_state():
    sink = ArrayBufferSink()
    sink.write(b"abc")
    assert "3 bytes" in repr(sink)
    sink.end()
    assert "ended" in repr(sink)
    sink.close()
    assert "closed" in repr(sink)
