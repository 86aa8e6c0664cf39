"""Contract, Process (P1): fork inside a running asyncio loop."""

from __future__ import annotations

import pytest
from support.addresses import dialled
from support.asyncio_loops import each_host
from support.programs import Program

FORKING = """
    import asyncio
    from support.asyncio_loops import close_host, new_host, running_here

    def data(socket, chunk):
        if chunk != b"go":
            socket.write(chunk)
        elif sys.argv[4] == "a handler":
            fork(socket)
        else:
            went.set_result(socket)

    def serve_once():
        "A connection to a listener of this process, on a loop of its own."
        async def main():
            got = asyncio.get_running_loop().create_future()
            mine = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={
                "data": lambda socket, chunk: socket.end(chunk)})
            client = await pybuntcp.connect(hostname="127.0.0.1", port=mine.port, socket={
                "data": lambda socket, chunk: got.set_result(chunk.decode())})
            client.write(b"hello")
            try:
                return await asyncio.wait_for(got, 5)
            finally:
                mine.stop(True)
                client.terminate()
                await mine.wait_closed()
        loop = new_host(sys.argv[1])
        try:
            return loop.run_until_complete(main())
        finally:
            loop.close()

    BODIES = {
        "nothing": lambda conn: None,
        "verbs": lambda conn: [conn.write(b"from the child"), conn.end(b"from the child"), int(conn.ready_state),
                               conn.close(), conn.terminate(), listener.stop(True)],
        "stats": lambda conn: [pybuntcp.stats()["open_sockets"], pybuntcp.stats()["open_listeners"]],
        "a loop of its own": lambda conn: serve_once(),
    }

    def in_child(conn, writer):
        signal.alarm(8)
        try:
            answer = BODIES[sys.argv[2]](conn)
        except BaseException as error:
            answer = repr(error)
        os.write(writer, json.dumps(answer).encode())
        os.close(writer)

    def fork(conn):
        reader, writer = os.pipe()
        run_again = running_here()
        child = os.fork()
        if child == 0:
            os.close(reader)
            in_child(conn, writer)
            run_again()
            if sys.argv[3] == "sys.exit":
                sys.exit(0)
            os._exit(0)
        os.close(writer)
        with open(reader) as answers:
            answer = json.load(answers)
        _, status = os.waitpid(child, 0)
        say([answer, status])

    async def main():
        global went, listener
        went = asyncio.get_running_loop().create_future()
        finished = asyncio.get_running_loop().create_future()
        listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={
            "data": data, "close": lambda *_: finished.set_result(None)})
        say(listener.port)
        if sys.argv[4] == "a task":
            fork(await went)
        await finished
        listener.stop()

    loop = new_host(sys.argv[1])
    loop.run_until_complete(main())
    close_host(loop)
    say("parent done")
"""

IN_CHILD = {
    "nothing": None,
    "verbs": [-1, -1, 0, None, None, None],
    "stats": [0, 0],
    "a loop of its own": "hello",
}


def served_after_fork(*arguments):
    """What the child said and its status, after a look that the parent serves on."""
    with Program(FORKING, *arguments) as program, dialled(program.hear()) as client:
        client.sendall(b"go")
        said, status = program.hear()
        client.sendall(b"still yours?")
        assert client.makefile("rb").read(12) == b"still yours?"
        client.close()
        assert program.finish() == ["parent done"]
        return said, status


@each_host
@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
@pytest.mark.parametrize("body", IN_CHILD)
def test_p1_after_a_fork_inside_a_task_the_parent_serves_on_and_the_childs_connections_are_dead(host, body, leave):
    assert served_after_fork(host, body, leave, "a task") == (IN_CHILD[body], 0)


@each_host
@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
@pytest.mark.parametrize("body", ["nothing", "verbs"])
def test_p1_after_a_fork_inside_a_handler_the_parent_serves_on_and_the_childs_connections_are_dead(host, body, leave):
    assert served_after_fork(host, body, leave, "a handler") == (IN_CHILD[body], 0)
