"""The option slow_handler: a handler that takes longer is logged, with its name and the peer's address."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from support import Recorder
from support.asyncio_loops import on_every_loop
from support.coroutines import until
from support.handlers import Boom, ignore

import pybuntcp

own_loop = pytest.mark.standalone("a handler takes as long on every loop; asyncio's part is below")


def take_long(*args):
    time.sleep(0.02)  # this is what is measured


def slow(caplog):
    return [record for record in caplog.records if record.getMessage().startswith("Slow handler")]


def bring_data(loop, transport, recorder, **options):
    """A listener and the raw peer of a connection, whose `data` was called."""
    listener = transport.listen(recorder, **options)
    peer = transport.peer(listener)
    peer.send(b"x")
    loop.run_until(lambda: recorder.count("data"))
    return listener, peer


@own_loop
def test_a_handler_that_takes_long_is_logged_and_others_are_not(loop, tcp, caplog):
    recorder = Recorder(data=take_long)
    bring_data(loop, tcp, recorder, slow_handler=0.01)
    (record,) = slow(caplog)
    assert (record.name, record.levelno, record.handler) == ("pybuntcp", logging.WARNING, "data")
    assert f"'data', peer 127.0.0.1 port {recorder.socket.remote_port}" in record.getMessage()
    assert 0.02 <= record.seconds < 10


@own_loop
@pytest.mark.parametrize("options", [{}, {"slow_handler": None}, {"slow_handler": 60}])
def test_nothing_is_logged_without_the_option_or_below_it(loop, tcp, caplog, options):
    bring_data(loop, tcp, Recorder(data=take_long), **options)
    assert slow(caplog) == []


@own_loop
def test_what_a_measured_handler_raises_is_told_as_ever(loop, tcp, caplog):
    def data(socket, chunk):
        take_long()
        raise Boom

    recorder = Recorder(data=data, error=ignore)
    bring_data(loop, tcp, recorder, slow_handler=0.01)
    assert len(slow(caplog)) == recorder.count("error") == 1


@own_loop
def test_a_reload_keeps_the_option(loop, tcp, caplog):
    first, second, third = Recorder(), Recorder(data=take_long), Recorder(data=take_long)
    listener, peer = bring_data(loop, tcp, first, slow_handler=0.01)
    listener.reload(second.handlers)
    peer.send(b"x")
    loop.run_until(lambda: second.count("data"))
    first.socket.reload(third.handlers)
    peer.send(b"x")
    loop.run_until(lambda: third.count("data"))
    assert [record.handler for record in slow(caplog)] == ["data", "data"]


@own_loop
def test_connect_has_the_option_too(loop, unix, caplog):
    recorder = Recorder(connect_error=take_long)
    pybuntcp.connect(unix=unix.listen_options()["unix"], socket=recorder.handlers, slow_handler=0.01)
    loop.run()
    assert [record.handler for record in slow(caplog)] == ["connect_error"]


@on_every_loop
async def test_of_an_async_handler_each_step_is_measured(caplog):
    async def data(socket, chunk):
        await asyncio.sleep(0.02)
        take_long()
        await asyncio.sleep(0)
        socket.end()

    server = Recorder()
    listening = {"socket": {**server.handlers, "data": data}, "hostname": "127.0.0.1", "port": 0}
    async with pybuntcp.listen(**listening, slow_handler=0.015) as listener:
        client = await pybuntcp.connect(hostname="127.0.0.1", port=listener.port)
        client.write(b"x")
        assert await client.reader().read() == b""
        client.close()
        await until(lambda: server.count("close"))
    assert [record.handler for record in slow(caplog)] == ["data"]


@on_every_loop
async def test_in_asyncios_debug_mode_its_own_limit_applies(caplog):
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.015
    server = Recorder(open=take_long)
    async with pybuntcp.listen(socket=server.handlers, hostname="127.0.0.1", port=0) as listener:
        client = await pybuntcp.connect(hostname="127.0.0.1", port=listener.port)
        await until(lambda: server.sockets)
        client.terminate()
        listener.stop(True)
    loop.set_debug(False)
    assert [record.handler for record in slow(caplog)] == ["open"]


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "1", True])
def test_a_wrong_value_is_refused_by_name(wrong):
    with pytest.raises((TypeError, ValueError), match="slow_handler"):
        pybuntcp.listen(socket={"data": ignore}, hostname="127.0.0.1", port=0, slow_handler=wrong)
