"""`local_port` without `local_address`: any address of ours, of the family of the attempt."""

from __future__ import annotations

import errno

from support import Recorder
from support.addresses import bound_not_listening, needs_ipv6, port_of, raw_tcp
from support.endpoints import connect


def opened_from(loop, host, sock, **options):
    """Where the connection comes from, as the peer sees it; None: the port has been taken by somebody else."""
    recorder = Recorder()
    connect(recorder, hostname=host, port=port_of(sock), **options)
    loop.run_until(lambda: recorder.sockets or recorder.count("connect_error"))
    if recorder.count("connect_error") and recorder.args("connect_error")[0][0].errno == errno.EADDRINUSE:
        return None
    assert recorder.names() == ["open"]
    theirs, seen = sock.accept()
    with theirs:
        assert recorder.socket.local_port == seen[1]
        recorder.socket.terminate()
        loop.run()
    return seen[:2]


def opened_from_a_port(loop, host, address):
    """Is it the port that was asked for, at `address`?"""
    with raw_tcp(address) as sock:
        for _ in range(20):
            with bound_not_listening(address) as port:
                pass
            if (seen := opened_from(loop, host, sock, local_port=port)) is not None:
                return seen == (address, port)
    raise AssertionError("twenty ports were taken by others")


def test_a_local_port_alone_works_for_ipv4(loop):
    assert opened_from_a_port(loop, "127.0.0.1", "127.0.0.1")


@needs_ipv6
def test_a_local_port_alone_works_for_ipv6(loop):
    assert opened_from_a_port(loop, "::1", "::1")


def test_a_local_port_alone_works_for_a_name_of_both_families(loop):
    """Nobody answers at ::1: the second attempt binds anew, in its own family."""
    assert opened_from_a_port(loop, "localhost", "127.0.0.1")
