"""Corks of the C API, which are not blocks as Python's are: they outlast a slot, nest up to a bound, and are one with Python's.

What is written in a slot, and in a cork, is the contract's: tests/contract/writing, with slots as its `handlers`.
"""

from __future__ import annotations

from support import accepted
from support.slots import Slots

import pybuntcp


def writes():
    """System calls that wrote, so far."""
    return pybuntcp.stats()["writes"]


def finish(loop, handle, peer):
    peer.close()
    handle.close()
    loop.run()


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
