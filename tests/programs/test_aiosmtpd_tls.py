"""aiosmtpd on our loop with STARTTLS: a letter by Python's own smtplib and by asyncio's streams, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import sys

import pytest
from carried import MIB, is_ours_with_tls
from support import TIMEOUT, pattern
from support.asyncio_loops import on_loop
from support.coroutines import seen
from support.tls_peer import client_context, server_context

import pybuntcp

smtp = pytest.importorskip("aiosmtpd.smtp", reason="aiosmtpd is not installed")

DIGITS = pattern(MIB // 2).hex()
LETTER = "".join(f"{DIGITS[at : at + 70]}\r\n" for at in range(0, MIB, 70)).encode()


class Letters:
    """A handler that keeps what comes, and over what it came."""

    def __init__(self):
        self.kept = []
        self.versions = []

    async def handle_DATA(self, server, session, envelope):
        self.kept.append(envelope.content)
        self.versions.append(server.transport.get_extra_info("ssl_object").version())
        return "250 kept"


@contextlib.asynccontextmanager
async def serving():
    letters, context = Letters(), server_context()

    def factory():
        return smtp.SMTP(
            letters, hostname="localhost", data_size_limit=2 * MIB, tls_context=context, require_starttls=True
        )

    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    async with server:
        yield letters, server.sockets[0].getsockname()
        await seen(lambda: pybuntcp.stats()["open_sockets"] == 0, "the connections to be closed")


@on_loop("native")
async def test_smtplib_hands_over_a_letter_of_1_mib_after_starttls():
    async with serving() as (letters, (_, port)):

        def deliver():
            with smtplib.SMTP("localhost", port, timeout=TIMEOUT) as client:
                client.starttls(context=client_context())
                return client.sendmail("me@example.test", ["you@example.test"], LETTER)

        assert await asyncio.to_thread(deliver) == {}
    assert letters.kept == [LETTER]
    assert letters.versions == ["TLSv1.3"]


@on_loop("native")
async def test_a_letter_in_plain_text_is_refused():
    async with serving() as (letters, (_, port)):

        def deliver():
            with smtplib.SMTP("localhost", port, timeout=TIMEOUT) as client:
                client.sendmail("me@example.test", ["you@example.test"], LETTER)

        with pytest.raises(smtplib.SMTPSenderRefused, match="STARTTLS"):
            await asyncio.to_thread(deliver)
    assert letters.kept == []


@on_loop("native")
async def test_ten_clients_at_a_time_upgrade_to_tls():
    async with serving() as (letters, (_, port)):

        def deliver(number):
            with smtplib.SMTP("localhost", port, timeout=TIMEOUT) as client:
                client.starttls(context=client_context())
                client.sendmail("me@example.test", ["you@example.test"], f"{number}\r\n")

        await asyncio.gather(*(asyncio.to_thread(deliver, number) for number in range(10)))
    assert sorted(letters.kept) == [f"{number}\r\n".encode() for number in range(10)]


async def reply(reader, code):
    """The last line of the next reply, which has this code."""
    line = await reader.readline()
    while line[3:4] == b"-":
        line = await reader.readline()
    assert line.startswith(code), line
    return line


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls came with Python 3.11")
@on_loop("native")
async def test_a_stream_of_asyncios_is_upgraded_to_tls_at_both_ends():
    async with serving() as (letters, address):
        reader, writer = await asyncio.open_connection(*address)
        await reply(reader, b"220")
        writer.write(b"EHLO there\r\nSTARTTLS\r\n")
        await reply(reader, b"250")
        await reply(reader, b"220")
        await writer.start_tls(client_context(), server_hostname="localhost")
        assert is_ours_with_tls(writer.transport)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        mail = b"MAIL FROM:<me@example.test>\r\nRCPT TO:<you@example.test>\r\nDATA\r\n"
        writer.write(b"EHLO there\r\n" + (mail + b"hello\r\n.\r\n") * 20 + b"QUIT\r\n")
        for code in [b"250", *[b"250", b"250", b"354", b"250"] * 20, b"221"]:
            await reply(reader, code)
        assert await reader.read() == b""
        writer.close()
    assert letters.kept == [b"hello\r\n"] * 20


@on_loop("native")
async def test_a_client_that_leaves_in_the_middle_of_the_tls_handshake_leaves_the_server_as_it_was():
    async with serving() as (letters, address):
        reader, writer = await asyncio.open_connection(*address)
        await reply(reader, b"220")
        writer.write(b"EHLO there\r\nSTARTTLS\r\n")
        await reply(reader, b"250")
        await reply(reader, b"220")
        writer.write(b"\x16\x03\x01")
        writer.transport.abort()
        await seen(lambda: pybuntcp.stats()["open_sockets"] == 0, "the server's end to be closed")
        reader, writer = await asyncio.open_connection(*address)
        await reply(reader, b"220")
        writer.write(b"QUIT\r\n")
        await reply(reader, b"221")
        writer.close()
    assert letters.kept == []
