"""What threads share is safe: each cache and each global, with threads switched as often as an interpreter can."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
import warnings

import pytest
from support import TIMEOUT
from support.tls import CLIENT_TLS

import pybuntcp
from pybuntcp.tls import contexts
from pybuntcp.tls.cache import CAPACITY, Cache
from pybuntcp.tls.connecting import read_client

THREADS = 6
ROUNDS = 30


@pytest.fixture
def switching():
    """Threads are switched every microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work):
    """`work(number)` in several threads at once; what they raised."""
    raised = []
    together = threading.Barrier(THREADS)

    def begin(number):
        together.wait(TIMEOUT)
        try:
            work(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert not [thread for thread in threads if thread.is_alive()]
    return raised


def attempt(options):
    """A connection of this thread's loop that is given up before it begins."""
    connecting = pybuntcp.connect(hostname="127.0.0.1", port=1, tls=options)
    connecting.cancel()
    pybuntcp.run()


def test_connections_with_many_configurations_in_several_threads(switching):
    """More of them than are kept."""

    def work(number):
        for turn in range(ROUNDS):
            attempt({**CLIENT_TLS, "alpn_protocols": [f"{number}/{turn}"]})
            attempt({**CLIENT_TLS, "alpn_protocols": [f"shared/{turn}"]})

    assert in_threads(work) == []
    assert len(contexts._clients.kept) <= CAPACITY


def test_the_cache_of_contexts_in_several_threads(switching):
    """The cache alone, thousands of times: what it keeps is bounded, and nobody finds it changing."""

    cache = Cache()

    def work(number):
        for turn in range(3000):
            assert cache.get(b"%d/%d" % (number, turn % 50), lambda turn=turn: turn % 50) == turn % 50

    assert in_threads(work) == []
    assert 0 < len(cache.kept) <= CAPACITY


OLD = pybuntcp.TLSOptions(min_version="TLSv1", max_version="TLSv1.1")
OFF = {"secure_options": int(ssl.OP_NO_TLSv1_3)}


@pytest.mark.parametrize("options", [OLD, pybuntcp.TLSOptions()], ids=["old versions", "default versions"])
def test_the_filters_of_warnings_are_as_they_were(switching, options):
    """They are the process's, and the standard library warns of what was asked for."""

    def work(number):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for _ in range(500):
            contexts.set_versions(context, options)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        assert in_threads(work) == []
        assert warnings.filters == before
    assert [str(each.message) for each in told] == []


def test_a_child_is_forked_while_another_thread_changes_the_filters():
    with contexts.Filters.lock:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                read_client({**CLIENT_TLS, **OFF}, "localhost")
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(waited(child)) == 0


def waited(child):
    """A child that hangs is ended."""
    timer = threading.Timer(TIMEOUT, os.kill, (child, 9))
    timer.start()
    try:
        return os.waitpid(child, 0)[1]
    finally:
        timer.cancel()


def test_what_several_threads_write_to_one_sink_is_all_there(switching):
    sink = pybuntcp.ArrayBufferSink()

    def work(number):
        for _ in range(100 * ROUNDS):
            sink.write(bytes([number]) * 10)

    assert in_threads(work) == []
    written = sink.end()
    assert {written[at : at + 10] for at in range(0, len(written), 10)} == {bytes([n]) * 10 for n in range(THREADS)}
    assert len(written) == THREADS * 100 * ROUNDS * 10


def test_a_sink_is_not_full_because_another_thread_flushes_it_meanwhile(switching):
    sink = pybuntcp.ArrayBufferSink()
    sink.start(high_water_mark=1 << 20)  # far more than is ever written between two flushes

    def work(number):
        for _ in range(10 * ROUNDS):
            if number % 2:
                sink.write(b"0123456789")
                sink.flush()
            else:
                assert [sink.full for _ in range(100)] == [False] * 100

    assert in_threads(work) == []


def test_loops_are_made_and_end_in_several_threads(switching):
    def work(number):
        for _ in range(ROUNDS):
            host = pybuntcp.new_event_loop()
            host.call_soon(pybuntcp.stats)
            host.call_soon(host.stop)
            host.run_forever()
            host.close()

    assert in_threads(work) == []


def test_listeners_of_unix_files_in_several_threads(switching, tmp_path):
    def work(number):
        for turn in range(ROUNDS):
            path = tmp_path / f"{number}-{turn}"
            pybuntcp.listen(socket={"data": print}, unix=str(path)).stop()
            pybuntcp.run()
            assert not path.exists()

    assert in_threads(work) == []


WHILE_ASYNCIO_IS_IMPORTED = """
import asyncio, sys, types
import pybuntcp

halfway = types.ModuleType("asyncio")           # as another thread finds it: `events` is there, `futures` is not
halfway._get_running_loop = asyncio._get_running_loop
sys.modules["asyncio"] = halfway
pybuntcp.stats()
sys.modules["asyncio"] = asyncio

async def main():
    with pybuntcp.listen(socket={"data": print}, hostname="127.0.0.1", port=0) as listener:
        socket = await pybuntcp.connect(socket={"data": print}, hostname="127.0.0.1", port=listener.port)
        socket.terminate()

asyncio.run(main())
print("connected")
"""


def test_asyncio_may_be_imported_by_another_thread_meanwhile():
    done = subprocess.run(
        [sys.executable, "-c", WHILE_ASYNCIO_IS_IMPORTED], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (done.stdout, done.stderr) == ("connected\n", "")
