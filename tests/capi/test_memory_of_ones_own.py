"""`alloc`: what is read goes into the user's memory, which `data` gives back, whatever happens in between."""

from __future__ import annotations

import pytest
from support import pattern
from support.slots import settle_until
from support.writers import finished, opened


@pytest.mark.parametrize("capacity", [1, 7, 4096, 1 << 20])
def test_what_is_read_is_in_the_users_memory_piece_by_piece(loop, transport, make, capacity):
    writer = make(memory=capacity)
    peer = opened(loop, transport, writer)
    data = pattern(min(100_000, 300 * capacity))
    peer.send(data)
    loop.run_until(lambda: len(writer.received) == len(data))
    assert writer.received == data
    if transport.name == "tls":
        assert "alloc" not in writer.names()
    else:
        assert max(len(chunk) for name, chunk in writer.events if name == "data") <= capacity
        last = writer.events[-1][1] or writer.events[-2][1]
        assert bytes(writer.memory[: len(last)]) == last
    finished(loop, writer, peer)


def test_each_memory_that_was_given_comes_back_once(loop, transport, make):
    writer = make(memory=4)
    peer = opened(loop, transport, writer)
    peer.send(b"12345678")
    loop.run_until(lambda: writer.received == b"12345678")
    peer.shutdown()
    loop.run()
    names = writer.names()
    assert names.count("alloc") == names.count("data") + names.count("nothing")
    assert names[-3:] == ["nothing", "end", "close"]
    peer.close()


def test_a_reset_gives_the_memory_back_first(loop, tcp, make):
    writer = make(memory=4)
    peer = opened(loop, tcp, writer)
    peer.reset().result()
    loop.run()
    assert writer.names() == ["open", "alloc", "nothing", "close"]


def test_no_memory_is_the_loops_own(loop, transport, make):
    writer = make(memory=4)
    writer.capacity = None
    peer = opened(loop, transport, writer)
    peer.send(b"more than four bytes")
    loop.run_until(lambda: writer.received == b"more than four bytes")
    assert writer.names()[:3] == ["open", "alloc", "data"]
    assert bytes(writer.memory) == bytes(4)
    peer.shutdown()
    loop.run()
    assert "nothing" not in writer.names()
    peer.close()


def test_a_capacity_of_0_leaves_the_bytes_with_the_kernel(loop, transport, make):
    def asked(self):
        if self.names().count("alloc") == 3:
            self.capacity = 4

    writer = make(memory=4, alloc=asked)
    writer.capacity = 0
    peer = opened(loop, transport, writer)
    peer.send(b"late")
    loop.run_until(lambda: writer.received)
    assert writer.names()[:5] == ["open", "alloc", "alloc", "alloc", "data"]
    assert writer.received == b"late"
    finished(loop, writer, peer)


@pytest.mark.parametrize("verb", ["close", "close_now", "terminate"])
@pytest.mark.parametrize("capacity", [0, 4, None])
def test_the_socket_may_be_closed_in_alloc(loop, transport, make, verb, capacity):
    writer = make(memory=4, alloc=lambda self: self.do(verb))
    writer.capacity = capacity
    peer = opened(loop, transport, writer)
    peer.send(b"unread")
    loop.run_until(lambda: "alloc" in writer.names())
    peer.close()
    loop.run()
    assert writer.names() == ["open", "alloc", "close"]


@pytest.mark.parametrize("capacity", [0, 4, None])
@pytest.mark.parametrize("goes_on", [True, False])
def test_the_socket_may_be_paused_in_alloc(loop, transport, make, capacity, goes_on):
    def asked(self):
        if self.names().count("alloc") == 1:
            self.do("pause")
            if goes_on:
                self.do("resume")
        else:
            self.capacity = 4

    writer = make(memory=4, alloc=asked)
    writer.capacity = capacity
    peer = opened(loop, transport, writer)
    peer.send(b"kept")
    loop.run_until(lambda: "alloc" in writer.names())
    if not goes_on:
        loop.settle()
        assert writer.names() == ["open", "alloc"]
        writer.do("resume")
    loop.run_until(lambda: writer.received == b"kept")
    finished(loop, writer, peer)


def test_the_socket_may_be_written_to_and_ended_in_alloc(loop, transport, make):
    writer = make(memory=4, alloc=lambda self: (self.write_all(b"bye"), self.do("end")))
    peer = opened(loop, transport, writer)
    peer.send(b"data")
    assert loop.wait(peer.recv_until_eof()) == b"bye"
    peer.close()
    loop.run()
    assert writer.received == b"data"
    assert writer.names()[-1] == "close"


def test_handlers_that_are_put_in_place_in_alloc_get_the_bytes(loop, transport, make):
    got = []

    def asked(self):
        self.object().reload({"data": lambda socket, chunk: got.append(chunk)})

    writer = make(memory=4, alloc=asked)
    peer = opened(loop, transport, writer)
    socket = writer.object()
    peer.send(b"for another")
    settle_until(loop, lambda: b"".join(got) == b"for another", "the bytes")
    assert bytes(writer.memory) == bytes(4)
    peer.close()
    loop.run()
    assert socket.ready_state == 0
