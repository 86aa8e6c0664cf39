"""API.md, hostname, local_address: IPv6 addresses that are valid on one interface alone, which their zone names (RFC 4007)."""

from __future__ import annotations

import errno
import textwrap

import pytest
from support import Recorder, linux_only
from support.endpoints import connect, finished

import pybuntcp

NO_INTERFACES = ["nosuch", "4000000000", "99999999999999999999", "0", "", "x" * 40]

no_interface = pytest.mark.parametrize("zone", NO_INTERFACES)
standalone = pytest.mark.standalone("how an address is read does not depend on the loop")


def names_it(error, zone, syscall, port):
    assert type(error) is OSError
    assert (error.errno, error.code, error.syscall) == (errno.ENODEV, "ENODEV", syscall)
    assert f"fe80::1%{zone}" in str(error)
    assert (error.address.strip("[]"), error.port) == (f"fe80::1%{zone}", port)


@no_interface
@pytest.mark.parametrize("host", ["fe80::1%{}", "[fe80::1%{}]"])
def test_connect_fails_for_a_zone_that_is_no_interface_and_names_it(loop, zone, host):
    recorder = Recorder()
    _, error = finished(loop, connect(recorder, hostname=host.format(zone), port=9))
    names_it(error, zone, "connect", 9)
    assert recorder.names() == ["connect_error"]


@no_interface
@pytest.mark.parametrize("port", [0, 9])
def test_connect_fails_from_a_zone_that_is_no_interface_and_names_it(loop, zone, port):
    if not zone:
        pytest.skip("no IP literal to Python: refused as an option")
    recorder = Recorder()
    options = {"local_address": f"fe80::1%{zone}", "local_port": port}
    _, error = finished(loop, connect(recorder, hostname="127.0.0.1", port=9, **options))
    names_it(error, zone, "bind", port or None)
    assert recorder.names() == ["connect_error"]


@standalone
@no_interface
def test_listen_fails_for_a_zone_that_is_no_interface_and_names_it(loop, zone):
    with pytest.raises(OSError, match="fe80") as caught:
        pybuntcp.listen(hostname=f"fe80::1%{zone}", port=0, socket={"data": print})
    names_it(caught.value, zone, "listen", 0)


def conversation(program_in_a_network, before, source, *args):
    """A program that listens where its first argument says, and may `talk`; `before` comes before that."""
    return program_in_a_network("".join(map(textwrap.dedent, (before, CONVERSATION, source))), *args)


CONVERSATION = """
    from support import LOOPS, Recorder
    from support.handlers import QUIET

    loop = LOOPS["standalone"]()
    listener = pybuntcp.listen(hostname=sys.argv[1], port=0, socket=QUIET)

    def talk(hostname, port=listener.port, **options):
        "Connect, and tell the addresses of both; or the error's."
        client = Recorder()
        connecting = pybuntcp.connect(hostname=hostname, port=port, socket=client.handlers, timeout=5, **options)
        loop.run_until(lambda: client.names())
        if client.count("connect_error"):
            ((error,),) = client.args("connect_error")
            return [error.code, error.address]
        socket = client.socket
        told = [socket.local_address, socket.remote_address, socket.remote_family]
        socket.terminate()
        return told
"""


@linux_only
@pytest.mark.parametrize("listening", ["fe80::a%one", "[fe80::a%one]", "fe80::a%{one}"])
def test_a_zone_is_an_interface_by_its_name_or_its_index(program_in_a_network, listening):
    with conversation(
        program_in_a_network,
        """
        one = socket.if_nametoindex("one")
        sys.argv[1] = sys.argv[1].format(one=one)
        """,
        """
        for hostname in ("fe80::a%one", f"fe80::a%{one}", f"[fe80::a%{one}]"):
            say(talk(hostname))
        listener.stop(True)
        loop.close()
        """,
        listening,
    ) as program:
        assert program.finish() == [["fe80::a%one", "fe80::a%one", "IPv6"]] * 3


@linux_only
def test_what_is_reported_of_an_address_can_be_dialled(program_in_a_network):
    """By the client, the accepted socket, the listener, an adopted listener and an error; and be connected from."""
    with conversation(
        program_in_a_network,
        "",
        """
        say(talk(listener.hostname))
        local, remote, _ = talk("fe80::a%one")
        say(talk(remote, local_address=local))
        adopted = pybuntcp.listen(fd=os.dup(listener.fd), socket=QUIET)
        say(adopted.hostname)
        adopted.stop()
        port = listener.port
        listener.stop(True)
        loop.run()
        refused = talk("fe80::a%one")
        say(refused)
        with pybuntcp.listen(hostname=refused[1], port=port, socket=QUIET) as listener:
            accepted = Recorder()
            listener.reload(accepted.handlers)
            say(talk(refused[1]))
            loop.run_until(lambda: accepted.count("close"))
            say([accepted.socket.local_address, accepted.socket.remote_address])
        loop.close()
        """,
        "fe80::a%one",
    ) as program:
        here = "fe80::a%one"
        both = [here, here, "IPv6"]
        assert program.finish() == [both, both, here, ["ECONNREFUSED", here], both, [here, here]]


@linux_only
def test_another_interface_is_another_address(program_in_a_network):
    """One and the same literal on two links: each zone reaches its own listener, none reaches both."""
    with conversation(
        program_in_a_network,
        """
        command("ip addr add fe80::c/64 dev one nodad")
        command("ip addr add fe80::c/64 dev lo nodad")
        """,
        """
        say(talk("fe80::c%one"))
        say(talk("fe80::c%lo"))
        listener.stop(True)
        loop.close()
        """,
        "fe80::c%one",
    ) as program:
        assert program.finish() == [["fe80::c%one", "fe80::c%one", "IPv6"], ["ECONNREFUSED", "fe80::c%lo"]]


@linux_only
def test_the_address_of_an_interface_that_is_gone_tells_its_index(program_in_a_network):
    with conversation(
        program_in_a_network,
        """
        one = socket.if_nametoindex("one")
        """,
        """
        client = Recorder()
        pybuntcp.connect(hostname="fe80::a%one", port=listener.port, socket=client.handlers)
        loop.run_until(lambda: client.sockets)
        command("ip link del one")
        say([client.socket.remote_address, f"fe80::a%{one}"])
        client.socket.terminate()
        listener.stop(True)
        loop.close()
        """,
        "fe80::a%one",
    ) as program:
        ((told, expected),) = program.finish()
    assert told == expected


def test_an_address_without_a_zone_is_reported_without_one(loop):
    with pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print}) as listener:
        recorder = Recorder()
        connect(recorder, hostname="127.0.0.1", port=listener.port)
        loop.run_until(lambda: recorder.sockets)
        assert recorder.socket.remote_address == "127.0.0.1"
        recorder.socket.terminate()
