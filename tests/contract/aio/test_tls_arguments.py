"""What may be asked for with `ssl=`, and what is refused: by `create_connection`, `create_server`, `create_unix_*`,
`connect_accepted_socket` and `start_tls`, with the words of the running asyncio."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from support.differential import as_on_asyncio
from support.streams import address_of, collected
from support.tls import CA
from support.tls_end import TlsEnd, kept, quiet
from support.tls_peer import client_context, server_context
from support.tls_sides import greeted, serves

on_unix = pytest.mark.parametrize("tls", ["unix"], indirect=True)
on_each = pytest.mark.parametrize("tls", ["tcp", "unix"], indirect=True)

TIMEOUTS = ["ssl_handshake_timeout", "ssl_shutdown_timeout"]
WRONG = {
    "a number": 1,
    "a string": "context",
    "a class": ssl.SSLContext,
    "False": False,
    "an empty dict": {},
    "a dict": {"cert": b""},
}


async def served_by_hand(notes, tls, connect, **options):
    """`connect(address)` reaches a server by hand; what becomes of it."""
    async with tls.listening() as (address, accept):
        connecting = asyncio.ensure_future(connect(address))
        end = TlsEnd(await accept(connecting), server_context(), server=True).listen()
        async with kept(end):
            result = await notes.outcome("client", connecting)
            if result is not None:
                transport, protocol = result
                await greeted(protocol, end)
                transport.close()
                await protocol.called("connection_lost")


# ---------------------------------------------------------------- clients


@on_each
@as_on_asyncio
async def test_a_client_with_a_context_speaks_tls(notes, tls):
    async def connect(address):
        return await tls.connect(
            lambda: notes.plain("client"), address, ssl=client_context(), server_hostname="localhost"
        )

    await served_by_hand(notes, tls, connect)
    assert notes.names("client")[:2] == ["connection_made", "returned"]


@as_on_asyncio
async def test_a_client_with_true_verifies_by_the_systems_authorities(notes, tls):
    async def connect(address):
        return await tls.connect(lambda: notes.plain("client"), address, ssl=True, server_hostname="localhost")

    await served_by_hand(notes, tls, connect)
    assert notes.seen["client"][0][1][0] == "SSLCertVerificationError"


@as_on_asyncio
async def test_with_true_and_no_name_the_certificate_is_verified_and_the_name_is_not(notes, tls):
    def trusting(*args, **options):
        return made(*args, cadata=CA.pem.decode())

    made = ssl.create_default_context
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", trusting)

        async def connect(address):
            return await tls.connect(lambda: notes.plain("client"), address, ssl=True, server_hostname="")

        await served_by_hand(notes, tls, connect)
    assert "connection_made" in notes.names("client")


@as_on_asyncio
async def test_without_a_name_the_host_is_the_name(notes, tls):
    async def connect(address):
        protocol = notes.plain("client")
        return await asyncio.get_running_loop().create_connection(
            lambda: protocol, "127.0.0.1", address[1], ssl=client_context()
        )

    await served_by_hand(notes, tls, connect)
    assert "connection_made" in notes.names("client")


@pytest.mark.parametrize("wrong", WRONG)
@as_on_asyncio
async def test_a_client_with_what_is_no_context_is_answered_as_by_asyncio(notes, tls, wrong):
    with collected():
        async with tls.served(lambda: notes.plain("server")) as server:
            result = await notes.outcome(
                "client",
                tls.connect(
                    lambda: notes.plain("client"), address_of(server), ssl=WRONG[wrong], server_hostname="localhost"
                ),
            )
            if result is not None:
                result[0].abort()
            await quiet()


NAMES = {
    "none": None,
    "empty": "",
    "a number": 5,
    "bytes": b"localhost",
    "with a zero": "local\0host",
    "a dot in front": ".localhost",
    "long": "x" * 300,
    "beyond ascii": "bücher.example",
}


@pytest.mark.parametrize("name", NAMES)
@as_on_asyncio
async def test_a_server_hostname_is_taken_or_refused_as_by_asyncio(notes, tls, name):
    with collected():
        async with tls.served(asyncio.Protocol, ssl=server_context()) as server:
            result = await notes.outcome(
                "client",
                tls.connect(
                    lambda: notes.plain("client"),
                    address_of(server),
                    ssl=client_context(),
                    server_hostname=NAMES[name],
                ),
            )
            if result is not None:
                result[0].abort()
            await quiet()
    notes.seen.pop("reports", None)  # of the server, if the client was so quick


@pytest.mark.parametrize("option", ["server_hostname", *TIMEOUTS])
@as_on_asyncio
async def test_options_of_tls_without_ssl_are_refused(notes, tls, option):
    value = "localhost" if option == "server_hostname" else 5.0
    connect = tls.connect(lambda: notes.plain("client"), ("127.0.0.1", 1), **{option: value})
    await notes.outcome("client", connect)
    assert notes.names("client") == ["raised"]


@on_unix
@pytest.mark.parametrize(
    "options", [{"server_hostname": "localhost"}, {"ssl": "context"}, {"ssl_handshake_timeout": 5}]
)
@as_on_asyncio
async def test_a_unix_client_refuses_what_asyncio_refuses(notes, tls, options):
    if options.get("ssl"):
        options = {"ssl": client_context()}
    await notes.outcome("client", tls.connect(lambda: notes.plain("client"), "/nowhere", **options))
    assert notes.names("client") == ["raised"]


@as_on_asyncio
async def test_a_socket_without_a_name_is_refused_with_ssl(notes, tls):
    one, other = tls.sockets()
    with one, other:
        loop = asyncio.get_running_loop()
        make = loop.create_connection(lambda: notes.plain("client"), sock=one, ssl=client_context())
        await notes.outcome("client", make)
        assert notes.names("client") == ["raised"]
        notes("client", one.fileno() >= 0)


@on_each
@as_on_asyncio
async def test_a_socket_with_ssl_speaks_tls(notes, tls):
    one, other = tls.sockets()
    protocol, loop = notes.plain("client"), asyncio.get_running_loop()
    make = loop.create_unix_connection if tls.name == "unix" else loop.create_connection
    end = TlsEnd(other, server_context(), server=True).listen()
    async with kept(end, protocol):
        await notes.outcome(
            "client", make(lambda: protocol, sock=one, ssl=client_context(), server_hostname="localhost")
        )
        await greeted(protocol, end)
    assert notes.names("client")[:2] == ["connection_made", "returned"]


# ---------------------------------------------------------------- servers


@on_each
@as_on_asyncio
async def test_a_server_with_a_context_speaks_tls(notes, tls):
    async with tls.accepted_tls(notes.plain("server")) as (protocol, end):
        await greeted(protocol, end)


@on_each
@as_on_asyncio
async def test_a_server_of_a_socket_that_listens_speaks_tls(notes, tls):
    protocol, loop = notes.plain("server"), asyncio.get_running_loop()
    make = loop.create_unix_server if tls.name == "unix" else loop.create_server
    server = await make(lambda: protocol, sock=tls.bound(), ssl=server_context())
    end = (await tls.dial_tls(address_of(server))).handshake()
    async with kept(end, protocol):
        await protocol.called("connection_made")
        await greeted(protocol, end)
        server.close()


@pytest.mark.parametrize("wrong", [*WRONG, "True"])
@on_each
@as_on_asyncio
async def test_a_server_with_what_is_no_context_is_answered_as_by_asyncio(notes, tls, wrong):
    with collected():
        server = await notes.outcome("server", tls.server(lambda: notes.plain("protocol"), ssl=WRONG.get(wrong, True)))
        if server is not None:
            server.close()


@pytest.mark.parametrize("option", TIMEOUTS)
@on_each
@as_on_asyncio
async def test_timeouts_of_a_server_without_ssl_are_refused(notes, tls, option):
    with collected():
        await notes.outcome("server", tls.server(lambda: notes.plain("protocol"), **{option: 5.0}))
    assert notes.names("server") == ["raised"]


@pytest.mark.parametrize("timeout", [0, -1.0])
@as_on_asyncio
async def test_a_servers_timeout_that_is_not_positive_is_told_with_its_first_connection(notes, tls, timeout):
    with collected():
        async with tls.served(
            lambda: notes.plain("protocol"), ssl=server_context(), ssl_handshake_timeout=timeout
        ) as server:
            end = (await tls.dial_tls(address_of(server))).handshake()
            async with kept(end):
                await quiet()
    assert notes.names("protocol") == []


@as_on_asyncio
async def test_a_client_context_is_no_servers(notes, tls):
    with collected():
        async with tls.served(lambda: notes.plain("protocol"), ssl=client_context()) as server:
            end = (await tls.dial_tls(address_of(server))).handshake()
            async with kept(end):
                await quiet()
    assert notes.names("protocol") == []


@as_on_asyncio
async def test_a_server_context_is_no_clients(notes, tls):
    with collected():
        async with tls.served(lambda: notes.plain("protocol")) as server:
            options = {"ssl": server_context(), "server_hostname": "localhost"}
            await notes.outcome("client", tls.connect(lambda: notes.plain("client"), address_of(server), **options))
            await quiet()
    assert notes.names("client") == ["raised"]


@as_on_asyncio
async def test_a_server_without_a_certificate_fails_each_handshake(notes, tls):
    await serves(notes, tls, TlsEnd.handshake, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert notes.names("server") == []


# ---------------------------------------------------------------- sockets that the program has accepted


@on_each
@as_on_asyncio
async def test_connect_accepted_socket_with_ssl_is_a_server(notes, tls):
    one, other = tls.sockets()
    protocol, loop = notes.plain("server"), asyncio.get_running_loop()
    end = TlsEnd(other, client_context()).handshake()
    async with kept(end, protocol):
        await notes.outcome("server", loop.connect_accepted_socket(lambda: protocol, one, ssl=server_context()))
        await greeted(protocol, end)
    assert notes.names("server")[:2] == ["connection_made", "returned"]


@pytest.mark.parametrize("wrong", [*WRONG, "True"])
@as_on_asyncio
async def test_connect_accepted_socket_with_what_is_no_context_is_answered_as_by_asyncio(notes, tls, wrong):
    one, other = tls.sockets()
    with collected(), one, other:
        loop = asyncio.get_running_loop()
        make = loop.connect_accepted_socket(lambda: notes.plain("server"), one, ssl=WRONG.get(wrong, True))
        result = await notes.outcome("server", make)
        if result is not None:
            result[0].abort()
            await quiet()


@pytest.mark.parametrize("option", TIMEOUTS)
@as_on_asyncio
async def test_connect_accepted_socket_refuses_timeouts_without_ssl(notes, tls, option):
    one, other = tls.sockets()
    with one, other:
        loop = asyncio.get_running_loop()
        await notes.outcome("server", loop.connect_accepted_socket(lambda: notes.plain("server"), one, **{option: 5.0}))
    assert notes.names("server") == ["raised"]


# ---------------------------------------------------------------- start_tls

REFUSED_UPGRADES = {
    "no context": (None, {}),
    "True": (True, {}),
    "a string": ("context", {}),
    "a timeout of zero": ("client", {"ssl_handshake_timeout": 0}),
    "a shutdown timeout of zero": ("client", {"ssl_shutdown_timeout": 0}),
}


@pytest.mark.parametrize("refused", REFUSED_UPGRADES)
@as_on_asyncio
async def test_start_tls_refuses_what_asyncio_refuses(notes, tls, refused):
    context, options = REFUSED_UPGRADES[refused]
    with collected():
        async with tls.accepted(notes.plain("server")) as (protocol, _):
            sslcontext = client_context() if context == "client" else context
            loop, plain = asyncio.get_running_loop(), protocol.transport
            await notes.outcome("start_tls", loop.start_tls(plain, protocol, sslcontext, **options))
            notes("start_tls", plain.is_closing())
            plain.abort()
            await quiet()
            protocol.log.append("connection_lost")  # whom it would have told depends on how far it came
    assert notes.names("start_tls")[0] == "raised"


@as_on_asyncio
async def test_start_tls_refuses_a_transport_that_is_none_of_the_loops(notes, tls):
    class Foreign(asyncio.Transport):
        pass

    loop = asyncio.get_running_loop()
    await notes.outcome("start_tls", loop.start_tls(Foreign(), asyncio.Protocol(), client_context()))
    await notes.outcome("start_tls", loop.start_tls(None, asyncio.Protocol(), client_context()))
    assert notes.names("start_tls") == ["raised", "raised"]
