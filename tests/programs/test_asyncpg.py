"""asyncpg on our loop, against a real PostgreSQL, in plain text and over TLS: queries, COPY of megabytes, what is cancelled, pools, a session that is ended."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl

import pytest
from carried import MIB, carried, is_ours
from support.asyncio_loops import on_loop
from support.coroutines import seen
from support.programs import HOST
from support.tls import OTHER_CA, trusting
from support.tls_peer import client_context

import pybuntcp

asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed")

ROWS = [(number, f"row {number} " + "x" * (number % 100)) for number in range(50_000)]


@pytest.fixture(scope="module", params=["tcp", "tls"])
def address(request):
    """Where a real server is, and how it is spoken to."""
    if request.param == "tls":
        return address_of(request.getfixturevalue("tls_postgres"), context=client_context())
    server = request.getfixturevalue("postgres")
    return address_of(server, str(server.folder) if request.param == "unix" else HOST)


every_way = pytest.mark.parametrize("address", ["tcp", "unix", "tls"], indirect=True)


def address_of(server, host=HOST, context=None):
    return {"host": host, "port": server.port, "user": "postgres", "database": "postgres", "ssl": context or False}


@contextlib.asynccontextmanager
async def connected(address):
    connection = await asyncpg.connect(**address)
    try:
        yield connection
    finally:
        await connection.close()


@every_way
@on_loop("native")
async def test_a_query_is_answered_on_a_transport_of_ours(address):
    async with connected(address) as connection:
        assert is_ours(connection._transport, tls=bool(address["ssl"]))
        assert await connection.fetchval("select 1") == 1
        rows = await connection.fetch("select n, n * n as square from generate_series(1, 1000) as n")
        assert [(row["n"], row["square"]) for row in rows] == [(n, n * n) for n in range(1, 1001)]


@on_loop("native")
async def test_a_prepared_statement_is_executed_many_times(address):
    async with connected(address) as connection:
        statement = await connection.prepare("select $1::int + $2::int")
        assert [await statement.fetchval(n, 1) for n in range(200)] == [n + 1 for n in range(200)]


@every_way
@on_loop("native")
async def test_a_value_of_4_mib_goes_there_and_back(address):
    value = bytes(range(256)) * (4 * MIB // 256)
    async with connected(address) as connection:
        assert await connection.fetchval("select $1::bytea", value) == value
        assert carried(received=len(value), sent=len(value))


@every_way
@on_loop("native")
async def test_megabytes_are_copied_in_and_out(address):
    text = "".join(f"{number}\t{words}\n" for number, words in ROWS).encode()
    async with connected(address) as connection:
        await connection.execute("create temporary table rows (number int, words text)")
        assert await connection.copy_records_to_table("rows", records=ROWS) == f"COPY {len(ROWS)}"
        out = io.BytesIO()
        await connection.copy_from_query("select * from rows order by number", output=out)
        assert out.getvalue() == text
        await connection.execute("truncate rows")
        await connection.copy_to_table("rows", source=io.BytesIO(text))
        assert await connection.fetchval("select count(*) from rows") == len(ROWS)
        assert carried(received=len(text), sent=2 * len(text))


@on_loop("native")
async def test_a_query_that_is_cancelled_leaves_the_connection_usable(address):
    async with connected(address) as connection, connected(address) as other:
        asked = asyncio.ensure_future(connection.execute("select pg_sleep(60)"))
        while not await other.fetchval("select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'"):
            pass
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await connection.fetchval("select 1") == 1


@on_loop("native")
async def test_a_query_that_takes_too_long_is_a_timeout(address):
    async with connected(address) as connection:
        with pytest.raises(asyncio.TimeoutError):
            await connection.execute("select pg_sleep(60)", timeout=0.05)
        assert await connection.fetchval("select 1") == 1


@on_loop("native")
async def test_many_tasks_share_the_connections_of_a_pool(address):
    async def ask(number):
        async with pool.acquire() as connection:
            return await connection.fetchval("select $1::int", number)

    async with asyncpg.create_pool(**address, min_size=2, max_size=5) as pool:
        assert await asyncio.gather(*(ask(number) for number in range(100))) == [*range(100)]
        assert pybuntcp.stats()["open_sockets"] == 5


@on_loop("native")
async def test_what_is_notified_reaches_the_listener(address):
    heard = asyncio.Queue()

    def hear(*told):
        heard.put_nowait(told[-1])

    async with connected(address) as connection, connected(address) as other:
        await connection.add_listener("news", hear)
        for number in range(20):
            await other.execute("select pg_notify('news', $1)", str(number))
        assert [await heard.get() for _ in range(20)] == [str(number) for number in range(20)]
        await connection.remove_listener("news", hear)


@on_loop("native")
async def test_a_session_that_the_server_ends_is_an_error_of_its_queries(address):
    async with connected(address) as other:
        connection = await asyncpg.connect(**address)
        asked = asyncio.ensure_future(connection.execute("select pg_sleep(60)"))
        pid = connection.get_server_pid()
        while not await other.fetchval(
            "select count(*) from pg_stat_activity where pid = $1 and state = 'active'", pid
        ):
            pass
        await other.execute("select pg_terminate_backend($1)", pid)
        with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
            await asked
        await seen(connection.is_closed, "the connection to know that it is closed")


@on_loop("native")
async def test_a_connection_is_terminated_in_the_middle_of_a_query(address):
    connection = await asyncpg.connect(**address)
    asked = asyncio.ensure_future(connection.execute("select pg_sleep(60)"))
    await asyncio.sleep(0)
    connection.terminate()
    with pytest.raises((asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError)):
        await asked


# ---------------------------------------------------------------- what only TLS has


@on_loop("native")
async def test_the_server_sees_the_tls_that_the_transport_tells_of(tls_postgres):
    async with connected(address_of(tls_postgres, context=client_context())) as connection:
        assert await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()") is True
        version = connection._transport.get_extra_info("ssl_object").version()
        assert await connection.fetchval("select version from pg_stat_ssl where pid = pg_backend_pid()") == version


@on_loop("native")
async def test_a_server_whose_authority_is_unknown_is_refused_by_tls(tls_postgres):
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncpg.connect(**address_of(tls_postgres, context=trusting(ca=OTHER_CA)))
    await seen(lambda: pybuntcp.stats()["open_sockets"] == 0, "the connection to be closed")


@on_loop("native")
async def test_a_server_without_tls_is_refused_by_a_client_that_wants_it(postgres):
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        await asyncpg.connect(**address_of(postgres, context=client_context()))
