"""The harness can fail: a hang, a leak, an early finish and a peer's failure are each told.

Tests stand on `support`; if it swallowed something, many of them could not fail any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import support
from support import (
    LOOPS,
    TRANSPORTS,
    HostedLoop,
    LoopHung,
    Recorder,
    TlsTransport,
    accepted,
    axis,
    check_nothing_left,
    descriptors,
    every_loop,
    hosted_loops,
    metronome,
    plain,
    run_loop,
    shrink_send_buffer,
    unread_bytes,
    unreferenced,
    wait_for,
    wire_size,
)
from support.programs import Program
from support.slots import HANDLERS

import pybuntcp

pytestmark = every_loop

each_host = pytest.mark.parametrize(
    "host", [loop for loop in LOOPS.values() if issubclass(loop, HostedLoop) and not loop.missing()]
)


def test_the_table_of_contents_names_every_module():
    there = {path.stem for path in Path(support.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(re.findall(r"^(\w+) {2,}", support.__doc__, re.MULTILINE)) == there


def test_a_loop_that_does_not_finish_is_interrupted_and_reported(tcp):
    tcp.listen(Recorder(label="the one"))
    started = time.monotonic()
    with pytest.raises(LoopHung, match=r"still turned after 0.1 s.*'open_listeners': 1.*the one"):
        run_loop(0.1)
    assert time.monotonic() - started < 2


def test_a_loop_that_was_interrupted_turns_again(tcp):
    recorder = Recorder()
    listener = tcp.listen(recorder)
    with pytest.raises(LoopHung):
        run_loop(0.05)
    tcp.peer(listener).close().result()
    listener.stop()
    run_loop()
    assert recorder.names() == []


def test_run_and_run_until_tell_a_loop_that_hangs_and_it_turns_again(loop, tcp):
    recorder = Recorder(label="the one")
    listener = tcp.listen(recorder)
    for turn in (loop.run, lambda timeout: loop.run_until(recorder.received, timeout)):
        with pytest.raises(LoopHung, match=r"still turned after 0.1 s.*'open_listeners': 1.*the one"):
            turn(0.1)
    tcp.peer(listener).send(b"x")
    loop.run_until(recorder.received)


def test_a_handler_that_does_not_return_is_interrupted(loop, tcp, monkeypatch):
    def data(socket, chunk):
        while True:
            pass

    monkeypatch.setattr(hosted_loops, "INSIDE_A_TURN", 0.1)
    recorder = Recorder(data=data)
    _socket, peer = accepted(loop, tcp, recorder)
    peer.send(b"x").result()
    with pytest.raises(LoopHung, match="recorder: open data"):
        loop.run(0.1)


def test_run_until_tells_a_loop_that_finished_before_its_condition(loop, tcp):
    listener = tcp.listen(Recorder())
    listener.stop()
    with pytest.raises(AssertionError, match="finished before the condition held"):
        loop.run_until(lambda: False)


def test_run_until_stops_when_the_condition_holds_though_sockets_are_open(loop, transport):
    recorder = Recorder()
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    loop.run_until(recorder.received)
    assert recorder.names() == ["open", "data"]
    assert loop.gauges()["open_sockets"] == 1


def test_call_runs_in_the_loops_thread_and_hands_back_what_it_raises(loop, tcp):
    tcp.listen(Recorder())
    assert loop.wait(loop.call(lambda: "done")) == "done"
    with pytest.raises(KeyError):
        loop.wait(loop.call({}.__getitem__, "absent"))


def test_call_runs_inside_a_handler(loop, tcp):
    with pytest.raises(RuntimeError, match="run"):
        loop.wait(loop.call(pybuntcp.run))


def test_the_test_itself_is_inside_the_host(loop):
    host = getattr(loop, "host", None)
    assert asyncio._get_running_loop() is host
    assert loop.wait(loop.call(asyncio._get_running_loop)) is host
    loop.run()
    assert asyncio._get_running_loop() is host


def test_what_a_handler_raised_and_no_error_handler_is_given_is_in_the_reports(loop, tcp):
    boom = LookupError("in data")

    def data(socket, chunk):
        raise boom

    recorder = Recorder(data=data, without=("error",))
    with loop.reports() as reports:
        _socket, peer = accepted(loop, tcp, recorder)
        peer.send(b"x")
        loop.run_until(lambda: recorder.count("data"))
        assert reports == [boom]


@each_host
def test_a_report_that_no_test_asked_for_is_raised_at_the_end(host):
    loop = host()
    loop.host.call_exception_handler({"message": "lost", "exception": LookupError("in data")})
    with pytest.raises(LookupError, match="in data"):
        loop.close()
    assert asyncio._get_running_loop() is None


@each_host
def test_a_host_closed_with_a_listener_open_is_reported_and_gives_the_descriptors_back(host, tcp):
    before = descriptors()
    loop = host()
    tcp.listen(Recorder())
    with pytest.warns(ResourceWarning, match="Listener"), pytest.raises(LoopHung, match="'open_listeners': 1"):
        loop.close(0.05)
    assert loop.host.is_closed()
    support.warm(support.StandaloneLoop)  # the thread's own loop was in that host
    assert len(descriptors()) == len(before)


def test_a_peers_failure_that_nobody_looked_at_is_reported_at_the_end(tcp):
    server = tcp.raw_server()
    peer = tcp.peer(server)
    server.accept().close().result()
    failing = peer.recv_exactly(5)
    while not failing.done():
        time.sleep(0.001)
    with pytest.raises(EOFError, match="after 0 of 5 bytes"):
        peer.stop()


def test_an_exception_in_a_handler_is_remembered(loop, transport):
    def data(socket, chunk):
        raise LookupError("an assertion in a handler")

    recorder = Recorder(data=data)
    _socket, peer = accepted(loop, transport, recorder)
    peer.send(b"x")
    loop.run_until(lambda: recorder.raised)
    (raised,) = recorder.raised
    assert isinstance(raised, LookupError)
    recorder.raised.clear()  # or this test would fail for it


def test_an_exception_in_a_handler_fails_the_test():
    recorder = Recorder()
    recorder.raised.append(LookupError("an assertion in a handler"))
    with pytest.raises(LookupError):
        check_nothing_left(descriptors())
    recorder.raised.clear()


def test_an_open_listener_fails_the_test(tcp):
    before = descriptors()
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=Recorder().handlers)
    with pytest.raises(AssertionError, match="open_listeners"):
        check_nothing_left(before)
    listener.stop()


def test_an_open_descriptor_fails_the_test():
    before = descriptors()
    reading, writing = os.pipe()
    try:
        with pytest.raises(AssertionError, match=r"descriptors: .*pipe"):
            check_nothing_left(before)
    finally:
        os.close(reading)
        os.close(writing)


def test_sweep_ends_whatever_a_failed_test_left(loop, transport):
    recorder = Recorder()
    transport.listen(recorder)
    accepted(loop, transport, recorder)
    loop.settle()  # opens the harness's own socket, which is ended too
    support.sweep(loop)
    assert set(loop.gauges().values()) == {0}


@unreferenced
def test_a_test_that_means_run_stays_on_the_standalone_loop(loop):
    assert loop.name == "standalone"


def test_a_test_of_the_contract_runs_on_every_loop_chosen(request, loop):
    chosen = axis.chosen(SimpleNamespace(getoption=lambda name: "native, standalone"))
    assert [parameter.values for parameter in axis.loops_of(request.node, chosen)] == [("native",), ("standalone",)]


def test_a_loop_that_there_is_not_cannot_be_chosen():
    with pytest.raises(pytest.UsageError, match="no such loop: natve"):
        axis.chosen(SimpleNamespace(getoption=lambda name: "standalone,natve"))


@plain("it is told from one of the contract that is not")
def test_a_test_that_means_plain_transports_does_not_run_over_tls(request, transport):
    assert [parameter.values for parameter in axis.transports_of(request.node, ["tls", "tcp"])] == [("tcp",)]
    (parameter,) = axis.transports_of(request.node, ["tls"])
    assert [mark.name for mark in parameter.marks] == ["skip"]
    assert not transport.has_tls


def test_a_test_of_the_contract_runs_over_every_transport_chosen(request):
    chosen = axis.chosen_transports(SimpleNamespace(getoption=lambda name: "tls, unix"))
    assert [parameter.values for parameter in axis.transports_of(request.node, chosen)] == [("tls",), ("unix",)]


def test_a_transport_that_there_is_not_cannot_be_chosen():
    with pytest.raises(pytest.UsageError, match="no such transport: tsl"):
        axis.chosen_transports(SimpleNamespace(getoption=lambda name: "tcp,tsl"))


def test_a_raw_peer_of_tls_half_closes_and_reads_on():
    with TlsTransport().raw_server() as server, TlsTransport().peer(server) as peer:
        other = server.accept()
        peer.send(b"question")
        peer.shutdown()
        assert other.recv_until_eof().result() == b"question"
        other.send(b"answer")
        other.close()
        assert peer.recv_until_eof().result() == b"answer"


def test_a_raw_peer_of_tls_tells_a_truncation():
    with TlsTransport().raw_server() as server, TlsTransport().peer(server) as peer:
        other = server.accept()
        other.call(lambda: other.sock.raw.shutdown(socket.SHUT_WR)).result()
        with pytest.raises(ssl.SSLEOFError):
            peer.recv().result()


def test_a_raw_peer_of_tls_that_closes_with_bytes_unread_resets():
    with TlsTransport().raw_server() as server, TlsTransport().peer(server) as peer:
        other = server.accept()
        peer.send(b"unread").result()
        wait_for(lambda: unread_bytes(other.sock) == wire_size(other.sock, 6), "what is left unread")
        other.close()
        assert peer.recv_until_reset().result() == b""


SILENT = """
    child = os.fork()
    if child:
        say("forked")
    time.sleep(60)
"""


def test_a_peer_that_is_stopped_ends_a_socket_that_closes_though_all_that_lay_unread_was_taken(loop, over_tcp):
    """Its verbs that still wait take that after its shutdown, which lets no window open: no kernel asks for the rest."""
    recorder = Recorder()
    socket_, peer = accepted(loop, over_tcp, recorder, high_water_mark=8 << 20)
    shrink_send_buffer(socket_)
    assert socket_.write(bytes(4 << 20)) == 4 << 20
    with metronome(loop, over_tcp, 0.05, 6, lambda: None) as over:  # its window is shut, ours asks ever more rarely
        loop.run_until(over)
    peer.sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(ssl.SSLEOFError, ssl.SSLError):
        while peer.sock.recv(65536):
            pass
    peer.stop()
    socket_.close()
    loop.run()  # LoopHung, if it were the linger time that ends it
    assert recorder.count("close") == 1


def test_a_program_that_is_silent_is_ended_with_the_child_that_holds_its_outputs():
    with Program(SILENT) as program:
        assert program.hear() == "forked"
        with pytest.raises(pytest.fail.Exception, match=r"was silent for 0\.5 s"):  # and no TimeoutExpired
            program.hear(timeout=0.5)


def test_a_pattern_shows_every_lost_or_moved_byte():
    data = support.pattern(100_000)
    assert len(data) == 100_000
    words = {data[at : at + 4] for at in range(0, 100_000, 4)}
    assert len(words) == 25_000


def rows_of(*axes, names, handlers=(), product=False):
    """What a test with these fixtures is run with, in a run that chooses nothing."""
    given = []
    options = {"--product": product, "--loops": ",".join(LOOPS), "--transports": ",".join(TRANSPORTS)}
    options["--hosts"] = ",".join(axis.HOSTS)
    metafunc = SimpleNamespace(
        definition=names,
        fixturenames=axes,
        config=SimpleNamespace(getoption=options.__getitem__),
        parametrize=lambda columns, rows, indirect: given.extend(row.values for row in rows),
    )
    axis.parametrize(metafunc, handlers)
    return set(given)


def marked(*kinds, folder="contract"):
    """A test of this folder with the mark `hosts`."""
    marks = {"hosts": pytest.mark.hosts(*kinds).mark}
    path = Path("tests", folder, "test_some.py")
    return SimpleNamespace(get_closest_marker=marks.get, iter_markers=lambda name: iter(()), path=path)


def test_each_loop_and_each_transport_has_a_run_and_all_pairs_have_one_when_asked():
    some = rows_of("loop_name", "transport", names=marked())
    assert some == {
        *(("standalone", way) for way in TRANSPORTS),
        ("asyncio", "tcp"),
        ("native", "tcp"),
        ("uvloop", "tls"),
    }
    every = rows_of("loop_name", "transport", names=marked(), product=True)
    assert len(every) == len(LOOPS) * len(TRANSPORTS)


@pytest.mark.parametrize("kinds", [("asyncio", "uvloop", "native"), ("asyncio", "uvloop"), ("native",), ("uvloop",)])
@pytest.mark.parametrize("folder", ["contract", "examples"], ids=["with TLS", "without"])
def test_each_host_of_a_test_has_a_transport_and_each_transport_a_host(kinds, folder):
    rows = rows_of("host", "transport", names=marked(*kinds, folder=folder))
    ways = {name for name in TRANSPORTS if folder == "contract" or name != "tls"}
    assert ({host for host, _ in rows}, {way for _, way in rows}) == ({*kinds}, ways)
    assert len(rows) == max(len(kinds), len(ways)) or len(rows) == len(kinds) + 1


def test_slots_run_on_the_standalone_loop_over_tcp_and_everywhere_when_asked():
    def with_slots(product):
        axes = ("loop_name", "transport", "handlers")
        rows = rows_of(*axes, names=marked(), handlers=list(HANDLERS), product=product)
        return {row for row in rows if row[-1] == "slots"}

    assert with_slots(product=False) == {("standalone", "tcp", "slots")}
    assert len(with_slots(product=True)) == len(LOOPS) * len(TRANSPORTS)
