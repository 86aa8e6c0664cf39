"""Memory and lifetimes of transports: a protocol that does anything in any callback, garbage, a loop that is closed, a fork.

Most of what can go wrong here ends the process. A build with sanitizers sees the rest: `make asan`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
import warnings
import weakref

import pytest
from support.asyncio_loops import close_host, new_host, run_on
from support.kernel import wait_for
from support.leaks import without_collector
from support.loops import unraisable
from support.streams import use_all

SIZE = 1 << 20
CALLBACKS = [
    "connection_made",
    "received",
    "get_buffer",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
]
ACTIONS = {
    "closes": lambda self: self.transport.close(),
    "aborts": lambda self: self.transport.abort(),
    "aborts and closes": lambda self: (self.transport.abort(), self.transport.close()),
    "writes and closes": lambda self: (
        self.transport.write(b"last"),
        self.transport.close(),
        self.transport.write(b"late"),
    ),
    "ends": lambda self: None if self.transport.is_closing() else self.transport.write_eof(),
    "pauses and resumes": lambda self: (self.transport.pause_reading(), self.transport.resume_reading()),
    "changes the protocol": lambda self: self.transport.set_protocol(self.heir()),
    "collects garbage": lambda self: gc.collect(),
    "forgets the transport": lambda self: self.__dict__.pop("transport", None),
    "raises": lambda self: 1 / 0,
}


class Restless(asyncio.Protocol):
    """Does `action` in `callback`, once, and counts its `connection_lost`."""

    def __init__(self, lost, callback="", action=None):
        self.lost, self.callback, self.action = lost, callback, action
        self.memory = bytearray(1000)

    def heir(self):
        return Restless(self.lost)

    def act(self, name):
        if name == self.callback:
            self.callback = ""
            self.action(self)

    def connection_made(self, transport):
        self.transport = transport
        self.act("connection_made")

    def data_received(self, data):
        self.act("received")

    def eof_received(self):
        self.act("eof_received")

    def pause_writing(self):
        self.act("pause_writing")

    def resume_writing(self):
        self.act("resume_writing")

    def connection_lost(self, error):
        if not self.lost.done():
            self.lost.set_result(None)
        self.act("connection_lost")


class RestlessBuffered(Restless, asyncio.BufferedProtocol):
    data_received = None

    def heir(self):
        return RestlessBuffered(self.lost)

    def get_buffer(self, size):
        self.act("get_buffer")
        return self.memory

    def buffer_updated(self, count):
        self.act("received")
        self.memory.extend(bytes(1))  # BufferError if anybody held it still


async def restless_connection(kind, callback, action):
    """One whose peer sends, reads late, and ends; until it is lost."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    lost = loop.create_future()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await loop.connect_accepted_socket(lambda: kind(lost, callback, action), ours)
    with contextlib.suppress(BrokenPipeError):  # closed in connection_made
        await loop.sock_sendall(theirs, bytes(3000))
    with contextlib.suppress(RuntimeError):  # ended by write_eof
        transport.write(bytes(SIZE))
    while not lost.done() and transport.get_write_buffer_size() > 0:
        await loop.sock_recv(theirs, SIZE)
    theirs.close()
    await asyncio.wait_for(lost, 10)


@pytest.mark.parametrize("kind", [Restless, RestlessBuffered])
@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_protocol_may_do_anything_in_any_callback(kind, callback, action):
    async def main():
        await restless_connection(kind, callback, ACTIONS[action])

    if kind is Restless and callback == "get_buffer":
        callback = "received"
    loop = new_host("native")
    try:
        loop.run_until_complete(asyncio.wait_for(main(), 20))
    finally:
        close_host(loop)


def test_garbage_may_be_collected_in_every_slot():
    async def main():
        for kind in (Restless, RestlessBuffered):
            await restless_connection(kind, "", None)

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        run_on("native", main)
    finally:
        gc.set_threshold(*before)


def test_a_connection_that_is_lost_is_no_garbage_but_gone():
    async def main():
        lost = asyncio.get_running_loop().create_future()
        ours, theirs = socket.socketpair()
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(lambda: Restless(lost), ours)
        kept = [weakref.ref(transport), weakref.ref(protocol)]
        theirs.close()
        await lost
        await asyncio.sleep(0)
        del transport, protocol.transport, protocol
        assert [each() for each in kept] == [None, None]

    with without_collector():
        run_on("native", main)


def open_transport(loop):
    """A transport that is open when nothing runs any more, and its peer."""

    async def main():
        ours, theirs = socket.socketpair()
        transport, _ = await loop.connect_accepted_socket(lambda: Restless(loop.create_future()), ours)
        return transport, theirs

    return loop.run_until_complete(main())


def test_a_transport_outlives_its_loop():
    loop = new_host("native")
    transport, theirs = open_transport(loop)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        close_host(loop)
    del loop
    gc.collect()
    use_all(transport)
    assert theirs.recv(1) == b""
    theirs.close()


def test_all_transports_are_closed_when_warnings_are_errors():
    loop = new_host("native")
    pairs = [open_transport(loop) for _ in range(3)]
    with unraisable() as reported:
        close_host(loop)  # filterwarnings is "error"
    assert [type(error) for error in reported] == [ResourceWarning] * 3
    for transport, theirs in pairs:
        assert theirs.recv(1) == b""
        assert transport.is_closing()
        theirs.close()
    assert loop.is_closed()


USES = {
    "writes": lambda transport: transport.write(b"x"),
    "writes lines": lambda transport: transport.writelines([b"x"]),
    "ends": lambda transport: transport.write_eof(),
    "pauses": lambda transport: transport.pause_reading(),
    "sets limits": lambda transport: transport.set_write_buffer_limits(0),
    "closes": lambda transport: transport.close(),
    "aborts": lambda transport: transport.abort(),
}


@pytest.mark.parametrize("use", USES)
def test_what_logs_that_a_deadline_has_passed_may_use_the_transport(use):
    class Uses(logging.Handler):
        def emit(self, record):
            if "Fatal read error" in record.getMessage() and not seen:
                seen.append(record)
                USES[use](protocols[0].transport)

    async def main():
        loop = asyncio.get_running_loop()
        lost = loop.create_future()
        loop.set_debug(True)  # which logs it
        server = await loop.create_server(
            lambda: protocols.append(Restless(lost)) or protocols[0], "127.0.0.1", 0, idle_timeout=0.05
        )
        with socket.create_connection(server.sockets[0].getsockname()):
            await asyncio.wait_for(lost, 10)
        server.close()

    protocols, seen, logger, handler = [], [], logging.getLogger("asyncio"), Uses()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        run_on("native", main)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert len(seen) == 1


@pytest.mark.parametrize("how", ["lost", "left open"])
def test_a_connection_whose_descriptor_somebody_has_closed_keeps_no_other_open(how):
    loop = new_host("native")
    (transport, theirs), (other, others) = open_transport(loop), open_transport(loop)
    transport.pause_reading()
    loop.run_until_complete(asyncio.sleep(0))
    os.close(transport._sock_fd)
    if how == "lost":
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
        assert transport.get_protocol() is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        close_host(loop)
    assert others.recv(1) == b""
    assert transport.get_extra_info("socket").fileno() == other.get_extra_info("socket").fileno() == -1
    theirs.close()
    others.close()


@pytest.mark.parametrize("inside", [True, False])
def test_a_forked_child_may_use_what_it_inherited(inside):
    """inside: the fork is made by a callback of the connection."""

    def fork(transport):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                use_all(transport)
                code = 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    loop = new_host("native")
    codes = []
    if inside:

        async def main():
            lost = loop.create_future()
            ours, theirs = socket.socketpair()
            await loop.connect_accepted_socket(
                lambda: Restless(lost, "received", lambda self: codes.append(fork(self.transport))), ours
            )
            theirs.sendall(b"go")
            while not codes:
                await asyncio.sleep(0)
            theirs.close()
            await lost

        loop.run_until_complete(main())
    else:
        transport, theirs = open_transport(loop)
        codes.append(fork(transport))
        transport.write(b"alive")
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        assert theirs.recv(10) == b"alive"
        theirs.close()
        wait_for(lambda: (loop.run_until_complete(asyncio.sleep(0)), transport.get_protocol() is None)[1], "the end")
    close_host(loop)
    assert codes == [0]
