"""`listen_threads`: several loops on one port, each in a thread of its own, started together and stopped together."""

from __future__ import annotations

import contextlib
import socket as stdlib
import sysconfig
import threading

import pytest
from support import TIMEOUT, unraisable, wait_for
from support.addresses import bound_not_listening
from support.handlers import ECHO
from support.programs import Program, run_program

import pybuntcp


def serving(count, **options):
    return pybuntcp.listen_threads(count, **{"socket": ECHO, "hostname": "127.0.0.1", "port": 0, **options})


def client_of(threads):
    return stdlib.create_connection(("127.0.0.1", threads.port), TIMEOUT)


def echoed(client, message=b"hello"):
    client.sendall(message)
    return client.recv(len(message))


@contextlib.contextmanager
def clients_of_every_thread(threads, count):
    """Open connections until each thread has one."""
    with contextlib.ExitStack() as stack:
        opened = []
        while len(opened) < 1000:
            opened.append(stack.enter_context(client_of(threads)))
            assert len(echoed(opened[-1])) == 5
            if sum(stats["connections"] > 0 for stats in threads.stats()) == count:
                break
        else:
            pytest.skip("the kernel gives all connections to one of the listeners")
        yield opened


def pybuntcp_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("pybuntcp-")]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_thread_serves_on_the_one_port(count):
    with serving(count) as threads, clients_of_every_thread(threads, count) as clients:
        assert threads.port > 0
        assert threads.hostname == "127.0.0.1"
        assert len(pybuntcp_threads()) == count
        assert threads.connections == len(clients)
        assert sum(stats["accepted"] for stats in threads.stats()) == len(clients)
        assert [echoed(client) for client in clients] == [b"hello"] * len(clients)
    assert pybuntcp_threads() == []


def test_a_connection_stays_in_its_thread():
    seen = {}

    def data(socket, chunk):
        seen.setdefault(socket.remote_port, set()).add(threading.current_thread().name)
        socket.write(chunk)

    with serving(3, socket={"data": data}) as threads, clients_of_every_thread(threads, 3) as clients:
        for client in clients * 5:
            echoed(client)
        assert {len(names) for names in seen.values()} == {1}
        assert {name for names in seen.values() for name in names} == {"pybuntcp-0", "pybuntcp-1", "pybuntcp-2"}


def test_no_count_means_the_cores_this_process_may_use():
    with serving(None) as threads:
        assert len(threads.stats()) == pybuntcp.threads.usable_cores()


def test_setup_is_called_in_each_thread_before_anything_is_accepted():
    told = []

    def setup(listener):
        told.append((threading.current_thread().name, listener.connections))
        listener.data = threading.current_thread().name

    here = {"data": lambda socket, chunk: socket.write(socket.data.encode()[-len(chunk) :])}
    with serving(2, socket=here, setup=setup) as threads, clients_of_every_thread(threads, 2) as clients:
        assert {echoed(client, b"x" * 10) for client in clients} == {b"pybuntcp-0", b"pybuntcp-1"}
    assert told == [("pybuntcp-0", 0), ("pybuntcp-1", 0)]


# ---------------------------------------------------------------- stopping


def test_stop_lets_open_sockets_live_and_the_threads_end_with_them():
    threads = serving(2)
    with clients_of_every_thread(threads, 2) as clients:
        threads.stop()
        threads.stop()
        wait_for(lambda: refused(threads), "the port to be closed")
        assert not threads.wait(0.05)
        assert [echoed(client) for client in clients] == [b"hello"] * len(clients)
    assert threads.wait(TIMEOUT)
    assert pybuntcp_threads() == []
    assert threads.connections == 0


def refused(threads):
    with stdlib.socket() as probe:
        return probe.connect_ex(("127.0.0.1", threads.port)) != 0


def test_stop_true_closes_open_sockets_too():
    threads = serving(2)
    with clients_of_every_thread(threads, 2) as clients:
        threads.stop(True)
        assert [client.recv(1) for client in clients] == [b""] * len(clients)
    assert threads.wait(TIMEOUT)


def test_stop_true_after_stop_closes_what_was_left_open():
    threads = serving(2)
    with clients_of_every_thread(threads, 2):
        threads.stop()
        threads.stop(True)
        assert threads.wait(TIMEOUT)


def test_stop_from_a_handler_stops_them_all():
    threads = serving(2, socket={"data": lambda socket, chunk: threads.stop(True)})
    with client_of(threads) as client:
        client.sendall(b"stop")
        assert threads.wait(TIMEOUT)


def test_stop_after_the_end_does_nothing():
    threads = serving(2)
    threads.stop()
    assert threads.wait(TIMEOUT)
    threads.stop(True)
    assert threads.wait(TIMEOUT)


def test_leaving_with_stops_and_waits():
    with serving(2) as threads, client_of(threads) as client:
        assert echoed(client) == b"hello"
        threads.stop(True)
        assert client.recv(1) == b""
    assert pybuntcp_threads() == []


@pytest.mark.parametrize("stop", [SystemExit, KeyboardInterrupt])
def test_what_stops_one_loop_stops_all_and_comes_out_of_wait(stop):
    def data(socket, chunk):
        raise stop("enough")

    threads = serving(3, socket={"data": data})
    with client_of(threads) as client:
        client.sendall(b"x")
        with pytest.raises(stop, match="enough"):
            threads.wait(TIMEOUT)
    assert pybuntcp_threads() == []


def test_a_handler_that_raises_stops_nothing():
    def data(socket, chunk):
        if chunk == b"raise":
            raise ValueError("no")
        socket.write(chunk)

    with unraisable() as told, serving(2, socket={"data": data}) as threads, client_of(threads) as client:
        client.sendall(b"raise")
        wait_for(lambda: told, "the report")
        assert echoed(client) == b"hello"
    assert [type(error) for error in told] == [ValueError]


def test_ctrl_c_in_wait_stops_them_all_and_is_raised():
    with Program(
        """
        import threading, traceback
        threads = pybuntcp.listen_threads(2, socket={"data": lambda s, c: s.write(c)}, hostname="127.0.0.1", port=0)
        client = socket.create_connection(("127.0.0.1", threads.port))
        client.sendall(b"x")
        client.recv(1)
        def interrupt_when_it_waits(main):
            inside = []
            while inside[:1] != [threading.__file__] or pybuntcp.threads.__file__ not in inside:
                time.sleep(0.01)
                inside = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._current_frames()[main])]
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt_when_it_waits, args=[threading.get_ident()], daemon=True).start()
        try:
            threads.wait()
        except KeyboardInterrupt:
            say([client.recv(1) == b"", len(threads.stats())])
        """
    ) as program:
        assert program.hear() == [True, 2]
        assert program.finish() == []


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"count": 0}, ValueError, "count"),
        ({"count": 2.0}, TypeError, "count"),
        ({"unix": "/nowhere"}, TypeError, "unix"),
        ({"fd": 3}, TypeError, "fd"),
        ({"exclusive": True}, TypeError, "exclusive"),
        ({"socket": None}, TypeError, "socket"),
        ({"backlog": -1}, ValueError, "backlog"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_wrong_options_raise_at_the_call_and_start_nothing(options, error, says):
    options = {"count": 2, **options}
    with pytest.raises(error, match=says):
        serving(options.pop("count"), **options)
    assert pybuntcp_threads() == []


def test_an_address_in_use_raises_at_the_call_and_leaves_no_thread():
    with bound_not_listening() as port, pytest.raises(OSError, match=str(port)) as caught:
        serving(3, port=port)
    assert caught.value.port == port
    assert pybuntcp_threads() == []


@pytest.mark.parametrize("failing", [1, 2])
def test_a_setup_that_raises_leaves_no_thread(failing):
    calls = []

    def setup(listener):
        calls.append(listener)
        if len(calls) == failing:
            raise ValueError("not here")

    with pytest.raises(ValueError, match="not here"):
        serving(3, setup=setup)
    assert pybuntcp_threads() == []
    assert len(calls) == failing


def test_it_cannot_be_made_otherwise():
    with pytest.raises(TypeError, match="listen_threads"):
        pybuntcp.ListenerThreads()


def test_a_listener_of_it_belongs_to_its_thread():
    kept = []
    with serving(1, setup=kept.append), pytest.raises(RuntimeError, match="pybuntcp-0"):
        kept[0].stop()


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this interpreter always has a GIL")
def test_importing_it_on_a_free_threaded_interpreter_does_not_bring_the_gil_back():
    assert run_program("say(sys._is_gil_enabled())") == [False]
