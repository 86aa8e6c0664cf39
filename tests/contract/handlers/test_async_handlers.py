"""Contract, Handlers (H2): any handler may be `async def`; what it is given, which forms it has, and where it is refused."""

from __future__ import annotations

import asyncio
import functools

import pytest
from support import Recorder, pattern, unraisable
from support.addresses import bound_not_listening
from support.async_handlers import Notes, pause, provoke, raising_later
from support.asyncio_loops import on_every_loop
from support.coroutines import async_accepted, done, turns, until
from support.handlers import Boom, ignore

import pybuntcp

EVENTS = ["open", "data", "drain", "end", "close", "timeout"]
NAMES = [*EVENTS, "error", "handshake", "connect_error"]


# ---------------------------------------------------------------- every one of them


@pytest.mark.parametrize("event", EVENTS)
@on_every_loop
async def test_h2_every_handler_of_a_socket_may_be_async(transport, event):
    notes = Notes(**{event: pause})
    socket, peer = await async_accepted(transport, notes)
    provoke(event, socket, peer)
    await until(lambda: notes.count("/" + event))
    assert notes.count(event) == 1
    assert {who for name, who, _ in notes.events} == {socket}


@on_every_loop
async def test_h2_all_of_them_at_once_may_be_async(transport):
    notes = Notes(**dict.fromkeys(EVENTS, pause))
    _socket, peer = await async_accepted(transport, notes)
    assert await done(peer.send(b"x")) is None
    await until(lambda: notes.count("/data"))
    peer.shutdown()
    await until(lambda: notes.count("/close"))
    assert notes.names() == ["open", "/open", "data", "/data", "end", "/end", "close", "/close"]


@on_every_loop
async def test_h2_an_async_connect_error_is_awaited_before_the_connect_raises(tcp):
    order = []

    async def failed(socket, error):
        await turns(3)
        order.append(error)

    with bound_not_listening() as port:
        with pytest.raises(ConnectionRefusedError) as caught:
            await pybuntcp.connect(hostname="127.0.0.1", port=port, socket={"data": ignore, "connect_error": failed})
        assert order == [caught.value]


@on_every_loop
async def test_h2_what_an_async_connect_error_raises_is_what_the_connect_raises(tcp):
    boom = Boom()
    with bound_not_listening() as port:
        with pytest.raises(Boom) as caught:
            await pybuntcp.connect(
                hostname="127.0.0.1", port=port, socket={"data": ignore, "connect_error": raising_later(boom)}
            )
        assert caught.value is boom


@on_every_loop
async def test_h2_a_connect_whose_async_connect_error_is_cancelled_raises_its_own_error(unix):
    async def failed(socket, error):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(FileNotFoundError):
        await pybuntcp.connect(**unix.listen_options(), socket={"data": ignore, "connect_error": failed})


@on_every_loop
async def test_h2_a_reload_may_bring_async_handlers(transport):
    old, new = Notes(label="old"), Notes(label="new", data=pause)
    socket, peer = await async_accepted(transport, old)
    socket.reload(new.handlers)
    peer.send(b"x")
    await until(lambda: new.count("/data"))
    assert old.names() == ["open"]


@on_every_loop
async def test_h2_an_async_handler_is_given_what_a_sync_one_is(transport):
    notes = Notes(data=pause, close=pause)
    socket, peer = await async_accepted(transport, notes)
    await done(peer.send(b"bytes"))
    await until(lambda: notes.count("/data"))
    socket.terminate()
    await until(lambda: notes.count("/close"))
    assert notes.args("data") == [(b"bytes",)]
    assert notes.args("close") == [(None,)]


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview"])
@on_every_loop
async def test_h2_a_chunk_is_whole_after_an_await(transport, kind):
    async def data(socket, chunk):
        await turns(3)
        kept.append((type(chunk).__name__, bytes(chunk)))

    kept = []
    notes = Notes(data=data, binary_type=kind)
    _socket, peer = await async_accepted(transport, notes)
    await done(peer.send(pattern(300_000)))
    await until(lambda: sum(len(each) for _, each in kept) == 300_000 and notes.count("/data") == len(kept))
    assert {name for name, _ in kept} == {kind}
    assert b"".join(each for _, each in kept) == pattern(300_000)


# ---------------------------------------------------------------- forms of them


class Service:
    """Handlers as async methods."""

    def __init__(self):
        self.arrived = asyncio.Event()

    async def data(self, socket, chunk):
        await asyncio.sleep(0)
        self.arrived.set()


class Callable:
    """An object whose call is async."""

    def __init__(self):
        self.arrived = asyncio.Event()

    async def __call__(self, socket, chunk):
        await asyncio.sleep(0)
        self.arrived.set()


async def arrive(event, socket, chunk):
    await asyncio.sleep(0)
    event.set()


def bound_method():
    service = Service()
    return {"data": service.data}, service.arrived


def instance():
    service = Service()
    return service, service.arrived


def callable_object():
    thing = Callable()
    return {"data": thing}, thing.arrived


def partial():
    event = asyncio.Event()
    return {"data": functools.partial(arrive, event)}, event


def sync_returning_a_coroutine():
    event = asyncio.Event()
    return {"data": lambda socket, chunk: arrive(event, socket, chunk)}, event


def compiled():
    event = asyncio.Event()
    return pybuntcp.Handlers(data=functools.partial(arrive, event)), event


@pytest.mark.parametrize(
    "form", [bound_method, instance, callable_object, partial, sync_returning_a_coroutine, compiled]
)
@on_every_loop
async def test_h2_any_callable_that_gives_a_coroutine_is_an_async_handler(transport, form):
    handlers, arrived = form()
    peer = transport.peer(transport.listen(handlers))
    await done(peer.send(b"x"))
    await arrived.wait()


@on_every_loop
async def test_h2_an_awaitable_that_is_no_coroutine_is_not_awaited(transport):
    class Awaitable:
        def __await__(self):
            awaited.append(self)
            return iter(())

    awaited = []
    given = asyncio.Event()

    def data(socket, chunk):
        given.set()
        return Awaitable()

    peer = transport.peer(transport.listen({"data": data}))
    await done(peer.send(b"x"))
    await given.wait()
    await turns()
    assert awaited == []


# ---------------------------------------------------------------- without a running asyncio loop

no_asyncio = pytest.mark.standalone("it is about what happens where no asyncio loop runs")
NEEDS = r"'{}' is an async function: that needs a running asyncio loop"


@pytest.mark.parametrize("name", NAMES)
def test_h2_listen_and_connect_name_the_async_handler_that_needs_a_running_loop(unix, name):
    table = {"data": ignore, name: pause}
    for call in (pybuntcp.listen, pybuntcp.connect):
        with pytest.raises(TypeError, match=NEEDS.format(name)):
            call(**unix.listen_options(), socket=table)


@pytest.mark.parametrize("name", NAMES)
def test_h2_handlers_may_be_compiled_without_a_running_loop_and_not_used(unix, name):
    table = pybuntcp.Handlers({"data": ignore, name: pause})
    for call in (pybuntcp.listen, pybuntcp.connect):
        with pytest.raises(TypeError, match=NEEDS.format(name)):
            call(**unix.listen_options(), socket=table)


@no_asyncio
@pytest.mark.parametrize("of", ["listener", "socket"])
def test_h2_a_reload_to_async_handlers_without_a_running_loop_changes_nothing(loop, transport, of):
    recorder = Recorder(data=lambda socket, chunk: socket.write(chunk))
    listener = transport.listen(recorder)
    peer = transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    with pytest.raises(TypeError, match=NEEDS.format("data")):
        (listener if of == "listener" else recorder.socket).reload({"data": pause})
    peer.send(b"as before")
    assert loop.wait(peer.recv_exactly(9)) == b"as before"


@no_asyncio
def test_h2_a_coroutine_that_comes_without_a_running_loop_goes_to_error(loop, transport):
    recorder = Recorder(error=ignore)
    listener = transport.listen({**recorder.handlers, "data": lambda socket, chunk: pause(socket)})
    peer = transport.peer(listener)
    with unraisable() as reports:  # a coroutine that is dropped says so here
        peer.send(b"x")
        loop.run_until(lambda: recorder.count("error"))
    (((error,),), told) = (recorder.args("error"), reports)
    assert isinstance(error, TypeError)
    assert told == []
