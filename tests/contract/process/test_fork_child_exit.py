"""Contract, Process (P3): a forked child that ends, or leaves a `with`, changes nothing in its parent, and does not wait.

Each scenario is a program of its own, and every child has a clock (SIGALRM): one that waits ends with status -14.
"""

from __future__ import annotations

import textwrap

import pytest
from support import linux_only
from support.asyncio_loops import each_host
from support.programs import Program, run_program

FAMILY = """
    def forked(body):
        "The exit status of a child that calls `body` and then ends as any program."
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            body()
            sys.exit(0)
        return reap(child)

    def reap(child):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def answered(client, question=b"still there?"):
        "What a raw peer is told by an echo server."
        client.settimeout(5)
        client.sendall(question)
        return client.recv(100).decode()
"""


def program(source):
    """The program with the helpers above."""
    return textwrap.dedent(FAMILY) + textwrap.dedent(source)


# ---------------------------------------------------------------- listen_threads

THREADS = """
    parent = os.getpid()
    with pybuntcp.listen_threads(2, hostname="127.0.0.1", port=0, socket={{
            "data": lambda socket, chunk: socket.write(chunk)}}) as threads:
        clients = [socket.create_connection(("127.0.0.1", threads.port)) for _ in range(8)]
        first = [answered(client) for client in clients]
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            {in_child}
        if os.getpid() == parent:
            say([reap(child), [answered(client) for client in clients] == first, threads.connections])
"""


@pytest.mark.parametrize(
    "in_child",
    [
        "sys.exit(0)",
        "pass",
        "threads.stop(True); os._exit(0)",
        "threads.stop(); threads.wait(); os._exit(0)",
        "del threads, clients; import gc; gc.collect(); os._exit(0)",
    ],
    ids=["exit", "leaving with", "stop", "wait", "garbage"],
)
def test_p3_a_childs_exit_does_not_stop_the_parents_threads(in_child):
    assert run_program(program(THREADS.format(in_child=in_child))) == [[0, True, 8]]


def test_p3_in_a_child_threads_have_ended_and_nothing_of_them_is_open():
    said = run_program(
        program(
            THREADS.format(
                in_child="os._exit(0 if threads.wait(0) and threads.wait() and not threads.connections else 1)"
            )
        )
    )
    assert said == [[0, True, 8]]


@pytest.mark.parametrize("leave", ["sys.exit(0)", "return", "os._exit(0)"])
def test_p3_a_child_forked_in_a_handler_of_a_thread_does_not_stop_the_others(leave):
    answer = run_program(
        program(f"""
        children = []

        def data(socket, chunk):
            if chunk == b"fork":
                children.append(os.fork())
                if children[-1] == 0:
                    signal.alarm(5)
                    {leave}
                chunk = b"forked"
            socket.write(chunk)

        with pybuntcp.listen_threads(2, hostname="127.0.0.1", port=0, socket={{"data": data}}) as threads:
            clients = [socket.create_connection(("127.0.0.1", threads.port)) for _ in range(8)]
            first = [answered(client) for client in clients]
            say(answered(clients[0], b"fork"))
            say([reap(children[0]), [answered(client) for client in clients] == first])
    """)
    )
    assert answer == ["forked", [0, True]]


def test_p3_a_process_of_multiprocessing_does_not_stop_the_parents_threads():
    answer = run_program(
        program("""
        import multiprocessing
        context = multiprocessing.get_context("fork")
        with pybuntcp.listen_threads(2, hostname="127.0.0.1", port=0, socket={
                "data": lambda socket, chunk: socket.write(chunk)}) as threads:
            clients = [socket.create_connection(("127.0.0.1", threads.port)) for _ in range(4)]
            worker = context.Process(target=lambda: threads.stop(True))
            worker.start()
            worker.join(10)
            say([worker.exitcode, [answered(client) for client in clients] == ["still there?"] * 4])
    """)
    )
    assert answer == [[0, True]]


# ---------------------------------------------------------------- with, verbs, atexit, garbage

EXITS = {
    "leaving with": "None",
    "stop": "listener.stop(True)",
    "close": "[each.close() for each in conns]",
    "end": "[each.end(b'bye') for each in conns]",
    "terminate": "[each.terminate() for each in conns]",
    "sink": "[each.close() for each in sinks]",
    "cork": "corks.close()",
    "garbage": "[conns.clear(), sinks.clear(), gc.collect()]",
}


@pytest.mark.parametrize("way", EXITS)
def test_p3_a_childs_exit_is_not_heard_by_the_parents_peers(way):
    """The child ends inside `with listener:`, `with socket:` and an open cork, and then by atexit."""
    answer = run_program(
        program(f"""
        import contextlib, gc

        class Enough(SystemExit):
            pass

        def data(sock, chunk):
            if chunk != b"go":
                sock.write(chunk)
                return
            conns.append(sock)
            sinks.append(sock.sink())
            raise Enough

        conns, sinks = [], []
        with pybuntcp.listen(hostname="127.0.0.1", port=0, socket={{
                "data": data, "close": lambda *_: listener.stop()}}) as listener:
            client = socket.create_connection(("127.0.0.1", listener.port))
            client.sendall(b"go")
            try:
                pybuntcp.run()
            except Enough:
                pass
            child = os.fork()
            if child == 0:
                signal.alarm(5)
                corks = contextlib.ExitStack()
                with conns[0], corks:
                    corks.enter_context(conns[0].cork())
                    conns[0].write(b"from the child")
                    {EXITS[way]}
                    sys.exit(0)
            say(reap(child))
            client.sendall(b"still there?")
            client.shutdown(socket.SHUT_WR)
            pybuntcp.run()
        say(client.makefile("rb").read().decode())
    """)
    )
    assert answer == [0, "still there?"]


# ---------------------------------------------------------------- inside asyncio

ASYNC = """
    import asyncio
    from support.asyncio_loops import close_host, new_host, running_here

    async def with_listener():
        async with listener:
            await fork()

    async def with_socket():
        async with accepted[0]:
            await fork()

    async def wait_closed():
        "The child stops what it inherited, and waits for it."
        await fork(until_closed)

    async def until_closed():
        listener.stop(True)
        await listener.wait_closed()

    async def fork(in_child=None):
        run_again = running_here()
        child = os.fork()
        if child == 0:
            run_again()
            signal.alarm(5)
            if in_child is not None:
                await in_child()
            sys.exit(0)
        say(reap(child))
        loop = asyncio.get_running_loop()
        client.setblocking(False)
        await loop.sock_sendall(client, b"still there?")
        say((await asyncio.wait_for(loop.sock_recv(client, 100), 5)).decode())
        client.close()

    async def main():
        global listener, client
        listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={
            "open": accepted.append, "data": lambda socket, chunk: socket.write(chunk)})
        client = socket.create_connection(("127.0.0.1", listener.port))
        while not accepted:
            await asyncio.sleep(0.001)
        await globals()[sys.argv[2]]()
        listener.stop(True)

    accepted = []
    loop = new_host(sys.argv[1])
    loop.run_until_complete(main())
    close_host(loop)
"""


@each_host
@pytest.mark.parametrize("inside", ["with_listener", "with_socket", "wait_closed"])
def test_p3_a_child_that_leaves_async_with_ends_at_once_and_the_parent_serves_on(host, inside):
    assert run_program(program(ASYNC), host, inside) == [0, "still there?"]


@linux_only
@each_host
@pytest.mark.parametrize("in_child", ["loop.close()", "del loop; import gc; gc.collect()"])
def test_p3_a_child_that_closes_an_inherited_asyncio_loop_leaves_the_parents_awake(host, in_child):
    """asyncio unwatches its own descriptors then; the parent's loop hears of other threads by one of them."""
    answer = run_program(
        program(f"""
        import asyncio, threading
        from support.asyncio_loops import new_host, close_host

        async def listen():
            return pybuntcp.listen(hostname="127.0.0.1", port=0, socket={{"data": print}})

        async def main():
            done = asyncio.get_running_loop().create_future()
            timer = threading.Timer(0.05, loop.call_soon_threadsafe, [done.set_result, None])
            timer.start()
            listener.stop()
            alarm = asyncio.get_running_loop().call_later(3, late.append, "woken by a timer")
            await done
            alarm.cancel()
            return late

        late = []
        loop = new_host(sys.argv[1])
        listener = loop.run_until_complete(listen())
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            {in_child}
            os._exit(0)
        say(reap(child))
        say(loop.run_until_complete(main()))
        close_host(loop)
    """),
        host,
    )
    assert answer == [0, []]


def test_p3_a_signal_for_a_child_is_not_told_to_the_parents_native_loop():
    """Both had the same pipe for signals."""
    with Program("""
        import asyncio

        async def main():
            loop, got = asyncio.get_running_loop(), []
            loop.add_signal_handler(signal.SIGUSR1, got.append, "SIGUSR1")
            with pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print}):
                child = os.fork()
                if child == 0:
                    os.kill(os.getpid(), signal.SIGUSR1)
                    os._exit(0)
                os.waitpid(child, 0)
                await asyncio.sleep(0.05)
                say(got)
                os.kill(os.getpid(), signal.SIGUSR1)
                await asyncio.sleep(0.05)
                say(got)

        pybuntcp.run(main())
    """) as program:
        assert program.finish() == [[], ["SIGUSR1"]]
