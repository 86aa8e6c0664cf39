"""asyncpg on our loop, against a real PostgreSQL: queries, COPY of megabytes, what is cancelled, pools, a session that is ended."""

from __future__ import annotations

import asyncio
import contextlib
import io

import pytest
from carried import MIB, carried, is_ours
from support.asyncio_loops import on_loop
from support.coroutines import seen
from support.programs import HOST

import pybuntcp

asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed")

ROWS = [(number, f"row {number} " + "x" * (number % 100)) for number in range(50_000)]


def address(server, unix=False):
    where = str(server.folder) if unix else HOST
    return {"host": where, "port": server.port, "user": "postgres", "database": "postgres", "ssl": False}


@contextlib.asynccontextmanager
async def connected(server, unix=False):
    connection = await asyncpg.connect(**address(server, unix))
    try:
        yield connection
    finally:
        await connection.close()


both_ways = pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])


@both_ways
@on_loop("native")
async def test_a_query_is_answered_on_a_transport_of_ours(postgres, unix):
    async with connected(postgres, unix) as connection:
        assert is_ours(connection._transport)
        assert await connection.fetchval("select 1") == 1
        rows = await connection.fetch("select n, n * n as square from generate_series(1, 1000) as n")
        assert [(row["n"], row["square"]) for row in rows] == [(n, n * n) for n in range(1, 1001)]


@on_loop("native")
async def test_a_prepared_statement_is_executed_many_times(postgres):
    async with connected(postgres) as connection:
        statement = await connection.prepare("select $1::int + $2::int")
        assert [await statement.fetchval(n, 1) for n in range(200)] == [n + 1 for n in range(200)]


@both_ways
@on_loop("native")
async def test_a_value_of_4_mib_goes_there_and_back(postgres, unix):
    value = bytes(range(256)) * (4 * MIB // 256)
    async with connected(postgres, unix) as connection:
        assert await connection.fetchval("select $1::bytea", value) == value
        assert carried(received=len(value), sent=len(value))


@both_ways
@on_loop("native")
async def test_megabytes_are_copied_in_and_out(postgres, unix):
    text = "".join(f"{number}\t{words}\n" for number, words in ROWS).encode()
    async with connected(postgres, unix) as connection:
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
async def test_a_query_that_is_cancelled_leaves_the_connection_usable(postgres):
    async with connected(postgres) as connection, connected(postgres) as other:
        asked = asyncio.ensure_future(connection.execute("select pg_sleep(60)"))
        while not await other.fetchval("select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'"):
            pass
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await connection.fetchval("select 1") == 1


@on_loop("native")
async def test_a_query_that_takes_too_long_is_a_timeout(postgres):
    async with connected(postgres) as connection:
        with pytest.raises(asyncio.TimeoutError):
            await connection.execute("select pg_sleep(60)", timeout=0.05)
        assert await connection.fetchval("select 1") == 1


@on_loop("native")
async def test_many_tasks_share_the_connections_of_a_pool(postgres):
    async def ask(number):
        async with pool.acquire() as connection:
            return await connection.fetchval("select $1::int", number)

    async with asyncpg.create_pool(**address(postgres), min_size=2, max_size=5) as pool:
        assert await asyncio.gather(*(ask(number) for number in range(100))) == [*range(100)]
        assert pybuntcp.stats()["open_sockets"] == 5


@on_loop("native")
async def test_what_is_notified_reaches_the_listener(postgres):
    heard = asyncio.Queue()

    def hear(*told):
        heard.put_nowait(told[-1])

    async with connected(postgres) as connection, connected(postgres) as other:
        await connection.add_listener("news", hear)
        for number in range(20):
            await other.execute("select pg_notify('news', $1)", str(number))
        assert [await heard.get() for _ in range(20)] == [str(number) for number in range(20)]
        await connection.remove_listener("news", hear)


@on_loop("native")
async def test_a_session_that_the_server_ends_is_an_error_of_its_queries(postgres):
    async with connected(postgres) as other:
        connection = await asyncpg.connect(**address(postgres))
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
async def test_a_connection_is_terminated_in_the_middle_of_a_query(postgres):
    connection = await asyncpg.connect(**address(postgres))
    asked = asyncio.ensure_future(connection.execute("select pg_sleep(60)"))
    await asyncio.sleep(0)
    connection.terminate()
    with pytest.raises((asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError)):
        await asked
