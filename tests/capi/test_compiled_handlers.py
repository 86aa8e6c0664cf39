"""Handlers in Python that Cython has compiled: checked as functions of Python are."""

from __future__ import annotations

import pytest
from support.slots import settle_until

import pybuntcp


def test_a_name_that_is_nearly_a_handlers_is_refused(outside):
    with pytest.raises(TypeError, match="'on_close'; did you mean 'close'"):
        pybuntcp.Handlers(outside.compiled.Misspelt())


def test_a_handler_that_cannot_be_called_with_its_arguments_is_refused(outside):
    with pytest.raises(TypeError, match="'data' is called with 2 arguments"):
        pybuntcp.Handlers(outside.compiled.Short())


def test_an_async_handler_needs_an_asyncio_loop(outside):
    with pytest.raises(TypeError, match="'data' is an async function"):
        pybuntcp.listen(socket=outside.compiled.Async(), hostname="127.0.0.1", port=0)


@pytest.mark.filterwarnings("error::pybuntcp.ShortWriteWarning")
def test_a_compiled_function_is_taken_to_look_at_the_count(loop, tcp, outside):
    handlers = outside.compiled.Looks()
    before = pybuntcp.stats()["short_writes_unnoticed"]
    listener = pybuntcp.listen(socket=handlers, hostname="127.0.0.1", port=0)
    tcp.peer(listener).send(b"x")
    settle_until(loop, lambda: handlers.taken, "the write")
    assert 0 < handlers.taken[0] < 50_000_000
    assert pybuntcp.stats()["short_writes_unnoticed"] == before
    handlers.socket.terminate()
    listener.stop()
    loop.settle()
