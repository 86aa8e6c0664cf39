"""The echo servers that readers see first lose nothing and hold little, however slow the client is.

Found by a rule: every class named Echo in a program of README.md, of docs/, of the package's docstring or of examples/. Each
serves a client that sends 10.24 MB and reads nothing meanwhile. The program that README.md begins with is run as it
stands, and so is the server of `make demo`. And no program there throws away the count of a `write` that sends back
what came: that is how an echo loses bytes.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import select
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import TIMEOUT, raw
from support.documents import DOCS, blocks_of
from support.echoes import BUFFER, HOST, SENT, exchange, send_until_it_waits

import pybuntcp

ROOT = DOCS.parent

# --- the rules -------------------------------------------------------------------------------------------


def shown() -> dict[str, str]:
    """Where -> text, of every program that is shown to readers."""
    found = {}
    for page in (ROOT / "README.md", *sorted(DOCS.glob("**/*.md"))):
        for block in blocks_of(page.relative_to(ROOT).as_posix(), page.read_text()):
            if block.language == "python":
                found[block.name] = block.text
    found["help(pybuntcp)"] = "\n".join(indented(pybuntcp.__doc__ or ""))
    for path in sorted((ROOT / "examples").glob("**/*.py")):
        found[path.relative_to(ROOT).as_posix()] = path.read_text()
    return found


def indented(text: str) -> Iterator[str]:
    """The program in a docstring."""
    for line in text.splitlines():
        if line.startswith("    ") or not line:
            yield line.removeprefix("    ")


def echo_of(text: str) -> str:
    """The class named Echo of a program, with the program's imports; "" if it has none."""
    body = ast.parse(text).body
    classes = [
        node for node in body if isinstance(node, ast.ClassDef) and node.name == "Echo" and not is_protocol(node)
    ]
    imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom)) and "trustme" not in names(node)]
    return "\n".join(map(ast.unparse, [*imports, *classes])) if classes else ""


def is_protocol(node: ast.ClassDef) -> bool:
    """It is asyncio's, shown to compare with."""
    return any("Protocol" in ast.unparse(base) for base in node.bases)


def names(node: ast.Import | ast.ImportFrom) -> set[str]:
    return {alias.name for alias in node.names}


def forgetful(text: str) -> list[int]:
    """The lines where a handler sends what it was given with a `write`, and does not look at the count.

    A program that shows the warning about this is none.
    """
    if "ShortWriteWarning" in text:
        return []
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        given = [argument.arg for argument in node.args.args if argument.arg != "self"]
        if len(given) != 2 or not (given[1] == "chunk" or getattr(node, "name", "data") == "data"):
            continue
        inside = [node.body] if isinstance(node, ast.Lambda) else thrown_away(node)
        found += [value.lineno for value in inside if is_write(value, *given)]
    return found


def thrown_away(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.expr]:
    return [node.value for node in ast.walk(function) if isinstance(node, ast.Expr)]


def is_write(value: ast.expr, socket: str, chunk: str) -> bool:
    """`socket.write(chunk)`, or with some of it."""
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "write"):
        return False
    writes = isinstance(value.func.value, ast.Name) and value.func.value.id == socket
    return writes and any(isinstance(node, ast.Name) and node.id == chunk for node in ast.walk(value))


# --- serving ---------------------------------------------------------------------------------------------


def serve(handlers: Any) -> tuple[bool, bytes]:
    """`exchange`, with a listener of these handlers whose connections have small buffers."""

    async def main() -> tuple[bool, bytes]:
        async with pybuntcp.listen(socket=handlers, hostname=HOST, port=0) as listener:
            with raw(listener) as below:
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    below.setsockopt(socket.SOL_SOCKET, option, BUFFER)
            return await asyncio.to_thread(exchange, listener.port)

    return asyncio.run(main())


def takes_self(cls: type) -> bool:
    functions = [value for value in vars(cls).values() if inspect.isfunction(value)]
    return any(next(iter(inspect.signature(function).parameters), "") == "self" for function in functions)


# --- the programs ----------------------------------------------------------------------------------------

PROGRAMS = shown()
ECHOES = {where: echo for where, text in PROGRAMS.items() if (echo := echo_of(text))}


def made(where: str) -> type:
    """The class of handlers that is shown there."""
    scope: dict[str, Any] = {"__name__": "shown"}
    exec(compile(ECHOES[where], where, "exec", dont_inherit=True), scope)
    echo: type = scope["Echo"]
    return echo


def test_the_rule_finds_the_first_programs() -> None:
    pages = {where.partition(":")[0] for where in ECHOES}
    assert {"README.md", "docs/tour.md", "docs/inside-asyncio.md", "help(pybuntcp)", "examples/echo.py"} <= pages


@pytest.mark.parametrize("where", ECHOES)
def test_an_echo_sends_everything_back_and_lets_a_slow_client_wait(where: str) -> None:
    echo = made(where)
    waits, received = serve(echo() if takes_self(echo) else echo)
    assert received == SENT
    assert waits, "all was taken in: its memory has no bound"


def test_what_the_readme_says_is_kept_for_a_client_that_never_reads() -> None:
    """64 KiB unsent, and the rest of one chunk, which has up to 256 KiB."""
    echo = made(next(where for where in ECHOES if where.startswith("README.md")))
    served: list[pybuntcp.Socket] = []

    class Watched(echo):  # type: ignore[misc]
        def open(self, socket: pybuntcp.Socket) -> None:
            served.append(socket)

    async def main() -> int:
        async with pybuntcp.listen(socket=Watched(), hostname=HOST, port=0) as listener:
            with socket.create_connection((HOST, listener.port), TIMEOUT) as client:
                await asyncio.to_thread(send_until_it_waits, client)
                kept = len(served[0].data) + served[0].pending
            listener.stop(True)
            return kept

    assert 64 << 10 < asyncio.run(main()) <= 320 << 10
    assert "320 KiB" in (ROOT / "README.md").read_text()


SERVERS = {
    "the first program of README.md": [],
    "the server of make demo": [str(ROOT / "benchmarks/servers/pybuntcp_handler.py"), "--patient", "--mode", "echo"],
}


@pytest.mark.parametrize("what", SERVERS)
def test_a_server_as_it_stands_sends_everything_back(what: str, tmp_path: Path) -> None:
    command = SERVERS[what]
    if not command:
        text = next(text for where, text in PROGRAMS.items() if where.startswith("README.md"))
        assert "port=7000" in text
        (tmp_path / "first.py").write_text(text.replace("port=7000", "port=0"))
        command = [str(tmp_path / "first.py")]
    with subprocess.Popen([sys.executable, "-u", *command], stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert select.select([program.stdout], [], [], TIMEOUT)[0], "it does not say that it listens"
            port = re.search(r"listening (?:on )?(\d+)", program.stdout.readline(), re.IGNORECASE)
            assert port is not None
            assert exchange(int(port[1]))[1] == SENT
        finally:
            program.kill()


@pytest.mark.parametrize("where", PROGRAMS)
def test_no_program_throws_away_how_much_of_a_chunk_was_written(where: str) -> None:
    assert forgetful(PROGRAMS[where]) == []


# --- the rules can fail ----------------------------------------------------------------------------------


def test_an_echo_that_loses_bytes_is_seen() -> None:
    assert serve({"data": lambda socket, chunk: socket.write(chunk)})[1] != SENT


def test_an_echo_without_a_bound_is_seen() -> None:
    waits, received = serve({"data": lambda socket, chunk: socket.sink().write(chunk)})
    assert (waits, received == SENT) == (False, True)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("class A:\n    def data(socket, chunk):\n        socket.write(chunk)\n", [3]),
        ("class A:\n    def data(self, s, c):\n        if c:\n            s.write(c[1:])\n", [4]),
        ("x = {'data': lambda socket, chunk: socket.write(chunk.upper())}\n", [1]),
        ("def data(socket, chunk):\n    taken = socket.write(chunk)\n", []),
        ("def data(socket, chunk):\n    socket.end(chunk)\n    socket.write('more')\n", []),
        ("def data(socket, chunk):\n    socket.data.write(chunk)\n", []),
        ("# ShortWriteWarning\ndef data(socket, chunk):\n    socket.write(chunk)\n", []),
        ("def say(socket, words):\n    socket.write(words)\n", []),
    ],
)
def test_a_count_that_is_thrown_away_is_seen(text: str, lines: list[int]) -> None:
    assert forgetful(text) == lines


def test_the_program_of_a_docstring_is_found() -> None:
    text = "A title.\n\n    class Echo:\n        pass\n\nMore words.\n"
    assert echo_of("\n".join(indented(text))) == textwrap.dedent("class Echo:\n    pass")
    assert echo_of("class Other: pass") == ""
