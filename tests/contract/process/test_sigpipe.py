"""Contract, Process (P3): no write of ours raises SIGPIPE, whatever a program has set for it.

A child process in which SIGPIPE kills (its default, which Python does not keep): each peer reads nothing, so that a
tail waits for it, and leaves in a way for which a kernel answers the next write with EPIPE.
"""

from __future__ import annotations

import pytest
from support import LOOPS, TRANSPORTS
from support.programs import run_program

ROOM = 32 << 20

PRELUDE = """
    import support
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    loop, transport = support.LOOPS[{loop!r}](), support.TRANSPORTS[{transport!r}]()

    def leave(peer):
        "FIN, and a close over unread bytes: the connection breaks after its end was seen."
        peer.call(lambda: getattr(peer.sock, "raw", peer.sock).shutdown(socket.SHUT_WR)).ignore()
        return peer.call(lambda: getattr(peer.sock, "raw", peer.sock).close())
"""

PAUSED = """
    class Handlers:
        def open(socket):
            socket.pause()
            assert socket.write(bytes({room})) == {room}

        def drain(socket):
            say("drained")

        def close(socket, error):
            say(type(error).__name__)
"""

DRAINING = """
    class Handlers:
        async def open(socket):
            sink = socket.sink()
            sink.write(bytes({room}))
            try:
                await sink.drain()
            except OSError as error:
                say(type(error).__name__)
            socket.close()
"""

SERVE = """
    listener = transport.listen(Handlers, high_water_mark={room}, linger_timeout=0.5)
    peer = transport.peer(listener, rcvbuf=4096)
    loop.wait(peer.connected)
    loop.wait(peer.call(lambda: None))
    loop.run_until(lambda: pybuntcp.stats()["pending_bytes"] > 0)
    loop.wait(leave(peer))
    listener.stop()
    listener.unref()
    loop.run()
    loop.close()
    transport.close()
    say("alive")
"""


def outlives(handlers: str, loop: str, transport: str) -> None:
    heard = run_program((PRELUDE + handlers + SERVE).format(loop=loop, transport=transport, room=ROOM))
    assert heard[-1] == "alive"
    assert set(heard[:-1]) <= {"BrokenPipeError", "ConnectionResetError", "TimeoutError", "SSLEOFError", "NoneType"}
    assert len(heard) >= 2, heard


@pytest.mark.parametrize("transport_name", TRANSPORTS)
@pytest.mark.parametrize("name", LOOPS)
def test_p3_a_peer_that_leaves_a_tail_behind_kills_nobody(name, transport_name):
    missing(name)
    outlives(PAUSED, name, transport_name)


@pytest.mark.parametrize("transport_name", TRANSPORTS)
@pytest.mark.parametrize("name", [name for name in LOOPS if name != "standalone"])
def test_p3_a_peer_that_leaves_while_an_async_handler_drains_kills_nobody(name, transport_name):
    missing(name)
    outlives(DRAINING, name, transport_name)


def missing(name: str) -> None:
    if why := LOOPS[name].missing():
        pytest.skip(why)
