"""asyncpg over TLS on our loop, against a real PostgreSQL: asked for in plain text, then queries, COPY, pools, who is refused."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl

import pytest
from carried import MIB, is_ours_with_tls
from support.asyncio_loops import on_loop
from support.coroutines import seen
from support.programs import HOST
from support.tls import OTHER_CA, trusting
from support.tls_peer import client_context

import pybuntcp

asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed")

ROWS = [(number, f"row {number} " + "x" * (number % 100)) for number in range(50_000)]


def address(server, context=None):
    return {
        "host": HOST,
        "port": server.port,
        "user": "postgres",
        "database": "postgres",
        "ssl": context or client_context(),
    }


@contextlib.asynccontextmanager
async def connected(server, context=None):
    connection = await asyncpg.connect(**address(server, context))
    try:
        yield connection
    finally:
        await connection.close()


@on_loop("native")
async def test_a_query_is_answered_over_tls(tls_postgres):
    async with connected(tls_postgres) as connection:
        assert is_ours_with_tls(connection._transport)
        assert await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()") is True
        version = connection._transport.get_extra_info("ssl_object").version()
        assert await connection.fetchval("select version from pg_stat_ssl where pid = pg_backend_pid()") == version
        rows = await connection.fetch("select n, n * n as square from generate_series(1, 1000) as n")
        assert [(row["n"], row["square"]) for row in rows] == [(n, n * n) for n in range(1, 1001)]


@on_loop("native")
async def test_a_value_of_4_mib_goes_there_and_back_over_tls(tls_postgres):
    value = bytes(range(256)) * (4 * MIB // 256)
    async with connected(tls_postgres) as connection:
        assert await connection.fetchval("select $1::bytea", value) == value


@on_loop("native")
async def test_megabytes_are_copied_in_and_out_over_tls(tls_postgres):
    text = "".join(f"{number}\t{words}\n" for number, words in ROWS).encode()
    async with connected(tls_postgres) as connection:
        await connection.execute("create temporary table rows (number int, words text)")
        assert await connection.copy_records_to_table("rows", records=ROWS) == f"COPY {len(ROWS)}"
        out = io.BytesIO()
        await connection.copy_from_query("select * from rows order by number", output=out)
        assert out.getvalue() == text
        await connection.execute("truncate rows")
        await connection.copy_to_table("rows", source=io.BytesIO(text))
        assert await connection.fetchval("select count(*) from rows") == len(ROWS)


@on_loop("native")
async def test_many_tasks_share_the_tls_connections_of_a_pool(tls_postgres):
    async def ask(number):
        async with pool.acquire() as connection:
            return await connection.fetchval("select $1::int", number)

    async with asyncpg.create_pool(**address(tls_postgres), min_size=2, max_size=5) as pool:
        assert await asyncio.gather(*(ask(number) for number in range(100))) == [*range(100)]


@on_loop("native")
async def test_a_query_that_is_cancelled_leaves_the_tls_connection_usable(tls_postgres):
    """The request to cancel goes over a connection of its own."""
    async with connected(tls_postgres) as connection, connected(tls_postgres) as other:
        asked = asyncio.ensure_future(connection.execute("select pg_sleep(60)"))
        while not await other.fetchval("select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'"):
            pass
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await connection.fetchval("select 1") == 1


@on_loop("native")
async def test_a_tls_session_that_the_server_ends_is_an_error_of_its_queries(tls_postgres):
    async with connected(tls_postgres) as other:
        connection = await asyncpg.connect(**address(tls_postgres))
        asked = asyncio.ensure_future(connection.execute("select pg_sleep(60)"))
        await asyncio.sleep(0)
        await other.execute("select pg_terminate_backend($1)", connection.get_server_pid())
        with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
            await asked


@on_loop("native")
async def test_a_server_whose_authority_is_unknown_is_refused_by_tls(tls_postgres):
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncpg.connect(**address(tls_postgres, trusting(ca=OTHER_CA)))
    await seen(lambda: pybuntcp.stats()["open_sockets"] == 0, "the connection to be closed")


@on_loop("native")
async def test_a_server_without_tls_is_refused_by_a_client_that_wants_it(postgres):
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        await asyncpg.connect(**address(postgres))
