"""aiohttp over TLS on our loop: bodies up and down, WebSockets, files, who leaves in the middle, and a proxy that speaks TLS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import re
import ssl
import sys

import pytest
from carried import MIB, carried, is_ours_with_tls
from support.asyncio_loops import on_loop
from support.coroutines import seen
from support.tls import STRANGE_SERVER
from support.tls_peer import client_context, server_context
from web_site import BLOCK, BODY, aiohttp, kept_by, serving, talking, talking_tls, web

import pybuntcp

# ---------------------------------------------------------------- requests


@on_loop("native")
async def test_requests_one_after_the_other_share_one_tls_connection():
    async with talking_tls() as (site, _, session):
        for number in range(50):
            async with session.get(f"/hello?name={number}") as response:
                assert await response.text() == f"hello, {number}"
        assert is_ours_with_tls(kept_by(session))
        assert is_ours_with_tls(site.transports[0])
        assert isinstance(kept_by(session).get_extra_info("ssl_object"), ssl.SSLObject)
        assert site.transports[0].get_extra_info("cipher") == kept_by(session).get_extra_info("cipher")
    assert len(set(map(id, site.transports))) == 1


@on_loop("native")
async def test_fifty_tls_connections_at_a_time_are_answered_each_with_its_own_answer():
    async def ask(session, number):
        async with session.post("/echo", data=str(number) * 1000) as response:
            return await response.text()

    async with talking_tls() as (_, _, session):
        answers = await asyncio.gather(*(ask(session, number) for number in range(50)))
    assert answers == [str(number) * 1000 for number in range(50)]


@on_loop("native")
async def test_a_body_of_8_mib_is_streamed_up_over_tls():
    async def parts():
        for at in range(0, len(BODY), BLOCK):
            yield BODY[at : at + BLOCK]

    async with talking_tls() as (_, _, session), session.post("/digest", data=parts()) as response:
        assert await response.json() == {"digest": hashlib.sha256(BODY).hexdigest(), "size": len(BODY)}
        assert carried(received=len(BODY))


@on_loop("native")
async def test_a_body_of_8_mib_is_streamed_down_over_tls():
    digest = hashlib.sha256()
    async with talking_tls() as (_, _, session), session.get("/body") as response:
        async for chunk in response.content.iter_any():
            digest.update(chunk)
    assert digest.digest() == hashlib.sha256(BODY).digest()


@on_loop("native")
async def test_a_body_in_one_piece_goes_there_and_back_over_tls():
    async with talking_tls() as (_, _, session), session.post("/echo", data=io.BytesIO(BODY)) as response:
        assert await response.read() == BODY


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
async def test_a_web_socket_over_tls_echoes_small_and_large_messages_and_answers_pings():
    async with talking_tls() as (_, _, session), session.ws_connect("/socket", max_msg_size=16 * MIB) as socket:
        for text in ("one", "two", "grüß dich"):
            await socket.send_str(text)
            assert await socket.receive_str() == text
        await socket.send_bytes(BODY[: 4 * MIB])
        assert await socket.receive_bytes() == BODY[: 4 * MIB]
        await socket.ping(b"are you there")
        await socket.send_str("leave")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "as you wish")


@on_loop("native")
async def test_a_server_whose_authority_is_unknown_is_refused_by_tls():
    context = server_context(identity=STRANGE_SERVER)
    async with (
        serving(lambda runner: web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)) as (_, _, (_, port)),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session,
    ):
        with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
            await session.get(f"https://localhost:{port}/hello")
    assert isinstance(caught.value.certificate_error, ssl.SSLCertVerificationError)


# ---------------------------------------------------------------- who leaves


@on_loop("native")
async def test_a_tls_client_that_leaves_in_the_middle_of_a_response_ends_its_handler():
    async with talking_tls() as (site, _, session):
        response = await session.get("/endless")
        assert len(await response.content.readexactly(3 * BLOCK)) == 3 * BLOCK
        response.close()
        await site.cancelled.wait()
        async with session.get("/hello") as after:
            assert after.status == 200


@on_loop("native")
async def test_a_tls_server_that_stops_answers_what_is_under_way():
    async with talking_tls() as (site, runner, session):
        asked = asyncio.ensure_future(session.get("/patient"))
        await site.began.wait()
        ended = asyncio.ensure_future(runner.cleanup())
        await seen(lambda: pybuntcp.stats()["open_listeners"] == 0, "the listener to be closed")
        site.go_on.set()
        async with await asked as response:
            assert await response.text() == "at last"
        await ended


# ---------------------------------------------------------------- files


@pytest.fixture
def sendfile_calls(monkeypatch):
    """How often the kernel was asked to send a file."""
    calls = []
    real = os.sendfile
    monkeypatch.setattr(os, "sendfile", lambda *given: calls.append(given) or real(*given))
    return calls


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@on_loop("native")
async def test_a_file_is_sent_by_the_kernel_in_plain_text_and_read_for_tls(tmp_path, sendfile_calls, tls):
    path = tmp_path / "body"
    path.write_bytes(BODY)
    async with (talking_tls if tls else talking)() as (site, _, session):
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
    async with server, talking_tls() as (_, _, session):
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
