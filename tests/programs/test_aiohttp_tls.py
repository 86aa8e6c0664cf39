"""aiohttp over TLS on our loop, what is not as in plain text (`test_aiohttp`): what the ends know of TLS, who is refused, files, and a proxy that speaks TLS."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import sys

import pytest
from carried import MIB, plain_and_tls
from support.asyncio_loops import on_loop
from support.coroutines import seen
from support.tls import STRANGE_SERVER
from support.tls_peer import client_context, server_context
from web_site import BLOCK, BODY, aiohttp, kept_by, serving, serving_tcp, talking, web

import pybuntcp

# ---------------------------------------------------------------- requests


@on_loop("native")
async def test_both_ends_of_a_request_tell_of_the_same_tls():
    async with talking(tls=True) as (site, _, session):
        async with session.get("/hello") as response:
            assert await response.text() == "hello, you"
        assert isinstance(kept_by(session).get_extra_info("ssl_object"), ssl.SSLObject)
        assert site.transports[0].get_extra_info("cipher") == kept_by(session).get_extra_info("cipher")


@on_loop("native")
async def test_https_is_served_and_asked_on_a_unix_socket(tmp_path):
    path, context = str(tmp_path / "web"), server_context()
    async with (
        serving(lambda runner: web.UnixSite(runner, path, ssl_context=context)),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
    ):
        with pytest.raises(aiohttp.ClientError):  # its connector does not do TLS
            await session.get("http://web/hello")
        reader, writer = await asyncio.open_unix_connection(path, ssl=client_context(), server_hostname="localhost")
        writer.write(b"GET /hello HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"hello, you")
        writer.close()


@on_loop("native")
async def test_a_server_whose_authority_is_unknown_is_refused_by_tls():
    async with (
        serving_tcp(server_context(identity=STRANGE_SERVER)) as (_, _, (_, port)),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session,
    ):
        with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
            await session.get(f"https://localhost:{port}/hello")
    assert isinstance(caught.value.certificate_error, ssl.SSLCertVerificationError)


# ---------------------------------------------------------------- files


@plain_and_tls
@on_loop("native")
async def test_a_file_is_sent_by_the_kernel_in_plain_text_and_read_for_tls(tmp_path, sendfile_calls, tls):
    path = tmp_path / "body"
    path.write_bytes(BODY)
    async with talking(tls) as (site, _, session):
        site.path = path
        for _ in range(2):  # the connection is fit for another
            async with session.get("/file") as response:
                assert await response.read() == BODY
        async with session.get("/file", headers={"Range": "bytes=1000-1999"}) as response:
            assert (response.status, await response.read()) == (206, BODY[1000:2000])
    assert bool(sendfile_calls) is not tls


# ---------------------------------------------------------------- a proxy


class Proxy:
    """A server that does what CONNECT says: it sees where to, and what is encrypted."""

    def __init__(self):
        self.asked = []
        self.relayed = bytearray()

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        host, port = re.match(rb"CONNECT ([^:]+):(\d+) ", head).groups()
        self.asked.append(host.decode())
        there, back = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(self.relay(reader, back), self.relay(there, writer))

    async def relay(self, reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while part := await reader.read(BLOCK):
                self.relayed += part
                writer.write(part)
                await writer.drain()
        writer.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.skipif(sys.version_info < (3, 11), reason="TLS inside TLS needs Python 3.11, on any loop")
@on_loop("native")
async def test_a_site_with_tls_is_asked_through_a_proxy_with_and_without_tls(scheme):
    proxy = Proxy()
    outer = server_context() if scheme == "https" else None
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=outer)
    where = f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}"
    async with server, talking(tls=True) as (_, _, session):
        for _ in range(2):
            async with session.post("/echo", data=BODY[:MIB], proxy=where) as response:
                assert await response.read() == BODY[:MIB]
        async with session.get("/hello", proxy=where) as response:
            assert await response.text() == "hello, you"
        await session.close()
        await seen(lambda: pybuntcp.stats()["open_sockets"] == 0, "the connections to be closed")
    assert set(proxy.asked) == {"localhost"}
    assert len(proxy.relayed) > 4 * MIB
    assert BODY[1000:2000] not in proxy.relayed
