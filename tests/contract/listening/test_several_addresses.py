"""Contract, Listening (L1): a name with several addresses, and several names: one listener on all of them, or on nothing."""

from __future__ import annotations

import errno
import socket as stdlib

import pytest
from support import Recorder, linux_only, unreferenced
from support.addresses import bound_not_listening, dialled, needs_ipv6, own_host, raw_tcp
from support.endpoints import quiet_listener, refusal
from support.handlers import ECHO

import pybuntcp

pytestmark = linux_only  # 127.0.0.2 is there without being set up

standalone = pytest.mark.standalone("the loop does not matter: what is counted and closed is the listener's")

TWO = ["127.0.0.1", "127.0.0.2"]


def accepted_at(listener, hosts, recorder, loop):
    """A client of each host, and the address at which we have accepted it."""
    clients = [stdlib.create_connection((host, listener.port)) for host in hosts]
    loop.run_until(lambda: len(recorder.sockets) == len(hosts))
    return clients, sorted(socket.local_address for socket in recorder.sockets)


@needs_ipv6
def test_l1_localhost_listens_on_both_loopback_addresses_at_one_port(loop):
    recorder = Recorder()
    with quiet_listener(socket=recorder.handlers, hostname="localhost", port=0) as listener:
        assert listener.hostname == "localhost"
        assert listener.addresses == ("127.0.0.1", "::1")
        assert (listener.fd, len(set(listener.fds))) == (listener.fds[0], 2)
        assert [stdlib.socket(fileno=fd).detach() for fd in listener.fds] == list(listener.fds)
        clients, where = accepted_at(listener, ("127.0.0.1", "::1"), recorder, loop)
        assert where == ["127.0.0.1", "::1"]
        assert listener.connections == 2
        assert listener.stats()["accepted"] == 2
        assert loop.gauges()["open_listeners"] == 1
        for client in clients:
            client.close()
    assert listener.fds == ()
    assert listener.addresses == ("127.0.0.1", "::1")
    loop.run()


def test_l1_localhost_without_ipv6_is_the_other_address(program_in_a_network):
    """A system with IPv6 turned off still makes such sockets; another lacks the family. An address given as such is no guess."""
    source = """
        with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w") as switch:
            switch.write("1")
        with pybuntcp.listen(hostname="localhost", port=0, socket={"data": print}) as listener:
            say(listener.addresses)
        for hostname in ("::1", ["127.0.0.1", "::1"]):
            try:
                pybuntcp.listen(hostname=hostname, port=0, socket={"data": print})
            except OSError as error:
                say([error.code, error.address])
        say(pybuntcp.stats()["open_listeners"])
    """
    assert program_in_a_network(source).finish() == [["127.0.0.1"], *[["EADDRNOTAVAIL", "::1"]] * 2, 0]


def test_l1_a_name_listens_on_all_its_addresses(program_that_hangs):
    source = """
        with pybuntcp.listen(hostname="both.test", port=0, socket={"data": print}) as listener:
            say([listener.hostname, listener.addresses])
        with bound_not_listening("127.0.0.2", free_at="127.0.0.1") as port:
            try:
                pybuntcp.listen(hostname="both.test", port=port, socket={"data": print})
            except OSError as error:
                say([error.code, error.address, error.port == port])
    """
    expected = [["both.test", TWO], ["EADDRINUSE", "127.0.0.2", True]]
    assert program_that_hangs(source).finish() == expected


@standalone
@pytest.mark.parametrize("given", [list, tuple])
def test_l1_a_list_of_hostnames_is_taken(loop, given):
    hosts, recorder = given(TWO), Recorder()
    with quiet_listener(socket=recorder.handlers, hostname=hosts, port=0) as listener:
        assert listener.hostname == hosts
        assert "127.0.0.1, 127.0.0.2 port" in repr(listener)
        clients, where = accepted_at(listener, TWO, recorder, loop)
        assert where == TWO
        for client in clients:
            client.close()
    loop.run()


@pytest.mark.parametrize(
    ("hosts", "bound"),
    [
        (["127.0.0.1", "localhost", "127.0.0.1"], ["127.0.0.1", "::1"]),
        (["127.0.0.1", "0.0.0.0", "0.0.0.0"], ["0.0.0.0"]),
        (["127.0.0.1", "::", "0.0.0.0", "::1"], ["::"]),
    ],
)
@needs_ipv6
def test_l1_an_address_that_another_covers_is_bound_once(hosts, bound):
    with quiet_listener(hostname=hosts, port=0) as listener:
        assert list(listener.addresses) == bound


@needs_ipv6
def test_l1_with_ipv6_only_both_unspecified_addresses_are_bound():
    with quiet_listener(hostname=["::", "0.0.0.0"], port=0, ipv6_only=True) as listener:
        assert listener.addresses == ("::", "0.0.0.0")
        for host in ("127.0.0.1", "::1"):
            stdlib.create_connection((host, listener.port)).close()


def test_l1_all_are_bound_or_none_and_the_error_names_the_address():
    hosts = [own_host(1), own_host(2)]
    with bound_not_listening(hosts[1]) as port:
        error = refusal(hostname=hosts, port=port)
        assert (error.errno, error.address, error.port) == (errno.EADDRINUSE, hosts[1], port)
        with raw_tcp(hosts[0], port):
            pass  # nothing of the attempt is left there
    error = refusal(hostname=["127.0.0.1", "192.0.2.1"], port=0)
    assert (error.errno, error.address) == (errno.EADDRNOTAVAIL, "192.0.2.1")


def test_l1_port_0_is_a_port_that_is_free_at_all_of_the_addresses(program_in_a_network):
    """Of three ports that the system may choose, two are in use at the second address."""
    source = """
        with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as range:
            range.write("40000 40002")
        taken = [socket.create_server(("127.0.0.2", port)) for port in (40000, 40002)]
        found = {pybuntcp.listen(hostname=["127.0.0.1", "127.0.0.2"], port=0, socket={"data": print}).port}
        say([len(found), found <= {40001}])
    """
    assert program_in_a_network(source).finish() == [[1, True]]


@pytest.mark.parametrize("wrong", [[], ()])
def test_l1_an_empty_list_is_a_value_error(wrong):
    with pytest.raises(ValueError, match="hostname"):
        quiet_listener(hostname=wrong, port=0)


@pytest.mark.parametrize(
    "wrong", [[None], ["127.0.0.1", 5], {"127.0.0.1"}, {"127.0.0.1": 1}, b"127.0.0.1", [["127.0.0.1"]]]
)
def test_l1_anything_but_names_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="hostname"):
        quiet_listener(hostname=wrong, port=0)


# ---------------------------------------------------------------- one listener


@standalone
def test_l2_stop_ends_it_at_all_addresses(loop):
    recorder = Recorder()
    listener = quiet_listener(socket=recorder.handlers, hostname=TWO, port=0)
    clients, _ = accepted_at(listener, TWO, recorder, loop)
    listener.stop()
    for host in TWO:
        with pytest.raises(ConnectionRefusedError):
            stdlib.create_connection((host, listener.port))
    assert listener.connections == 2
    listener.stop(True)
    loop.run()
    assert recorder.count("close") == 2
    for client in clients:
        client.close()


@unreferenced
def test_l2_unref_and_ref_count_it_once(loop):
    listener = quiet_listener(hostname=TWO, port=0)
    listener.unref()
    listener.ref()
    listener.unref()
    loop.run()
    listener.stop()
    loop.run()
    assert loop.gauges()["open_listeners"] == 0


@standalone
def test_h3_a_reload_reaches_the_connections_of_all(loop):
    before, after = Recorder(), Recorder()
    with quiet_listener(socket=before.handlers, hostname=TWO, port=0) as listener:
        clients, _ = accepted_at(listener, TWO, before, loop)
        listener.reload(after.handlers)
        for client in clients:
            client.sendall(b"x")
        loop.run_until(lambda: after.count("data") == 2)
        for client in clients:
            client.close()
    loop.run()


def test_l4_max_connections_counts_those_of_all(loop):
    recorder = Recorder(open=lambda socket: most.append(listener.connections))
    most = []
    with quiet_listener(socket=recorder.handlers, hostname=TWO, port=0, max_connections=1) as listener:
        clients = [stdlib.create_connection((host, listener.port)) for host in TWO]
        loop.run_until(lambda: recorder.sockets)
        loop.settle()
        assert len(recorder.sockets) == 1
        recorder.socket.close()
        loop.run_until(lambda: len(recorder.sockets) == 2)
        for client in clients:
            client.close()
    assert most == [1, 1]
    loop.run()


@standalone
def test_l4_a_turn_accepts_no_more_from_several_than_from_one(loop):
    """Connections wait at both addresses, more than a turn accepts."""
    turns = []
    recorder = Recorder(open=lambda socket: turns.append(pybuntcp.stats()["turns"]))
    with quiet_listener(socket=recorder.handlers, hostname=TWO, port=0) as listener:
        clients = [stdlib.create_connection((host, listener.port)) for host in TWO for _ in range(50)]
        loop.run_until(lambda: len(recorder.sockets) == len(clients))
        assert max(turns.count(turn) for turn in turns) <= 64
        for client in clients:
            client.close()
    loop.run()


def test_one_that_is_shut_down_elsewhere_ends_all_of_it_and_is_named(loop):
    with quiet_listener(hostname=TWO, port=0) as listener:
        with stdlib.socket(fileno=listener.fds[1]) as second:
            second.shutdown(stdlib.SHUT_RDWR)
            second.detach()
        with loop.reports() as reports:
            loop.run()
        (error,) = reports
        assert (error.code, error.address, error.port) == ("EINVAL", "127.0.0.2", listener.port)
        assert listener.fds == ()
        with pytest.raises(ConnectionRefusedError):
            dialled(listener.port)


@needs_ipv6
def test_threads_share_a_name_with_several_addresses():
    with pybuntcp.listen_threads(2, handlers=ECHO, hostname="localhost", port=0) as threads:
        assert threads.hostname == "localhost"
        for host in ("127.0.0.1", "::1"):
            with stdlib.create_connection((host, threads.port)) as client:
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"


@standalone
def test_two_listeners_with_reuse_port_share_all_addresses(loop):
    with (
        quiet_listener(hostname=TWO, port=0, reuse_port=True) as first,
        quiet_listener(hostname=TWO, port=first.port, reuse_port=True) as second,
    ):
        assert second.addresses == first.addresses
        assert refusal(hostname=TWO, port=first.port, exclusive=True).errno == errno.EADDRINUSE
    loop.run()
