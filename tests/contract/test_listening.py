"""Contract, Listening (L1-L5): addresses, stop, unix files, limits, adopted descriptors."""

from __future__ import annotations

import collections
import contextlib
import errno
import json
import os
import select
import socket as stdlib
import sys

import pytest
from support import Feed, Peer, Recorder, descriptors, wait_for
from support_more import (
    QUIET,
    Program,
    bound_not_listening,
    linux_only,
    local_pair,
    needs_ipv6,
    port_of,
    room_for_descriptors,
    run_program,
)

import pybuntcp

UNIX_LIMIT = 107 if sys.platform == "linux" else 103      # bytes of sun_path, less the closing NUL
ACCEPTS_A_TURN = 64


def listen(**options):
    return pybuntcp.listen(**{"socket": QUIET, **options})


def refusal(**options):
    """The error of a listen that must fail, after a look that it left nothing."""
    before = descriptors()
    with pytest.raises(OSError) as caught:      # noqa: PT011 - who asks says which one
        listen(**options)
    assert descriptors() == before
    return caught.value


def told(error):
    return error.errno, error.code, error.syscall, error.address, error.port


def echo_handlers():
    return {"data": lambda socket, chunk: socket.write(chunk)}


def answers(loop, transport, listener):
    """Whether the listener serves a new connection."""
    peer = transport.peer(listener)
    peer.send(b"alive?")
    return loop.wait(peer.recv_exactly(6)) == b"alive?"


def refuses(transport, listener):
    """Whether nobody listens there any more."""
    with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
        transport.dial(listener).close()
        return False
    return True


# ---------------------------------------------------------------- L1: addresses


def test_l1_port_0_picks_a_port_and_the_listener_tells(loop, tcp):
    first, second = tcp.listen(echo_handlers()), tcp.listen(echo_handlers())
    assert 0 < first.port < 65536
    assert first.port != second.port
    assert answers(loop, tcp, first)
    assert answers(loop, tcp, second)


def test_l1_a_given_port_is_used(loop, tcp):
    with stdlib.create_server(("127.0.0.1", 0)) as sock:
        port = port_of(sock)
    listener = tcp.listen(echo_handlers(), port=port)
    assert (listener.hostname, listener.port) == ("127.0.0.1", port)
    assert answers(loop, tcp, listener)


def test_l1_an_address_in_use(tcp):
    first = tcp.listen(QUIET)
    error = refusal(hostname="127.0.0.1", port=first.port)
    assert told(error) == (errno.EADDRINUSE, "EADDRINUSE", "listen", "127.0.0.1", first.port)


def test_l1_an_address_that_is_not_ours():
    error = refusal(hostname="192.0.2.1", port=4)
    assert told(error) == (errno.EADDRNOTAVAIL, "EADDRNOTAVAIL", "listen", "192.0.2.1", 4)


def test_l1_a_missing_directory(tmp_path):
    path = str(tmp_path / "missing" / "s")
    error = refusal(unix=path)
    assert isinstance(error, FileNotFoundError)
    assert told(error) == (errno.ENOENT, "ENOENT", "listen", path, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["name.invalid", "a b", "127.0.0.1:80"])
def test_l1_a_name_that_does_not_resolve_is_a_gaierror(name):
    error = refusal(hostname=name, port=0)
    assert isinstance(error, stdlib.gaierror)
    assert error.code.startswith("EAI_")
    assert error.address == name


def test_l1_a_failed_listen_does_not_spoil_the_next(loop, tcp):
    first = tcp.listen(QUIET)
    refusal(hostname="127.0.0.1", port=first.port)
    assert answers(loop, tcp, tcp.listen(echo_handlers()))


@needs_ipv6
@pytest.mark.parametrize("hostname", ["::1", "[::1]"])
def test_l1_an_ipv6_address_with_or_without_brackets(loop, hostname):
    recorder = Recorder()
    listener = listen(socket=recorder.handlers, hostname=hostname, port=0)
    with listener, stdlib.create_connection(("::1", listener.port)) as client:
        loop.run_until(lambda: recorder.sockets)
        socket = recorder.socket
        assert (socket.remote_address, socket.remote_port) == ("::1", port_of(client))
        assert (socket.local_address, socket.local_port) == ("::1", listener.port)
        assert (socket.remote_family, socket.local_family) == ("IPv6", "IPv6")
    loop.run()


@needs_ipv6
def test_l1_the_unspecified_ipv6_address_serves_both_families(loop):
    recorder = Recorder()
    with listen(socket=recorder.handlers, hostname="::", port=0) as listener:
        clients = [stdlib.create_connection((host, listener.port)) for host in ("127.0.0.1", "::1")]
        loop.run_until(lambda: len(recorder.sockets) == 2)
        for client in clients:
            client.close()
    loop.run()


@needs_ipv6
def test_l1_ipv6_only_leaves_the_other_family_alone():
    with bound_not_listening("127.0.0.1") as port:
        assert refusal(hostname="::", port=port).errno == errno.EADDRINUSE
        with listen(hostname="::", port=port, ipv6_only=True):
            stdlib.create_connection(("::1", port)).close()
            with pytest.raises(ConnectionRefusedError):
                stdlib.create_connection(("127.0.0.1", port))


@linux_only
def test_l1_reuse_port_lets_two_listeners_share_a_port(loop):
    first = listen(hostname="127.0.0.1", port=0, reuse_port=True)
    with first, listen(hostname="127.0.0.1", port=first.port, reuse_port=True) as second:
        assert second.port == first.port
    loop.run()


@linux_only
@pytest.mark.parametrize("options", [{}, {"exclusive": True}])
def test_l1_without_reuse_port_a_port_is_not_shared(options):
    with listen(hostname="127.0.0.1", port=0, reuse_port=True) as first:
        assert refusal(hostname="127.0.0.1", port=first.port, **options).errno == errno.EADDRINUSE


def test_l1_a_port_can_be_listened_on_again_at_once(loop, tcp):
    recorder = Recorder(open=lambda socket: socket.end(b"bye"))
    first = tcp.listen(recorder)
    peer = tcp.peer(first)
    loop.wait(peer.recv_until_eof())
    peer.close()
    loop.run_until(lambda: recorder.count("close"))
    first.stop()
    assert answers(loop, tcp, tcp.listen(echo_handlers(), port=first.port))


# ---------------------------------------------------------------- L2: stop, ref, unref


def test_l2_stop_stops_accepting_and_open_sockets_live_on(loop, transport):
    recorder = Recorder(data=lambda socket, chunk: socket.write(chunk))
    listener = transport.listen(recorder)
    peer = transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    listener.stop()
    assert refuses(transport, listener)
    peer.send(b"still here")
    assert loop.wait(peer.recv_exactly(10)) == b"still here"
    assert listener.connections == 1


def test_l2_stop_true_closes_open_sockets_too(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder)
    peers = [transport.peer(listener) for _ in range(3)]
    loop.run_until(lambda: len(recorder.sockets) == 3)
    listener.stop(True)
    assert recorder.count("close") == 0
    for peer in peers:
        assert loop.wait(peer.recv_until_eof()) == b""
    loop.run_until(lambda: recorder.count("close") == 3)
    assert listener.connections == 0
    assert refuses(transport, listener)


def test_l2_stop_true_sends_what_was_accepted_first(loop, transport):
    listener = transport.listen(Recorder(open=lambda socket: (socket.write(b"last words"), listener.stop(True))))
    peer = transport.peer(listener)
    assert loop.wait(peer.recv_until_eof()) == b"last words"


def test_l2_stop_true_after_stop_closes_what_stop_left(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder)
    peer = transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    listener.stop()
    listener.stop(close_active_connections=True)
    assert loop.wait(peer.recv_until_eof()) == b""


@pytest.mark.parametrize("force", [False, True])
def test_l2_stop_is_idempotent(loop, transport, force):
    recorder = Recorder()
    listener = transport.listen(recorder)
    transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    for _ in range(3):
        listener.stop(force)
    listener.stop(True)
    loop.run()
    listener.stop(force)
    assert recorder.names() == ["open", "close"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("event", ["open", "data", "drain", "end", "close"])
def test_l2_stop_from_a_handler(loop, transport, event, force):
    def stop(socket, *args):
        listener.stop(force)
        listener.stop(force)

    recorder = Recorder(**{event: stop})
    listener = transport.listen(recorder)
    peers = [transport.peer(listener) for _ in range(3)]
    for peer in peers:
        peer.connected.result()
    loop.run_until(lambda: len(recorder.sockets) == 3 or listener.fd == -1)
    provoke(event, recorder.sockets, peers)
    loop.run_until(lambda: recorder.count(event))
    listener.stop(True)
    loop.run()
    assert recorder.count("open") == recorder.count("close")
    assert refuses(transport, listener)


def provoke(event, sockets, peers):
    """Make this event happen to every socket."""
    for socket, peer in zip(sockets, peers, strict=False):
        if event == "drain":
            feed = Feed(1 << 24)
            feed.fill(socket)
            peer.recv_exactly(feed.at).ignore()
        elif event == "data":
            peer.send(b"x").ignore()
        elif event == "end":
            peer.shutdown().ignore()
        elif event == "close":
            peer.close()


def test_l2_with_stops_and_closes(loop, transport):
    recorder = Recorder()
    with transport.listen(recorder) as listener:
        peer = transport.peer(listener)
        loop.run_until(lambda: recorder.sockets)
    assert loop.wait(peer.recv_until_eof()) == b""
    assert refuses(transport, listener)


def test_l2_a_stopped_listener_still_tells_where_it_was(tcp, unix):
    for transport, name in ((tcp, "port"), (unix, "unix")):
        listener = transport.listen(QUIET, data="mine")
        before = getattr(listener, name)
        listener.stop()
        assert getattr(listener, name) == before
        assert listener.fd == -1


def test_l2_a_listener_keeps_run_going(loop, transport):
    """Its first connection stops it: `run` is still there to see that, and returns then."""
    recorder = Recorder(open=lambda socket: (socket.close(), listener.stop()))
    listener = transport.listen(recorder)
    transport.peer(listener)
    loop.run()
    assert (recorder.count("open"), recorder.count("close")) == (1, 1)


def test_l2_an_unreferenced_listener_does_not_keep_run_going(loop, transport):
    listener = transport.listen(QUIET)
    listener.unref()
    loop.run(timeout=2.0)
    listener.ref()
    listener.unref()
    loop.run(timeout=2.0)
    assert loop.gauges()["open_listeners"] == 1


def test_l2_an_unreferenced_listener_accepts_while_something_else_turns_the_loop(loop, transport):
    recorder = Recorder()
    listener, keeper = transport.listen(recorder), transport.listen(QUIET)
    listener.unref()
    transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    keeper.stop()


def test_l2_ref_takes_unref_back(loop, transport):
    recorder = Recorder(open=lambda socket: (socket.close(), listener.stop()))
    listener = transport.listen(recorder)
    listener.unref()
    listener.unref()
    listener.ref()
    transport.peer(listener)
    loop.run()
    assert recorder.count("open") == 1


def test_l2_an_accepted_socket_keeps_run_going_without_its_listener(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder)
    peer = transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    listener.unref()
    closing = peer.close()
    loop.run()
    assert closing.done()
    assert recorder.count("close") == 1


def test_l2_unreferenced_sockets_do_not_keep_run_going(loop, transport):
    server, client = Recorder(), Recorder()
    listener, accepted, connected = local_pair(loop, transport, server, client)
    for handle in (listener, accepted, connected):
        handle.unref()
    loop.run(timeout=2.0)
    assert server.names() == client.names() == ["open"]
    accepted.ref()
    connected.close()
    loop.run(timeout=2.0)
    assert server.names() == ["open", "end", "close"]


def test_l2_a_connect_in_progress_keeps_run_going(loop, transport):
    raw = transport.raw_server()
    client = Recorder(open=lambda socket: socket.close())
    transport.connect(client, raw)
    peer = raw.accept()
    peer.connected.result()
    peer.shutdown()
    loop.run()
    assert client.count("open") == 1


def test_l2_ref_and_unref_after_stop_are_harmless(loop, transport):
    listener = transport.listen(QUIET)
    listener.stop()
    listener.ref()
    loop.run(timeout=2.0)
    listener.unref()
    listener.ref()
    loop.run(timeout=2.0)
    assert loop.gauges()["open_listeners"] == 0


def done_at_once(awaitable):
    """What an awaitable that need not wait gives."""
    with pytest.raises(StopIteration) as stopped:
        next(awaitable.__await__())
    return stopped.value.value


def test_l2_wait_closed_without_connections_gives_zero_at_once(transport):
    listener = transport.listen(QUIET)
    assert done_at_once(listener.wait_closed()) == 0
    listener.stop()
    assert done_at_once(listener.wait_closed()) == 0


def test_l2_wait_closed_whose_time_is_over_gives_the_connections_still_open(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder)
    for _ in range(2):
        transport.peer(listener)
    loop.run_until(lambda: len(recorder.sockets) == 2)
    assert done_at_once(listener.wait_closed(timeout=0)) == 2
    listener.stop(True)
    loop.run()
    assert done_at_once(listener.wait_closed()) == 0


# ---------------------------------------------------------------- L3: unix sockets


@pytest.fixture
def folder(unix):
    """A folder with a short path."""
    return unix.listen_options()["unix"].rpartition("/")[0]


def path_of(folder, length):
    """A path of exactly this many bytes."""
    return folder + "/" + "x" * (length - len(folder) - 1)


def test_l3_a_path_of_the_systems_limit_works(loop, unix, folder):
    path = path_of(folder, UNIX_LIMIT)
    listener = unix.listen(echo_handlers(), unix=path)
    assert listener.unix == path
    assert os.path.exists(path)
    assert answers(loop, unix, listener)


@pytest.mark.parametrize("more", [2, 100, 5000])
def test_l3_a_path_past_the_limit_is_enametoolong_with_the_path(folder, more):
    path = path_of(folder, UNIX_LIMIT + more)
    error = refusal(unix=path)
    assert told(error) == (errno.ENAMETOOLONG, "ENAMETOOLONG", "listen", path, None)
    assert os.listdir(folder) == []


def test_l3_a_client_may_use_a_path_of_the_systems_limit(loop, unix, folder):
    server, client = Recorder(), Recorder()
    local_pair(loop, unix, server, client, unix=path_of(folder, UNIX_LIMIT))
    assert client.names() == ["open"]


@pytest.mark.parametrize("more", [2, 100, 5000])
def test_l3_a_client_is_told_that_its_path_is_too_long(loop, folder, more):
    path = path_of(folder, UNIX_LIMIT + more)
    recorder = Recorder()
    pybuntcp.connect(unix=path, socket=recorder.handlers)
    loop.run()
    (error,), = recorder.args("connect_error")
    assert told(error) == (errno.ENAMETOOLONG, "ENAMETOOLONG", "connect", path, None)


@linux_only
def test_l3_an_abstract_name_has_no_file(loop, unix, folder):
    name = f"\0{folder}/abstract"
    listener = unix.listen(echo_handlers(), unix=name)
    assert listener.unix == name
    assert os.listdir(folder) == []
    assert answers(loop, unix, listener)


@linux_only
def test_l3_a_client_reaches_an_abstract_name(loop, unix, folder):
    server, client = Recorder(), Recorder()
    _, accepted, _ = local_pair(loop, unix, server, client, unix=f"\0{folder}/abstract")
    accepted.write(b"hello")
    loop.run_until(lambda: client.received() == b"hello")


@linux_only
def test_l3_an_abstract_name_is_taken_until_stop(folder):
    name = f"\0{folder}/abstract"
    with listen(unix=name):
        assert refusal(unix=name).errno == errno.EADDRINUSE
    listen(unix=name).stop()


@linux_only
def test_l3_an_abstract_name_is_longer_or_shorter_by_its_own_bytes(folder):
    """Names that differ in trailing bytes alone, a NUL among them, are different names."""
    name = f"\0{folder}/a"
    with listen(unix=name), listen(unix=name + "b"):
        pass


@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect])
def test_l3_an_interior_nul_in_a_file_path_is_refused(loop, folder, call):
    with pytest.raises(ValueError, match="unix"):
        call(unix=f"{folder}/a\0b", socket=QUIET)
    assert os.listdir(folder) == []
    loop.run()


@pytest.mark.parametrize("force", [False, True])
def test_l3_the_file_is_removed_at_stop(folder, force):
    path = f"{folder}/socket"
    listener = listen(unix=path)
    assert os.listdir(folder) == ["socket"]
    listener.stop(force)
    assert os.listdir(folder) == []


def test_l3_the_file_is_removed_at_stop_after_the_working_directory_changed(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    listener = listen(unix="socket")
    monkeypatch.chdir(tmp_path)
    listener.stop()
    assert os.listdir(folder) == []


@pytest.mark.parametrize("other", ["a file", "a listener", "nothing"])
def test_l3_a_file_that_is_no_longer_ours_is_not_removed(folder, other):
    path = f"{folder}/socket"
    first = listen(unix=path)
    os.rename(path, f"{folder}/moved")
    second = listen(unix=path) if other == "a listener" else None
    if other == "a file":
        with open(path, "w") as file:
            file.write("precious")
    first.stop()
    assert os.path.exists(path) == (other != "nothing")
    assert os.path.exists(f"{folder}/moved")
    if second is not None:
        second.stop()
        assert not os.path.exists(path)


def test_l3_a_path_can_be_listened_on_again_after_stop(loop, unix, folder):
    for _ in range(3):
        listener = unix.listen(echo_handlers(), unix=f"{folder}/socket")
        assert answers(loop, unix, listener)
        listener.stop()


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "listener.unref(); pybuntcp.run()"])
def test_l3_the_file_is_removed_at_normal_exit(folder, ending):
    run_program("""
        listener = pybuntcp.listen(unix=sys.argv[1], socket={"data": print})
        say(os.path.exists(sys.argv[1]))
        """ + ending, f"{folder}/socket")
    assert os.listdir(folder) == []


def test_l3_at_exit_too_a_file_that_is_no_longer_ours_is_not_removed(folder):
    run_program("""
        path = sys.argv[1]
        listener = pybuntcp.listen(unix=path, socket={"data": print})
        os.rename(path, path + ".moved")
        with open(path, "w") as file:
            file.write("precious")
    """, f"{folder}/socket")
    assert sorted(os.listdir(folder)) == ["socket", "socket.moved"]


@pytest.mark.parametrize("leave", ["sys.exit(0)", "listener.stop(); sys.exit(0)", "os._exit(0)"])
def test_l3_a_forked_child_does_not_remove_the_file(folder, leave):
    source = f"""
        listener = pybuntcp.listen(unix=sys.argv[1], socket={{"data": print}})
        child = os.fork()
        if child == 0:
            {leave}
        os.waitpid(child, 0)
        say(os.path.exists(sys.argv[1]))
    """
    assert run_program(source, f"{folder}/socket") == [True]
    assert os.listdir(folder) == []


@pytest.mark.parametrize("kind", ["file", "stale socket", "live socket", "directory", "dangling link"])
def test_l3_a_path_that_exists_is_eaddrinuse_and_left_alone(folder, kind):
    path = f"{folder}/taken"
    with contextlib.ExitStack() as stack:
        if kind == "file":
            stack.enter_context(open(path, "w")).write("precious")
        elif kind == "directory":
            os.mkdir(path)
        elif kind == "dangling link":
            os.symlink(f"{folder}/nowhere", path)
        else:
            sock = stack.enter_context(stdlib.socket(stdlib.AF_UNIX))
            sock.bind(path)
            if kind == "stale socket":
                sock.close()
        before = os.lstat(path)
        error = refusal(unix=path)
        assert told(error) == (errno.EADDRINUSE, "EADDRINUSE", "listen", path, None)
        assert os.path.samestat(os.lstat(path), before)
        assert os.listdir(folder) == ["taken"]


# ---------------------------------------------------------------- L4: limits


CROWDED = """
    import resource

    def opened(socket):
        socket.write(b"welcome\\n")

    def asked(socket, chunk):
        used = resource.getrusage(resource.RUSAGE_SELF)
        answer = {"cpu": used.ru_utime + used.ru_stime, "errors": pybuntcp.stats()["accept_errors"],
                  "open": listener.connections, "turns": pybuntcp.stats()["turns"]}
        socket.write(json.dumps(answer) + "\\n")

    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"open": opened, "data": asked})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    say(listener.port)
    pybuntcp.run()
"""


class Clients:
    """Raw clients of a server in another process; the first one asks it how it feels."""

    def __init__(self, port, stack):
        self._address, self._stack = ("127.0.0.1", port), stack
        self.all = []

    def dial(self, count):
        for _ in range(count):
            client = self._stack.enter_context(stdlib.create_connection(self._address, timeout=10))
            self.all.append(client)

    def welcomed(self):
        """Those that the server has accepted so far."""
        return select.select(self.all[1:], [], [], 0)[0]

    def ask(self):
        """What the server says of itself."""
        self.all[0].sendall(b"?")
        return json.loads(self.reader.readline())

    def greet(self):
        """Wait until the first one is accepted."""
        self.reader = self._stack.enter_context(self.all[0].makefile("rb"))
        assert self.reader.readline() == b"welcome\n"


@pytest.fixture
def crowd():
    """A server that has run out of its 64 descriptors, and its clients, 80 of them."""
    with Program(CROWDED) as program, contextlib.ExitStack() as stack:
        clients = Clients(program.hear(), stack)
        clients.dial(1)
        clients.greet()
        clients.dial(79)
        wait_for(lambda: clients.ask()["errors"], "the server to run out of descriptors")
        yield clients


def test_l4_at_the_descriptor_limit_the_listener_does_not_spin(crowd):
    before = crowd.ask()
    select.select([], [], [], 1.0)      # a second of the server's life, to be measured
    after = crowd.ask()
    assert after["cpu"] - before["cpu"] < 0.1
    assert after["errors"] - before["errors"] < 100


def test_l4_at_the_descriptor_limit_open_connections_are_served(crowd):
    first = crowd.ask()
    assert 1 <= first["open"] < 64
    for _ in range(10):
        assert crowd.ask()["open"] >= first["open"]


def test_l4_the_listener_goes_on_when_descriptors_come_back(crowd):
    early = crowd.welcomed()
    assert 40 < len(early) < 64      # so that the rest has room once these are gone
    for client in early:
        crowd.all.remove(client)
        client.close()
    late = len(crowd.all) - 1
    wait_for(lambda: len(crowd.welcomed()) == late, "the rest to be accepted")


@pytest.mark.parametrize("limit", [1, 3])
def test_l4_max_connections_pauses_accepting_and_goes_on_after_a_close(loop, transport, limit):
    recorder = Recorder(open=lambda socket: most.append(listener.connections))
    most = []
    listener = transport.listen(recorder, max_connections=limit)
    peers = [transport.peer(listener) for _ in range(limit + 2)]
    for peer in peers:
        peer.connected.result()
    loop.run_until(lambda: len(recorder.sockets) == limit)
    for expected in (limit + 1, limit + 2):
        recorder.sockets[expected - limit - 1].terminate()
        loop.run_until(lambda expected=expected: len(recorder.sockets) == expected)
    assert max(most) == limit
    assert listener.connections == limit


def test_l4_at_max_connections_nothing_more_is_accepted(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder, max_connections=1)
    peers = [transport.peer(listener) for _ in range(2)]
    for peer in peers:
        peer.connected.result()
    loop.run_until(lambda: recorder.sockets)
    turns = pybuntcp.stats()["turns"]
    witness = transport.listen(Recorder(data=lambda socket, chunk: socket.write(chunk)))
    for _ in range(10):
        assert answers(loop, transport, witness)
    assert pybuntcp.stats()["turns"] >= turns + 10
    assert len(recorder.sockets) == 1
    assert listener.connections == 1


def test_l4_a_paused_listener_costs_no_wake_ups(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder, max_connections=1)
    for _ in range(2):
        transport.peer(listener).connected.result()
    loop.run_until(lambda: recorder.sockets)
    before = pybuntcp.stats()["turns"]
    recorder.socket.timeout(0.3)
    loop.run_until(lambda: recorder.count("close"))
    assert pybuntcp.stats()["turns"] - before < 20


def test_l4_max_connections_survives_closing_inside_open(loop, transport):
    recorder = Recorder(open=lambda socket: socket.close())
    listener = transport.listen(recorder, max_connections=1)
    for _ in range(20):
        transport.peer(listener)
    loop.run_until(lambda: recorder.count("close") == 20)
    assert listener.connections == 0


def test_l4_at_most_64_accepts_a_turn(loop, transport):
    turns = collections.Counter()

    def opened(socket):
        turns[pybuntcp.stats()["turns"]] += 1

    recorder = Recorder(open=opened)
    listener = transport.listen(recorder)
    with room_for_descriptors(1000), contextlib.ExitStack() as stack:
        for _ in range(3 * ACCEPTS_A_TURN):
            stack.enter_context(transport.dial(listener))
        loop.run_until(lambda: len(recorder.sockets) == 3 * ACCEPTS_A_TURN)
        assert max(turns.values()) <= ACCEPTS_A_TURN
        listener.stop(True)
        loop.run()


def test_l4_accepting_a_crowd_does_not_starve_an_open_connection(loop, transport):
    """Bytes that arrived before the crowd are read before all of the crowd is in."""
    def data(socket, chunk):
        seen.append(len(recorder.sockets))

    seen = []
    recorder = Recorder(data=data)
    listener = transport.listen(recorder)
    with room_for_descriptors(1000), contextlib.ExitStack() as stack:
        first = stack.enter_context(transport.dial(listener))
        loop.run_until(lambda: recorder.sockets)
        first.sendall(b"x")
        for _ in range(4 * ACCEPTS_A_TURN):
            stack.enter_context(transport.dial(listener))
        loop.run_until(lambda: len(recorder.sockets) == 4 * ACCEPTS_A_TURN + 1 and seen)
        assert seen[0] <= 2 * ACCEPTS_A_TURN
        listener.stop(True)
        loop.run()


def test_a_thousand_clients_connect_at_once(loop, transport):
    """More than the backlog holds: a full queue delays a connect and never fails it."""
    count = 1000
    server = Recorder(data=lambda socket, chunk: socket.end(chunk), without=("end", "drain"))
    client = Recorder(open=lambda socket: socket.write(b"x"), without=("drain",))
    with room_for_descriptors(3 * count):
        listener = transport.listen(server)
        for _ in range(count):
            transport.connect(client, listener)
        loop.run_until(lambda: client.count("close") + client.count("connect_error") == count)
        assert client.count("connect_error") == 0
        assert len(client.received()) == count
        listener.stop(True)
        loop.run()


# ---------------------------------------------------------------- L5: adopted descriptors


def listening(transport):
    sock = transport.raw_listener()
    sock.listen(8)
    return sock


def test_l5_a_listening_descriptor_is_adopted_and_served(loop, transport):
    with listening(transport) as sock:
        address = sock.getsockname()
        fd = sock.detach()
    listener = pybuntcp.listen(fd=fd, socket=echo_handlers())
    with listener:
        assert listener.fd == fd
        if transport.name == "tcp":
            assert listener.port == address[1]
        with Peer(lambda: raw_client(transport, address)) as peer:
            peer.send(b"hello")
            assert loop.wait(peer.recv_exactly(5)) == b"hello"
    loop.run()


def raw_client(transport, address):
    client = stdlib.socket(stdlib.AF_INET if transport.name == "tcp" else stdlib.AF_UNIX)
    client.connect(address)
    return client


def test_l5_an_adopted_listening_descriptor_is_closed_at_stop(loop, transport):
    sock = listening(transport)
    fd = sock.detach()
    listener = pybuntcp.listen(fd=fd, socket=QUIET)
    listener.stop()
    loop.run()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_l5_the_file_of_an_adopted_unix_socket_is_not_ours_to_remove(loop, unix):
    sock = listening(unix)
    path = sock.getsockname()
    pybuntcp.listen(fd=sock.detach(), socket=QUIET).stop(True)
    loop.run()
    assert os.path.exists(path)


def a_bound_socket():
    with stdlib.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.detach()


def a_connected_socket():
    one, other = stdlib.socketpair()
    other.close()
    return one.detach()


BAD_DESCRIPTORS = {
    "no socket": lambda: os.open(os.devnull, os.O_RDWR),
    "a directory": lambda: os.open("/", os.O_RDONLY),
    "a datagram socket": lambda: stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM).detach(),
    "a connected socket": a_connected_socket,
    "a socket that does not listen": a_bound_socket,
}


@pytest.mark.parametrize("make", BAD_DESCRIPTORS.values(), ids=list(BAD_DESCRIPTORS))
def test_l5_a_bad_descriptor_is_an_os_error_and_is_not_closed(make):
    fd = make()
    try:
        before = os.fstat(fd)
        blocking = os.get_blocking(fd)
        error = refusal(fd=fd)
        assert error.errno in (errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP, errno.EISCONN)
        assert error.syscall == "listen"
        assert os.path.samestat(os.fstat(fd), before)
        assert os.get_blocking(fd) == blocking
    finally:
        os.close(fd)


@pytest.mark.parametrize("past_the_last", [1000, None])
def test_l5_a_number_that_is_no_descriptor_is_ebadf(past_the_last):
    error = refusal(fd=max(descriptors()) + past_the_last if past_the_last else -1)
    assert (error.errno, error.code, error.syscall) == (errno.EBADF, "EBADF", "listen")


def test_l5_a_connected_descriptor_is_adopted_by_connect(loop, transport):
    raw = transport.raw_server()
    target = raw.sock.getsockname()
    mine = raw_client(transport, target)
    peer = raw.accept()
    local = mine.getsockname()
    fd = mine.detach()
    recorder = Recorder()
    pybuntcp.connect(fd=fd, socket=recorder.handlers)
    loop.run_until(lambda: recorder.sockets)
    assert recorder.socket.fileno() == fd
    if transport.name == "tcp":
        assert (recorder.socket.local_address, recorder.socket.local_port) == local
        assert (recorder.socket.remote_address, recorder.socket.remote_port) == target
    peer.send(b"hello")
    loop.run_until(lambda: recorder.received() == b"hello")
    recorder.socket.close()
    loop.run_until(lambda: recorder.count("close"))
    assert recorder.socket.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_l5_an_adopted_descriptor_does_not_block(loop, transport):
    """It came from a blocking socket: the loop must serve others while its peer is silent."""
    sock = listening(transport)
    sock.setblocking(True)
    address = sock.getsockname()
    with raw_client(transport, address), pybuntcp.listen(fd=sock.detach(), socket=QUIET):
        assert answers(loop, transport, transport.listen(echo_handlers()))
