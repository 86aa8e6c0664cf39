"""Forks at awkward moments: by a child, by another thread, with a name looked up, inside a handler.

Each scenario is a program of its own; every child has a clock (SIGALRM), so that none outlives its test.
"""

from __future__ import annotations

import textwrap

import pytest
from support import linux_only, wait_for
from support.programs import Program, run_program

FAMILY = """
    import threading, traceback

    LOCAL = {"hostname": "127.0.0.1", "port": 0}
    NUMERIC_NAME = "127.1"  # no literal to us and no question to the network: the resolver's threads answer it

    def ignore(*_):
        pass

    def fork(body=None, leave=os._exit):
        "The exit status of a child that calls `body` and leaves; -14: it had to be stopped."
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            code = 1
            try:
                body and body()
                code = 0
            except BaseException:
                traceback.print_exc()
            leave(code)
        return reap(child)

    def reap(child):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def in_thread(function):
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()

    def serve_once():
        "One connection to a listener of this process, greeted and answered."
        got = []
        mine = pybuntcp.listen(**LOCAL, socket={
            "data": lambda socket, chunk: (socket.end(chunk), mine.stop())})
        pybuntcp.connect(hostname="127.0.0.1", port=mine.port, socket={
            "open": lambda socket: socket.write(b"hello"),
            "data": lambda socket, chunk: got.append(bytes(chunk))})
        pybuntcp.run()
        assert got == [b"hello"], got

    def resolve_a_name():
        "One lookup in the resolver's threads; nobody listens at what it gives."
        told = []
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            pybuntcp.connect(hostname=NUMERIC_NAME, port=unused.getsockname()[1], socket={
                "data": ignore, "connect_error": lambda socket, error: told.append(error)})
            pybuntcp.run()
        assert isinstance(told[0], ConnectionRefusedError), told
"""


def family(source):
    """The program with the helpers above."""
    return textwrap.dedent(FAMILY) + textwrap.dedent(source)


# ---------------------------------------------------------------- children of children, ends of threads


@pytest.mark.parametrize("body", ["None", "serve_once"])
def test_a_forked_child_that_holds_the_parents_listener_can_fork_again(body):
    answer = run_program(
        family(f"""
        listener = pybuntcp.listen(**LOCAL, socket={{"data": ignore}})

        def child():
            status = fork({body})
            assert status == 0, status

        say(fork(child))
        listener.stop()
        serve_once()
        say("parent done")
    """)
    )
    assert answer == [0, "parent done"]


def test_a_thread_that_has_the_identity_of_an_ended_one_can_fork():
    """Its loop is closed, and lives on in a listener that somebody keeps."""
    answer = run_program(
        family("""
        kept, statuses = [], []

        def listen():
            kept.append((threading.get_ident(), pybuntcp.listen(**LOCAL, socket={"data": ignore})))

        for _ in range(5):
            in_thread(listen)
            in_thread(lambda: statuses.append(fork(serve_once)))
        say(statuses)
    """)
    )
    assert answer == [[0] * 5]


# ---------------------------------------------------------------- another thread forks

BETWEEN_RUNS = """
    class Enough(SystemExit):
        pass

    def data(socket, chunk):
        if chunk == b"stop":
            raise Enough
        socket.end(chunk)

    def run_and_stop():
        client.sendall(b"stop")
        try:
            pybuntcp.run()
        except Enough:
            pass

    listener = pybuntcp.listen(**LOCAL, socket={"data": data, "close": lambda *_: listener.stop()})
    client = socket.create_connection(("127.0.0.1", listener.port))
    run_and_stop()
    in_thread(lambda: say(fork()))
    signal.alarm(5)
"""


def test_a_fork_in_another_thread_leaves_the_parents_connections_to_the_parent():
    answer = run_program(
        family(BETWEEN_RUNS)
        + textwrap.dedent("""
        client.sendall(b"after")
        client.shutdown(socket.SHUT_WR)
        pybuntcp.run()
        say(client.makefile("rb").read().decode())
    """)
    )
    assert answer == [0, "after"]


def test_a_fork_in_another_thread_leaves_the_parents_listener_to_the_parent():
    answer = run_program(
        family(BETWEEN_RUNS)
        + textwrap.dedent("""
        late = socket.create_connection(("127.0.0.1", listener.port))
        late.sendall(b"late")
        late.shutdown(socket.SHUT_WR)
        client.close()
        pybuntcp.run()
        say(late.makefile("rb").read().decode())
    """)
    )
    assert answer == [0, "late"]


@linux_only
def test_a_fork_in_another_thread_leaves_ctrl_c_to_the_parent():
    source = family(BETWEEN_RUNS) + textwrap.dedent("""
        say("running")
        try:
            pybuntcp.run()
        except KeyboardInterrupt:
            say("interrupted")
        listener.stop(True)
    """)
    with Program(source) as program:
        assert [program.hear(), program.hear()] == [0, "running"]
        wait_for(lambda: asleep(program.process.pid), "the loop to be idle")
        program.signal()
        assert program.hear() == "interrupted"
        program.finish()


def asleep(pid):
    """Whether the process waits in its poll."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("body", ["None", "serve_once", "resolve_a_name"])
def test_a_child_of_a_parent_that_resolved_a_name_ends_in_order(body):
    answer = run_program(
        family(f"""
        parent = os.getpid()
        resolve_a_name()
        status = fork({body}, leave=sys.exit)
        if os.getpid() == parent:
            say(status)
    """)
    )
    assert answer == [0]


def test_a_child_that_falls_off_the_end_ends_in_order_though_the_parent_resolved_a_name():
    answer = run_program(
        family("""
        resolve_a_name()
        child = os.fork()
        if child == 0:
            signal.alarm(5)
        else:
            say(reap(child))
    """)
    )
    assert answer == [0]


@pytest.mark.parametrize("lookups", [1, 8])
def test_in_a_child_forked_while_a_name_is_looked_up_run_returns(lookups):
    """One, and more than the resolver has threads; answered perhaps, and not told."""
    answer = run_program(
        family(f"""
        from support import spin
        told = []

        def opened(one):
            for _ in range({lookups}):
                pybuntcp.connect(hostname=NUMERIC_NAME, port=port, socket={{
                    "data": ignore, "connect_error": lambda socket, error: told.append(type(error).__name__)}})
            spin(0.02)  # by now none can be taken back from the resolver
            told.append(os.fork())
            if told[0] == 0:
                signal.alarm(5)
            one.terminate()

        ours, theirs = socket.socketpair()
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            pybuntcp.connect(fd=ours.detach(), socket={{"data": ignore, "open": opened}})
            pybuntcp.run()
        if told[0] == 0:
            serve_once()
            os._exit(0 if told == [0] else 1)
        say([reap(told[0]), told[1:]])
    """)
    )
    assert answer == [[0, ["ConnectionRefusedError"] * lookups]]


# ---------------------------------------------------------------- inside a handler


@pytest.mark.parametrize(
    "verb",
    [
        "pybuntcp.listen(**LOCAL, socket={'data': ignore})",
        "pybuntcp.connect(hostname='127.0.0.1', port=9, socket={'data': ignore})",
        "pybuntcp.connect(fd=spare.fileno(), socket={'data': ignore})",
        "pybuntcp.connect(hostname=NUMERIC_NAME, port=9, socket={'data': ignore})",
    ],
    ids=["listen", "connect", "adopt", "name"],
)
def test_a_child_forked_in_a_handler_is_told_to_return_from_it_first(verb):
    """And when it has, its `run()` returns and it has a loop of its own."""
    answer = run_program(
        family(f"""
        refused, children = [], []
        spare, other = socket.socketpair()

        def data(one, chunk):
            children.append(os.fork())
            if children[0] == 0:
                signal.alarm(5)
                try:
                    {verb}
                except RuntimeError as error:
                    refused.append(error)
                return
            one.end(chunk)

        ours, theirs = socket.socketpair()
        pybuntcp.connect(fd=ours.detach(), socket={{"data": data}})
        theirs.sendall(b"x")
        theirs.shutdown(socket.SHUT_WR)
        pybuntcp.run()
        if children[0] == 0:
            assert len(refused) == 1, refused
            assert all(word in str(refused[0]) for word in ("forked inside a handler", "spawn", "forkserver")), refused
            serve_once()
            os._exit(0)
        say([reap(children[0]), theirs.makefile("rb").read().decode()])
    """)
    )
    assert answer == [[0, "x"]]
