"""aiosmtpd on our loop: a letter of 1 MiB by Python's own smtplib, pipelined commands, one byte at a time, who leaves in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib

import pytest
from carried import MIB, carried, is_ours
from support import TIMEOUT, pattern
from support.asyncio_loops import on_loop
from support.coroutines import seen

import pybuntcp

smtp = pytest.importorskip("aiosmtpd.smtp", reason="aiosmtpd is not installed")

DIGITS = pattern(MIB // 2).hex()
LETTER = "".join(f"{DIGITS[at : at + 70]}\r\n" for at in range(0, MIB, 70)).encode()


class Letters:
    """A handler that keeps what comes."""

    def __init__(self):
        self.kept = []
        self.transports = []

    async def handle_DATA(self, server, session, envelope):
        self.kept.append(envelope)
        self.transports.append(server.transport)
        return "250 kept"


@contextlib.asynccontextmanager
async def serving():
    letters = Letters()
    protocols = []

    def factory():
        protocols.append(smtp.SMTP(letters, hostname="localhost", data_size_limit=2 * MIB))
        return protocols[-1]

    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    async with server:
        yield letters, server.sockets[0].getsockname()
        await seen(lambda: pybuntcp.stats()["open_sockets"] == 0, "the connections to be closed")


async def replies(reader, *codes):
    """The lines that end the next replies; they have these codes."""
    heard = []
    for code in codes:
        line = await reader.readline()
        while line[3:4] == b"-":
            line = await reader.readline()
        assert line.startswith(code.encode()), (line, heard)
        heard.append(line)
    return heard


@on_loop("native")
async def test_smtplib_hands_over_a_letter_of_1_mib():
    async with serving() as (letters, (host, port)):

        def deliver():
            with smtplib.SMTP(host, port, timeout=TIMEOUT) as client:
                return client.sendmail("me@example.test", ["you@example.test", "them@example.test"], LETTER)

        assert await asyncio.to_thread(deliver) == {}
        assert carried(received=len(LETTER), sent=1)
    (envelope,) = letters.kept
    assert envelope.content == LETTER
    assert envelope.rcpt_tos == ["you@example.test", "them@example.test"]
    assert is_ours(letters.transports[0])


@on_loop("native")
async def test_commands_that_are_pipelined_are_answered_in_order():
    async with serving() as (letters, address):
        reader, writer = await asyncio.open_connection(*address)
        await replies(reader, "220")
        mail = b"MAIL FROM:<me@example.test>\r\nRCPT TO:<you@example.test>\r\nDATA\r\n"
        writer.write(b"EHLO there\r\n" + (mail + b"hello\r\n.\r\n") * 20 + b"QUIT\r\n")
        await replies(reader, "250", *["250", "250", "354", "250"] * 20, "221")
        assert await reader.read() == b""
        writer.close()
    assert [envelope.content for envelope in letters.kept] == [b"hello\r\n"] * 20


@on_loop("native")
async def test_commands_that_come_a_byte_at_a_time_are_understood():
    async with serving() as (letters, address):
        reader, writer = await asyncio.open_connection(*address)
        await replies(reader, "220")
        for byte in b"HELO there\r\nMAIL FROM:<me@example.test>\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await replies(reader, "250", "250")
        writer.write(b"QUIT\r\n")
        await replies(reader, "221")
        writer.close()
    assert letters.kept == []


@on_loop("native")
async def test_a_client_that_leaves_in_the_middle_of_a_letter_has_delivered_none():
    async with serving() as (letters, address):
        reader, writer = await asyncio.open_connection(*address)
        await replies(reader, "220")
        writer.write(b"HELO there\r\nMAIL FROM:<me@example.test>\r\nRCPT TO:<you@example.test>\r\nDATA\r\n")
        await replies(reader, "250", "250", "250", "354")
        writer.write(LETTER[: MIB // 2])
        writer.transport.abort()
    assert letters.kept == []
