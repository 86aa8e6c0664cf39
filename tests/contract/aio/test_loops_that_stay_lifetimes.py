"""[A14] The end of a loop that is not ours, and of its thread, under our transports; forks; garbage; debug mode."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import threading
import time
import warnings
import weakref

import pytest
from support.asyncio_loops import FOREIGN, close_host, each_foreign_host, new_host, on_loops, run_in
from support.leaks import without_collector
from support.loops import unraisable
from support.protocols import Plain
from support.streams import abort, arrives, use_all
from support.threads import in_thread

import pybuntcp
from pybuntcp import aio

on_foreign = on_loops(*FOREIGN)


def opened(loop, protocol=None):
    """A transport, open when the loop has stopped, and its raw peer."""

    async def main():
        ours, theirs = socket.socketpair()
        transport, _ = await aio.connect_accepted_socket(lambda: protocol or Plain(), ours)
        theirs.settimeout(5)
        return transport, theirs

    return run_in(loop, main)


def warned_by(closing):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        closing()
    return [str(each.message) for each in caught if each.category is ResourceWarning]


# ---------------------------------------------------------------- the loop is closed


@each_foreign_host
def test_each_transport_that_is_open_is_warned_of_and_closed(host):
    loop = new_host(host)
    protocols = [Plain() for _ in range(3)]
    pairs = [opened(loop, protocol) for protocol in protocols]
    texts = warned_by(loop.close)
    assert len(texts) == 3
    assert all(text.startswith("unclosed transport <SocketTransport") for text in texts)
    for (transport, peer), protocol in zip(pairs, protocols, strict=True):
        with peer:
            assert peer.recv(1) == b""
        assert protocol.calls == ["connection_made"]
        use_all(transport)


@each_foreign_host
def test_all_are_closed_when_warnings_are_errors(host):
    loop = new_host(host)
    pairs = [opened(loop) for _ in range(3)]
    with unraisable() as reported:
        loop.close()
    assert [type(error) for error in reported] == [ResourceWarning] * 3
    for transport, peer in pairs:
        with peer:
            assert peer.recv(1) == b""
        assert transport.is_closing()


@each_foreign_host
def test_what_was_written_last_is_sent(host):
    """asyncio's own transport would have sent it when it was written."""
    loop = new_host(host)
    transport, peer = opened(loop)

    def write_and_stop():
        loop.stop()
        transport.write(b"last words")

    loop.call_soon(write_and_stop)
    loop.run_forever()
    warned_by(loop.close)
    with peer:
        assert peer.recv(100) == b"last words"
        assert peer.recv(100) == b""


@each_foreign_host
def test_what_is_written_while_the_loop_does_not_run_leaves_at_once(host):
    loop = new_host(host)
    protocol = Plain()
    transport, peer = opened(loop, protocol)
    with peer:
        transport.write(b"at once")
        assert peer.recv(100) == b"at once"
        run_in(loop, lambda: abort(protocol))
    close_host(loop)


@each_foreign_host
def test_a_server_that_is_open_is_warned_of_once_as_the_socket_that_it_is(host):
    loop = new_host(host)
    kept = [run_in(loop, lambda: aio.create_server(Plain, "127.0.0.1", 0))]
    address = kept[0].sockets[0].getsockname()

    def end():
        loop.close()
        kept.clear()
        gc.collect()

    (text,) = warned_by(end)
    assert text.startswith("unclosed <socket.socket")
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(address)


@each_foreign_host
def test_sendfile_that_runs_ends_with_the_loop(host, tmp_path):
    (tmp_path / "file").write_bytes(bytes(8 << 20))
    loop = new_host(host)
    transport, peer = opened(loop)

    async def begin():
        task = asyncio.ensure_future(aio.sendfile(transport, file))
        for _ in range(20):
            await asyncio.sleep(0)
        return task

    with (tmp_path / "file").open("rb") as file, peer:
        tasks = [run_in(loop, begin)]
        assert not tasks[0].done()
        warned_by(loop.close)
        use_all(transport)
        tasks[0]._log_destroy_pending = False
        with unraisable():
            tasks.clear()
            gc.collect()


# ---------------------------------------------------------------- nothing keeps a loop


@each_foreign_host
@pytest.mark.parametrize("installed", [False, True])
def test_a_closed_loop_is_freed_without_a_collector_of_garbage(host, installed):
    loop = new_host(host)
    if installed:
        aio.install(loop)
    protocol = Plain()
    _, peer = opened(loop, protocol)
    with peer:
        run_in(loop, lambda: abort(protocol))
    gone = weakref.ref(loop)
    with without_collector():
        loop.close()
        del loop
        assert gone() is None


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_is_dropped_with_nothing_open_is_collected():
    """uvloop's is not, whoever has used it."""
    loop = new_host("asyncio")
    aio.install(loop)
    protocol = Plain()
    _, peer = opened(loop, protocol)
    with peer:
        run_in(loop, lambda: abort(protocol))
    gone = weakref.ref(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del loop
        gc.collect()
    assert gone() is None


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_is_dropped_with_a_transport_open_is_collected_and_closes_it():
    loop = new_host("asyncio")
    transport, peer = opened(loop)
    gone = weakref.ref(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del loop
        gc.collect()
    assert gone() is None
    with peer:
        assert peer.recv(1) == b""
    use_all(transport)


@each_foreign_host
def test_the_table_of_stand_ins_does_not_grow(host):
    gc.collect()
    before = len(aio.stand_in._stand_ins)
    for _ in range(3):
        loop = new_host(host)
        run_in(loop, lambda: aio.create_server(Plain, "127.0.0.1", 0, start_serving=False)).close()
        loop.close()
        del loop
    gc.collect()
    assert len(aio.stand_in._stand_ins) <= before


# ---------------------------------------------------------------- threads


@each_foreign_host
def test_a_transport_outlives_the_thread_of_its_loop(host):
    """The thread ends, and nobody has closed the loop."""
    kept = []

    def thread():
        loop = new_host(host)
        kept.extend((loop, *opened(loop)))

    def end():
        in_thread(thread)

    assert len(warned_by(end)) == 1
    loop, transport, peer = kept
    with peer:
        assert peer.recv(1) == b""
    use_all(transport)
    loop.close()


@each_foreign_host
def test_another_thread_may_end_a_transport_and_do_nothing_else(host):
    loop, protocol = new_host(host), Plain()
    transport, peer = opened(loop, protocol)

    async def main():
        def elsewhere():
            for method in (lambda: transport.write(b"x"), transport.write_eof, transport.pause_reading):
                with pytest.raises(RuntimeError, match=rf"thread {runs_in}. Use loop.call_soon_threadsafe"):
                    method()
            transport.abort()

        runs_in = threading.get_ident()
        await asyncio.to_thread(elsewhere)
        await protocol.called("connection_lost")

    with peer:
        run_in(loop, main)
    close_host(loop)


@each_foreign_host
def test_a_loop_that_has_stopped_may_go_on_in_another_thread(host):
    loop, protocol = new_host(host), Plain()
    transport, peer = opened(loop, protocol)
    peer.setblocking(False)

    async def exchange():
        await arrives(peer, protocol)
        transport.write(b"y")
        assert await loop.sock_recv(peer, 1) == b"y"
        await abort(protocol)

    with peer:
        assert in_thread(lambda: run_in(loop, exchange)) is None
    close_host(loop)


# ---------------------------------------------------------------- forks


@each_foreign_host
@pytest.mark.parametrize("inside", [True, False])
def test_a_forked_child_may_use_what_it_inherited(host, inside):
    """inside: the fork is made by a callback of the connection."""

    def fork():
        child = os.fork()
        if child == 0:
            code = 1
            try:
                use_all(transport)
                code = 0
            finally:
                os._exit(code)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    loop, codes, protocol = new_host(host), [], Plain()
    transport, peer = opened(loop, protocol)
    with peer:
        if inside:
            protocol.answers["data_received"] = lambda *_: fork()
            peer.send(b"x")
            run_in(loop, lambda: protocol.called("data_received"))
        else:
            fork()
        transport.write(b"alive")
        run_in(loop, lambda: asyncio.sleep(0))
        assert peer.recv(10) == b"alive"
        run_in(loop, lambda: abort(protocol))
    close_host(loop)
    assert codes == [0]


# ---------------------------------------------------------------- debug mode


@on_foreign
async def test_debug_mode_is_followed_while_a_connection_is_open(caplog):
    loop, protocol = asyncio.get_running_loop(), Plain()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await aio.connect_accepted_socket(lambda: protocol, ours)
    loop.slow_callback_duration = 0.01
    protocol.answers["data_received"] = lambda *_: time.sleep(0.02)

    async def logged():
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "asyncio"):
            transport.pause_reading()
            transport.resume_reading()
            protocol.data.clear()
            await arrives(theirs, protocol)
        return [word for word in ("pauses reading", "resumes reading", "data_received") if word in caplog.text]

    assert await logged() == []
    loop.set_debug(True)
    assert await logged() == ["pauses reading", "resumes reading", "data_received"]
    loop.set_debug(False)
    assert await logged() == []
    with theirs:
        await abort(protocol)


# ---------------------------------------------------------------- gathering


@on_foreign
async def test_what_a_task_writes_costs_one_send_and_no_turn_of_ours():
    protocol = Plain()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await aio.connect_accepted_socket(lambda: protocol, ours)
    await asyncio.sleep(0.01)
    before = pybuntcp.stats()
    for _ in range(5):
        transport.write(b"five ")
    assert transport.get_write_buffer_size() == 25
    await asyncio.sleep(0)
    after = pybuntcp.stats()
    assert (after["writes"] - before["writes"], after["turns"] - before["turns"]) == (1, 0)
    with theirs:
        assert theirs.recv(100) == b"five five five five five "
        await abort(protocol)
