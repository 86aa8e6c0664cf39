"""The loop's turns: asyncio's part of one runs when it has something to do, at once, and not for each message."""

from __future__ import annotations

import asyncio
import signal
import socket as stdlib
import time

import pytest
from support.asyncio_loops import open_host
from support.kernel import TIMEOUT
from support.protocols import Plain, on_ours, on_ours_and_asyncio
from support.streams import address_of

ROUNDS = 50


def exchange(family, address, rounds):
    """In another thread, a message after the other: this loop has nothing but them."""
    with stdlib.socket(family) as peer:
        peer.settimeout(TIMEOUT)
        peer.connect(address)
        for _ in range(rounds):
            peer.sendall(b"x")
            assert peer.recv(1) == b"x"


def answer(protocol, data):
    protocol.transport.write(data)


async def serve(streams, data_received, rounds=1):
    """Answer that many messages of another thread; `data_received` is called for each before it is answered."""

    def received(protocol, data):
        data_received()
        answer(protocol, data)

    server = await streams.server(lambda: Plain(data_received=received))
    async with server:
        await asyncio.to_thread(exchange, streams.family, address_of(server), rounds)


@on_ours
async def test_messages_that_protocols_alone_answer_do_not_run_asyncios_part_of_a_turn(streams):
    loop = asyncio.get_running_loop()
    turns = []
    run_once = loop._run_once
    loop._run_once = lambda: (turns.append(None), run_once())
    loop.call_later(3 * TIMEOUT, print).cancel()  # a timer that nobody needs makes no difference
    await serve(streams, lambda: None, ROUNDS)
    assert len(turns) < ROUNDS // 2


@on_ours_and_asyncio
async def test_what_a_protocol_hands_to_call_soon_runs_before_the_next_message(streams):
    log = []
    loop = asyncio.get_running_loop()

    def received():
        log.append("received")
        loop.call_soon(log.append, "soon")

    await serve(streams, received, 3)
    assert log == ["received", "soon"] * 3


@on_ours_and_asyncio
@pytest.mark.parametrize("others", [0, 1])
async def test_a_timer_that_a_protocol_starts_is_waited_for(streams, others):
    loop = asyncio.get_running_loop()
    later = [loop.call_later(3 * TIMEOUT, print) for _ in range(others)]
    called = loop.create_future()
    server = await streams.server(lambda: Plain(data_received=lambda *_: loop.call_later(0.01, called.set_result, 1)))
    async with server:
        with stdlib.socket(streams.family) as peer:
            peer.connect(address_of(server))
            peer.sendall(b"x")
            began = time.monotonic()
            assert await called
            assert 0.01 - 0.001 <= time.monotonic() - began < TIMEOUT
    for timer in later:
        timer.cancel()


@on_ours_and_asyncio
async def test_a_timer_is_in_time_while_messages_come_all_the_time(streams):
    loop = asyncio.get_running_loop()
    seen = []
    loop.call_later(0.02, seen.append, "timer")
    while not seen:
        await serve(streams, lambda: None, ROUNDS)
    assert seen == ["timer"]


@on_ours_and_asyncio
async def test_a_signals_handler_runs_while_messages_come_all_the_time(streams):
    loop = asyncio.get_running_loop()
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon(seen.append, "called"))
    try:
        await serve(streams, lambda: seen or signal.raise_signal(signal.SIGUSR1), ROUNDS)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert "called" in seen


def test_reading_goes_on_in_a_busy_loop_that_an_exit_has_stopped_in_debug_mode(no_leaks):
    async def connect():
        return await loop.create_connection(Plain, sock=ours)

    async def busy():
        for _ in range(100):
            await asyncio.sleep(0)

    def leave():
        raise KeyboardInterrupt

    ours, theirs = stdlib.socketpair()
    ours.setblocking(False)
    with open_host("native") as loop, theirs:
        loop.set_debug(True)
        loop.slow_callback_duration = TIMEOUT
        transport, protocol = loop.run_until_complete(connect())
        loop.call_soon(leave)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        loop.set_debug(False)
        theirs.sendall(b"x")
        loop.run_until_complete(busy())
        assert protocol.data == b"x"
        transport.abort()
        loop.run_until_complete(busy())
