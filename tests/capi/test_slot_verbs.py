"""What every verb of the C API returns: alive, ended, closed, in `close`, and in `connect_error`.

What the verbs do is the contract's: tests/contract, with slots as its `handlers`.
"""

from __future__ import annotations

import math

import pytest
from support import Recorder, accepted, connected
from support.addresses import bound_not_listening
from support.slots import Slots

import pybuntcp
from pybuntcp import ReadyState

VERBS = {
    "write": lambda handle: handle.write(b"x"),
    "end": lambda handle: handle.end(),
    "end(data)": lambda handle: handle.end(b"bye"),
    "flush": lambda handle: handle.flush(),
    "cork": lambda handle: handle.cork(),
    "uncork": lambda handle: handle.uncork(),
    "close": lambda handle: handle.close(),
    "terminate": lambda handle: handle.terminate(),
    "shutdown": lambda handle: handle.shutdown(),
    "shutdown(False)": lambda handle: handle.shutdown(False),
    "shutdown(True)": lambda handle: handle.shutdown(True),
    "pause": lambda handle: handle.pause(),
    "resume": lambda handle: handle.resume(),
    "ref": lambda handle: handle.ref(),
    "unref": lambda handle: handle.unref(),
    "timeout": lambda handle: handle.timeout(30),
    "timeout(0)": lambda handle: handle.timeout(0),
}
OPTIONS = {
    "set_no_delay": lambda handle: handle.set_no_delay(True),
    "set_keep_alive": lambda handle: handle.set_keep_alive(True, 1000),
}
NAMES = {
    "fileno": lambda handle: handle.fileno(),
    "remote_address": lambda handle: handle.remote_address(),
    "local_address": lambda handle: handle.local_address(),
    "remote_port": lambda handle: handle.remote_port,
    "local_port": lambda handle: handle.local_port,
}
EVERY = {**VERBS, **OPTIONS, **NAMES}

verbs = pytest.mark.parametrize("verb", VERBS)


def finish(loop, handle):
    if not handle.gone:
        handle.terminate()
    loop.run()


# ---------------------------------------------------------------- two sockets


def test_a_pipe_is_made_once_and_undone_once(loop, tcp):
    source, sender = accepted(loop, tcp, Slots())
    target, receiver = accepted(loop, tcp, Slots())
    assert [source.unpipe(), source.pipe(target), source.pipe(target)] == [-1, 0, -1]
    sender.send(b"through")
    assert loop.wait(receiver.recv_exactly(7)) == b"through"
    assert [source.unpipe(), source.unpipe()] == [0, -1]
    target.end()
    assert source.pipe(target) == -1
    target.terminate()
    finish(loop, source)


# ---------------------------------------------------------------- alive


@verbs
@pytest.mark.parametrize("side", [accepted, connected])
def test_on_a_live_socket_a_verb_gives_0_and_write_the_count(loop, transport, side, verb):
    handle, _peer = side(loop, transport, Slots())
    expected = {"write": 1, "uncork": -1}.get(verb, 0)  # nothing was corked
    assert VERBS[verb](handle) == expected
    finish(loop, handle)


def test_nothing_may_be_written_from_a_null_pointer(loop, transport):
    handle, _peer = accepted(loop, transport, Slots())
    assert handle.write_nothing() == 0
    finish(loop, handle)


@verbs
def test_inside_a_slot_a_verb_gives_the_same(loop, transport, verb):
    slots = Slots(data=lambda handle, chunk: told.append(VERBS[verb](handle)))
    told = []
    handle, peer = accepted(loop, transport, slots)
    peer.send(b"go")
    loop.run_until(lambda: told)
    assert told[0] == {"write": 1, "uncork": -1}.get(verb, 0)
    finish(loop, handle)


def test_verbs_give_the_same_from_a_slot_of_another_socket(loop, transport):
    slots = Slots(data=lambda handle, chunk: told.append([VERBS[verb](other) for verb in ("write", "pause", "end")]))
    told = []
    other, _ = accepted(loop, transport, Slots(label="other"))
    handle, peer = accepted(loop, transport, slots)
    peer.send(b"go")
    loop.run_until(lambda: told)
    assert told == [[1, 0, 0]]
    other.terminate()
    finish(loop, handle)


@pytest.mark.parametrize("seconds", [-1, -0.001, -math.inf, math.nan])
def test_timeout_refuses_a_negative_time_and_nan_with_minus_1(loop, transport, seconds):
    slots = Slots()
    handle, _peer = accepted(loop, transport, slots)
    assert handle.timeout(seconds) == -1
    assert handle.timeout(0.01) == 0
    assert handle.timeout(seconds) == -1  # and changes nothing
    loop.run()
    assert slots.names() == ["open", "timeout", "close"]


@pytest.mark.parametrize("seconds", [0, math.inf])
def test_timeout_0_and_infinity_clear_the_clock(loop, transport, seconds):
    slots = Slots()
    handle, peer = accepted(loop, transport, slots)
    assert handle.timeout(0.02) == 0
    assert handle.timeout(seconds) == 0
    witness = Slots(label="witness")
    accepted(loop, transport, witness)[0].timeout(0.05)
    loop.run_until(lambda: witness.count("close"))
    assert slots.names() == ["open"]
    peer.close()
    loop.run()


# ---------------------------------------------------------------- ended

AFTER_END = {"write": -1, "end": -1, "end(data)": -1, "shutdown": -1, "shutdown(False)": -1, "uncork": -1}


@verbs
@pytest.mark.parametrize("ending", ["end", "shutdown"])
def test_after_our_end_what_writes_gives_minus_1_and_the_rest_works(loop, transport, verb, ending):
    handle, _peer = accepted(loop, transport, Slots())
    assert getattr(handle, ending)() == 0
    assert VERBS[verb](handle) == AFTER_END.get(verb, 0)
    finish(loop, handle)


@verbs
def test_while_what_was_ended_is_pending_verbs_give_the_same(loop, transport, verb):
    """The FIN has not left yet."""
    handle, peer = accepted(loop, transport, Slots(), high_water_mark=8 << 20)
    assert handle.write(bytes(8 << 20)) == 8 << 20
    assert handle.end() == 0
    assert handle.pending > 0
    assert VERBS[verb](handle) == AFTER_END.get(verb, 0)
    peer.close()
    finish(loop, handle)


# ---------------------------------------------------------------- closed


@pytest.mark.parametrize(
    "verb", ["write", "end", "close", "shutdown", "shutdown(True)", "pause", "timeout", "timeout(0)"]
)
def test_while_what_was_closed_is_pending_there_is_nothing_left_to_ask_for(loop, transport, verb):
    handle, peer = accepted(loop, transport, Slots(), high_water_mark=8 << 20)
    assert handle.write(bytes(8 << 20)) == 8 << 20
    assert handle.close() == 0
    assert handle.pending > 0
    assert VERBS[verb](handle) == -1
    assert handle.state == ReadyState.CLOSED
    assert len(loop.wait(peer.recv_until_eof())) == 8 << 20
    peer.close()
    loop.run()


def test_what_was_closed_and_is_pending_can_still_be_terminated(loop, transport):
    slots = Slots()
    handle, peer = accepted(loop, transport, slots, high_water_mark=8 << 20)
    assert handle.write(bytes(8 << 20)) == 8 << 20
    assert handle.close() == 0
    assert handle.terminate() == 0
    assert handle.terminate() == -1
    loop.run()
    peer.close()
    assert slots.names() == ["open", "close"]


@pytest.mark.parametrize("ending", ["close", "terminate"])
@pytest.mark.parametrize("verb", EVERY)
def test_from_our_close_until_it_is_reported_every_verb_gives_minus_1(loop, transport, verb, ending):
    handle, _peer = accepted(loop, transport, Slots())
    assert getattr(handle, ending)() == 0
    assert EVERY[verb](handle) == -1
    assert handle.pending == 0
    assert handle.state == ReadyState.CLOSED
    loop.run()


@pytest.mark.parametrize("verb", EVERY)
@pytest.mark.parametrize("side", [accepted, connected])
def test_in_the_close_slot_every_verb_gives_minus_1(loop, transport, side, verb):
    slots = Slots(close=lambda handle, error: told.append((EVERY[verb](handle), handle.state)))
    told = []
    _, peer = side(loop, transport, slots)
    peer.close()
    loop.run()
    assert told == [(-1, ReadyState.CLOSED)]


def test_a_cork_that_is_closed_cannot_be_undone(loop, transport):
    slots = Slots(close=lambda handle, error: told.append((handle.cork(), handle.uncork(), handle.uncork())))
    told = []
    handle, _peer = accepted(loop, transport, slots)
    assert handle.cork() == 0
    handle.close()
    assert handle.uncork() == -1
    loop.run()
    assert told == [(-1, -1, -1)]


def test_counters_ext_and_user_can_still_be_read_in_the_close_slot(loop, transport, outside):
    def close(handle, error):
        told.append((handle.bytes_read, handle.bytes_written, handle.pending, handle.ext_read(4), handle.user))

    slots = Slots(ext_size=4, open=lambda handle: handle.ext_write(b"mine"), close=close)
    told = []
    handle, peer = accepted(loop, transport, slots)
    peer.send(b"12345")
    loop.run_until(slots.received)
    assert handle.write(b"123") == 3
    loop.wait(peer.recv_exactly(3))
    peer.close()
    loop.run()
    assert told == [(5, 3, 0, b"mine", outside.recording.address_of(slots))]


# ---------------------------------------------------------------- never opened


@pytest.mark.parametrize("verb", EVERY)
def test_in_connect_error_every_verb_gives_minus_1(loop, verb):
    slots = Slots(connect_error=lambda handle, error: told.append((EVERY[verb](handle), handle.state)))
    told = []
    with bound_not_listening() as port:
        pybuntcp.connect(hostname="127.0.0.1", port=port, socket=slots.handlers)
        loop.run()
    assert told == [(-1, ReadyState.DETACHED)]


def test_what_connect_error_is_given_has_zeroed_bytes_and_the_table_s_pointer(loop, outside):
    def connect_error(handle, error):
        told.append((handle.ext % 16, handle.ext_read(100), handle.user))
        told.append((handle.pending, handle.bytes_read, handle.bytes_written))
        handle.ext_write(b"x" * 100)

    slots = Slots(ext_size=100, connect_error=connect_error)
    told = []
    with bound_not_listening() as port:
        for _ in range(2):
            pybuntcp.connect(hostname="127.0.0.1", port=port, socket=slots.handlers)
        loop.run()
    assert told == [(0, bytes(100), outside.recording.address_of(slots)), (0, 0, 0)] * 2


def test_its_python_object_is_detached_and_stays_so(loop, unix):
    def connect_error(handle, error):
        sock = handle.object()
        kept.append(sock)
        assert sock is handle.object()
        assert sock.ready_state is ReadyState.DETACHED
        assert (sock.write(b"x"), sock.end(), sock.fileno(), sock.pending) == (-1, -1, -1, 0)
        assert sock.data == "mine"

    slots = Slots(connect_error=connect_error)
    kept = []
    pybuntcp.connect(unix=unix.listen_options()["unix"], socket=slots.handlers, data="mine")
    loop.run()
    (sock,) = kept
    assert sock.ready_state is ReadyState.DETACHED
    assert (sock.remote_address, sock.write(b"x"), sock.close(), sock.data) == (None, -1, None, "mine")


# ---------------------------------------------------------------- states


def test_the_states_are_those_of_python(outside):
    assert {state.name: state.value for state in ReadyState} == outside.tables.STATES


def test_the_state_follows_the_life_of_a_socket(loop, transport):
    seen = []
    slots = Slots(
        open=lambda handle: seen.append(handle.state),
        data=lambda handle, chunk: seen.extend((handle.state, handle.end(), handle.state)),
        close=lambda handle, error: seen.append(handle.state),
    )
    _, peer = accepted(loop, transport, slots)
    peer.send(b"x")
    peer.close()
    loop.run()
    assert seen == [ReadyState.ESTABLISHED, ReadyState.ESTABLISHED, 0, ReadyState.SHUTDOWN, ReadyState.CLOSED]


def test_the_state_is_what_the_python_object_says(loop, transport):
    handle, peer = accepted(loop, transport, Slots())
    sock = handle.object()
    assert handle.state == sock.ready_state == ReadyState.ESTABLISHED
    sock.shutdown()
    assert handle.state == sock.ready_state == ReadyState.SHUTDOWN
    peer.close()
    sock.close()
    assert handle.state == sock.ready_state == ReadyState.CLOSED
    loop.run()
    assert sock.ready_state is ReadyState.CLOSED


# ---------------------------------------------------------------- ref, unref


def test_run_returns_while_a_socket_is_open_that_was_unreferenced(loop, transport):
    slots = Slots()
    handle, peer = accepted(loop, transport, slots)
    assert handle.unref() == 0
    assert handle.unref() == 0  # once is enough
    loop.run()
    assert handle.state == ReadyState.ESTABLISHED
    assert handle.ref() == 0
    assert handle.ref() == 0
    peer.close()
    loop.run()
    assert slots.names() == ["open", "end", "close"]


def test_a_socket_unreferenced_in_its_own_slot_does_not_keep_run_going(loop, transport):
    slots = Slots(open=lambda handle: handle.unref())
    listener = transport.listen(slots)
    transport.connect(Recorder(open=lambda socket: socket.unref()), listener)
    loop.run_until(lambda: slots.sockets)
    listener.stop()
    loop.run()
    (handle,) = slots.sockets
    assert handle.state == ReadyState.ESTABLISHED
    handle.terminate()
    loop.settle()
    assert handle.gone
