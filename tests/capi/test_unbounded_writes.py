"""Writes that are never refused, the drain that is asked for, `broken`, and the verb that closes at once."""

from __future__ import annotations

import errno

import pytest
from support import pattern, shrink_send_buffer
from support.slots import settle_until
from support.writers import finished, opened

import pybuntcp


def writes():
    return pybuntcp.stats()["writes"]


def filled(writer, size=1 << 22):
    """Bytes of which the kernel has not taken all, and that are on their way."""
    data = pattern(size)
    assert writer.write_all(data) == 0
    assert writer.pending > 0
    return data


# ---------------------------------------------------------------- write_all


def test_write_all_takes_far_more_than_the_high_water_mark(loop, transport, make):
    writer = make()
    peer = opened(loop, transport, writer, high_water_mark=1000)
    shrink_send_buffer(writer)
    data = filled(writer)
    assert loop.wait(peer.recv_exactly(len(data))) == data
    settle_until(loop, lambda: writer.pending == 0, "all is sent")
    assert "drain" not in writer.names()
    finished(loop, writer, peer)


def test_what_is_written_before_a_turn_ends_leaves_in_one_system_call(loop, transport, make):
    writer = make()
    peer = opened(loop, transport, writer)
    before = writes()
    for piece in (b"one ", b"two ", b"", b"three"):
        assert writer.write_all(piece) == 0
    assert (writer.pending, writes()) == (13, before)
    assert loop.wait(peer.recv_exactly(13)) == b"one two three"
    assert writes() - before == 1
    finished(loop, writer, peer)


def test_what_a_slot_writes_leaves_when_it_returns(loop, transport, make):
    writer = make(data=lambda self: [self.write_all(b"ab") for _ in range(50)])
    peer = opened(loop, transport, writer)
    before = writes()
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(100)) == b"ab" * 50
    assert writes() - before == 1
    finished(loop, writer, peer)


def test_a_flush_sends_what_is_gathered_without_a_turn(loop, transport, make):
    writer = make()
    peer = opened(loop, transport, writer)
    writer.write_all(b"now")
    assert writer.do("flush") == 0
    assert peer.recv_exactly(3).result() == b"now"
    finished(loop, writer, peer)


def test_a_cork_keeps_it_until_it_ends(loop, transport, make):
    writer = make()
    peer = opened(loop, transport, writer)
    writer.do("cork")
    writer.write_all(b"kept ")
    writer.writev([b"as ", b"well"])
    loop.settle()
    assert writer.pending == 12
    writer.do("uncork")
    assert peer.recv_exactly(12).result() == b"kept as well"
    finished(loop, writer, peer)


@pytest.mark.parametrize("verb", ["end", "shutdown", "close"])
def test_nothing_is_taken_after_our_side_has_ended(loop, transport, make, verb):
    writer = make()
    peer = opened(loop, transport, writer)
    assert writer.do(verb) == 0
    if not writer.gone:
        assert writer.write_all(b"x") == -1
        assert writer.writev([b"x"]) == -1
        assert writer.writev([]) == -1
    finished(loop, writer, peer)


def test_more_bytes_than_there_can_be_are_refused(loop, tcp, make):
    writer = make()
    peer = opened(loop, tcp, writer)
    assert writer.write_too_much() == -1
    assert writer.write_all(b"fine") == 0
    assert loop.wait(peer.recv_exactly(4)) == b"fine"
    finished(loop, writer, peer)


# ---------------------------------------------------------------- writev


@pytest.mark.parametrize("count", [1, 63, 64, 65, 129, 1000])
@pytest.mark.parametrize("size", [1, 700])
def test_all_parts_arrive_in_order_however_many_there_are(loop, transport, make, count, size):
    writer = make()
    peer = opened(loop, transport, writer)
    parts = [pattern(size)[:-1] + bytes([number % 256]) for number in range(count)]
    assert writer.writev(parts) == 0
    assert loop.wait(peer.recv_exactly(count * size)) == b"".join(parts)
    finished(loop, writer, peer)


def test_empty_parts_and_no_parts_are_nothing(loop, transport, make):
    writer = make()
    peer = opened(loop, transport, writer)
    assert writer.writev([]) == 0
    assert writer.writev([b""] * 200) == 0
    assert writer.pending == 0
    parts = [b"", b"a", b"", pattern(20000), b"", b"z", b""]
    assert writer.writev(parts) == 0
    assert loop.wait(peer.recv_exactly(20002)) == b"".join(parts)
    finished(loop, writer, peer)


def test_parts_that_the_kernel_takes_in_part_are_kept_in_order(loop, transport, make):
    writer = make()
    peer = opened(loop, transport, writer, rcvbuf=16384)
    shrink_send_buffer(writer)
    writer.write_all(b"first")
    parts = [pattern(5000 + number) for number in range(300)]
    assert writer.writev(parts) == 0
    assert writer.pending > 0
    writer.write_all(b"last")
    whole = b"first" + b"".join(parts) + b"last"
    assert loop.wait(peer.recv_exactly(len(whole))) == whole
    settle_until(loop, lambda: writer.pending == 0, "all is sent")
    finished(loop, writer, peer)


def test_too_many_bytes_to_gather_leave_in_one_system_call_with_what_was_gathered(loop, tcp, make):
    writer = make()
    peer = opened(loop, tcp, writer)
    writer.write_all(b"head")
    before = writes()
    writer.writev([bytes(1000)] * 40)
    assert writes() - before == 1
    assert writer.pending == 0
    assert loop.wait(peer.recv_exactly(40004)) == b"head" + bytes(40000)
    finished(loop, writer, peer)


# ---------------------------------------------------------------- the drain that is asked for


def test_a_drain_is_told_once_when_few_enough_bytes_are_pending(loop, transport, make):
    writer = make()
    peer = opened(loop, transport, writer, rcvbuf=16384)
    shrink_send_buffer(writer)
    data = filled(writer)
    assert writer.want_drain(100_000) == 0
    loop.settle()
    assert "drain" not in writer.names()
    assert loop.wait(peer.recv_exactly(len(data))) == data
    settle_until(loop, lambda: writer.pending == 0, "all is sent")
    loop.settle()
    pending = [value for name, value in writer.events if name == "drain"]
    assert len(pending) == 1
    assert pending[0] <= 100_000
    finished(loop, writer, peer)


@pytest.mark.parametrize("low", [0, 5, (1 << 64) - 1])
def test_a_drain_that_is_due_already_comes_with_the_turn_and_not_before(loop, transport, make, low):
    writer = make()
    peer = opened(loop, transport, writer)
    assert writer.want_drain(low) == 0
    assert "drain" not in writer.names()
    loop.run_until(lambda: "drain" in writer.names())
    loop.settle()
    assert writer.names().count("drain") == 1
    finished(loop, writer, peer)


def test_it_may_be_asked_for_again_in_drain(loop, transport, make):
    def again(self):
        if self.names().count("drain") < 3:
            self.want_drain(0)

    writer = make(drain=again)
    peer = opened(loop, transport, writer)
    writer.want_drain(0)
    loop.run_until(lambda: writer.names().count("drain") == 3)
    finished(loop, writer, peer)


@pytest.mark.parametrize("verb", ["close", "close_now", "terminate"])
def test_no_drain_is_told_after_a_verb_that_closes(loop, transport, make, verb):
    writer = make()
    peer = opened(loop, transport, writer)
    writer.want_drain(0)
    writer.do(verb)
    peer.close()
    loop.run()
    assert writer.names() == ["open", "close"]


def test_it_cannot_be_asked_for_after_close(loop, tcp, make):
    given = []
    writer = make(data=lambda self: (self.do("close"), given.append(self.want_drain(0))))
    peer = opened(loop, tcp, writer)
    peer.send(b"go")
    loop.run_until(lambda: given)
    assert given == [-1]
    finished(loop, writer, peer)


# ---------------------------------------------------------------- broken


def test_broken_is_told_before_close_and_a_paused_socket_learns_of_it(loop, tcp, make):
    writer = make()
    peer = opened(loop, tcp, writer)
    writer.do("pause")
    peer.reset().result()
    writer.write_all(b"x")
    writer.do("flush")
    settle_until(loop, lambda: (writer.write_all(b"x"), writer.do("flush"), "broken" in writer.names())[-1], "broken")
    assert writer.error in (errno.EPIPE, errno.ECONNRESET)
    assert writer.events[-1] == ("broken", writer.error)
    assert (writer.write_all(b"x"), writer.want_drain(0)) == (-1, -1)
    writer.do("resume")
    loop.run()
    assert writer.names() == ["open", "broken", "close"]
    assert writer.events[-1][1] in (errno.EPIPE, errno.ECONNRESET)


def test_without_a_slot_for_it_close_tells_the_error(loop, tcp, make):
    writer = make(broken=False)
    peer = opened(loop, tcp, writer)
    peer.reset().result()
    loop.run()
    assert [name for name in writer.names() if name != "open"] == ["close"]
    assert writer.events[-1][1] == errno.ECONNRESET


@pytest.mark.parametrize("verb", ["close", "close_now", "terminate"])
def test_a_socket_may_be_closed_in_broken(loop, tcp, make, verb):
    writer = make()
    writer.calls["broken"] = lambda self: self.do(verb)
    peer = opened(loop, tcp, writer)
    writer.do("pause")
    peer.reset().result()
    settle_until(loop, lambda: writer.gone or (writer.write_all(b"x"), writer.do("flush"), False)[-1], "the end")
    loop.run()
    assert writer.names() == ["open", "broken", "close"]


# ---------------------------------------------------------------- the end


def test_close_now_drops_what_is_pending_and_tells_close_once(loop, transport, make):
    writer = make()
    peer = opened(loop, transport, writer, rcvbuf=16384)
    shrink_send_buffer(writer)
    filled(writer)
    assert writer.do("close_now") == 0
    assert writer.do("close_now") == -1
    assert writer.state == 0
    loop.run()
    assert writer.names() == ["open", "close"]
    peer.close()


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_connection_stays_open_when_both_sides_have_ended_until_a_verb_closes_it(loop, transport, make, ours_first):
    if transport.name == "tls":
        pytest.skip("close_notify closes it")
    writer = make(stays_open=True)
    peer = opened(loop, transport, writer)
    if ours_first:
        writer.do("shutdown")
        assert loop.wait(peer.recv_until_eof()) == b""
    peer.shutdown()
    loop.run_until(lambda: "end" in writer.names())
    if not ours_first:
        writer.do("shutdown")
        assert loop.wait(peer.recv_until_eof()) == b""
    loop.settle()
    assert not writer.gone
    assert writer.fd >= 0
    writer.do("close")
    loop.run()
    assert writer.names() == ["open", "end", "close"]
    peer.close()


def test_a_connection_that_stays_open_is_told_of_a_reset_by_broken(loop, tcp, make):
    writer = make(stays_open=True)
    peer = opened(loop, tcp, writer)
    peer.reset().result()
    loop.run_until(lambda: "broken" in writer.names())
    assert writer.events[-1] == ("broken", errno.ECONNRESET)
    loop.settle()
    assert not writer.gone
    writer.do("close_now")
    loop.run()
    assert writer.names() == ["open", "broken", "close"]


def test_an_interrupt_of_a_slot_comes_out_of_run(tcp, make):
    writer = make(data=lambda self: self.interrupt(KeyboardInterrupt("from C")))
    listener = tcp.listen(writer.handlers())
    peer = tcp.peer(listener)
    peer.send(b"go")
    with pytest.raises(KeyboardInterrupt, match="from C"):
        pybuntcp.run()
    listener.stop()
    writer.do("close_now")
    peer.close()
    pybuntcp.run()
    assert writer.gone
