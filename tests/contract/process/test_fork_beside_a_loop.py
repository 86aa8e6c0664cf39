"""Contract, Process (P1, P3): a fork beside a loop that turns in another thread. The child holds nothing of that loop open.

Each scenario is a program of its own; children live until the program lets them go, and have a clock (SIGALRM).
"""

from __future__ import annotations

import textwrap

import pytest
from support import linux_only
from support.programs import Program, run_program

FAMILY = """
    import contextlib, threading
    from support.transports import TRANSPORTS

    def data(sock, chunk):
        asked = bytes(chunk).decode()
        if asked in ("close", "end", "terminate"):
            getattr(sock, asked)()
        elif asked == "stop":
            sock.listener.stop()
            sock.write(b"stopped")
        else:
            sock.write(chunk)

    def serve(transport, **options):
        "A listener in a thread of its own, whose loop turns."
        def turn():
            listeners.append(transport.listen({"data": data}, **options))
            begun.set()
            pybuntcp.run()
        listeners, begun = [], threading.Event()
        thread = threading.Thread(target=turn)
        thread.start()
        begun.wait()
        return listeners[0], thread

    @contextlib.contextmanager
    def forked(body=lambda: "ready"):
        "A child, which says what `body` gives; it lives as long as the block."
        hold, release = os.pipe()
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(release)
            signal.alarm(20)
            os.write(tell, json.dumps(body()).encode())
            os.close(tell)
            os.read(hold, 1)
            os._exit(0)
        os.close(tell)
        with open(told) as answer:
            said = json.load(answer)
        yield said
        os.close(release)
        os.waitpid(child, 0)

    def dialled(transport, listener):
        client = transport.dial(listener)
        client.settimeout(5)
        if transport.has_tls:
            client.handshake()
        assert asked(client, b"hello") == "hello"
        return client

    def asked(client, question):
        client.sendall(question)
        return heard(client)

    def heard(client):
        "What comes: text, "" at the end, or the name of an error."
        try:
            return client.recv(100).decode()
        except OSError as error:
            return type(error).__name__

    transport = TRANSPORTS[sys.argv[1]]()
"""

TRANSPORTS = pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])


def program(source):
    """The program with the helpers above."""
    return textwrap.dedent(FAMILY) + textwrap.dedent(source)


@TRANSPORTS
@pytest.mark.parametrize("verb", ["close", "end", "terminate"])
def test_p3_a_peer_sees_an_end_though_a_forked_child_lives(kind, verb):
    answer = run_program(
        program("""
        listener, thread = serve(transport)
        client, other = dialled(transport, listener), dialled(transport, listener)
        with forked():
            started = time.monotonic()
            said = asked(client, sys.argv[2].encode())
            say([said, time.monotonic() - started < 0.5])
            say(asked(other, b"still there?"))
            asked(other, b"stop")
            other.close()
            client.close()
        thread.join()
    """),
        kind,
        verb,
    )
    reset = verb == "terminate" and kind != "unix"
    assert answer == [["ConnectionResetError" if reset else "", True], "still there?"]


@TRANSPORTS
def test_p3_a_stopped_listener_leaves_its_address_though_a_forked_child_lives(kind):
    answer = run_program(
        program("""
        listener, thread = serve(transport)
        client = dialled(transport, listener)
        with forked():
            asked(client, b"stop")
            where = {"unix": listener.unix} if listener.unix else {"hostname": "127.0.0.1", "port": listener.port}
            with pybuntcp.listen(**where, socket={"data": print}) as again:
                say(again.port == listener.port)
            client.close()
        thread.join()
    """),
        kind,
    )
    assert answer == [True]


@linux_only
def test_p3_an_abstract_name_is_free_again_though_a_forked_child_lives():
    answer = run_program(
        program("""
        name = "\\0pybuntcp-" + str(os.getpid())
        listener, thread = serve(transport, unix=name, hostname=None, port=None)
        client = socket.socket(socket.AF_UNIX)
        client.connect(name)
        with forked():
            say(asked(client, b"stop"))
            with socket.socket(socket.AF_UNIX) as again:
                again.bind(name)
            client.close()
        thread.join()
    """),
        "tcp",
    )
    assert answer == ["stopped"]


@TRANSPORTS
def test_p1_what_turned_in_another_thread_is_dead_in_a_child(kind):
    """No verb raises, none reaches the parent's peers, and there is nothing to wait for."""
    answer = run_program(
        program("""
        def verbs():
            import asyncio

            listener.stop(True)
            listener.unref()
            asyncio.run(listener.wait_closed())
            [conn] = conns
            return [conn.write(b"from the child"), conn.end(b"from the child"), conn.close(), conn.terminate(),
                    int(conn.ready_state), conn.pending, listener.connections, listener.fd]

        import gc

        listener, thread = serve(transport)
        client = dialled(transport, listener)
        conns = [each for each in gc.get_objects() if isinstance(each, pybuntcp.Socket)]
        with forked(verbs) as said:
            say(said)
            say(asked(client, b"still there?"))
            asked(client, b"stop")
            client.close()
        thread.join()
    """),
        kind,
    )
    assert answer == [[-1, -1, None, None, 0, 0, 0, -1], "still there?"]


@TRANSPORTS
def test_p1_beside_a_loop_in_another_thread_a_child_serves_and_forks_on_its_own(kind):
    answer = run_program(
        program("""
        def serve_once():
            mine, thread = serve(TRANSPORTS[sys.argv[1]]())
            client = dialled(transport, mine)
            with forked():
                asked(client, b"stop")
                said = asked(client, b"close")
            thread.join()
            return said

        listener, thread = serve(transport)
        client = dialled(transport, listener)
        with forked(serve_once) as said:
            say([said, asked(client, b"still there?")])
            asked(client, b"stop")
            client.close()
        thread.join()
    """),
        kind,
    )
    assert answer == [["", "still there?"]]


@linux_only
def test_p3_connections_that_close_while_the_process_forks_are_closed_to_their_peers():
    """The kernel copies descriptors before memory: what is closed in between is not closed by the child."""
    answer = run_program(
        program("""
        def churn():
            while not over.is_set():
                with dialled(transport, listener) as client:
                    said.append(asked(client, b"close"))

        said, over = [], threading.Event()
        ballast = bytearray(b"x") * (64 << 20)      # a fork takes as long as it takes to copy the page tables
        listener, thread = serve(transport)
        churning = [threading.Thread(target=churn) for _ in range(2)]
        last = dialled(transport, listener)
        [each.start() for each in churning]
        with contextlib.ExitStack() as children:
            for _ in range(15):
                children.enter_context(forked())
            over.set()
            [each.join() for each in churning]
            asked(last, b"stop")
            last.close()
        thread.join()
        say([sorted(set(said)), len(said) > 10])
    """),
        "tcp",
    )
    assert answer == [[[""], True]]


def test_p3_a_listening_socket_that_processes_share_outlives_the_stop_of_one():
    """An adopted one; the process forks at that moment, again and again."""
    with Program(
        program("""
        def fork_on():
            while not over.is_set():
                child = os.fork()
                if child == 0:
                    os._exit(0)
                os.waitpid(child, 0)

        over = threading.Event()
        forking = threading.Thread(target=fork_on)
        forking.start()
        shared = socket.create_server(("127.0.0.1", 0))
        for _ in range(100):
            pybuntcp.listen(fd=os.dup(shared.fileno()), socket={"data": print}).stop()
        pybuntcp.run()
        over.set()
        forking.join()
        say(shared.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    """),
        "tcp",
    ) as running:
        assert running.finish() == [1]
