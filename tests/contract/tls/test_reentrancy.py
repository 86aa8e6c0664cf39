"""CONTRACT.md, TLS (S9, R6, H1): what Python runs in the middle of an engine's work may use any socket; Ctrl-C there stops the loop.

A context's callbacks, a subclass of `ssl.SSLObject`, the class of an error (and a finalizer, which is like any of them)
run while a connection is read, sealed or shaken, and the loop's one buffer has bytes in it that are not theirs.
"""

from __future__ import annotations

import gc
import ssl

import pytest
from support import Recorder, pattern, send_and_wait, shrink_send_buffer, wait_for, was_reset
from support.asyncio_loops import on_every_loop
from support.coroutines import until
from support.handlers import echo, ignore, raising
from support.tls import CLIENT_TLS, SERVER_TLS, TLSRecorder, joined, meet, needs_borrowed, settled, speaker, talk
from support.tls_peer import client_context, server_context, tls_accepted, unsecured

from pybuntcp.tls import config

one_loop = pytest.mark.standalone("an engine knows no loops; Ctrl-C in asyncio is test_embedding_errors'")
exits = pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])

SOON = {"linger_timeout": 0.1}
MESSAGES = ("message read", "message write")


class Hook:
    """Calls what it is armed with, once, when an engine gets to `place` in a connection of `context`.

    A place is a method of `ssl.SSLObject`, which has done its own work then, a message, or "wrap_bio".
    """

    def __init__(self, context, place):
        self.function = None
        if place in MESSAGES:
            context._msg_callback = lambda connection, way, *rest: self.reached() if way in place else None
        elif place == "wrap_bio":
            context.wrap_bio = lambda *args, **options: (
                self.reached() or type(context).wrap_bio(context, *args, **options)
            )
        else:
            context.sslobject_class = type("Hooked", (ssl.SSLObject,), {place: self.method(place)})

    def method(self, name):
        def hooked(connection, *args):
            try:
                return getattr(ssl.SSLObject, name)(connection, *args)
            finally:
                self.reached()

        return hooked

    def arm(self, function):
        self.function = function

    def reached(self):
        function, self.function = self.function, None
        if function is not None:
            function()


READING, WRITING = ("read", "message read"), ("write", "message write")
places = pytest.mark.parametrize("place", READING + WRITING)


def provoke(ends, place):
    """Bring the server's engine there."""
    (ends.client if place in READING else ends.server).socket.write(b"go")


def hooked(loop, tcp, place, **options):
    """A hook in a server's connection, the connection, and another one."""
    context = server_context()
    hook = Hook(context, place)
    return hook, joined(loop, tcp, context, **options), joined(loop, tcp)


def part(loop, *pairs):
    """Close them; nothing has happened to them."""
    for ends in pairs:
        ends.client.socket.close()
    loop.run()
    errors = [recorder.close_error for ends in pairs for recorder in (ends.server, ends.client)]
    assert errors == [None] * len(errors)


# ---------------------------------------------------------------- other connections, and this one


@one_loop
@pytest.mark.parametrize("size", [8, 20_000, 200_000])
@places
def test_s9_what_is_written_to_another_socket_meanwhile_arrives_whole_and_soon(loop, tcp, place, size):
    hook, ends, other = hooked(loop, tcp, place)
    taken = []
    hook.arm(lambda: taken.append(other.server.socket.write(pattern(size))))
    provoke(ends, place)
    loop.run_until(lambda: taken and len(other.client.received()) >= taken[0])  # nobody does more for it
    assert 0 < taken[0] <= size
    assert other.client.received() == pattern(taken[0])
    assert other.server.socket.pending == 0
    part(loop, ends, other)


@one_loop
@pytest.mark.parametrize("size", [8, 20_000])
@places
def test_s9_what_is_written_to_the_same_socket_meanwhile_arrives_whole_and_soon(loop, tcp, place, size):
    hook, ends, other = hooked(loop, tcp, place)
    beside = b"go" if place in WRITING else b""
    hook.arm(lambda: ends.server.socket.write(pattern(size)))
    provoke(ends, place)
    loop.run_until(lambda: len(ends.client.received()) >= size + len(beside))
    assert ends.client.received() in (pattern(size) + beside, beside + pattern(size))
    part(loop, ends, other)


@one_loop
@pytest.mark.parametrize("verb", ["end", "shutdown", "close"])
@pytest.mark.parametrize("place", [*READING, *WRITING, "unwrap"])
def test_s9_another_socket_that_is_ended_meanwhile_sends_its_close_notify_soon(loop, tcp, place, verb):
    hook, ends, other = hooked(loop, tcp, place)
    words = (b"last words",) if verb == "end" else ()
    hook.arm(lambda: getattr(other.server.socket, verb)(*words))
    if place == "unwrap":
        ends.server.socket.shutdown()
    else:
        provoke(ends, place)
    loop.run_until(lambda: other.client.count("close"))
    assert other.client.received() == b"".join(words)
    assert other.client.order()[-2:] == ["end", "close"]
    assert other.client.close_error is None
    part(loop, ends)


@one_loop
@pytest.mark.parametrize("verb", ["close", "terminate", "end", "shutdown", "pause"])
@places
def test_r6_every_verb_of_the_same_socket_is_safe_meanwhile(loop, tcp, place, verb):
    context = server_context()
    hook = Hook(context, place)
    client = Recorder(label="client", error=ignore)
    ends = joined(loop, tcp, context, server=Recorder(label="server", error=ignore), client=client)
    hook.arm(lambda: getattr(ends.server.socket, verb)())
    provoke(ends, place)
    if verb == "pause":
        loop.settle()
        ends.server.socket.resume()
        ends.server.socket.close()
    loop.run()
    assert hook.function is None
    assert ends.server.order()[-1] == client.order()[-1] == "close"


@one_loop
@pytest.mark.parametrize("whose", ["server", "client"])
def test_s9_the_class_of_a_refusal_may_write_while_what_the_handshake_said_is_not_sent(loop, tcp, whose):
    class Refusal(ssl.SSLCertVerificationError):
        @property
        def verify_code(self):
            hook.reached()
            return 1

    other = joined(loop, tcp)
    contexts = {"server": server_context(), "client": client_context()}
    refusing = Hook(contexts[whose], "do_handshake")
    hook = Hook(server_context(), "read")
    hook.arm(lambda: other.server.socket.write(b"to another"))
    refusing.arm(raising(Refusal("not for us")))
    recorders = {"server": TLSRecorder(error=ignore), "client": Recorder(error=ignore)}
    ends = meet(tcp, *contexts.values(), **recorders)
    loop.run_until(lambda: settled(ends.client) and other.client.received())
    ends.listener.stop()
    assert hook.function is None
    assert other.client.received() == b"to another"
    part(loop, other)
    ends.connecting.exception()


@one_loop
def test_s9_a_write_that_fails_halfway_sends_nothing_of_it_to_another(loop, tcp):
    def fail():
        assert other.server.socket.write(b"to another") == 10
        raise OSError("no more records")

    hook, ends, other = hooked(loop, tcp, "write", server=Recorder(label="server", error=ignore))
    hook.arm(fail)
    assert ends.server.socket.write(b"half of it") == -1
    loop.run_until(lambda: ends.server.count("close") and other.client.received())
    assert ends.server.order() == ["open", "error", "close"]
    assert str(ends.server.close_error) == "no more records"
    assert other.client.received() == b"to another"
    assert ends.client.received() == b""
    part(loop, other)


@one_loop
@pytest.mark.parametrize("verb", ["terminate", "close"])
def test_w1_a_socket_that_is_closed_while_its_bytes_are_sealed_has_written_what_the_peer_gets(loop, tcp, verb):
    hook, ends, other = hooked(loop, tcp, "message write", client=Recorder(label="client", error=ignore))
    socket = ends.server.socket
    assert socket.write(b"before") == 6
    hook.arm(getattr(socket, verb))
    given = socket.write(bytes(65536))
    loop.run_until(lambda: ends.client.count("close"))
    assert hook.function is None
    assert ends.client.received() == b"before" + bytes(max(given, 0))
    assert socket.bytes_written == len(ends.client.received())
    part(loop, other)


@one_loop
def test_w1_what_a_write_gives_of_a_connection_that_breaks_inside_is_what_the_kernel_took(loop, tcp):
    def reset():
        if socket.bytes_written == 0:
            hook.arm(reset)
            return
        peer.reset().result()
        wait_for(lambda: was_reset(socket), "the reset in our kernel")

    context = server_context()
    hook, recorder = Hook(context, "message write"), Recorder()
    socket, peer = tls_accepted(loop, tcp, recorder, tls=context, high_water_mark=1 << 20)
    shrink_send_buffer(socket, 1 << 20)  # larger than what is sealed at once
    hook.arm(reset)
    assert socket.write(bytes(200_000)) == socket.bytes_written == 65536
    assert hook.function is None
    assert socket.write(b"more") == -1
    loop.run()
    assert socket.bytes_written == 65536
    assert isinstance(recorder.close_error, ConnectionError)


# ---------------------------------------------------------------- while an error is made


@one_loop
@needs_borrowed
def test_s9_making_an_error_may_write_to_another_while_the_alert_is_not_sent(loop, tcp, monkeypatch):
    class Telling(ssl.SSLError):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(other.server.socket.write(b"to another"))

    made = []
    other = joined(loop, tcp)
    recorder = Recorder(error=ignore)
    socket, peer = tls_accepted(loop, tcp, recorder)
    sealed = peer.seal(b"bad").result()
    send_and_wait(socket, peer, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with monkeypatch.context() as patch:
        patch.setattr(ssl, "SSLError", Telling)
        loop.run_until(lambda: recorder.count("close"))
    loop.run_until(lambda: other.client.received())
    assert made == [10]
    assert other.client.received() == b"to another"
    assert loop.wait(peer.read_to_end()) == (b"", "SSLV3_ALERT_BAD_RECORD_MAC")
    part(loop, other)


# ---------------------------------------------------------------- Ctrl-C

METHODS = ["wrap_bio", "do_handshake", "read", "write", "unwrap"]
STOPPABLE = [(whose, place) for whose in ("server", "client") for place in METHODS]
STOPPABLE += [("client", "message read")]  # elsewhere `_ssl` hides it behind SSLWantReadError


@one_loop
@exits
@pytest.mark.parametrize(("whose", "place"), STOPPABLE)
def test_h1_ctrl_c_in_the_midst_of_an_engines_work_comes_out_of_run(loop, tcp, whose, place, kind):
    stop = kind("noticed in an engine")
    contexts = {"server": server_context(), "client": client_context()}
    Hook(contexts[whose], place).arm(raising(stop))
    server = Recorder(label="server", data=echo, error=ignore)
    ends = meet(tcp, *contexts.values(), server=server, client=speaker(error=ignore), listen=SOON, **SOON)
    with pytest.raises(kind) as caught:
        loop.run()
    assert caught.value is stop
    ends.listener.stop()
    loop.run()
    assert talk(loop, tcp).client.received() == b"ping"


@one_loop
@needs_borrowed
@exits
def test_h1_ctrl_c_while_a_certificate_is_picked_by_name_comes_out_of_run(loop, tcp, monkeypatch, kind):
    stop = kind("noticed in an engine")
    monkeypatch.setattr(config.ServerConfig, "host", raising(stop))
    options = {**SERVER_TLS, "sni": {"localhost": SERVER_TLS}}
    ends = meet(tcp, options, {**CLIENT_TLS, "server_name": "localhost"})
    with pytest.raises(kind) as caught:
        loop.run()
    assert caught.value is stop
    ends.listener.stop()
    loop.run()
    assert isinstance(ends.refusal, ssl.SSLError)


# ---------------------------------------------------------------- contexts with a will of their own


@one_loop
def test_s9_an_object_that_reads_more_than_it_was_asked_for_breaks_its_connection(loop, tcp):
    class Generous(ssl.SSLObject):
        def read(self, size):
            return super().read(size) and bytes(1 << 20)

    context = server_context()
    context.sslobject_class = Generous
    ends = joined(loop, tcp, context, server=Recorder(error=ignore), client=Recorder(error=ignore))
    ends.client.socket.write(b"a little")
    loop.run()
    assert ends.server.order() == ["open", "error", "close"]
    assert isinstance(ends.server.close_error, ValueError)


@one_loop
@pytest.mark.parametrize("kept", ["the first", "the second"])
def test_s9_a_context_that_makes_two_connections_and_drops_one_serves(loop, tcp, kept):
    def wrap_bio(*args, **options):
        made = [ssl.SSLContext.wrap_bio(context, *args, **options)]
        if kept == "the first":
            ssl.SSLContext.wrap_bio(context, ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
        else:
            made.append(ssl.SSLContext.wrap_bio(context, *args, **options))
        gc.collect()
        return made.pop()

    context = server_context()
    context.wrap_bio = wrap_bio
    assert talk(loop, tcp, context).client.received() == b"ping"


@one_loop
def test_s9_an_object_without_a_dict_serves_and_is_let_go_of(loop, tcp):
    class Proxy:
        __slots__ = ("made",)

        def __init__(self, made):
            self.made = made

        def __getattr__(self, name):
            return getattr(self.made, name)

    context = server_context()
    context.wrap_bio = lambda *args, **options: Proxy(ssl.SSLContext.wrap_bio(context, *args, **options))
    with loop.reports() as told:
        ends = talk(loop, tcp, context)
        assert ends.client.received() == b"ping"
        ends.server.events.clear()
        gc.collect()
    assert told == []
    assert not any(type(thing) is Proxy for thing in gc.get_objects())


@one_loop
def test_s6_a_context_that_upgrades_the_socket_it_is_asked_about_leaves_one_upgraded_socket(loop, tcp):
    def wrap_bio(*args, **options):
        made.append(socket.upgrade_tls(tls=SERVER_TLS, socket=inner.handlers, server=True))
        return ssl.SSLContext.wrap_bio(context, *args, **options)

    made, inner, outer = [], Recorder(label="inner", data=echo), Recorder(label="outer")
    context = server_context()
    context.wrap_bio = wrap_bio
    recorder = Recorder(label="raw")
    socket, peer = unsecured(loop, tcp, recorder, "accepted")
    with pytest.raises(RuntimeError, match="upgrade_tls"):
        socket.upgrade_tls(tls=context, socket=outer.handlers, server=True)
    peer.write(b"works")
    assert loop.wait(peer.read(5)) == b"works"
    made[0].terminate()
    loop.run()
    assert (recorder.names(), outer.names()) == (["open"], [])
    assert inner.order() == ["open", "data", "close"]


@on_every_loop
async def test_c4_an_async_open_may_read_before_handshake_is_called(tcp):
    async def open(socket):
        heard.append(await socket.reader().readexactly(4))

    heard = []
    server = TLSRecorder(label="server", open=open)
    ends = meet(tcp, server=server, client=speaker())
    await until(lambda: server.count("handshake"))
    assert heard == [b"ping"]
    assert server.order()[:3] == ["open", "/open", "handshake"]
    ends.listener.stop(True)
