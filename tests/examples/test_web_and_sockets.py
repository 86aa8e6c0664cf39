"""examples/web_and_sockets.py as a program on each loop: what goes in at one door comes out at both, and nobody waits for who stalls."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import re
import signal
import socket
import sys

import pytest
from programs import EXAMPLES, HOST, MEGABYTE, Service, listening, peak_memory
from support import TIMEOUT
from support.asyncio_loops import each_host

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")

NAMES = {"native": "pybuntcp"}  # of loops: the tests', and the example's
LIMIT = 65536
LINE = "x" * 4000
ENOUGH = 20_000  # of such lines; far more than any kernel keeps for a subscriber

pytestmark = each_host


@pytest.fixture
def server(host):
    """The program. That it ends in order is looked at after every test."""
    arguments = ("--loop", NAMES.get(host, host), "--limit", str(LIMIT))
    command = (sys.executable, EXAMPLES / "web_and_sockets.py", *arguments)
    with listening(
        Service(*command, env={"PYTHONWARNINGS": "always::ResourceWarning"}), "web_and_sockets.py"
    ) as program:
        program.url = program.wait_for_line("serving ").removeprefix("serving ")
        yield program
        said = program.stop()
    assert said.splitlines()[2:] == ["stopped"]
    assert program.exit_code == 0


class Line:
    """A client of the door of lines, bounded in time; usable as a context."""

    def __init__(self, server, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect((HOST, server.port))
        self._lines = self.socket.makefile("rb")

    def say(self, *lines):
        self.socket.sendall("".join(f"{line}\n" for line in lines).encode())

    def hear(self):
        """The next line; "" at the end."""
        return self._lines.readline().decode().removesuffix("\n")

    def ask(self, line):
        self.say(line)
        return self.hear()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._lines.close()
        self.socket.close()


def rest_of(client):
    """All that still comes, up to the end of file."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def is_reset(client):
    """Whether what comes ends with a reset."""
    try:
        rest_of(client)
    except ConnectionResetError:
        return True
    return False


def with_browser(test):
    """An asyncio test, bounded, given an aiohttp session as `web`."""

    async def bounded(server, **more):
        async with aiohttp.ClientSession(server.url) as web:
            await asyncio.wait_for(test(server, web, **more), 3 * TIMEOUT)

    @functools.wraps(test)
    def run(**arguments):
        asyncio.run(bounded(**arguments))

    asked = inspect.signature(test)
    run.__signature__ = asked.replace(parameters=[asked.parameters[name] for name in asked.parameters if name != "web"])
    return run


async def event(response):
    """The text of the next event; None at the end of the stream."""
    line = await response.content.readline()
    if not line:
        return None
    assert await response.content.readline() == b"\n"
    return line.decode().removeprefix("data: ").removesuffix("\n")


async def post(web, channel, text):
    async with web.post(f"/channels/{channel}", data=text.encode()) as response:
        assert response.status == 200
        return (await response.json())["reached"]


async def status(web):
    async with web.get("/status") as response:
        return await response.json()


async def until(web, name, value):
    """Until the status has `value` for `name`: what a client that leaves brings about has no other sign."""
    for _ in range(1000):
        if (await status(web))[name] == value:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{name} does not become {value}: {await status(web)}")


def stalled_stream(server, channel):
    """A raw client of the door of HTTP that reads the head of an event stream, and no further."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(TIMEOUT)
    client.connect((HOST, int(server.url.rstrip("/").rpartition(":")[2])))
    client.sendall(f"GET /channels/{channel} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 200 ")
    return client


# ---------------------------------------------------------------- both doors


@with_browser
async def test_what_one_line_publishes_comes_out_at_both_doors(server, web):
    with Line(server) as publisher, Line(server) as subscriber:
        assert subscriber.ask("sub news") == "ok"
        async with web.get("/channels/news") as stream:
            assert stream.content_type == "text/event-stream"
            assert publisher.ask("pub news grüß dich") == "ok 2"
            assert subscriber.hear() == "message news grüß dich"
            assert await event(stream) == "grüß dich"


@with_browser
async def test_what_is_posted_comes_out_at_both_doors(server, web):
    with Line(server) as subscriber:
        assert subscriber.ask("sub news") == "ok"
        async with web.get("/channels/news") as stream:
            assert await post(web, "news", "grüß dich") == 2
            assert subscriber.hear() == "message news grüß dich"
            assert await event(stream) == "grüß dich"


@with_browser
async def test_who_subscribes_to_another_channel_hears_nothing(server, web):
    with Line(server) as subscriber:
        assert subscriber.ask("sub sport") == "ok"
        async with web.get("/channels/sport") as stream:
            assert await post(web, "news", "not for them") == 0
            assert await post(web, "sport", "for them") == 2
            assert subscriber.hear() == "message sport for them"
            assert await event(stream) == "for them"


@with_browser
async def test_thousands_of_messages_arrive_whole_and_in_order_at_both_doors(server, web):
    texts = [f"{number} {'y' * (number % 50)}" for number in range(5000)]
    with Line(server) as publisher, Line(server) as subscriber:
        assert subscriber.ask("sub news") == "ok"
        async with web.get("/channels/news") as stream:
            for start in range(0, len(texts), 500):
                some = texts[start : start + 500]
                publisher.say(*[f"pub news {text}" for text in some])
                assert [publisher.hear() for _ in some] == ["ok 2"] * len(some)
                assert [subscriber.hear() for _ in some] == [f"message news {text}" for text in some]
                assert [await event(stream) for _ in some] == some


@with_browser
async def test_the_status_tells_who_subscribes_and_forgets_who_left(server, web):
    with Line(server) as subscriber:
        subscriber.ask("sub news")
        subscriber.ask("sub sport")
        async with web.get("/channels/news"):
            counted = {"published": 0, "dropped": 0, "lines": 1, "unsent": 0}
            await until(web, "lines", 1)  # clients of other tests may just be leaving
            assert await status(web) == {"subscribers": {"news": 2, "sport": 1}, **counted}
            subscriber.ask("pub news hello")
        await until(web, "subscribers", {"news": 1, "sport": 1})
    await until(web, "subscribers", {})
    assert await status(web) == {"subscribers": {}, "published": 1, "dropped": 0, "lines": 0, "unsent": 0}


@with_browser
async def test_nonsense_is_refused_at_both_doors(server, web):
    with Line(server) as client:
        assert client.ask("dance") == "error there are: sub CHANNEL, pub CHANNEL TEXT"
        assert client.ask("sub") == client.ask("pub a/b c") == "error a channel is 1 to 50 letters, digits, and -_."
        assert client.ask("pub news a\x1bb") == "error a message is one line of at most 4096 characters"
        assert client.ask("pub news still here") == "ok 0"
    async with web.get("/channels/a%20b") as response:
        assert (response.status, await response.text()) == (400, "a channel is 1 to 50 letters, digits, and -_.")
    for text in ("two\nlines", "z" * 4097):
        async with web.post("/channels/news", data=text) as response:
            assert response.status == 400
            assert await response.text() == "a message is one line of at most 4096 characters"


# ---------------------------------------------------------------- slow clients


async def fill(server, web):
    """Publish, in step, until the one subscriber holds bytes unsent; how many messages that took."""
    with Line(server) as publisher:
        for said in range(ENOUGH):
            assert publisher.ask(f"pub news {said} {LINE}") == "ok 1"
            if (await status(web))["unsent"]:
                return said + 1
    raise AssertionError("nothing stays unsent")


@pytest.mark.parametrize("door", ["line", "stream"])
@with_browser
async def test_who_stalls_and_catches_up_has_missed_nothing(server, web, door):
    with Line(server, 4096) if door == "line" else stalled_stream(server, "news") as slow:
        if door == "line":
            assert slow.ask("sub news") == "ok"
        said = await fill(server, web)
        for number in range(said, said + 5):
            assert await post(web, "news", f"{number} {LINE}") == 1
        client = slow.socket if door == "line" else slow
        heard = b""
        while heard.count(LINE.encode()) < said + 5:
            heard += client.recv(65536)
        assert [int(number) for number in re.findall(rb"(\d+) x{4000}", heard)] == list(range(said + 5))
        await until(web, "unsent", 0)


@with_browser
async def test_a_stalled_line_is_dropped_and_the_others_hear_everything(server, web):
    before = peak_memory(server)
    with Line(server) as publisher, Line(server) as healthy, Line(server, 4096) as stalled:
        assert healthy.ask("sub news") == stalled.ask("sub news") == "ok"
        said = 0
        reached = "ok 2"
        while reached == "ok 2":  # in step: each message is heard before the next is said
            reached = publisher.ask(f"pub news {said} {LINE}")
            assert healthy.hear() == f"message news {said} {LINE}"
            said += 1
            assert said < ENOUGH
        assert reached == "ok 1"
        assert is_reset(stalled.socket)
    assert (await status(web))["dropped"] == 1
    assert peak_memory(server) - before < 4 * MEGABYTE


@with_browser
async def test_a_stalled_event_stream_is_dropped_and_the_others_hear_everything(server, web):
    before = peak_memory(server)
    with Line(server) as publisher, stalled_stream(server, "news") as stalled:
        async with web.get("/channels/news") as healthy:
            said = 0
            reached = "ok 2"
            while reached == "ok 2":
                reached = publisher.ask(f"pub news {said} {LINE}")
                assert await event(healthy) == f"{said} {LINE}"
                said += 1
                assert said < ENOUGH
            assert reached == "ok 1"
            lost = said - rest_of(stalled).count(LINE.encode())  # an abort of asyncio's is no reset
            assert 0 < lost <= LIMIT // len(LINE) + 1
    assert (await status(web))["dropped"] == 1
    assert peak_memory(server) - before < 4 * MEGABYTE


def test_who_does_not_read_what_it_is_answered_is_dropped(server):
    with Line(server) as witness, Line(server, 4096) as client:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            client.socket.sendall(b"\n" * (16 * MEGABYTE))
        assert witness.ask("pub news hello") == "ok 0"


def test_a_line_without_an_end_is_dropped(server):
    with Line(server) as witness, Line(server) as client:
        client.socket.sendall(b"y" * 30_000)
        assert is_reset(client.socket)
        assert witness.ask("pub news hello") == "ok 0"


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@with_browser
async def test_a_signal_ends_lines_and_streams_in_order(server, web, number):
    with Line(server) as subscriber:
        assert subscriber.ask("sub news") == "ok"
        async with web.get("/channels/news") as stream:
            await post(web, "news", "the last one")
            os.kill(server.pid, number)
            assert await event(stream) == "the last one"
            assert await event(stream) is None
            assert subscriber.hear() == "message news the last one"
            assert subscriber.hear() == ""
    with pytest.raises(EOFError):  # it has ended before the fixture's own signal
        server.wait_for_line("nothing that it says")


@with_browser
async def test_a_stalled_line_does_not_hold_up_the_end(server, web):
    with Line(server, 4096) as stalled:
        stalled.ask("sub news")
        await fill(server, web)
        server.stop()
        assert is_reset(stalled.socket)


@with_browser
async def test_a_stalled_event_stream_does_not_hold_up_the_end(server, web):
    with stalled_stream(server, "news"):
        await fill(server, web)
        server.stop()
