"""Contract, Process (P1): after `fork` the child's inherited connections are dead, unwritten."""

from __future__ import annotations

import contextlib
import socket as stdlib
import textwrap

import pytest
from support.addresses import dialled
from support.programs import Program, run_program

FORKING = """
class Enough(SystemExit):
    pass

def data(sock, chunk):
    if chunk == b"go":
        accepted.append(sock)
        raise Enough
    sock.write(chunk)

accepted = []
listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={
    "data": data, "close": lambda sock, error: listener.stop()})
say(listener.port)
try:
    pybuntcp.run()
except Enough:
    (conn,) = accepted
before_fork()
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.close(reader)
    try:
        answer = in_child()
    except BaseException as error:
        answer = repr(error)
    os.write(writer, json.dumps(answer).encode())
    os.close(writer)
    leave(0)
os.close(writer)
with open(reader) as answers:
    answer = json.load(answers)
_, status = os.waitpid(child, 0)
say([answer, status])
pybuntcp.run()
say("parent done")
"""


def forking(in_child, before_fork="pass", leave="os._exit"):
    """A server that forks when its first connection says go; the child's body returns what it has to tell."""
    return "\n".join(
        [
            "def before_fork():",
            textwrap.indent(textwrap.dedent(before_fork), "    "),
            "def in_child():",
            textwrap.indent(textwrap.dedent(in_child), "    "),
            f"leave = {leave}",
            FORKING,
        ]
    )


@contextlib.contextmanager
def forked(source):
    """The program and a connection to it that has said go."""
    with Program(source) as program, dialled(program.hear()) as client:
        client.sendall(b"go")
        yield program, client


def served_after_fork(source):
    """What the child said and its exit status, after a look that the parent's connection is unharmed."""
    with forked(source) as (program, client):
        said, status = program.hear()
        client.sendall(b"still yours?")
        client.shutdown(stdlib.SHUT_WR)
        assert client.makefile("rb").read() == b"still yours?"
        assert program.finish() == ["parent done"]
        return said, status


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_p1_in_a_forked_child_the_inherited_connections_are_dead(leave):
    said, status = served_after_fork(
        forking(
            """
        pybuntcp.run()
        answers = [conn.write(b"from the child"), conn.end(b"from the child"), int(conn.ready_state)]
        conn.close()
        conn.terminate()
        listener.stop(True)
        return answers
    """,
            leave=leave,
        )
    )
    assert said == [-1, -1, 0]
    assert status == 0


def test_p1_a_forked_child_writes_none_of_the_parents_pending_bytes():
    """The parent's unsent tail reaches the peer once, from the parent."""
    source = forking(
        "pybuntcp.run()\nreturn conn.pending", before_fork="say(conn.write(b'p' * (8 << 20)))\nassert conn.pending > 0"
    )
    with forked(source) as (program, client):
        accepted_bytes = program.hear()
        assert program.hear() == [0, 0]
        client.shutdown(stdlib.SHUT_WR)
        received = client.makefile("rb").read()
        assert len(received) == accepted_bytes
        assert received.strip(b"p") == b""
        assert program.finish() == ["parent done"]


def test_p1_a_forked_child_runs_no_handler_of_the_parents_sockets():
    said, _ = served_after_fork(
        forking("""
        called = []
        conn.reload({name: lambda *_, name=name: called.append(name) for name in ("data", "end", "close", "error")})
        pybuntcp.run()
        return called
    """)
    )
    assert said == []


def test_p1_a_forked_child_has_a_loop_of_its_own():
    said, status = served_after_fork(
        forking("""
        before, got = pybuntcp.stats(), []
        mine = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={
            "data": lambda sock, chunk: (got.append(chunk.decode()), sock.end(), mine.stop())})
        pybuntcp.connect(hostname="127.0.0.1", port=mine.port, socket={
            "open": lambda sock: sock.end(b"hello"), "data": print})
        pybuntcp.run()
        after = pybuntcp.stats()
        return [[stats["open_sockets"], stats["open_listeners"]] for stats in (before, after)], got
    """)
    )
    assert said == [[[0, 0], [0, 0]], ["hello"]]
    assert status == 0


def test_p1_a_forked_child_gives_the_inherited_descriptors_back():
    """The peer sees the parent's end although the child lives on."""
    answer = run_program("""
        one, other = socket.socketpair()
        pybuntcp.connect(fd=one.detach(), socket={"data": lambda sock, chunk: sock.close()})
        other.sendall(b"x")
        hold, release = os.pipe()
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(release)
            other.close()
            pybuntcp.run()
            os.write(go, b"x")
            os.read(hold, 1)
            os._exit(0)
        os.read(ready, 1)
        pybuntcp.run()
        other.settimeout(5)
        try:
            say(other.recv(1).decode())
        finally:
            os.close(release)
            os.waitpid(child, 0)
    """)
    assert answer == [""]


def test_p1_fork_inside_a_handler():
    answer = run_program("""
        def data(sock, chunk):
            sock.write(b"before ")
            child = os.fork()
            if child == 0:
                sock.write(b"from the child")
                os._exit(0)
            os.waitpid(child, 0)
            sock.end(b"after")

        one, other = socket.socketpair()
        pybuntcp.connect(fd=one.detach(), socket={"data": data})
        other.sendall(b"x")
        other.shutdown(socket.SHUT_WR)
        pybuntcp.run()
        say(other.makefile("rb").read().decode())
    """)
    assert answer == ["before after"]


# ---------------------------------------------------------------- a loop that is given up while it is turned, or looked at


def test_p1_run_with_a_timeout_ends_in_a_child_that_a_callback_has_forked():
    source = """
        def fork():
            child = os.fork()
            if child:
                leave.append(child)
                call.close()

        leave = []
        call = pybuntcp.threadsafe(print)
        pybuntcp.call_soon(fork)
        pybuntcp.run(timeout=3600)
        if not leave:
            os._exit(7)
        say(os.waitstatus_to_exitcode(os.waitpid(leave[0], 0)[1]))
    """
    assert run_program(source) == [7]


@pytest.mark.parametrize("what", ["stats()", "call_later(1, print)"])
def test_p1_a_finalizer_that_runs_while_a_child_gives_up_the_loop_may_use_one(what):
    source = f"""
        class Finalized:
            def __del__(self):
                if os.getpid() != parent:
                    pybuntcp.{what}

        parent = os.getpid()
        listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={{"data": print}})
        timer = pybuntcp.call_later(3600, lambda held: None, Finalized())
        child = os.fork()
        if child == 0:
            os._exit(7)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        timer.cancel()
        listener.stop()
    """
    assert run_program(source) == [7]
