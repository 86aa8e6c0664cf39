"""API.md, connect: where a connection comes from: never from itself, and no port is used up for less than it can do."""

from __future__ import annotations

import errno
import socket as stdlib

import pytest
from support import Recorder, descriptors, linux_only
from support.addresses import bound_not_listening, needs_ipv6, own_host, raw_tcp
from support.endpoints import connect, finished


def met_itself(loop, host, **tls):
    """A port that nobody listens on, and a connection from it to itself: the port, the recorder and the error."""
    with bound_not_listening(host) as port:
        pass
    recorder = Recorder()
    own = {"local_address": host, "local_port": port}
    _, error = finished(loop, connect(recorder, hostname=host, port=port, **own, **tls))
    return port, recorder, error


@pytest.mark.parametrize("tls", [{}, {"tls": True}], ids=["plain", "tls"])
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_c2_a_connection_to_itself_is_refused(loop, host, tls):
    before = descriptors()
    port, recorder, error = met_itself(loop, host, **tls)
    assert type(error) is ConnectionRefusedError
    assert (error.errno, error.code) == (errno.ECONNREFUSED, "ECONNREFUSED")
    assert (error.syscall, error.address, error.port) == ("connect", host, port)
    assert recorder.names() == ["connect_error"]
    assert descriptors() == before
    assert loop.gauges()["connecting"] == 0


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_c2_a_connection_to_itself_leaves_the_port_to_the_server(loop, host):
    """At once, and to one that knows nothing of SO_REUSEADDR."""
    if host == "127.0.0.1":
        host = own_host()
    port, _, _ = met_itself(loop, host)
    with stdlib.socket(stdlib.AF_INET6 if ":" in host else stdlib.AF_INET) as server:
        server.bind((host, port))
        server.listen()


def test_c1_after_a_connection_to_itself_the_other_addresses_are_tried(program_that_hangs):
    with program_that_hangs(
        """
        loop = LOOPS["standalone"]()
        recorder = Recorder()
        with bound_not_listening("127.0.0.1", free_at="127.0.0.2") as port:
            pass
        with raw_tcp("127.0.0.2", port) as server:
            own = {"local_address": "127.0.0.1", "local_port": port}
            pybuntcp.connect(hostname="both.test", port=port, **own, socket=recorder.handlers)
            loop.run_until(lambda: recorder.names())
            say([recorder.names(), recorder.socket.remote_address])
            recorder.socket.terminate()
            loop.close()
        """
    ) as program:
        assert program.finish() == [[["open"], "127.0.0.2"]]


@linux_only
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_c2_a_port_that_the_system_chose_makes_no_connection_to_itself(program_in_a_network, host):
    """The only port that there is for outgoing connections is the one that is asked for."""
    with program_in_a_network(
        """
        from support import LOOPS, Recorder

        with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
            file.write("50000 50000")
        loop, recorder = LOOPS["standalone"](), Recorder()
        pybuntcp.connect(hostname=sys.argv[1], port=50000, socket=recorder.handlers)
        loop.run_until(lambda: recorder.names())
        say([recorder.names(), *(error.code for error, in recorder.args("connect_error"))])
        loop.close()
        """,
        host,
    ) as program:
        assert program.finish() == [[["connect_error"], "ECONNREFUSED"]]


@linux_only
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_local_address_takes_no_port_for_itself(program_in_a_network, host):
    """Ten ports are enough for ten connections to each of two servers: a connection is told from others by its peer, too."""
    with program_in_a_network(
        """
        from support import LOOPS, Recorder
        from support.addresses import raw_tcp

        with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
            file.write("50000 50009")
        loop, host = LOOPS["standalone"](), sys.argv[1]
        recorder = Recorder()
        with raw_tcp(host, 9001), raw_tcp(host, 9002):
            for port in (9001, 9002):
                for _ in range(10):
                    pybuntcp.connect(hostname=host, port=port, local_address=host, socket=recorder.handlers)
            loop.run_until(lambda: len(recorder.names()) == 20)
            say([recorder.count("open"), *(error.code for error, in recorder.args("connect_error"))])
            say(sorted({socket.local_address for socket in recorder.sockets}))
            say(len({socket.local_port for socket in recorder.sockets}))
            for socket in recorder.sockets:
                socket.terminate()
            loop.close()
        """,
        host,
    ) as program:
        assert program.finish() == [[20], [host], 10]


def test_a_local_address_with_a_port_is_bound_to_that(loop):
    with bound_not_listening(host := own_host()) as port:
        pass
    with raw_tcp("127.0.0.1") as server:
        recorder = Recorder()
        connect(
            recorder,
            hostname="127.0.0.1",
            port=server.getsockname()[1],
            local_address=host,
            local_port=port,
        )
        loop.run_until(lambda: recorder.sockets)
        assert (recorder.socket.local_address, recorder.socket.local_port) == (host, port)
        recorder.socket.terminate()
