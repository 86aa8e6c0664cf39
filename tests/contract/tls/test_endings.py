"""CONTRACT.md, TLS (S4, S6), Time, Writing: how a secured connection ends in the middle of something, and what is told and counted then.

In the middle of an upgrade, or of its handshake; with bytes of the peer in hand that were not told; with a kernel that
takes no more; by an alert.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
from support import Feed, Recorder, metronome, pattern, shrink_send_buffer
from support.async_handlers import Notes
from support.asyncio_loops import on_every_loop
from support.coroutines import done, until
from support.handlers import echo, ignore
from support.programs import run_program
from support.tls import BORROWED, CA, CLIENT, SERVER, SERVER_TLS, TLSRecorder, joined, needs_borrowed
from support.tls_peer import (
    certified,
    client_context,
    dialling,
    each_side,
    server_context,
    tls_accepted,
    tls_sides,
    unsecured,
    upgraded,
)
from support.tls_records import ALERT, Sealer, keylog

import pybuntcp

one_loop = pytest.mark.standalone("what is sent and told in what order is nothing that a loop decides")

FATAL, INTERNAL_ERROR = 2, 80
MUCH = 8 << 20  # more than the kernel takes of a peer that does not read


# ---------------------------------------------------------------- an upgraded socket that waits for the plain socket's last bytes


def waiting(loop, tcp, kind, secured=None, **options):
    """A plain socket with more written than goes, upgraded: (upgraded socket, its recorder, that of the plain one, peer, what was written)."""
    recorder, secured = Recorder(label="raw"), secured or Recorder(label="secured")
    socket, peer = unsecured(loop, tcp, recorder, kind, **{"linger_timeout": None, **options})
    feed = Feed(MUCH)
    feed.fill(socket)
    return upgraded(socket, secured, kind), secured, recorder, peer, feed


@one_loop
@each_side
def test_s6_an_upgraded_socket_that_is_terminated_while_it_waits_takes_the_plain_socket_along(loop, tcp, kind):
    secure, secured, recorder, peer, feed = waiting(loop, tcp, kind)
    secure.terminate()
    loop.run()  # the peer reads nothing, and nothing bounds its patience
    assert (recorder.names(), secured.names()) == (["open"], [])
    assert secure.ready_state == pybuntcp.ReadyState.DETACHED
    assert feed.accepted.startswith(peer.raw_to_end().result())


@one_loop
@each_side
def test_w5_an_upgraded_socket_that_is_closed_while_it_waits_closes_when_the_plain_socket_has_sent_its_last(
    loop, tcp, kind
):
    secure, secured, recorder, peer, feed = waiting(loop, tcp, kind)
    secure.close()
    taken = peer.raw_to_end()
    loop.run()
    assert (recorder.names(), secured.names()) == (["open"], [])
    assert secure.ready_state == pybuntcp.ReadyState.DETACHED
    assert taken.result() == feed.accepted


@one_loop
def test_w5_a_listener_that_stops_closes_both_halves_of_an_upgrade_and_loses_nothing(loop, tcp):
    recorder, secured = Recorder(label="raw"), Recorder(label="secured")
    listener = tcp.listen(recorder, linger_timeout=None)
    peer = dialling(tcp, listener, client_context())
    loop.run_until(lambda: recorder.sockets)
    feed = Feed(MUCH)
    feed.fill(recorder.socket)
    upgraded(recorder.socket, secured, "accepted")
    listener.stop(True)
    taken = peer.raw_to_end()
    loop.run()
    assert recorder.names() == ["open"]
    assert listener.connections == 0
    assert taken.result() == feed.accepted


@one_loop
@each_side
def test_s6_a_plain_half_that_cannot_send_its_last_in_time_fails_the_upgraded_one(loop, tcp, kind):
    _socket, secured, recorder, peer, _feed = waiting(loop, tcp, kind, linger_timeout=0.05)
    loop.run()
    assert recorder.names() == ["open"]
    assert secured.names() == (["close"] if kind == "accepted" else ["connect_error"])
    ((error,),) = secured.args(secured.names()[0])
    assert isinstance(error, OSError)
    peer.raw_to_end().result()


@one_loop
@each_side
def test_s8_the_handshake_timeout_of_an_upgraded_socket_begins_with_its_handshake(loop, tcp, kind):
    _socket, secured, recorder, peer, feed = waiting(loop, tcp, kind, TLSRecorder(), handshake_timeout=0.1)
    with metronome(loop, tcp, 0.2, 1, lambda: None) as over:
        loop.run_until(over)
    assert secured.count("close") == 0
    assert loop.wait(peer.recv_exactly(feed.at)) == feed.accepted
    loop.run()
    assert recorder.names() == ["open"]
    assert isinstance(secured.close_error, TimeoutError)


DYING = """
    import asyncio
    from support.tls import CLIENT_TLS
    kind, when = sys.argv[1:]
    def opened(raw):
        while raw.write(bytes(65536)) == 65536:
            pass
        over_tls.append(raw.upgrade_tls(tls={**CLIENT_TLS, "server_name": "localhost"}, socket={"data": print}))
        if when == "run() ends":
            raise SystemExit
    async def main():
        pybuntcp.connect(**options)
        while not over_tls:
            await asyncio.sleep(0)
    def live():
        if kind == "standalone":
            pybuntcp.connect(**options)
            try:
                pybuntcp.run()
            except SystemExit:
                pass
            return
        loop = asyncio.new_event_loop() if kind == "asyncio" else pybuntcp.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    import threading, warnings
    warnings.simplefilter("ignore")
    over_tls = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        options = {"hostname": "127.0.0.1", "port": port, "socket": {"open": opened, "data": print}}
        thread = threading.Thread(target=live)
        thread.start()
        thread.join()
    say([int(secure.ready_state) for secure in over_tls])
"""


@pytest.mark.standalone("it runs in a process of its own")
@pytest.mark.parametrize(
    ("kind", "when"), [("asyncio", "closed"), ("native", "closed"), ("standalone", "run() ends")], ids=str
)
def test_p2_a_loop_that_goes_while_an_upgraded_socket_waits_takes_both_halves_along(kind, when):
    assert len(run_program(DYING, kind, when)[0]) == 1


# ---------------------------------------------------------------- the plain half is told nothing more


@one_loop
@pytest.mark.parametrize("clock", ["timeout", "idle_timeout"])
@each_side
def test_s6_the_clocks_of_the_plain_half_end_with_the_upgrade(loop, tcp, kind, clock):
    recorder, secured = Recorder(label="raw"), Recorder(label="secured", timeout=ignore)
    socket, peer = unsecured(loop, tcp, recorder, kind, **({"idle_timeout": 0.05} if clock == "idle_timeout" else {}))
    feed = Feed(MUCH)
    feed.fill(socket)
    if clock == "timeout":
        socket.timeout(0.05)
    made = upgraded(socket, secured, kind)
    with metronome(loop, tcp, 0.15, 1, lambda: None) as over:
        loop.run_until(over)
    assert (recorder.names(), secured.names()) == (["open"], [])
    assert loop.wait(peer.recv_exactly(feed.at)) == feed.accepted
    made.terminate()


@on_every_loop
async def test_s6_an_async_handler_of_the_plain_half_that_ends_reads_nothing_of_the_upgraded_one(tcp):
    async def data(socket, chunk):
        feed.fill(socket)
        upgraded(socket, secured, "accepted")
        await asyncio.sleep(0)

    feed = Feed(MUCH)
    recorder, secured = Notes(label="raw", data=data), Notes(label="secured", data=echo)
    peer = dialling(tcp, tcp.listen(recorder), client_context())
    hello = await done(peer.step())
    peer.send(b"STARTTLS\n")
    await until(lambda: recorder.count("/data"))
    await done(peer.send(hello))
    for _ in range(20):
        await asyncio.sleep(0)
    assert await done(peer.recv_exactly(feed.at)) == feed.accepted
    peer.write(b"x")
    assert await done(peer.read(1)) == b"x"
    assert recorder.names() == ["open", "data", "/data"]
    secured.socket.terminate()
    await until(lambda: secured.count("close"))


# ---------------------------------------------------------------- clocks during the handshake


@one_loop
def test_t1_idle_timeout_calls_no_handler_of_a_connection_that_was_not_opened(loop, tcp):
    server = Recorder(label="server")
    listener = tcp.listen(server, tls=SERVER_TLS, idle_timeout=0.02, handshake_timeout=0.15)
    peer = tcp.peer(listener)
    loop.wait(peer.recv_until_eof())
    listener.stop()
    loop.run()
    assert server.names() == []


@one_loop
def test_t1_idle_timeout_calls_no_handler_of_an_upgraded_socket_that_was_not_opened(loop, tcp):
    secured = Recorder(label="secured")
    socket, peer = unsecured(loop, tcp, Recorder(), "accepted", idle_timeout=0.02, handshake_timeout=0.15)
    upgraded(socket, secured, "accepted")
    loop.run()
    assert secured.names() == ["close"]
    assert isinstance(secured.close_error, TimeoutError)
    peer.raw_to_end().result()


# ---------------------------------------------------------------- with bytes of the peer in hand


@one_loop
@pytest.mark.parametrize("verb", ["shutdown", "end"])
@pytest.mark.parametrize("where", ["open", "handshake"])
def test_s4_ending_with_data_of_the_peer_in_hand_loses_nothing(loop, tcp, where, verb):
    """It came with the last of the handshake."""
    recorder = TLSRecorder(**{where: lambda socket, *told: getattr(socket, verb)()})
    listener = tcp.listen(recorder, tls=SERVER_TLS, allow_half_open=True)
    peer = dialling(tcp, listener, client_context())
    peer.send(peer.step().result())
    loop.wait(peer.take_in())
    last = peer.step().result()
    peer.send(last + peer.seal(pattern(30_000)).result())
    loop.run_until(lambda: len(recorder.received()) == 30_000)
    assert recorder.received() == pattern(30_000)
    peer.write(b"and more")
    loop.run_until(lambda: len(recorder.received()) > 30_000)
    assert loop.wait(peer.read_to_end()) == (b"", "close_notify")
    peer.notify()
    listener.stop()
    loop.run()
    assert recorder.received() == pattern(30_000) + b"and more"
    assert recorder.order() == ["open", "handshake", "data", "end", "close"]
    assert recorder.close_error is None


@one_loop
@pytest.mark.parametrize("verb", ["shutdown", "end"])
def test_r4_ending_a_paused_socket_with_data_of_the_peer_in_hand_loses_nothing(loop, tcp, verb):
    def open(socket):
        socket.pause()
        getattr(socket, verb)()

    recorder = Recorder(open=open)
    listener = tcp.listen(recorder, tls=SERVER_TLS, allow_half_open=True)
    peer = dialling(tcp, listener, client_context())
    peer.send(peer.step().result())
    loop.wait(peer.take_in())
    peer.send(peer.step().result() + peer.seal(b"in hand").result() + peer.sealed_notify().result())
    assert loop.wait(peer.read_to_end()) == (b"", "close_notify")
    loop.settle()
    assert recorder.names() == ["open"]
    recorder.socket.resume()
    listener.stop()
    loop.run()
    assert recorder.received() == b"in hand"
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None


# ---------------------------------------------------------------- a kernel that takes no more


@one_loop
@pytest.mark.parametrize("small", [800, 1100, 1400, 1700])  # what is left in the kernel differs
def test_w8_a_sink_takes_its_limit_though_the_kernel_takes_nothing(loop, unix, small):
    """What TLS adds to it is not counted."""
    size = 70_000  # more than is sealed at once
    socket, peer = tls_accepted(loop, unix, Recorder())
    shrink_send_buffer(socket, 4608)
    records = 0
    while not socket.pending:
        records += 1
        assert socket.write(bytes(small)) == small
    assert loop.wait(peer.read(small * records)) == bytes(small * records)
    for _ in range(records - 1):  # as many as it took before
        assert socket.write(bytes(small)) == small
    assert socket.pending == 0
    sink = socket.sink(high_water_mark=1, limit=size)
    assert sink.write(pattern(size)) == size
    assert socket.pending > 0
    assert loop.wait(peer.read(small * (records - 1) + size))[small * (records - 1) :] == pattern(size)


# ---------------------------------------------------------------- what is known afterwards


MUTUAL = {"tls": {**SERVER_TLS, "ca": CA.pem, "request_cert": True}}


def showing_its_certificate():
    return certified(client_context(), CLIENT)


@one_loop
@pytest.mark.parametrize("how", ["a fatal alert", "a bad record"])
@tls_sides
def test_r7_a_broken_connection_tells_the_peers_certificate(loop, tcp, side, how):
    """Of the fallback, OpenSSL may not tell it any more: None then, and no exception."""

    def look(socket, error):
        seen.append(socket.get_peer_certificate())

    seen = []
    recorder = Recorder(error=look, close=look)
    of_server = side is tls_accepted
    context = showing_its_certificate() if of_server else server_context()
    with keylog(context) as keys:
        socket, peer = side(loop, tcp, recorder, context, **(MUTUAL if of_server else {}))
        before = socket.get_peer_certificate()
        assert before["raw"] == (CLIENT if of_server else SERVER).der
        sealed = Sealer(peer, keys).seal(bytes([FATAL, INTERNAL_ERROR]), ALERT)
        peer.send(sealed if how == "a fatal alert" else bytes([*sealed[:-1], sealed[-1] ^ 1]))
        loop.run()
    seen.append(socket.get_peer_certificate())
    assert recorder.names() == ["open", "error", "close"]
    assert len(seen) == 3
    assert all(told == before or (told is None and not BORROWED) for told in seen)


@one_loop
@needs_borrowed
def test_s9_a_name_that_openssl_refuses_is_a_value_error_and_leaves_nothing_behind(loop, tcp):
    """It would be the error of whoever uses `ssl` next in this thread."""

    def open(socket):
        with pytest.raises(ValueError, match="name"):
            socket.set_servername(".".join(["x" * 60] * 5))
        with pytest.raises(ssl.SSLWantReadError):
            innocent.read(1)

    innocent = in_memory()
    client = TLSRecorder(open=open)
    ends = joined(loop, tcp, client=client)
    assert client.verdict == (True, None)
    ends.client.socket.close()
    loop.run()


def in_memory():
    """The client of a connection of the standard library alone, whose handshake is done."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(back, there, server_hostname="localhost")
    server = server_context().wrap_bio(there, back, server_side=True)
    for each in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            each.do_handshake()
    return client
