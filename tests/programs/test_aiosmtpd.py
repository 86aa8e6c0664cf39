"""aiosmtpd on our loop, in plain text and with STARTTLS: a letter of 1 MiB by Python's own smtplib, pipelined commands, one byte at a time, who leaves in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import sys

import pytest
from carried import MIB, carried, is_ours, plain_and_tls
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
        self.transports = []
        self.versions = []

    @property
    def texts(self):
        return [envelope.content for envelope in self.kept]

    async def handle_DATA(self, server, session, envelope):
        secured = server.transport.get_extra_info("ssl_object")
        self.kept.append(envelope)
        self.transports.append(server.transport)
        self.versions.append(secured and secured.version())
        return "250 kept"


@contextlib.asynccontextmanager
async def serving(tls=False):
    """The letters that came, and where they are taken. With `tls` they are taken after STARTTLS alone."""
    letters = Letters()
    secured = {"tls_context": server_context(), "require_starttls": True} if tls else {}

    def factory():
        return smtp.SMTP(letters, hostname="localhost", data_size_limit=2 * MIB, **secured)

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


async def send_twenty(reader, writer):
    """Letters, all of their commands at a time, and the end."""
    mail = b"MAIL FROM:<me@example.test>\r\nRCPT TO:<you@example.test>\r\nDATA\r\n"
    writer.write(b"EHLO there\r\n" + (mail + b"hello\r\n.\r\n") * 20 + b"QUIT\r\n")
    await replies(reader, "250", *["250", "250", "354", "250"] * 20, "221")
    assert await reader.read() == b""
    writer.close()


@plain_and_tls
@on_loop("native")
async def test_smtplib_hands_over_a_letter_of_1_mib(tls):
    async with serving(tls) as (letters, (_, port)):

        def deliver():
            with smtplib.SMTP("localhost", port, timeout=TIMEOUT) as client:
                if tls:
                    client.starttls(context=client_context())
                return client.sendmail("me@example.test", ["you@example.test", "them@example.test"], LETTER)

        assert await asyncio.to_thread(deliver) == {}
        assert carried(received=len(LETTER), sent=1)
    (envelope,) = letters.kept
    assert envelope.content == LETTER
    assert envelope.rcpt_tos == ["you@example.test", "them@example.test"]
    assert tls or is_ours(letters.transports[0])  # for STARTTLS aiosmtpd makes an SSLProtocol of asyncio's
    assert letters.versions == ["TLSv1.3" if tls else None]


@on_loop("native")
async def test_commands_that_are_pipelined_are_answered_in_order():
    async with serving() as (letters, address):
        reader, writer = await asyncio.open_connection(*address)
        await replies(reader, "220")
        await send_twenty(reader, writer)
    assert letters.texts == [b"hello\r\n"] * 20


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


# ---------------------------------------------------------------- STARTTLS


async def ask_for_tls(address):
    """A stream with a server that has agreed to TLS."""
    reader, writer = await asyncio.open_connection(*address)
    await replies(reader, "220")
    writer.write(b"EHLO there\r\nSTARTTLS\r\n")
    await replies(reader, "250", "220")
    return reader, writer


@on_loop("native")
async def test_a_letter_in_plain_text_is_refused_by_a_server_that_wants_tls():
    async with serving(tls=True) as (letters, (_, port)):

        def deliver():
            with smtplib.SMTP("localhost", port, timeout=TIMEOUT) as client:
                client.sendmail("me@example.test", ["you@example.test"], LETTER)

        with pytest.raises(smtplib.SMTPSenderRefused, match="STARTTLS"):
            await asyncio.to_thread(deliver)
    assert letters.kept == []


@on_loop("native")
async def test_ten_clients_at_a_time_upgrade_to_tls():
    async with serving(tls=True) as (letters, (_, port)):

        def deliver(number):
            with smtplib.SMTP("localhost", port, timeout=TIMEOUT) as client:
                client.starttls(context=client_context())
                client.sendmail("me@example.test", ["you@example.test"], f"{number}\r\n")

        await asyncio.gather(*(asyncio.to_thread(deliver, number) for number in range(10)))
    assert sorted(letters.texts) == [f"{number}\r\n".encode() for number in range(10)]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls came with Python 3.11")
@on_loop("native")
async def test_a_stream_of_asyncios_is_upgraded_to_tls_at_both_ends():
    async with serving(tls=True) as (letters, address):
        reader, writer = await ask_for_tls(address)
        await writer.start_tls(client_context(), server_hostname="localhost")
        assert is_ours(writer.transport, tls=True)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        await send_twenty(reader, writer)
    assert letters.texts == [b"hello\r\n"] * 20


@on_loop("native")
async def test_a_client_that_leaves_in_the_middle_of_the_tls_handshake_leaves_the_server_as_it_was():
    async with serving(tls=True) as (letters, address):
        reader, writer = await ask_for_tls(address)
        writer.write(b"\x16\x03\x01")
        writer.transport.abort()
        await seen(lambda: pybuntcp.stats()["open_sockets"] == 0, "the server's end to be closed")
        reader, writer = await asyncio.open_connection(*address)
        await replies(reader, "220")
        writer.write(b"QUIT\r\n")
        await replies(reader, "221")
        writer.close()
    assert letters.kept == []
