"""Contract, Handlers (H1): where an exception is reported that no `error` handler has taken, and what is told with it."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest
from support import Recorder, unraisable
from support.asyncio_loops import on_every_loop
from support.coroutines import connection, loop_reports, until
from support.handlers import Boom, ignore, raising
from support.programs import run_program

import pybuntcp

own_loop = pytest.mark.standalone("an asyncio loop has an exception handler, which is asked first")


def serve_one(loop, transport, recorder):
    """A connection to these handlers that sends one chunk and goes; its port."""
    listener = transport.listen(recorder)
    peer = transport.peer(listener)
    peer.send(b"x")
    loop.run_until(lambda: recorder.count("data"))
    listener.stop(True)
    loop.run_until(lambda: recorder.count("close"))
    return recorder.socket.remote_port


def broken():
    return Recorder(data=raising(Boom("in data")), without=("error",))


@pytest.fixture
def own_hook(monkeypatch):
    """Python's own hook, which pytest replaces."""
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)


@own_loop
def test_h1_where_logging_is_configured_it_is_logged_with_the_handlers_name_and_the_peer(
    loop, tcp, caplog, own_hook, capfd
):
    port = serve_one(loop, tcp, broken())
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pybuntcp", logging.ERROR)
    assert "'data'" in record.getMessage()
    assert f"127.0.0.1 port {port}" in record.getMessage()
    assert (record.handler, record.remote_address, record.remote_port) == ("data", "127.0.0.1", port)
    assert record.exc_info[0] is Boom
    assert "Exception ignored" not in capfd.readouterr().err


@own_loop
def test_h1_the_record_of_a_callback_has_the_same_attributes_and_no_peer(loop, caplog, own_hook):
    pybuntcp.call_soon(raising(Boom("in a callback")))
    loop.run()
    (record,) = caplog.records
    assert (record.handler, record.remote_address, record.remote_port) == ("call_soon", None, None)


@own_loop
def test_h1_a_hook_of_the_programs_own_is_told_as_well(loop, tcp, caplog):
    with unraisable() as hooked:
        serve_one(loop, tcp, broken())
    assert [type(error) for error in hooked] == [Boom]
    assert [record.exc_info[1] for record in caplog.records] == hooked


@own_loop
def test_h1_where_nobody_has_configured_logging_the_hook_alone_is_told(loop, tcp, own_hook, capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    serve_one(loop, tcp, broken())
    told = capfd.readouterr().err
    assert "Exception ignored" in told
    assert "Boom: in data" in told


def test_h1_a_program_without_logging_does_not_import_it():
    source = """
        def data(socket, chunk):
            listener.stop(True)
            raise ValueError("in data")
        listener = pybuntcp.listen(socket={"data": data}, hostname="127.0.0.1", port=0)
        peer = socket.create_connection(("127.0.0.1", listener.port))
        peer.send(b"x")
        before = "logging" in sys.modules
        pybuntcp.run()
        say([before, "logging" in sys.modules])
    """
    assert run_program(source) == [[False, False]]


class Raising(logging.Handler):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def emit(self, record):
        raise self.error


@pytest.fixture
def raising_log():
    """Add a log handler that raises this."""
    logger, added = logging.getLogger("pybuntcp"), []

    def add(error):
        added.append(Raising(error))
        logger.addHandler(added[-1])

    yield add
    for handler in added:
        logger.removeHandler(handler)


@own_loop
def test_h1_a_log_handler_that_raises_loses_neither_the_exception_nor_the_server(loop, tcp, raising_log):
    recorder = broken()
    raising_log(Boom("in the log"))
    with unraisable() as hooked:
        serve_one(loop, tcp, recorder)
    assert sorted(map(str, hooked)) == ["in data", "in the log"]


@own_loop
def test_h1_an_exit_raised_in_a_log_handler_comes_out_of_run(loop, tcp, raising_log):
    recorder = broken()
    raising_log(SystemExit("from the log"))
    with unraisable(), pytest.raises(SystemExit, match="from the log"):
        serve_one(loop, tcp, recorder)


@on_every_loop
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_h1_the_exception_handler_of_asyncio_gets_the_handlers_name_and_the_peer(kind, caplog):
    async def later(socket, chunk):
        await asyncio.sleep(0)
        raise Boom

    server = broken() if kind == "plain" else Recorder(without=("error",))
    handlers = {**server.handlers, "data": later} if kind == "async" else server.handlers
    with loop_reports() as told:
        async with pybuntcp.listen(socket=handlers, hostname="127.0.0.1", port=0) as listener:
            client = await pybuntcp.connect(hostname="127.0.0.1", port=listener.port)
            client.write(b"x")
            await until(lambda: server.sockets)
            client.end()
            client.resume()
            await until(lambda: server.count("close"))
    (context,) = told
    assert (context["handler"], context["remote_address"]) == ("data", "127.0.0.1")
    assert f"'data', peer 127.0.0.1 port {context['remote_port']}" in context["message"]
    assert [record for record in caplog.records if record.name == "pybuntcp"] == []


@on_every_loop
async def test_h1_every_exception_of_a_handler_is_counted_whoever_gets_it():
    before = pybuntcp.stats()["handler_errors"]
    server = Recorder(data=raising(Boom()), end=raising(Boom()), error=ignore)
    client = Recorder(open=raising(Boom()), error=raising(Boom()))
    with loop_reports() as told:
        listener, _, connected = await connection(server, client)
        connected.write(b"x")
        await until(lambda: client.count("close") and server.count("close"))
        listener.stop()
    assert len(told) == 1
    handled = server.count("error") + client.count("error")
    assert pybuntcp.stats()["handler_errors"] - before == handled + len(told)


@pytest.mark.parametrize("kept", [False, True], ids=["forgotten", "kept"])
def test_c2_what_connect_error_raises_is_reported_if_nobody_asks(loop, unix, kept):
    boom = Boom("in connect_error")
    recorder = Recorder(connect_error=raising(boom))
    before = pybuntcp.stats()["handler_errors"]
    with loop.reports() as told:
        connecting = pybuntcp.connect(unix=unix.listen_options()["unix"], socket=recorder.handlers)
        if kept:
            loop.run_until(connecting.done)
            assert connecting.exception() is boom
        del connecting
        loop.run_until(lambda: recorder.count("connect_error"))
        assert told == ([] if kept else [boom])
    assert pybuntcp.stats()["handler_errors"] == before + 1
