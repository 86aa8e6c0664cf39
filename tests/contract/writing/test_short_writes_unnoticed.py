"""Contract, Writing (W9): a short write that nobody can have noticed is warned of, once for a table, and counted."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys

import pytest
from support import Recorder
from support.asyncio_loops import on_every_loop
from support.handlers import ignore

import pybuntcp
from pybuntcp import ShortWriteWarning

MUCH = bytes(16 << 20)  # more than the kernel takes from us for a peer that reads nothing

own_loop = pytest.mark.standalone("a write and its caller are the same on every loop")


def unnoticed():
    return pybuntcp.stats()["short_writes_unnoticed"]


@contextlib.contextmanager
def counted(warnings, writes):
    """So many warnings come meanwhile, and so many writes are counted."""
    before = unnoticed()
    with contextlib.ExitStack() as stack:
        told = stack.enter_context(pytest.warns(ShortWriteWarning)) if warnings else []
        yield told
    assert unnoticed() - before == writes
    assert len(told) == warnings


def served(loop, transport, handlers, connections=1, **options):
    """Connections to these handlers, whose `open` writes; the peers read one byte and no more. Returns the listener."""
    listener = transport.listen({"data": ignore, **handlers}, **options)
    for _ in range(connections):
        loop.wait(transport.peer(listener).recv_exactly(1))
    return listener


def drop(socket):
    socket.write(MUCH)


def pass_on(socket):
    return socket.write(MUCH)


def drop_by_keyword(socket):
    socket.write(data=MUCH, offset=1)


def drop_in_a_block(socket):
    with socket.cork():
        socket.write(MUCH)


def drop_in_a_helper(socket):
    drop(socket)


def drop_what_a_helper_returns(socket):
    pass_on(socket)


def pass_on_what_a_helper_returns(socket):
    return pass_on(socket)


class Bound:
    def opened(self, socket):
        return socket.write(MUCH)

    def __call__(self, socket):
        return socket.write(MUCH)


def traced(handler):
    def run(socket):
        sys.settrace(lambda frame, event, argument: None)
        try:
            return handler(socket)
        finally:
            sys.settrace(None)

    return run


UNNOTICED = {
    "drop": drop,
    "return": pass_on,
    "lambda": lambda socket: socket.write(MUCH),
    "keyword": drop_by_keyword,
    "block": drop_in_a_block,
    "helper": drop_in_a_helper,
    "helper dropped": drop_what_a_helper_returns,
    "helper returned": pass_on_what_a_helper_returns,
    "method": Bound().opened,
    "object": Bound(),
    "partial": functools.partial(pass_on),
    "decorated": functools.wraps(pass_on)(lambda *args: pass_on(*args)),
    "traced": traced(drop),
}


def compare(socket):
    if socket.write(MUCH) < len(MUCH):
        socket.data = "the rest is for later"


def store(socket):
    socket.data = socket.write(MUCH)


def look_in_the_caller(socket):
    socket.data = pass_on(socket)


def ignore_in_words(socket):
    _ = socket.write(MUCH)


NOTICED = {
    "compare": compare,
    "store": store,
    "caller": look_in_the_caller,
    "named": ignore_in_words,
    "traced": traced(store),
    "end": lambda socket: socket.end(MUCH),
    "sink": lambda socket: socket.sink().write(MUCH),
    "ended": lambda socket: (socket.end(b"x"), socket.write(MUCH))[0],
    "whole": lambda socket: socket.write(b"x"),
}


@own_loop
@pytest.mark.parametrize("handler", list(UNNOTICED.values()), ids=list(UNNOTICED))
def test_w9_a_count_that_was_dropped_is_warned_of_once_for_a_table(loop, tcp, handler):
    with counted(warnings=1, writes=2) as told:
        served(loop, tcp, {"open": handler}, connections=2)
    assert told[0].filename == __file__
    assert f"of {len(MUCH)} bytes" in str(told[0].message) or "of 16777215 bytes" in str(told[0].message)


@own_loop
@pytest.mark.parametrize("handler", list(NOTICED.values()), ids=list(NOTICED))
def test_w9_no_warning_where_somebody_looked_or_nothing_was_lost(loop, tcp, handler):
    with counted(warnings=0, writes=0):
        served(loop, tcp, {"open": handler})


@own_loop
def test_w9_no_warning_with_a_drain_handler(loop, transport):
    with counted(warnings=0, writes=0):
        served(loop, transport, {"open": drop, "drain": ignore})


@own_loop
def test_w9_the_same_over_every_transport_and_without_a_buffer(loop, transport):
    with counted(warnings=1, writes=1):
        served(loop, transport, {"open": drop}, high_water_mark=0)


@own_loop
def test_w9_every_listener_has_a_table_of_its_own_and_a_reload_makes_a_new_one(loop, tcp):
    table = pybuntcp.Handlers(open=drop, data=ignore)
    with counted(warnings=3, writes=3):
        for listener in tcp.listen(table), tcp.listen(table):
            loop.wait(tcp.peer(listener).recv_exactly(1))
        listener.reload(table)
        loop.wait(tcp.peer(listener).recv_exactly(1))


@own_loop
def test_w9_a_filter_may_make_it_an_exception_of_the_handler(loop, tcp):
    told = []
    served(loop, tcp, {"open": drop, "error": lambda socket, error: told.append(error)})
    assert [type(error) for error in told] == [ShortWriteWarning]  # every warning is an error in these tests


@on_every_loop
async def test_w9_the_same_in_coroutines():
    async def opened(socket):
        await helper(socket)

    async def helper(socket):
        return socket.write(MUCH)

    async def looks(socket):
        socket.data = await helper(socket)

    server = Recorder(without=("drain",))
    for function, warned in (opened, 1), (looks, 0):
        with counted(warnings=warned, writes=warned):
            handlers = {**server.handlers, "open": function}
            async with pybuntcp.listen(socket=handlers, hostname="127.0.0.1", port=0) as listener:
                client = await pybuntcp.connect(hostname="127.0.0.1", port=listener.port)
                await client.reader().readexactly(1)
                client.terminate()


@on_every_loop
async def test_w9_a_socket_without_handlers_has_none_that_could_continue():
    with counted(warnings=1, writes=1):
        async with pybuntcp.listen(
            socket={"data": ignore, "open": lambda s: s.pause()}, hostname="127.0.0.1", port=0
        ) as at:
            client = await pybuntcp.connect(hostname="127.0.0.1", port=at.port)
            client.write(MUCH)
            client.terminate()
            at.stop(True)


# ---------------------------------------------------------------- whether it is shown

ASK = """
import warnings
{before}
import pybuntcp
{after}
warnings.warn(pybuntcp.ShortWriteWarning("a short write"), stacklevel=1)
"""
USERS_OWN = 'warnings.filterwarnings("ignore", category=ResourceWarning)'


@pytest.mark.parametrize(
    ("options", "before", "after", "shown"),
    [
        ([], "", "", True),
        (["-W", "ignore"], "", "", False),
        (["-W", "ignore::ResourceWarning"], "", "", False),
        (["-W", "default"], "", "", True),
        ([], USERS_OWN, "", False),
        ([], "", USERS_OWN, False),
        ([], "", 'warnings.filterwarnings("ignore", category=pybuntcp.ShortWriteWarning)', False),
    ],
)
def test_w9_it_is_shown_by_default_and_a_users_filters_win(options, before, after, shown):
    source = ASK.format(before=before, after=after)
    ran = subprocess.run([sys.executable, *options, "-c", source], capture_output=True, text=True, check=True)
    assert ("ShortWriteWarning: a short write" in ran.stderr) is shown
