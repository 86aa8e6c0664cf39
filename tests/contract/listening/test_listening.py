"""Contract, Listening (L1, L2): addresses and their failures, stop, ref and unref."""

from __future__ import annotations

import contextlib
import errno
import socket as stdlib

import pytest
from support import Feed, Recorder, linux_only, unreferenced
from support.addresses import bound_not_listening, needs_ipv6, own_host, port_of
from support.endpoints import answers, local_pair, quiet_listener, refusal
from support.handlers import ECHO, QUIET, error_fields


def refuses(transport, listener):
    """Whether nobody listens there any more."""
    with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
        transport.dial(listener).close()
        return False
    return True


# ---------------------------------------------------------------- L1: addresses


def test_l1_port_0_picks_a_port_and_the_listener_tells(loop, tcp):
    first, second = tcp.listen(ECHO), tcp.listen(ECHO)
    assert 0 < first.port < 65536
    assert first.port != second.port
    assert answers(loop, tcp, first)
    assert answers(loop, tcp, second)


def test_l1_a_given_port_is_used(loop, tcp):
    tcp.host = own_host()
    with stdlib.create_server((tcp.host, 0)) as sock:
        port = port_of(sock)
    listener = tcp.listen(ECHO, port=port)
    assert (listener.hostname, listener.port) == (tcp.host, port)
    assert answers(loop, tcp, listener)


def test_l1_an_address_in_use(tcp):
    first = tcp.listen(QUIET)
    error = refusal(hostname="127.0.0.1", port=first.port)
    assert error_fields(error) == (errno.EADDRINUSE, "EADDRINUSE", "listen", "127.0.0.1", first.port)


def test_l1_an_address_that_is_not_ours():
    error = refusal(hostname="192.0.2.1", port=4)
    assert error_fields(error) == (errno.EADDRNOTAVAIL, "EADDRNOTAVAIL", "listen", "192.0.2.1", 4)


def test_l1_a_missing_directory(tmp_path):
    path = str(tmp_path / "missing" / "s")
    error = refusal(unix=path)
    assert isinstance(error, FileNotFoundError)
    assert error_fields(error) == (errno.ENOENT, "ENOENT", "listen", path, None)
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
    assert answers(loop, tcp, tcp.listen(ECHO))


@needs_ipv6
@pytest.mark.parametrize("hostname", ["::1", "[::1]"])
def test_l1_an_ipv6_address_with_or_without_brackets(loop, hostname):
    recorder = Recorder()
    listener = quiet_listener(socket=recorder.handlers, hostname=hostname, port=0)
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
    with quiet_listener(socket=recorder.handlers, hostname="::", port=0) as listener:
        clients = [stdlib.create_connection((host, listener.port)) for host in ("127.0.0.1", "::1")]
        loop.run_until(lambda: len(recorder.sockets) == 2)
        for client in clients:
            client.close()
    loop.run()


@needs_ipv6
def test_l1_ipv6_only_leaves_the_other_family_alone():
    with bound_not_listening("127.0.0.1", free_at="::1") as port:
        assert refusal(hostname="::", port=port).errno == errno.EADDRINUSE
        with quiet_listener(hostname="::", port=port, ipv6_only=True):
            stdlib.create_connection(("::1", port)).close()
            with pytest.raises(ConnectionRefusedError):
                stdlib.create_connection(("127.0.0.1", port))


@linux_only
def test_l1_reuse_port_lets_two_listeners_share_a_port(loop):
    first = quiet_listener(hostname="127.0.0.1", port=0, reuse_port=True)
    with first, quiet_listener(hostname="127.0.0.1", port=first.port, reuse_port=True) as second:
        assert second.port == first.port
    loop.run()


@linux_only
@pytest.mark.parametrize("options", [{}, {"exclusive": True}])
def test_l1_without_reuse_port_a_port_is_not_shared(options):
    with quiet_listener(hostname="127.0.0.1", port=0, reuse_port=True) as first:
        assert refusal(hostname="127.0.0.1", port=first.port, **options).errno == errno.EADDRINUSE


def test_l1_a_port_can_be_listened_on_again_at_once(loop, tcp):
    tcp.host = own_host()
    recorder = Recorder(open=lambda socket: socket.end(b"bye"))
    first = tcp.listen(recorder)
    peer = tcp.peer(first)
    loop.wait(peer.recv_until_eof())
    peer.close()
    loop.run_until(lambda: recorder.count("close"))
    first.stop()
    assert answers(loop, tcp, tcp.listen(ECHO, port=first.port))


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
    peers = []
    for _ in range(3):  # one by one: they are accepted in the order in which they connected
        peers.append(transport.peer(listener))
        peers[-1].dialled.result()
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
            Feed(1 << 24).fill(socket)
            peer.recv_until_eof().ignore()
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


@unreferenced
def test_l2_an_unreferenced_listener_does_not_keep_run_going(loop, transport):
    listener = transport.listen(QUIET)
    listener.unref()
    loop.run()
    listener.ref()
    listener.unref()
    loop.run()
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


@unreferenced
def test_l2_an_accepted_socket_keeps_run_going_without_its_listener(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder)
    peer = transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    listener.unref()
    peer.close()
    loop.run()  # returning before that close would count none
    assert recorder.count("close") == 1


@unreferenced
def test_l2_unreferenced_sockets_do_not_keep_run_going(loop, transport):
    server, client = Recorder(), Recorder()
    listener, accepted, connected = local_pair(loop, transport, server, client)
    for handle in (listener, accepted, connected):
        handle.unref()
    loop.run()
    assert server.names() == client.names() == ["open"]
    accepted.ref()
    connected.close()
    loop.run()
    assert server.names() == ["open", "end", "close"]


def test_l2_a_connect_in_progress_keeps_run_going(loop, transport):
    raw = transport.raw_server()
    client = Recorder(open=lambda socket: socket.close())
    transport.connect(client, raw)
    peer = raw.accept()
    peer.dialled.result()
    peer.shutdown().ignore()  # our end may be gone
    loop.run()
    assert client.count("open") == 1


def test_l2_ref_and_unref_after_stop_are_harmless(loop, transport):
    listener = transport.listen(QUIET)
    listener.stop()
    listener.ref()
    loop.run()
    listener.unref()
    listener.ref()
    loop.run()
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
