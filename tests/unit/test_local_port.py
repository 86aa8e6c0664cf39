"""`local_port` without `local_address`: any address of ours, of the family of the attempt."""

from __future__ import annotations

from support import Recorder
from support_more import bound_not_listening, connect, needs_ipv6, port_of, raw_tcp


def opened_from(loop, host, sock, **options):
    """The connection, and what the peer sees of where it comes from."""
    recorder = Recorder()
    connect(recorder, hostname=host, port=port_of(sock), **options)
    loop.run_until(lambda: recorder.sockets or recorder.count("connect_error"))
    assert recorder.names() == ["open"]
    theirs, seen = sock.accept()
    with theirs:
        assert recorder.socket.local_port == seen[1]
        recorder.socket.terminate()
        loop.run()
    return seen[:2]


def test_a_local_port_alone_works_for_ipv4(loop):
    with bound_not_listening() as port:
        pass
    with raw_tcp("127.0.0.1") as sock:
        assert opened_from(loop, "127.0.0.1", sock, local_port=port) == ("127.0.0.1", port)


@needs_ipv6
def test_a_local_port_alone_works_for_ipv6(loop):
    with bound_not_listening("::1") as port:
        pass
    with raw_tcp("::1") as sock:
        assert opened_from(loop, "::1", sock, local_port=port) == ("::1", port)


def test_a_local_port_alone_works_for_a_name_of_both_families(loop):
    """Nobody answers at ::1: the second attempt binds anew, in its own family."""
    with bound_not_listening() as port:
        pass
    with raw_tcp("127.0.0.1") as sock:
        assert opened_from(loop, "localhost", sock, local_port=port) == ("127.0.0.1", port)
