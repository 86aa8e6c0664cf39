"""Writing from Cython: counts, corks, ends, and the counters that tell of it."""

from __future__ import annotations

import pytest
from capi_slots import Slots
from support import Feed, accepted, data_segments_received, linux_only, pattern, shrink_send_buffer, sides

import pybuntcp

MEGABYTE = 1 << 20


def writes():
    """System calls that wrote, so far."""
    return pybuntcp.stats()["writes"]


def finish(loop, handle, peer):
    peer.close()
    handle.close()
    loop.run()


# ---------------------------------------------------------------- write


@sides
def test_write_gives_the_bytes_accepted_and_sends_them_at_once_outside_a_slot(loop, transport, side):
    handle, peer = side(loop, transport, Slots())
    before = writes()
    assert [handle.write(b"x"), handle.write(b"yz"), handle.write(b"")] == [1, 2, 0]
    assert writes() - before == 2
    assert peer.recv_exactly(3).result() == b"xyz"
    finish(loop, handle, peer)


def test_nothing_may_be_written_from_a_null_pointer(loop, transport):
    handle, peer = accepted(loop, transport, Slots())
    assert handle.write_nothing() == 0
    finish(loop, handle, peer)


def test_every_byte_value_arrives(loop, transport):
    handle, peer = accepted(loop, transport, Slots())
    assert handle.write(bytes(range(256))) == 256
    assert peer.recv_exactly(256).result() == bytes(range(256))
    finish(loop, handle, peer)


def test_accepted_and_unsent_bytes_never_pass_the_mark(loop, transport):
    handle, peer = accepted(loop, transport, Slots(), high_water_mark=10000)
    shrink_send_buffer(handle)
    feed = Feed(8 * MEGABYTE)
    short = feed.fill(handle)
    assert 0 <= short < 65536
    assert 0 < handle.pending <= 10000
    assert handle.write(b"more") == 0
    assert handle.bytes_written + handle.pending == feed.at
    assert loop.wait(peer.recv_exactly(feed.at)) == feed.accepted
    finish(loop, handle, peer)


def test_in_the_literal_mode_one_byte_at_most_is_kept(loop, transport):
    handle, peer = accepted(loop, transport, Slots(), high_water_mark=0)
    shrink_send_buffer(handle)
    feed = Feed(8 * MEGABYTE)
    feed.fill(handle)
    assert handle.pending <= 1
    assert loop.wait(peer.recv_exactly(feed.at)) == feed.accepted
    finish(loop, handle, peer)


# ---------------------------------------------------------------- corks


@linux_only
def test_writes_in_a_slot_leave_in_one_segment_when_it_returns(loop, tcp):
    def data(handle, chunk):
        before = writes()
        assert [handle.write(b"x") for _ in range(100)] == [1] * 100
        during.append((writes() - before, handle.pending))

    during = []
    handle, peer = accepted(loop, tcp, Slots(data=data))
    before = writes()
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(100)) == b"x" * 100
    assert during == [(0, 100)]
    assert writes() - before == 1
    assert data_segments_received(peer.sock) == 1
    finish(loop, handle, peer)


def test_a_write_to_another_socket_in_a_slot_leaves_when_the_slot_returns_too(loop, transport):
    def data(handle, chunk):
        before = writes()
        for _ in range(3):
            assert other.write(b"abc") == 3
        during.append(writes() - before)

    during = []
    other, other_peer = accepted(loop, transport, Slots(label="other"))
    handle, peer = accepted(loop, transport, Slots(data=data))
    before = writes()
    peer.send(b"go")
    assert loop.wait(other_peer.recv_exactly(9)) == b"abc" * 3
    assert (during, writes() - before) == ([0], 1)
    other.close()
    finish(loop, handle, peer)


def test_a_write_too_large_to_gather_goes_out_at_once_after_what_was_gathered(loop, transport):
    def data(handle, chunk):
        handle.write(b"first")
        handle.write(pattern(MEGABYTE))
        handle.write(b"last")

    handle, peer = accepted(loop, transport, Slots(data=data), high_water_mark=2 * MEGABYTE)
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(MEGABYTE + 9)) == b"first" + pattern(MEGABYTE) + b"last"
    finish(loop, handle, peer)


def test_flush_in_a_slot_sends_what_is_gathered(loop, transport):
    def data(handle, chunk):
        handle.write(b"now")
        before = writes()
        assert handle.flush() == 0
        counts.append((writes() - before, handle.pending))
        assert handle.flush() == 0  # nothing is left to send
        counts.append((writes() - before, handle.pending))

    counts = []
    handle, peer = accepted(loop, transport, Slots(data=data))
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(3)) == b"now"
    assert counts == [(1, 0), (1, 0)]
    finish(loop, handle, peer)


@sides
def test_corks_nest_and_the_last_one_sends_in_one_piece(loop, transport, side):
    handle, peer = side(loop, transport, Slots())
    before = writes()
    assert (handle.cork(), handle.cork()) == (0, 0)
    assert [handle.write(b"ab"), handle.write(b"cd")] == [2, 2]
    assert handle.uncork() == 0
    assert handle.write(b"ef") == 2
    assert (writes() - before, handle.pending) == (0, 6)
    assert handle.uncork() == 0
    assert (writes() - before, handle.pending) == (1, 0)
    assert handle.uncork() == -1
    assert peer.recv_exactly(6).result() == b"abcdef"
    finish(loop, handle, peer)


def test_flush_sends_through_a_cork(loop, transport):
    handle, peer = accepted(loop, transport, Slots())
    handle.cork()
    handle.write(b"now")
    assert (handle.flush(), handle.pending) == (0, 0)
    assert peer.recv_exactly(3).result() == b"now"
    assert handle.uncork() == 0
    finish(loop, handle, peer)


def test_a_cork_outlasts_the_slot_that_set_it(loop, transport):
    slots = Slots(data=lambda handle, chunk: (handle.cork(), handle.write(b"kept")))
    handle, peer = accepted(loop, transport, slots)
    peer.send(b"go")
    loop.run_until(slots.received)
    loop.settle()
    assert handle.pending == 4
    assert handle.uncork() == 0
    assert peer.recv_exactly(4).result() == b"kept"
    finish(loop, handle, peer)


def test_a_cork_of_cython_and_one_of_python_are_one(loop, transport):
    handle, peer = accepted(loop, transport, Slots())
    handle.cork()
    with handle.object().cork():
        handle.write(b"one ")
        handle.object().write(b"piece")
    assert handle.pending == 9
    before = writes()
    handle.uncork()
    assert writes() - before == 1
    assert peer.recv_exactly(9).result() == b"one piece"
    finish(loop, handle, peer)


def test_there_is_an_end_to_corks(loop, transport):
    """After 65535 of them cork is -1, and they can all be undone."""
    handle, peer = accepted(loop, transport, Slots())
    assert {handle.cork() for _ in range(65535)} == {0}
    assert handle.cork() == -1
    handle.write(b"x")
    assert {handle.uncork() for _ in range(65535)} == {0}
    assert handle.uncork() == -1
    assert peer.recv_exactly(1).result() == b"x"
    finish(loop, handle, peer)


# ---------------------------------------------------------------- end, shutdown, close, terminate


@sides
def test_end_with_data_sends_all_of_it_then_fin_and_stays_readable(loop, transport, side):
    slots = Slots()
    handle, peer = side(loop, transport, slots, high_water_mark=1000)
    shrink_send_buffer(handle)
    assert handle.write(b"first, ") == 7
    assert handle.end(pattern(2 * MEGABYTE)) == 0  # the mark does not bound what is ended with
    assert loop.wait(peer.recv_until_eof()) == b"first, " + pattern(2 * MEGABYTE)
    peer.send(b"thanks")
    peer.close()
    loop.run()
    assert slots.received() == b"thanks"
    assert slots.order() == ["open", "data", "end", "close"]


def test_end_without_data_is_fin_alone(loop, transport):
    handle, peer = accepted(loop, transport, Slots())
    assert handle.end() == 0
    assert peer.recv_until_eof().result() == b""
    finish(loop, handle, peer)


def test_end_in_a_slot_takes_what_was_written_before_along(loop, transport):
    slots = Slots(data=lambda handle, chunk: [handle.write(b"one "), handle.end(b"two"), handle.write(b"three")])
    _, peer = accepted(loop, transport, slots)
    peer.send(b"go")
    assert loop.wait(peer.recv_until_eof()) == b"one two"
    peer.close()
    loop.run()


@pytest.mark.parametrize("arguments", [(), (False,)])
def test_shutdown_is_fin_and_still_readable(loop, transport, arguments):
    slots = Slots()
    handle, peer = accepted(loop, transport, slots)
    assert handle.write(b"bye") == 3
    assert handle.shutdown(*arguments) == 0
    assert peer.recv_until_eof().result() == b"bye"
    peer.send(b"heard")
    loop.run_until(slots.received)
    peer.close()
    loop.run()
    assert slots.names() == ["open", "data", "end", "close"]


def test_shutdown_of_the_reading_side_tells_no_data_and_no_end_and_can_still_write(loop, transport):
    slots = Slots()
    handle, peer = accepted(loop, transport, slots)
    assert handle.shutdown(True) == 0
    peer.send(b"not told")
    peer.shutdown().result()
    loop.settle()
    assert handle.write(b"still here") == 10
    assert handle.end() == 0
    assert loop.wait(peer.recv_until_eof()) == b"still here"
    peer.close()
    loop.run()
    assert slots.names() == ["open", "close"]


def test_close_sends_what_is_pending(loop, transport):
    handle, peer = accepted(loop, transport, Slots(), high_water_mark=MEGABYTE)
    shrink_send_buffer(handle)
    assert handle.write(pattern(MEGABYTE)) == MEGABYTE
    assert handle.close() == 0
    assert loop.wait(peer.recv_until_eof()) == pattern(MEGABYTE)
    peer.close()
    loop.run()


def test_terminate_drops_what_is_pending_and_resets(loop, tcp):
    handle, peer = accepted(loop, tcp, Slots(), high_water_mark=8 * MEGABYTE)
    shrink_send_buffer(handle)
    assert handle.write(pattern(8 * MEGABYTE)) == 8 * MEGABYTE
    assert handle.pending > 0
    assert handle.terminate() == 0
    assert len(peer.recv_until_reset().result()) < 8 * MEGABYTE
    loop.run()


# ---------------------------------------------------------------- counters


@sides
def test_the_counters_say_what_came_and_what_went(loop, transport, side):
    slots = Slots()
    handle, peer = side(loop, transport, slots)
    assert (handle.bytes_read, handle.bytes_written, handle.pending) == (0, 0, 0)
    peer.send(b"12345")
    loop.run_until(lambda: len(slots.received()) == 5)
    handle.write(b"abc")
    handle.cork()
    handle.write(b"de")
    assert (handle.bytes_read, handle.bytes_written, handle.pending) == (5, 3, 2)
    handle.uncork()
    assert (handle.bytes_read, handle.bytes_written, handle.pending) == (5, 5, 0)
    assert peer.recv_exactly(5).result() == b"abcde"
    finish(loop, handle, peer)


def test_pending_falls_to_zero_as_the_kernel_takes_it(loop, transport):
    handle, peer = accepted(loop, transport, Slots(), high_water_mark=MEGABYTE)
    shrink_send_buffer(handle)
    assert handle.write(pattern(MEGABYTE)) == MEGABYTE
    assert handle.pending > 0
    assert handle.pending + handle.bytes_written == MEGABYTE
    loop.wait(peer.recv_exactly(MEGABYTE))
    loop.settle()
    assert (handle.pending, handle.bytes_written) == (0, MEGABYTE)
    finish(loop, handle, peer)


# ---------------------------------------------------------------- pause, resume


@sides
def test_a_paused_socket_is_told_nothing_until_it_is_resumed(loop, transport, side):
    slots = Slots(open=lambda handle: handle.pause())
    handle, peer = side(loop, transport, slots)
    peer.send(b"waits").result()
    loop.settle()
    assert (slots.names(), handle.bytes_read) == (["open"], 0)
    assert handle.resume() == 0
    loop.run_until(lambda: slots.received() == b"waits")
    finish(loop, handle, peer)


def test_a_listener_may_open_its_sockets_paused(loop, transport):
    slots = Slots()
    handle, peer = accepted(loop, transport, slots, pause_on_connect=True)
    peer.send(b"waits").result()
    loop.settle()
    assert slots.names() == ["open"]
    handle.resume()
    loop.run_until(slots.received)
    finish(loop, handle, peer)


def test_pausing_in_data_bounds_what_is_told(loop, transport):
    slots = Slots(data=lambda handle, chunk: handle.pause())
    handle, peer = accepted(loop, transport, slots)
    peer.send(pattern(8 * MEGABYTE)).ignore()
    loop.run_until(slots.received)
    loop.settle()
    assert slots.count("data") == 1
    for count in (2, 3):
        handle.resume()
        loop.run_until(lambda n=count: slots.count("data") == n)
    assert slots.received() == pattern(8 * MEGABYTE)[: handle.bytes_read]
    handle.terminate()
    loop.run()
