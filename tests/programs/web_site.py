"""A web site by aiohttp, and a client of it, in one loop, in plain text or over TLS. Skips its test if aiohttp is not there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

import pytest
from carried import MIB
from support import pattern
from support.tls_peer import client_context, server_context

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
web = pytest.importorskip("aiohttp.web", reason="aiohttp is not installed")

BODY = pattern(8 * MIB)
BLOCK = 100_000


class Site:
    """The server's handlers, and what they have seen."""

    def __init__(self):
        self.transports = []
        self.cancelled = asyncio.Event()
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.app = web.Application(client_max_size=64 * MIB)
        self.app.router.add_get("/hello", self.hello)
        self.app.router.add_post("/echo", self.echo)
        self.app.router.add_post("/digest", self.digest)
        self.app.router.add_get("/body", self.body)
        self.app.router.add_get("/endless", self.endless)
        self.app.router.add_get("/patient", self.patient)
        self.app.router.add_get("/socket", self.socket)
        self.app.router.add_get("/file", self.file_at)
        self.path = None

    async def hello(self, request):
        self.transports.append(request.transport)
        return web.Response(text=f"hello, {request.query.get('name', 'you')}")

    async def echo(self, request):
        return web.Response(body=await request.read())

    async def digest(self, request):
        self.began.set()
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_chunked(BLOCK):
            digest.update(chunk)
            size += len(chunk)
        return web.json_response({"digest": digest.hexdigest(), "size": size})

    async def body(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        for at in range(0, len(BODY), BLOCK):
            await response.write(BODY[at : at + BLOCK])
        return response

    async def file_at(self, request):
        return web.FileResponse(self.path)

    async def endless(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(BODY[:BLOCK])
        except (asyncio.CancelledError, ConnectionError):
            self.cancelled.set()
            raise

    async def patient(self, request):
        self.began.set()
        await self.go_on.wait()
        return web.Response(text="at last")

    async def socket(self, request):
        socket = web.WebSocketResponse(max_msg_size=16 * MIB)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.data == "leave":
                await socket.close(code=4001, message=b"as you wish")
            else:
                await socket.send_str(message.data)
        return socket


@contextlib.asynccontextmanager
async def serving(make_site):
    """The site, its runner, and where it is."""
    site = Site()
    runner = web.AppRunner(site.app, handler_cancellation=True)
    await runner.setup()
    try:
        await make_site(runner).start()
        yield site, runner, runner.addresses[0]
    finally:
        await runner.cleanup()


def serving_tcp(context=None):
    """As `serving`, on a port, with this TLS or without."""
    return serving(lambda runner: web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context))


@contextlib.asynccontextmanager
async def talking(tls=False):
    """The site, its runner, and a session with it."""
    async with serving_tcp(server_context() if tls else None) as (site, runner, (host, port)):
        where = f"https://localhost:{port}" if tls else f"http://{host}:{port}"
        connector = aiohttp.TCPConnector(ssl=client_context()) if tls else None
        async with aiohttp.ClientSession(where, connector=connector) as session:
            yield site, runner, session


def kept_by(session):
    """The transport of the one connection that it keeps for the next request."""
    ((protocol, *_),) = [kept for connections in session.connector._conns.values() for kept in connections]
    return protocol.transport
