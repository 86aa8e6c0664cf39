"""What a typed program may write, and what a type checker must refuse. Read by mypy (test_program.py), never run.

An `assert_type` that does not hold is an error of the checker; so is a `type: ignore` that nothing needs, which
is how the refusals are asserted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from typing_extensions import assert_type

import pybuntcp
from pybuntcp import Connecting, Handlers, Listener, ReadyState, Socket, SocketHandler, SocketReader, Timer, TLSOptions
from pybuntcp.typed import HandlersLike


@dataclass
class Player:
    name: str = ""
    inbox: bytearray = field(default_factory=bytearray)


class Game:
    """Handlers with a Socket that says what its `data` is."""

    def open(self, socket: Socket[Player]) -> None:
        socket.data = Player()
        socket.data = "a name"  # type: ignore[assignment]

    def data(self, socket: Socket[Player], chunk: bytes) -> None:
        assert_type(socket.data, Player)
        assert_type(socket.data.inbox, bytearray)
        assert_type(socket.write(chunk), int)

    def close(self, socket: Socket[Player], error: OSError | None) -> None:
        assert_type(socket.remote_address, str | None)


class Lobby(SocketHandler[Player]):
    """The same with the base: every handler is checked. Parameters may be wider, and a handler may be async."""

    def __init__(self) -> None:
        self.seen = 0

    async def open(self, socket: Socket[Player]) -> None:
        socket.data = Player()

    def data(self, socket: Socket[Player], chunk: bytes) -> None:
        assert_type(socket.data.inbox, bytearray)

    def close(self, socket: Socket[Player], error: Exception | None) -> int:
        return 1

    def error(self, socket: Socket[Player], error: BaseException) -> None:
        socket.terminate()

    def handshake(self, socket: Socket[Player], success: bool, authorization_error: OSError | None) -> None: ...

    def connect_error(self, socket: Socket[Player], error: OSError) -> None: ...


class Views(SocketHandler[Player, memoryview]):
    binary_type = "memoryview"

    def data(self, socket: Socket[Player], chunk: memoryview) -> None:
        assert_type(socket.write(chunk), int)


class Untold(SocketHandler):
    def drain(self, socket: Socket) -> None:
        assert_type(socket.data, Any)


class Wrong(SocketHandler[Player]):
    binary_type = "buffer"  # type: ignore[assignment]

    def open(self, socket: Socket[str]) -> None: ...  # type: ignore[override]

    def data(self, socket: Socket[Player]) -> None: ...  # type: ignore[override]

    def drain(self, socket: Socket[Player], more: int) -> None: ...  # type: ignore[override]

    def close(self, socket: Socket[Player]) -> None: ...  # type: ignore[override]

    def error(self, socket: Socket[Player], error: OSError) -> None: ...  # type: ignore[override]


class WrongChunk(SocketHandler[Player]):
    def data(self, socket: Socket[Player], chunk: memoryview) -> None: ...  # type: ignore[override]


class Functions:
    """A class that is given as it is: its handlers take no `self`, so they are static methods."""

    @staticmethod
    def data(socket: Socket[Player], chunk: bytes) -> None: ...

    @staticmethod
    async def open(socket: Socket[Player]) -> None: ...


class ReadsByItself:
    async def open(self, socket: Socket[Player]) -> None: ...


def first_of(*handlers: HandlersLike) -> HandlersLike:
    return handlers[0]


first_of(Game(), Lobby(), Views(), Untold(), Functions, ReadsByItself(), {"data": print}, Handlers(Lobby()))
first_of(Lobby)  # type: ignore[arg-type]
first_of(Game)  # type: ignore[arg-type]
first_of(print)  # type: ignore[arg-type]
first_of([print])  # type: ignore[arg-type]

# --- listening -------------------------------------------------------------------------------------------

listener = pybuntcp.listen(socket=Game(), hostname="127.0.0.1", port=0, idle_timeout=30, max_connections=100)
assert_type(listener, Listener)
assert_type(listener.hostname, str | Any | None)
assert_type(listener.addresses, tuple[str, ...])
assert_type(listener.port, int | None)
assert_type(listener.unix, str | None)
assert_type(listener.fd, int)
assert_type(listener.connections, int)
assert_type(listener.stats(), dict[str, int])
listener.data = {"anything": 1}
listener.reload({"data": print})
listener.stop(True)
listener.port = 1  # type: ignore[misc]
pybuntcp.listen(socket=Game(), unix=Path("game.sock"))
pybuntcp.listen(socket=Game(), hostname="127.0.0.1", port="7000")  # type: ignore[arg-type]
pybuntcp.listen(socket=Lobby(), hostname="127.0.0.1", port=0).reload(Functions)
pybuntcp.listen(handlers=Game(), hostname="127.0.0.1", port=0).reload(handlers=Game())
pybuntcp.listen(socket=Lobby, hostname="127.0.0.1", port=0)  # type: ignore[arg-type]
pybuntcp.listen(socket=Game(), hostname="127.0.0.1", prot=0)  # type: ignore[call-arg]

# --- handlers --------------------------------------------------------------------------------------------


def on_data(socket: Socket[Player], chunk: memoryview) -> None: ...


def on_close(socket: Socket[Player], error: OSError | None) -> None: ...


handlers = Handlers(data=on_data, close=on_close, binary_type="memoryview")
assert_type(handlers, Handlers)
assert_type(Handlers(Game()), Handlers)
assert_type(Handlers({"data": on_data}), Handlers)
Handlers(data=on_data, binary_type="buffer")  # type: ignore[call-overload]
Handlers(data=on_data, connectError=print)  # type: ignore[call-overload]
Handlers(close=on_data, data=1)  # type: ignore[call-overload]

# --- connecting ------------------------------------------------------------------------------------------

connecting = pybuntcp.connect(socket=handlers, hostname="localhost", port=7000, timeout=2.5)
assert_type(connecting, Connecting)
assert_type(connecting.done(), bool)
assert_type(connecting.result(), Socket[Any])
assert_type(connecting.exception(), BaseException | None)
assert_type(connecting.cancel(), bool)
assert_type(connecting.cancelled(), bool)
awaitable: Awaitable[Socket[Any]] = connecting


async def wait() -> Socket[Player]:
    assert_type(await connecting, Socket[Any])
    assert_type(await listener.wait_closed(timeout=1.0), int)
    return await connecting


# --- a socket --------------------------------------------------------------------------------------------


def verbs(socket: Socket[Player]) -> int:
    socket.write("text")
    socket.write(bytearray(10), 2, 3)
    socket.write(memoryview(b"bytes"), offset=1)
    socket.write(7)  # type: ignore[arg-type]
    socket.write(b"bytes", "1")  # type: ignore[arg-type]
    assert_type(socket.end(), int)
    assert_type(socket.end(b"bye"), int)
    socket.shutdown(half_close=True)
    socket.timeout(0.5)
    socket.timeout(None)  # type: ignore[arg-type]
    assert_type(socket.set_no_delay(False), bool)
    assert_type(socket.set_keep_alive(True, 30_000), bool)
    assert_type(socket.fileno(), int)
    with socket.cork() as same:
        assert_type(same, Socket[Player])
        return same.write(b"gathered")


def identity(socket: Socket[Player]) -> None:
    assert_type(socket.ready_state, ReadyState)
    assert_type(socket.listener, Listener | None)
    assert_type(socket.remote_family, Literal["IPv4", "IPv6", "unix"] | None)
    assert_type(socket.local_port, int | None)
    assert_type(socket.pending, int)
    assert_type(socket.bytes_read, int)
    assert_type(socket.bytes_written, int)
    socket.pending = 0  # type: ignore[misc]
    with socket as same, contextlib.suppress(OSError):
        assert_type(same, Socket[Player])


# --- the rest --------------------------------------------------------------------------------------------

pybuntcp.run()
assert_type(pybuntcp.stats(), dict[str, float])
assert_type(pybuntcp.libuv_version, str)
assert_type(pybuntcp.__version__, str)

# --- TLS -----------------------------------------------------------------------------------------------------

options = TLSOptions(cert_file=Path("cert.pem"), key_file="key.pem", alpn_protocols=["chat/1", b"chat/2"])
assert_type(options.reject_unauthorized, bool)
assert_type(options.server_name, str | None)
TLSOptions(
    ca=[Path("ca.pem"), "PEM", b"PEM"], crl=memoryview(b"PEM"), min_version="TLSv1.3", sni={"a": options, "b": {}}
)
TLSOptions(max_version=ssl.TLSVersion.TLSv1_2, secure_options=ssl.OP_NO_TICKET, session=b"", alpn_protocols=b"\x02h2")
TLSOptions(serverName="a")  # type: ignore[call-arg]
TLSOptions(request_cert="yes")  # type: ignore[arg-type]
TLSOptions(key=1)  # type: ignore[arg-type]

secured = pybuntcp.listen(socket=Game(), hostname="127.0.0.1", port=0, tls=options, handshake_timeout=None)
secured.reload(tls=options)
secured.reload({"data": print}, tls={"cert": "PEM", "key": "PEM"})
secured.reload(tls="cert.pem")  # type: ignore[arg-type]
pybuntcp.connect(socket=Game(), hostname="localhost", port=7443, tls=True)
pybuntcp.connect(hostname="localhost", port=7443, tls=ssl.create_default_context(), handshake_timeout=2.5)
pybuntcp.connect(hostname="localhost", port=7443, tls="localhost")  # type: ignore[arg-type]
pybuntcp.listen_threads(2, socket=Game(), hostname="127.0.0.1", port=0, tls={"cert": "PEM", "key": "PEM"})
assert_type(pybuntcp.tls_engine_info(), dict[str, Any])


def on_handshake(socket: Socket[Player], success: bool, error: OSError | None) -> None:
    assert_type(socket.authorized, bool)
    assert_type(socket.alpn_protocol, str | None)
    assert_type(socket.get_authorization_error(), ssl.SSLError | None)
    assert_type(socket.get_peer_certificate(), dict[str, Any] | None)
    assert_type(socket.get_certificate(), dict[str, Any] | None)
    assert_type(socket.get_cipher(), dict[str, str | None] | None)
    assert_type(socket.get_tls_version(), str | None)
    assert_type(socket.get_session(), bytes | None)
    assert_type(socket.set_session(b"session"), bool)
    assert_type(socket.get_tls_ticket(), bytes | None)
    assert_type(socket.is_session_reused(), bool)
    assert_type(socket.export_keying_material(32, "label", context=b""), bytes | None)
    assert_type(socket.get_tls_finished_message(), bytes | None)
    assert_type(socket.get_tls_peer_finished_message(), bytes | None)
    assert_type(socket.get_shared_sigalgs(), list[str] | None)
    assert_type(socket.get_ephemeral_key_info(), dict[str, Any] | None)
    assert_type(socket.get_servername(), str | None)
    assert_type(socket.set_servername("localhost"), bool)
    assert_type(socket.set_max_send_fragment(1024), bool)
    assert_type(socket.set_verify_mode(True, reject_unauthorized=False), bool)
    assert_type(socket.renegotiate(), bool)
    socket.disable_renegotiation()
    socket.authorized = True  # type: ignore[misc]
    socket.set_session("session")  # type: ignore[arg-type]


assert_type(Handlers(data=on_data, handshake=on_handshake), Handlers)


def upgrading(socket: Socket[Player]) -> None:
    assert_type(socket.upgrade_tls(tls=options, socket=Game(), server=True, initial_data=b"behind"), Socket[Any])
    secure: Socket[Player] = socket.upgrade_tls(tls={"server_name": "localhost"}, socket=Game(), data=Player())
    secure.upgrade_tls(socket=Game())  # type: ignore[call-arg]
    secure.upgrade_tls(tls=None, socket=Game())  # type: ignore[arg-type]


# --- asyncio ---------------------------------------------------------------------------------------------


async def on_open(socket: Socket[Player]) -> None:
    reader = socket.reader(limit=1024)
    assert_type(reader, SocketReader)
    assert_type(reader.limit, int)
    assert_type(reader.at_eof(), bool)
    assert_type(await reader.read(), bytes)
    assert_type(await reader.readexactly(4), bytes)
    assert_type(await reader.readuntil(b"\r\n"), bytes)
    assert_type(await reader.readline(), bytes)
    await reader.readuntil("\n")  # type: ignore[arg-type]
    async for chunk in socket:
        assert_type(chunk, bytes)
    async with pybuntcp.connect(hostname="localhost", port=7000) as dialled:
        assert_type(dialled, Socket[Any])
    async with socket as same, listener as also:
        assert_type(same, Socket[Player])
        assert_type(also, Listener)


async def answer() -> int:
    return 42


assert_type(Handlers(open=on_open), Handlers)
assert_type(pybuntcp.new_event_loop(), asyncio.AbstractEventLoop)
assert_type(pybuntcp.run(answer(), debug=True), int)
pybuntcp.run()
pybuntcp.run(answer)  # type: ignore[call-overload]

# --- one's own loop --------------------------------------------------------------------------------------


def late(name: str, times: int) -> None: ...


timer = pybuntcp.call_later(1.5, late, "a name", 3)
assert_type(timer, Timer)
assert_type(timer.when, float)
assert_type(timer.active, bool)
assert_type(pybuntcp.every(1, print), Timer)
assert_type(pybuntcp.call_soon(late, "a name", 3), Timer)
timer.cancel()
pybuntcp.call_later(1, late, "a name")  # type: ignore[arg-type]
pybuntcp.call_later("1", late, "a name", 3)  # type: ignore[arg-type]
late_safe = pybuntcp.threadsafe(late)
assert_type(late_safe("a name", 3), None)
late_safe("a name")  # type: ignore[call-arg]
late_safe.close()
pybuntcp.run(timeout=0.5)
assert_type(pybuntcp.run(answer(), timeout=1), int)
