"""X4 under chance: a stream whose receiver changes all the time loses nothing, and any verb at any time is safe."""

from __future__ import annotations

import random

import pytest
from support import Recorder, accepted, pattern
from support.slots import settle_until

STREAM = pattern(2 << 20)
standalone = pytest.mark.standalone("who turns the loop changes nothing")


@standalone
@pytest.mark.parametrize("seed", range(3))
def test_x4_a_stream_whose_receiver_changes_at_any_byte_arrives_whole(loop, transport, seed):
    """Each receiver got exactly the parts of the stream that were read while it was the one."""
    chance = random.Random(seed)
    source, sender = accepted(loop, transport, at_source := Recorder())
    targets = [
        accepted(loop, transport, Recorder(), rcvbuf=65536, high_water_mark=chance.choice([0, 3000, 65536]))
        for _ in (0, 1)
    ]
    parts = [[], [], []]  # of the two targets, and of `data`
    receiver = 2
    begun = 0
    reading = [peer.recv_until_eof() for _, peer in targets]
    sender.send(STREAM)
    while source.bytes_read < len(STREAM):
        loop.settle()
        if chance.random() < 0.5:
            parts[receiver].append((begun, source.bytes_read))
            begun = source.bytes_read
            source.unpipe()
            receiver = chance.randrange(3)
            if receiver < 2:
                source.pipe(targets[receiver][0], end=False)
    parts[receiver].append((begun, len(STREAM)))
    wanted = [b"".join(STREAM[first:last] for first, last in part) for part in parts]
    for (target, _), job, expected in zip(targets, reading, wanted[:2], strict=True):
        target.end()
        assert loop.wait(job) == expected
    settle_until(loop, lambda: len(at_source.received()) == len(wanted[2]), "what went to data")
    assert at_source.received() == wanted[2]
    source.terminate()


def acts(chance, socket, other, peer):
    """What may happen to a socket; what a peer does may fail, because its connection may be gone."""
    return chance.choice(
        [
            lambda: socket.pipe(other, end=chance.random() < 0.5),
            lambda: socket.pipe(other),
            socket.unpipe,
            socket.pause,
            socket.resume,
            lambda: socket.write(bytes(chance.choice([1, 5000, 200_000]))),
            lambda: socket.timeout(0.001),
            lambda: socket.reload(Recorder(timeout=lambda socket: socket.timeout(0)).handlers),
            lambda: peer.send(bytes(chance.choice([1, 5000, 200_000]))).ignore(),
            lambda: chance.choice([socket.end, socket.close, socket.terminate, socket.shutdown])(),
            lambda: socket.shutdown(True),
            lambda: chance.choice([peer.shutdown, peer.reset, peer.close])().ignore(),
        ]
    )


@standalone
@pytest.mark.parametrize("seed", range(12))
def test_x4_any_verb_at_any_time_is_safe(loop, over_tcp, seed):
    chance = random.Random(seed)

    def act(*_):
        number = chance.randrange(len(pairs))
        (socket, peer), (other, _) = pairs[number], chance.choice(pairs)
        try:
            acts(chance, socket, other, peer)()
        except (RuntimeError, OSError):
            refused.append(number)  # piped already, or the other takes no more

    def sometimes(*_):
        if chance.random() < 0.5:
            act()

    refused, pairs = [], []
    for _ in range(5):
        recorder = Recorder(data=sometimes, end=sometimes, drain=sometimes, close=sometimes)
        options = {"high_water_mark": chance.choice([0, 1000, 65536]), "allow_half_open": chance.random() < 0.5}
        pairs.append(accepted(loop, over_tcp, recorder, linger_timeout=0.1, **options))
    for _ in range(40):
        act()
        if chance.random() < 0.4:
            loop.settle()
    for socket, _ in pairs:
        socket.terminate()
    loop.run()
    assert all(socket.unpipe() is None and socket.ready_state == 0 for socket, _ in pairs)
