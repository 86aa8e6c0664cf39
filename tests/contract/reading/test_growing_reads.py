"""CONTRACT.md: R1, reads that grow while they are filled, and shrink again; what a user keeps of them, and what the loop does.

A large chunk is memory that the loop reads into again when nobody refers to it: so what is kept is compared with what was sent.
"""

from __future__ import annotations

import gc
import hashlib
import random
import socket as stdlib_socket
import tracemalloc

import pytest
from support import Recorder, accepted, pattern, raw, unread_bytes, wait_for

import pybuntcp

FIRST = 64 << 10  # what a read takes that no other has filled before
MOST = 256 << 10
QUIET = 2.2  # seconds; the loop looks back each second
STREAM = 4 << 20

plain = pytest.mark.parametrize("plain", ["tcp", "unix"])


def opened(loop, request, plain, recorder, **options):
    """An accepted socket whose kernel holds much, and the peer."""
    socket, peer = accepted(loop, request.getfixturevalue(plain), recorder, **options)
    with raw(socket) as ours:
        ours.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 1 << 20)
    peer.sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1 << 20)
    return socket, peer


def flood(loop, socket, peer, size=STREAM):
    """More than one read takes lies in our kernel before the loop turns; then everything is read."""
    before = socket.bytes_read
    job = peer.send(pattern(size))
    with raw(socket) as ours:
        wait_for(lambda: unread_bytes(ours) >= min(size, 300 << 10), "much in our kernel")
    loop.run_until(lambda: socket.bytes_read == before + size)
    loop.wait(job)


def be_quiet(loop):
    over = []

    def wake():
        over.append(True)
        loop.check()

    pybuntcp.call_later(QUIET, wake)
    loop.run_until(lambda: over)


def finish(loop, socket):
    socket.terminate()
    loop.run()


@plain
@pytest.mark.parametrize("binary_type", ["bytes", "bytearray", "memoryview"])
def test_r1_reads_grow_while_they_are_filled(loop, request, plain, binary_type):
    sizes = []
    recorder = Recorder(data=lambda socket, chunk: sizes.append(len(chunk)), binary_type=binary_type)
    socket, peer = opened(loop, request, plain, recorder)
    flood(loop, socket, peer)
    assert max(sizes) == MOST
    assert recorder.received() == pattern(STREAM)
    finish(loop, socket)


@plain
def test_r1_reads_shrink_when_they_are_not_filled_any_more(loop, request, plain):
    sizes = []
    socket, peer = opened(loop, request, plain, Recorder(data=lambda socket, chunk: sizes.append(len(chunk))))
    flood(loop, socket, peer)
    be_quiet(loop)
    sizes.clear()
    flood(loop, socket, peer)
    assert sizes[0] == FIRST
    finish(loop, socket)


def test_r1_the_memory_of_large_reads_is_given_back(loop, request):
    def data(socket, chunk):
        recorder.events.clear()

    recorder = Recorder(data=data)
    socket, peer = opened(loop, request, "tcp", recorder)
    be_quiet(loop)  # after the tests before this one
    tracemalloc.start()
    try:
        flood(loop, socket, peer)
        grown = largest_blocks()
        be_quiet(loop)
        assert grown >= MOST
        assert largest_blocks() < 2 * FIRST  # one slab, of the size that it had at first
    finally:
        tracemalloc.stop()
    finish(loop, socket)


def largest_blocks():
    """Bytes in blocks of 64 KiB and more, what the test sends left out."""
    gc.collect()
    traces = tracemalloc.take_snapshot().traces
    return sum(trace.size for trace in traces if FIRST <= trace.size <= MOST + 100)


def test_r1_a_large_chunk_that_nobody_keeps_is_read_into_again(loop, request):
    places = set()

    def data(socket, chunk):
        recorder.events.clear()
        if len(chunk) == MOST:
            places.add(id(chunk))

    recorder = Recorder(data=data)
    socket, peer = opened(loop, request, "tcp", recorder)
    flood(loop, socket, peer)
    assert len(places) == 1
    finish(loop, socket)


@plain
def test_r1_the_hash_of_a_large_chunk_is_its_own(loop, request, plain):
    """It is remembered in the object, which is used again."""
    hashes = []

    def data(socket, chunk):
        recorder.events.clear()
        hashes.append(hash(chunk) == hash(bytes(bytearray(chunk))))

    recorder = Recorder(data=data)
    socket, peer = opened(loop, request, plain, recorder)
    flood(loop, socket, peer)
    assert len(hashes) > 5
    assert all(hashes)
    finish(loop, socket)


@plain
@pytest.mark.parametrize("binary_type", ["bytes", "memoryview"])
@pytest.mark.parametrize("seed", range(3))
def test_r1_what_is_kept_of_growing_reads_stays_unchanged(loop, request, plain, binary_type, seed):
    """Sizes, pauses, and which chunks are kept, by chance."""
    chance = random.Random(seed)
    kept, whole = [], hashlib.sha256()

    def data(socket, chunk):
        recorder.events.clear()
        whole.update(chunk)
        if chance.random() < 0.3:
            kept.append((chunk, hashlib.sha256(chunk).digest()))
        if chance.random() < 0.1:
            socket.pause()
            pybuntcp.call_soon(socket.resume)

    recorder = Recorder(data=data, binary_type=binary_type)
    socket, peer = opened(loop, request, plain, recorder)
    sent = hashlib.sha256()
    for number in range(40):
        block = pattern(chance.choice([1, 100, 20_000, 65_535, 65_536, 65_537, 131_072, 300_000, 700_000]) + number)
        sent.update(block)
        before = socket.bytes_read
        job = peer.send(block)
        loop.run_until(lambda before=before, block=block: socket.bytes_read == before + len(block))
        loop.wait(job)
    assert whole.digest() == sent.digest()
    assert kept
    assert all(hashlib.sha256(chunk).digest() == digest for chunk, digest in kept)
    finish(loop, socket)


def test_r1_kept_chunks_hold_at_most_twice_their_length(loop, request):
    kept = []

    def data(socket, chunk):
        recorder.events.clear()
        kept.append(chunk)

    recorder = Recorder(data=data)
    socket, peer = opened(loop, request, "tcp", recorder)
    flood(loop, socket, peer)
    tracemalloc.start()
    try:
        kept.clear()
        for size in (10_000, 70_000, 140_000, 200_000, 262_144):
            for _ in range(10):
                before = socket.bytes_read
                peer.send(bytes(size)).result()
                with raw(socket) as ours:
                    wait_for(lambda size=size, ours=ours: unread_bytes(ours) == size, "the bytes in our kernel")
                loop.run_until(lambda before=before, size=size: socket.bytes_read == before + size)
        held, _ = tracemalloc.get_traced_memory()
        total = sum(len(chunk) for chunk in kept)
        assert held < 2 * total + (1 << 20)
    finally:
        tracemalloc.stop()
    finish(loop, socket)


def test_r1_a_reader_with_space_has_grown_reads(loop, request):
    recorder = Recorder(open=lambda socket: socket.pause())
    socket, peer = opened(loop, request, "tcp", recorder)
    before = pybuntcp.stats()["reads"]
    socket.reader(limit=STREAM)
    job = peer.send(pattern(STREAM))
    with raw(socket) as ours:
        while (left := STREAM - socket.bytes_read) > 0:
            wait_for(lambda left=left: unread_bytes(ours) >= min(left, 300 << 10), "much in our kernel")
            loop.settle()
    loop.wait(job)
    assert socket.bytes_read / (pybuntcp.stats()["reads"] - before) > FIRST
    finish(loop, socket)


def test_x4_a_pipe_reads_what_its_target_may_hold(loop, request):
    tcp = request.getfixturevalue("tcp")
    source, sender = accepted(loop, tcp, Recorder())
    target, receiver = accepted(loop, tcp, Recorder(), high_water_mark=1 << 20)
    source.pipe(target)
    got = receiver.recv_exactly(STREAM)
    job = sender.send(pattern(STREAM))
    assert loop.wait(got) == pattern(STREAM)
    loop.wait(job)
    source.terminate()
    loop.run()


def test_r1_over_tls_chunks_stay_below_96_kib(loop, over_tcp):
    sizes = []
    recorder = Recorder(data=lambda socket, chunk: sizes.append(len(chunk)))
    socket, peer = accepted(loop, over_tcp, recorder)
    job = peer.send(pattern(STREAM))
    loop.run_until(lambda: socket.bytes_read == STREAM)
    loop.wait(job)
    assert max(sizes) <= (96 << 10 if over_tcp.has_tls else MOST)
    assert recorder.received() == pattern(STREAM)
    finish(loop, socket)
