"""docs/cython.md is true: its files build and serve, its programs print what it says, its tables are the declarations.

Owns three builds of what the page shows, each with the page's own backend: `echo` with setuptools, by the page's own
commands, in a virtual environment that has nothing but pybuntcp; `echo_cmake`; and `parts`, which is echo with all
further pieces of the page and with a probe of what is refused.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
from importlib import resources

import pytest
from support import TIMEOUT, echoes, packages, pattern, unread_bytes, wait_for
from support.documents import DOCS, blocks_of, run

import pybuntcp

PAGE = (DOCS / "cython.md").read_text()
BLOCKS = blocks_of("cython.md", PAGE)
FILES = {block.file: block.text for block in BLOCKS if block.file}
PARTS = [block for block in BLOCKS if block.language == "cython" and not block.mark]
PROGRAMS = [block for block in BLOCKS if block.needs]
SHIPPED = (resources.files("pybuntcp") / "_core.pxd").read_text()
DECLARED, SEAM, _ = SHIPPED.partition(
    "# ---------------------------------------------------------------------------- the seam"
)
GIVEN = (resources.files("pybuntcp") / "__init__.pxd").read_text()

COMMANDS = re.search(r"Ctrl-C ends it\.\n\n((?:    .*\n)+)", PAGE)[1].splitlines()
*BUILDING, SERVING, TALKING = [command.strip() for command in COMMANDS]

PROBE = '''

def bound(abi=None, size=None, ext_size=None, bint data=True, handlers=None):
    """A table with these numbers, bound."""
    cdef slots_t slots = new_slots()
    slots.abi = slots.abi if abi is None else abi
    slots.size = slots.size if size is None else size
    slots.ext_size = 0 if ext_size is None else ext_size
    if data:
        slots.data = on_data
    return handlers_from_slots(&slots, handlers)


SIZE = sizeof(slots_t)
CONSTANTS = {
    "SLOTS_ABI": SLOTS_ABI,
    "SLOTS_OPEN_UNTIL_CLOSED": SLOTS_OPEN_UNTIL_CLOSED,
    "SOCKET_OTHER": SOCKET_OTHER,
    "SOCKET_ESTABLISHED": SOCKET_ESTABLISHED,
    "SOCKET_CLOSED": SOCKET_CLOSED,
    "SOCKET_DETACHED": SOCKET_DETACHED,
    "SOCKET_SHUTDOWN": SOCKET_SHUTDOWN,
}
'''


# --- building --------------------------------------------------------------------------------------------


def lay_out(folder, package):
    """The page's files of a package, as somebody would type them in: echo's, and over them its own."""
    folder.mkdir()
    for owner in ("echo", package):
        for file, text in FILES.items():
            if file.startswith(f"{owner}/"):
                (folder / file.partition("/")[2]).write_text(text)
    if package == "echo_cmake":
        (folder / "setup.py").unlink()


def build(make, package, prepare=lambda folder: None):
    """Where it is installed, and the folder that it was built in."""
    source, target, scratch = (make(f"{package}-{what}") for what in ("source", "target", "scratch"))
    lay_out(source / package, package)
    prepare(source / package)
    packages.install(source / package, target, scratch)
    return target, scratch / package


@pytest.fixture(scope="session")
def by_the_page(tmp_path_factory):
    """The page's files, built and installed by what the page says to type: the command that serves, the folder."""
    bare = packages.Bare(tmp_path_factory.mktemp("bare"))
    folder = tmp_path_factory.mktemp("typed") / "echo"
    lay_out(folder, "echo")
    for line in BUILDING:
        bare.run(line, folder)
    return [bare.python, *shlex.split(SERVING)[1:]], folder


@pytest.fixture(scope="session")
def by_cmake(tmp_path_factory):
    target, _ = build(tmp_path_factory.mktemp, "echo_cmake")
    (target / "serve.py").write_text(FILES["echo/serve.py"])
    return [sys.executable, "serve.py"], target


@pytest.fixture(params=["by_the_page", "by_cmake"])
def server(request):
    """The command that serves, and the folder where it is typed."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def echo_folder(tmp_path_factory):
    """Where `echo`, with all parts of the page in it, is installed."""

    def add_parts(folder):
        names = ", ".join(sorted(names_given()))
        text = [FILES["echo/echo.pyx"], f"from pybuntcp cimport {names}\n", *(part.text for part in PARTS), PROBE]
        (folder / "echo.pyx").write_text("\n".join(text))

    return build(tmp_path_factory.mktemp, "echo", add_parts)[0]


@pytest.fixture(scope="session")
def echo(echo_folder):
    """That module, in this process."""
    return import_echo(echo_folder)


def import_echo(folder):
    (file,) = folder.glob("echo.*.so")
    spec = importlib.util.spec_from_file_location("echo", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_seam_to_the_engine_is_no_part_of_the_api():
    assert SEAM
    names = re.findall(r"^cdef .*?(\w+)\(", SHIPPED.removeprefix(DECLARED), re.MULTILINE)
    assert len(names) > 5
    assert not set(names) & names_given()


# --- from an empty folder to a running server --------------------------------------------------------------


@contextlib.contextmanager
def serving(command, folder):
    """The page's program, running; its port."""
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, text=True)
    with program:
        try:
            assert select.select([program.stdout], [], [], TIMEOUT)[0], "the program says nothing"
            line = program.stdout.readline()
            found = re.fullmatch(r"listening on port (\d+)\n", line)
            assert found, (line, program.stderr.read() if not line else "")
            yield program, int(found[1])
        finally:
            program.kill()


def test_the_page_says_how_to_serve_and_to_talk():
    assert len(BUILDING) == 2
    assert (SERVING, TALKING) == ("python serve.py", "nc 127.0.0.1 PORT")


def test_the_server_of_the_page_sends_back_what_it_gets_until_ctrl_c(server):
    with serving(*server) as (program, port):
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client, client.makefile("rb") as replies:
            for text in (b"hello\n", b"again\n"):
                client.sendall(text)
                assert replies.readline() == text
        assert echoes.exchange(port)[1] == echoes.SENT
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=TIMEOUT)
        assert said.endswith("KeyboardInterrupt\n")


def test_the_generated_c_includes_no_header_but_python_s_and_libc_s(by_the_page):
    includes = set(re.findall(r'#\s*include\s*["<]([^">]+)', (by_the_page[1] / "echo.c").read_text()))
    assert "Python.h" in includes
    assert [name for name in includes if re.search("uv|ssl|bun", name)] == []


def test_a_function_that_this_pybuntcp_lacks_is_refused_with_the_text_of_the_page(tmp_path_factory):
    def declare_one_more(folder):
        (folder / "pybuntcp").mkdir()
        (folder / "pybuntcp/__init__.pxd").write_text(GIVEN)
        (folder / "pybuntcp/_core.pxd").write_text(f"{SHIPPED}\ncdef int socket_sing(socket_t* s) noexcept nogil\n")
        with (folder / "echo.pyx").open("a") as source:
            source.write("\nfrom pybuntcp._core cimport socket_sing\nsocket_sing(NULL)\n")

    target, _ = build(tmp_path_factory.mktemp, "echo", declare_one_more)
    with pytest.raises(ImportError) as refused:
        import_echo(target)
    assert re.sub("pybuntcp._core|socket_sing", "...", str(refused.value)) in PAGE


# --- the parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda block: block.name)
def test_a_program_of_the_page_prints_what_it_says(program, echo_folder, tmp_path):
    assert program.needs == "echo"
    assert run(program, tmp_path, {"PYTHONPATH": str(echo_folder)}) == program.prints


def test_the_patient_echo_keeps_what_a_slow_client_does_not_take(loop, transport, echo):
    blob = pattern(4 << 20)
    listener = transport.listen(echo.patient())
    peer = transport.peer(listener, rcvbuf=8192)
    before = pybuntcp.stats()["drains"]

    def exchange():
        sender = threading.Thread(target=send_all, args=(peer.sock, blob), daemon=True)
        sender.start()
        wait_until_nothing_moves(peer.sock)
        received = bytearray()
        while chunk := peer.sock.recv(1 << 16):
            received += chunk
        sender.join(TIMEOUT)
        return received

    assert loop.wait(peer.call(exchange)) == blob
    assert pybuntcp.stats()["drains"] > before
    listener.stop(True)
    loop.run()


def send_all(client, blob):
    client.sendall(blob)
    client.shutdown(socket.SHUT_WR)


def wait_until_nothing_moves(client):
    """Bytes have come back, and for a while no more do: the server waits for us."""
    wait_for(lambda: unread_bytes(client), "the first bytes to come back")
    seen = None
    while seen != (now := unread_bytes(client)):
        seen = now
        select.select([], [], [], 0.1)


def test_what_begins_with_a_question_mark_is_answered_by_python(loop, tcp, echo):
    listener = tcp.listen(echo.answering())
    peer = tcp.peer(listener)
    for sent, expected in ((b"hello", b"hello"), (b"?why", b"you asked: why")):
        peer.send(sent)
        assert loop.wait(peer.recv_exactly(len(expected))) == expected
    listener.stop(True)
    loop.run()


def test_an_exception_of_the_answer_is_printed_and_closes(loop, tcp, echo, monkeypatch, capsys):
    monkeypatch.setattr(echo, "answer", lambda socket, question: 1 / 0)
    listener = tcp.listen(echo.answering())
    peer = tcp.peer(listener)
    peer.send(b"?why")
    assert loop.wait(peer.recv_until_eof()) == b""
    assert capsys.readouterr().err.endswith("ZeroDivisionError: division by zero\n")
    listener.stop(True)
    loop.run()


def test_the_beat_counts_until_it_is_stopped(loop, echo):
    beat = echo.Beat(0.001)

    def stop_after_three():
        if beat.count >= 3:
            beat.stop()
            look.cancel()

    look = pybuntcp.every(0.001, stop_after_three)
    loop.run()
    assert beat.count >= 3


# --- the words -------------------------------------------------------------------------------------------

REFUSED = [
    {"abi": 2},
    {"size": 8},
    {"data": False},
    {"handlers": {"data": print}},
    {"ext_size": (1 << 30) + 1},
]


@pytest.mark.parametrize("numbers", REFUSED, ids=str)
def test_a_table_is_refused_with_the_text_of_the_page(echo, numbers):
    with pytest.raises(ValueError, match=r"slots_t|twice") as refused:
        echo.bound(**numbers)
    assert f"ValueError: `{refused.value}`" in PAGE


def test_a_table_with_one_member_more_is_refused_with_the_text_of_the_page(echo):
    with pytest.raises(ValueError, match="newer") as refused:
        echo.bound(size=echo.SIZE + 8)
    assert f"ValueError: `{refused.value}`" in PAGE


def test_a_reload_is_refused_with_the_text_of_the_page(loop, tcp, echo):
    listener = tcp.listen(echo.bound(ext_size=16))
    with pytest.raises(ValueError, match="reload") as refused:
        listener.reload(echo.bound(ext_size=24))
    assert f"ValueError: `{refused.value}`" in PAGE
    listener.stop()


# --- the tables ------------------------------------------------------------------------------------------


def rows(section):
    """The first and the other cells of a section's table, in its order."""
    _, _, text = PAGE.partition(f"\n### {section}\n")
    text, _, _ = text.partition("\n#")
    found = re.findall(r"^\| `([^`]+)` \| (.*) \|$", text, re.MULTILINE)
    assert found
    return found


def members_declared():
    """name -> type of the members of slots_t."""
    _, _, text = DECLARED.partition("cdef struct slots_t:\n")
    text, _, _ = text.partition("\n\n")
    return {name: kind for kind, name in re.findall(r"^    ([a-z][\w ]*\*?) (\w+)(?:\s*#.*)?$", text, re.MULTILINE)}


def constants_declared():
    return {name: int(value) for name, value in re.findall(r"^    ([A-Z_]+) = (-?\d+)", DECLARED, re.MULTILINE)}


def slots_declared():
    """name -> signature."""
    found = re.findall(r"^ctypedef (void|char\*) \(\*(\w+)\)(\(.*\)) noexcept nogil$", DECLARED, re.MULTILINE)
    return {name: f"{gives} (*){takes}" for gives, name, takes in found}


def functions_declared():
    """As the page writes them: `type name(names of the arguments)`."""
    found = {}
    for gives, name, takes in re.findall(r"^cdef (?:inline )?([\w *]+?) (\w+)\((.*?)\)", DECLARED, re.MULTILINE):
        found[name] = (gives, [argument.split()[-1].removesuffix("=*") for argument in takes.split(",") if argument])
    return found


def names_given():
    """What `from pybuntcp cimport ...` has."""
    names = re.findall(r"^    (\w+),$", GIVEN, re.MULTILINE)
    return {*names, *re.findall(r"ctypedef class [\w.]+\.(\w+) \[", GIVEN)}


def test_the_members_of_slots_t_are_those_of_the_page_in_order():
    assert [(name, kind) for name, kind in members_declared().items()] == [
        (name, re.match(r"`(.*?)`", rest)[1]) for name, rest in rows("Members of `slots_t`")
    ]


def test_the_constants_of_the_page_have_its_values(echo):
    told = {name: rest for name, rest in rows("Types and constants") if name.isupper()}
    assert constants_declared() == echo.CONSTANTS
    assert told.keys() == echo.CONSTANTS.keys()
    for name, value in echo.CONSTANTS.items():
        assert re.search(rf"(?<![\d-]){value}\b", told[name]), name


def test_the_types_of_the_page_are_those_declared():
    told = {name: rest.strip("`") for name, rest in rows("Types and constants") if not name.isupper()}
    slots = slots_declared()
    assert told.keys() == {"socket_t", "slots_t", "socket_part_t", "loop_timer_t", "loop_poster_t", "Socket", *slots}
    assert {name: told[name] for name in slots} == slots


def test_the_functions_of_the_page_are_those_declared():
    told = {}
    for signature, _ in rows("Functions"):
        gives, name, takes = re.fullmatch(r"([\w *]+?) (\w+)\((.*)\)", signature).groups()
        told[name] = (gives, [argument.partition("=")[0].strip() for argument in takes.split(",") if argument])
    assert told == functions_declared()


def test_everything_declared_is_given():
    """`from pybuntcp cimport ...` has every name of _core.pxd, and `Socket`."""
    structs = {"socket_t", "slots_t", "socket_part_t", "loop_timer_t", "loop_poster_t"}
    declared = {*constants_declared(), *slots_declared(), *functions_declared(), *structs}
    assert names_given() == {*declared, "Socket"}
