"""Anything from inside any slot, of this socket or of a sibling: in C without the GIL, and what Python code has no verb for.

The verbs that Python has, too, are the contract's: tests/contract/reading/test_reentrancy.py, with slots as its `handlers`.
"""

from __future__ import annotations

import pytest
from support import bring_about, run_loop
from support.slots import Slots, settle_until

ACTS = {
    "cork": lambda handle: [handle.cork(), handle.write(b"x")],
    "close of its Socket": lambda handle: handle.object().close(),
    "terminate of its Socket": lambda handle: handle.object().terminate(),
}


class Scene:
    """Two accepted siblings; `act` is done once, in `event` of the first, to one of them."""

    def __init__(self, loop, transport, event, act, target):
        def do(handle, *_):
            if not self.done and (event == "open" or handle is self.slots.sockets[0]):
                self.done = True
                ACTS[act](self.slots.sockets[0 if target == "self" else -1])
            if event == "timeout":
                handle.timeout(0)

        self.done = False
        self.loop = loop
        self.slots = Slots(**{event: do})
        self.listener = transport.listen(self.slots)
        self.peers = []
        for _ in range(2):
            self.accept(transport)

    def accept(self, transport):
        count = len(self.slots.sockets)
        peer = transport.peer(self.listener)
        peer.connected.ignore()  # the act in `open` may have stopped the listener
        self.peers.append(peer)
        self.loop.run_until(lambda: len(self.slots.sockets) > count or self.done)

    def release(self):
        for handle in self.slots.sockets:
            if not handle.gone:
                handle.resume()
                while handle.uncork() == 0:
                    pass


@pytest.mark.parametrize("target", ["self", "sibling"])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("event", ["open", "data", "drain", "end", "close", "timeout"])
def test_corks_and_the_verbs_of_its_object_from_inside_any_slot_are_safe(loop, transport, event, act, target):
    scene = Scene(loop, transport, event, act, target)
    slots, (one, other) = scene.slots, scene.peers
    first = slots.sockets[0]
    for peer in (one, other):  # something to read waits at both when the slot runs
        peer.send(b"x" * 1000).ignore()
    bring_about(event, first, one)
    loop.run_until(lambda: scene.done)
    loop.settle()
    scene.release()
    for peer in (one, other):
        peer.close().ignore()
    scene.listener.stop(True)
    loop.run()
    assert scene.done
    for handle in slots.sockets:
        assert handle.gone
        assert slots.names(handle)[-1] == "close"
        assert slots.count("close", handle) == 1
        assert slots.count("end", handle) <= 1


VERBS = (
    "write",
    "end",
    "close",
    "terminate",
    "shutdown",
    "shutdown(True)",
    "pause",
    "flush",
    "cork",
    "timeout",
    "unref",
    "everything",
)


@pytest.mark.parametrize("sibling", [False, True], ids=["self", "sibling"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("event", ["open", "data", "drain", "end", "close", "timeout"])
def test_any_verb_from_inside_any_slot_is_safe_in_c(loop, transport, outside, event, verb, sibling):
    script = outside.script.Script(event, verb, sibling)
    listener = transport.listen(script.handlers())
    peers = []
    for count in (1, 2):  # one after the other: which is which is known
        peers.append(transport.peer(listener))
        settle_until(loop, lambda n=count: script.opened == n, "a connection")
    listener.stop()
    first, _ = peers
    for peer in peers:
        peer.send(b"x" * 1000).ignore()
    if event == "drain":
        script.fill()
        first.recv_until_eof().ignore()
    elif event == "timeout":
        script.ring()
    elif event == "end":
        first.shutdown().ignore()
    elif event == "close":
        first.close().ignore()
    settle_until(loop, lambda: script.done, f"the {event} slot")
    script.release()
    for peer in peers:
        peer.close().ignore()
    run_loop()
    assert [script.count("close", index) for index in (0, 1)] == [1, 1]
    assert max(script.count("end", index) for index in (0, 1)) <= 1
