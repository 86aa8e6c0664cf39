"""CONTRACT.md: R5 and S8, nobody holds a turn: not one connection that sends much, nor many; and whoever waits has a part of each.

Turns and calls are counted, in `stats()["turns"]`: that a turn is short is a machine's affair, how much is done in one is ours.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket as stdlib_socket
import time

from support import Recorder, accepted, raw, unread_bytes, wait_for
from support.asyncio_loops import on_every_loop
from support.coroutines import until
from support.handlers import echo
from support.tls import CLIENT_TLS, SERVER_TLS
from support.tls_peer import client_context, tls_accepted
from support.tls_records import Sealer, keylog

import pybuntcp

READS_A_TURN = 2
BYTES_A_TURN = 256 << 10  # of one socket, however its reads have grown
SENT = 4 << 20
UPDATES = 3000  # in one read
CROWD = 30
LONG = 0.02  # seconds that a handler, or asyncio's own callback, takes


def turn():
    return pybuntcp.stats()["turns"]


# ---------------------------------------------------------------- one connection that sends much


@contextlib.contextmanager
def more_than_a_turn_takes(socket, peer, size=SENT):
    """So much lies in our kernel, and more is coming."""
    with raw(socket) as ours:
        ours.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 1 << 20)
        with contextlib.suppress(AttributeError):
            peer.sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1 << 20)
        job = peer.send(bytes(size))
        wait_for(lambda: unread_bytes(ours) > BYTES_A_TURN, "more than a turn's reads in our kernel")
        yield job


def test_r5_of_one_socket_two_reads_are_made_in_a_turn(loop, transport):
    turns = collections.defaultdict(list)

    def data(socket, chunk):
        recorder.events.clear()
        turns[turn()].append(len(chunk))

    recorder = Recorder(data=data)
    socket, peer = accepted(loop, transport, recorder)
    with more_than_a_turn_takes(socket, peer) as sent:
        loop.wait(sent)
    peer.shutdown()
    loop.run()
    assert max(len(sizes) for sizes in turns.values()) <= READS_A_TURN
    assert max(sum(sizes) for sizes in turns.values()) <= BYTES_A_TURN
    assert socket.bytes_read == SENT


def test_r5_a_reader_takes_no_more_in_a_turn(loop, transport):
    """Its room may be larger than what a turn may read into it."""
    recorder = Recorder(open=lambda socket: socket.pause())
    socket, peer = accepted(loop, transport, recorder)
    with more_than_a_turn_takes(socket, peer, 1 << 20) as sent:
        before = turn()
        socket.reader(limit=4 << 20)
        loop.wait(sent)
        while socket.bytes_read < 1 << 20:
            loop.settle()
        assert (1 << 20) / (turn() - before) <= BYTES_A_TURN
    socket.terminate()
    loop.run()


def test_r5_a_sibling_is_served_before_the_rest_of_what_one_has_sent(loop, transport):
    def data(socket, chunk):
        sizes = of[socket is big]
        sizes.append(len(chunk))
        if socket is not big:
            after.append(sum(of[True]))

    of, after = {True: [], False: []}, []
    recorder = Recorder(data=data)
    listener = transport.listen(recorder)
    peers = []
    for count in (1, 2):
        peers.append(transport.peer(listener))
        loop.run_until(lambda count=count: len(recorder.sockets) == count)
        loop.wait(peers[-1].connected)
    big, small = recorder.sockets
    listener.stop()
    with more_than_a_turn_takes(big, peers[0]) as sent, raw(small) as ours:
        peers[1].send(b"ping")
        wait_for(lambda: unread_bytes(ours) >= 4, "the ping in our kernel")
        loop.run_until(lambda: after)
        assert after[0] <= BYTES_A_TURN
        loop.wait(sent)
    for peer in peers:
        peer.shutdown()
    loop.run()
    assert sum(of[True]) == SENT


# ---------------------------------------------------------------- ... and that sends no data


def test_r5_others_are_served_while_records_without_data_are_worked_off(loop, tcp):
    """Key updates: three thousand in one read, each as dear as a small handshake."""

    def data(socket, chunk):
        chunks.append((chunk, turn()))

    chunks = []
    recorder, context = Recorder(data=data), client_context()
    with keylog(context) as keys:
        flooded, peer = tls_accepted(loop, tcp, recorder, context)
        listener = tcp.listen(recorder, tls=SERVER_TLS)
        other = tcp.dial(listener)
        job = peer.call(lambda: client_context().wrap_socket(other, server_hostname="localhost"))
        loop.run_until(lambda: len(recorder.sockets) == 2)
        secured = loop.wait(job)
        sealer = Sealer(peer, keys)
        silence = b"".join(sealer.key_update() for _ in range(UPDATES))
        with raw(flooded) as ours:
            ours.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 1 << 20)
            peer.send(silence + sealer.seal(b"word")).result()
            wait_for(lambda: unread_bytes(ours) > len(silence), "the key updates in our kernel")
        with raw(recorder.sockets[1]) as ours:
            secured.sendall(b"ping")
            wait_for(lambda: unread_bytes(ours), "the ping in our kernel")
        loop.run_until(lambda: len(chunks) == 2)
    assert [chunk for chunk, _ in chunks] == [b"ping", b"word"]
    assert chunks[1][1] > chunks[0][1]  # in a later turn
    secured.close()
    listener.stop(True)
    flooded.terminate()
    loop.run()


def test_r5_small_records_with_data_are_opened_as_they_came(loop, tcp):
    """What is bounded is what brings nothing: a slab of small records is one call, as ever."""
    turns = []

    def data(socket, chunk):
        turns.append(turn())

    recorder, context = Recorder(data=data), client_context()
    with keylog(context) as keys:
        socket, peer = tls_accepted(loop, tcp, recorder, context)
        sealer = Sealer(peer, keys)
        small = b"".join(sealer.seal(b"a") for _ in range(1000))
        with raw(socket) as ours:
            peer.send(small).result()
            wait_for(lambda: unread_bytes(ours) == len(small), "all of it in our kernel")
        loop.run_until(lambda: len(recorder.received()) == 1000)
    assert len(set(turns)) == 1
    socket.terminate()
    loop.run()


# ---------------------------------------------------------------- handshakes


class Pacer:
    """A connection of ours whose handler takes long, once in every turn, until it is stopped."""

    def __init__(self):
        ours, self._far = stdlib_socket.socketpair()
        self.socket = None
        pybuntcp.connect(fd=ours.detach(), socket={"open": self._open, "data": self._data})

    def _open(self, socket):
        self.socket = socket
        self._far.send(b"!")

    def _data(self, socket, chunk):
        time.sleep(LONG)
        self._far.send(b"!")

    def stop(self):
        self._far.close()
        self.socket.terminate()


def test_s8_handshakes_go_on_beside_handlers_that_take_long(loop, tcp):
    """Four steps a connection, both ends ours: one step a turn would take three turns and more for each."""
    server, client = Recorder(label="server", data=echo), Recorder(label="client")
    listener = tcp.listen(server, tls=SERVER_TLS)
    pacer = Pacer()
    while pacer.socket is None:
        loop.settle()
    before = turn()
    for _ in range(CROWD):
        tcp.connect(client, listener, tls=CLIENT_TLS)
    loop.run_until(lambda: client.count("open") + client.count("connect_error") == CROWD, timeout=30)
    assert client.count("open") == CROWD
    assert turn() - before < 2 * CROWD
    pacer.stop()
    for socket in client.sockets:
        socket.terminate()
    listener.stop(True)
    loop.run()


@on_every_loop(timeout=30)
async def test_s8_handshakes_go_on_beside_what_asyncio_does_itself():
    """The time of its own callbacks counts as everybody else's does."""

    async def busy():
        while not done:
            time.sleep(LONG)
            await asyncio.sleep(0)

    done = []
    server, client = Recorder(data=echo), Recorder()
    listener = pybuntcp.listen(socket=server.handlers, hostname="127.0.0.1", port=0, tls=SERVER_TLS)
    asyncio.get_running_loop().create_task(busy())
    before = turn()
    for _ in range(CROWD):
        pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket=client.handlers, tls=CLIENT_TLS)
    await until(lambda: client.count("open") + client.count("connect_error") == CROWD)
    assert client.count("open") == CROWD
    assert turn() - before < 2 * CROWD
    done.append(True)
    for socket in client.sockets:
        socket.terminate()
    listener.stop(True)


@on_every_loop
async def test_s8_asyncio_has_a_turn_for_each_of_ours_while_handshakes_are_worked_off():
    async def idle():
        while not done:
            rounds.append(turn())
            await asyncio.sleep(0)

    done, rounds = [], []
    server, client = Recorder(data=echo), Recorder()
    listener = pybuntcp.listen(socket=server.handlers, hostname="127.0.0.1", port=0, tls=SERVER_TLS)
    asyncio.get_running_loop().create_task(idle())
    for _ in range(CROWD):
        pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket=client.handlers, tls=CLIENT_TLS)
    await until(lambda: client.count("open") == CROWD)
    assert rounds[-1] - rounds[0] <= len(rounds) + CROWD
    done.append(True)
    for socket in client.sockets:
        socket.terminate()
    listener.stop(True)
