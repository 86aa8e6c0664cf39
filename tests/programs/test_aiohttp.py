"""aiohttp on our loop, and in loops that stay after `install`, server and client, in plain text and over TLS: bodies up and down, keep-alive, WebSockets, who leaves in the middle, the end of a server."""

from __future__ import annotations

import asyncio
import hashlib
import io

import pytest
from carried import MIB, carried, is_ours, plain_and_tls
from support.asyncio_loops import on_loops
from support.coroutines import seen
from web_site import BLOCK, BODY, aiohttp, kept_by, serving, serving_tcp, talking, web

import pybuntcp

pytestmark = pytest.mark.loops_that_stay

# ---------------------------------------------------------------- requests


@plain_and_tls
@on_loops("native")
async def test_both_ends_of_a_request_are_transports_of_ours(tls):
    async with talking(tls) as (site, _, session), session.get("/hello?name=ada") as response:
        assert (response.status, await response.text()) == (200, "hello, ada")
        assert is_ours(kept_by(session), tls)
    assert is_ours(site.transports[0], tls)
    assert isinstance(site.transports[0], asyncio.Transport)


@plain_and_tls
@on_loops("native")
async def test_requests_one_after_the_other_share_one_connection(tls):
    async with talking(tls) as (site, _, session):
        before = pybuntcp.stats()["accepted"]
        for number in range(50):
            async with session.get(f"/hello?name={number}") as response:
                assert await response.text() == f"hello, {number}"
        assert pybuntcp.stats()["accepted"] - before == 1
    assert len(set(map(id, site.transports))) == 1


@plain_and_tls
@on_loops("native")
async def test_fifty_requests_at_a_time_are_answered_each_with_its_own_answer(tls):
    async def ask(session, number):
        async with session.post("/echo", data=str(number) * 1000) as response:
            return await response.text()

    async with talking(tls) as (_, _, session):
        answers = await asyncio.gather(*(ask(session, number) for number in range(50)))
    assert answers == [str(number) * 1000 for number in range(50)]


@plain_and_tls
@on_loops("native")
async def test_a_body_of_8_mib_is_streamed_up(tls):
    async def parts():
        for at in range(0, len(BODY), BLOCK):
            yield BODY[at : at + BLOCK]

    async with talking(tls) as (_, _, session), session.post("/digest", data=parts()) as response:
        assert await response.json() == {"digest": hashlib.sha256(BODY).hexdigest(), "size": len(BODY)}
        assert carried(received=len(BODY))


@plain_and_tls
@on_loops("native")
async def test_a_body_of_8_mib_is_streamed_down(tls):
    digest = hashlib.sha256()
    async with talking(tls) as (_, _, session), session.get("/body") as response:
        async for chunk in response.content.iter_any():
            digest.update(chunk)
        assert carried(received=len(BODY), sent=len(BODY))
    assert digest.digest() == hashlib.sha256(BODY).digest()


@plain_and_tls
@on_loops("native")
async def test_a_body_in_one_piece_goes_there_and_back(tls):
    async with talking(tls) as (_, _, session), session.post("/echo", data=io.BytesIO(BODY)) as response:
        assert await response.read() == BODY


@on_loops("native")
async def test_a_file_is_sent(tmp_path):
    path = tmp_path / "body"
    path.write_bytes(BODY)

    async with talking() as (site, _, session):
        site.path = path
        for _ in range(2):  # the connection is fit for another
            async with session.get("/file") as response:
                assert await response.read() == BODY


@on_loops("native")
async def test_it_serves_and_asks_on_a_unix_socket(tmp_path):
    path = str(tmp_path / "web")
    async with (
        serving(lambda runner: web.UnixSite(runner, path)) as (site, _, _),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
    ):
        async with session.post("http://web/echo", data=io.BytesIO(BODY[:MIB])) as response:
            assert await response.read() == BODY[:MIB]
        assert is_ours(kept_by(session))
        async with session.get("http://web/hello") as response:
            assert response.status == 200
    assert is_ours(site.transports[0])


# ---------------------------------------------------------------- WebSockets


@plain_and_tls
@on_loops("native")
async def test_a_web_socket_echoes_small_and_large_messages_and_answers_pings(tls):
    async with talking(tls) as (_, _, session), session.ws_connect("/socket", max_msg_size=16 * MIB) as socket:
        assert is_ours(socket._conn.transport, tls)
        for text in ("one", "two", "grüß dich"):
            await socket.send_str(text)
            assert await socket.receive_str() == text
        await socket.send_bytes(BODY[: 4 * MIB])
        assert await socket.receive_bytes() == BODY[: 4 * MIB]
        await socket.ping(b"are you there")
        await socket.send_str("still here")
        assert await socket.receive_str() == "still here"


@plain_and_tls
@on_loops("native")
async def test_a_web_socket_is_closed_with_the_code_of_who_closes_it(tls):
    async with talking(tls) as (_, _, session), session.ws_connect("/socket") as socket:
        await socket.send_str("leave")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "as you wish")


# ---------------------------------------------------------------- who leaves


@plain_and_tls
@on_loops("native")
async def test_a_client_that_leaves_in_the_middle_of_a_response_ends_its_handler(tls):
    async with talking(tls) as (site, _, session):
        response = await session.get("/endless")
        assert len(await response.content.readexactly(3 * BLOCK)) == 3 * BLOCK
        response.close()
        await site.cancelled.wait()
        async with session.get("/hello") as after:
            assert after.status == 200


@plain_and_tls
@on_loops("native")
async def test_a_client_that_leaves_while_it_waits_has_its_handler_cancelled(tls):
    async with talking(tls) as (site, _, session):
        waiting = asyncio.ensure_future(session.get("/patient"))
        await site.began.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await seen(lambda: pybuntcp.stats()["open_sockets"] == 0, "the server's end of it to be closed")


@on_loops("native")
async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_the_server_as_it_was():
    async with serving_tcp() as (site, _, (host, port)):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + BODY[:BLOCK])
        await site.began.wait()
        writer.transport.abort()
        await seen(lambda: pybuntcp.stats()["open_sockets"] == 0, "both ends to be closed")
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session, session.get("/hello") as response:
            assert response.status == 200
        del reader


@on_loops("native")
async def test_a_server_that_breaks_off_is_an_error_of_the_payload():
    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it")
        writer.close()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    async with server, aiohttp.ClientSession() as session:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(aiohttp.ClientPayloadError):
            async with session.get(f"http://{host}:{port}/") as response:
                await response.read()


@on_loops("native")
async def test_a_port_where_nobody_listens_is_a_connector_error():
    async with serving_tcp() as (_, _, (host, port)):
        pass
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get(f"http://{host}:{port}/")
    assert isinstance(caught.value.os_error, ConnectionRefusedError)


# ---------------------------------------------------------------- the end of a server


@plain_and_tls
@on_loops("native")
async def test_a_server_that_stops_answers_what_is_under_way(tls):
    async with talking(tls) as (site, runner, session):
        asked = asyncio.ensure_future(session.get("/patient"))
        await site.began.wait()
        ended = asyncio.ensure_future(runner.cleanup())
        await seen(lambda: pybuntcp.stats()["open_listeners"] == 0, "the listener to be closed")
        site.go_on.set()
        async with await asked as response:
            assert await response.text() == "at last"
        await ended


@plain_and_tls
@on_loops("native")
async def test_a_server_that_stops_does_not_wait_for_idle_connections(tls):
    async with talking(tls) as (_, runner, session):
        async with session.get("/hello") as response:
            await response.read()
        assert pybuntcp.stats()["open_sockets"] == 2  # kept alive, both ends
        await runner.cleanup()
