"""API.md, Socket, TLS: what OpenSSL alone knows and sets: keys, finished messages, algorithms, and before the handshake names and modes."""

from __future__ import annotations

import ssl

import pytest
from support import Recorder
from support.handlers import echo, ignore
from support.tls import (
    CA,
    CLIENT,
    CLIENT_TLS,
    SERVER_TLS,
    STRANGE_SERVER,
    TLSRecorder,
    finish,
    hang_up,
    joined,
    needs_borrowed,
    speaker,
    talk,
)

pytestmark = [pytest.mark.standalone("what OpenSSL says does not depend on the loop"), needs_borrowed]

versions = pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])


def only(version):
    return {**CLIENT_TLS, "min_version": version, "max_version": version}


def both(ends):
    return ends.server.socket, ends.client.socket


# ---------------------------------------------------------------- finished messages, exported keys


@versions
def test_finished_messages_are_equal_crosswise(loop, tcp, version):
    ends = joined(loop, tcp, client_tls=only(version))
    server, client = both(ends)
    assert server.get_tls_finished_message() == client.get_tls_peer_finished_message()
    assert client.get_tls_finished_message() == server.get_tls_peer_finished_message()
    assert len(client.get_tls_finished_message()) == (12 if version == "TLSv1.2" else 32)
    assert client.get_tls_finished_message() != server.get_tls_finished_message()
    finish(loop, ends)


@versions
@pytest.mark.parametrize("context", [None, b"", b"a context"])
@pytest.mark.parametrize("length", [1, 32, 1000])
def test_exported_keys_are_equal_on_both_ends(loop, tcp, version, context, length):
    ends = joined(loop, tcp, client_tls=only(version))
    one, two = (socket.export_keying_material(length, "EXPORTER-test", context) for socket in both(ends))
    assert one == two
    assert len(one) == length
    finish(loop, ends)


@versions
def test_exported_keys_differ_by_label_by_context_and_by_connection(loop, tcp, version):
    exported = []
    for _ in range(2):
        ends = joined(loop, tcp, client_tls=only(version))
        export = ends.client.socket.export_keying_material
        exported += [export(32, "one"), export(32, "two"), export(32, "one", b"x"), export(32, "one", b"y")]
        assert export(32, b"one", bytearray(b"x")) == export(32, "one", memoryview(b"x")) == exported[-2]
        finish(loop, ends)
    assert len(set(exported)) == 8


@pytest.mark.parametrize(
    ("args", "kind"),
    [
        ((0, "label"), ValueError),
        ((-1, "label"), ValueError),
        ((65536, "label"), ValueError),
        (("32", "label"), TypeError),
        ((1.5, "label"), TypeError),
        ((32, None), TypeError),
        ((32, 5), TypeError),
        ((32, "label", "text"), TypeError),
        ((2**40, "label"), (ValueError, OverflowError)),
    ],
)
def test_keys_cannot_be_exported_for_what_makes_no_sense(loop, tcp, args, kind):
    ends = joined(loop, tcp)
    with pytest.raises(kind):
        ends.client.socket.export_keying_material(*args)
    finish(loop, ends)


# ---------------------------------------------------------------- algorithms


@versions
@pytest.mark.parametrize(("curve", "name", "size"), [("X25519", "x25519", 253), ("secp384r1", "secp384r1", 384)])
def test_a_client_knows_the_key_that_was_exchanged_for_this_connection(loop, tcp, version, curve, name, size):
    curves = {"ecdh_curve": f"{curve}:prime256v1"}  # the second is the certificate's
    ends = joined(loop, tcp, {**SERVER_TLS, **curves}, {**only(version), **curves})
    server, client = both(ends)
    info = client.get_ephemeral_key_info()
    assert {**info, "name": info["name"].lower()} == {"type": "ECDH", "name": name, "size": size}
    assert server.get_ephemeral_key_info() is None
    finish(loop, ends)


def test_a_server_knows_the_signature_algorithms_that_both_know(loop, tcp):
    ends = joined(loop, tcp)
    shared = ends.server.socket.get_shared_sigalgs()
    assert "ECDSA+SHA256" in shared
    assert "RSA-PSS+SHA256" in shared
    finish(loop, ends)


# ---------------------------------------------------------------- set before the handshake


def test_set_servername_asks_for_another_name_and_has_it_checked(loop, tcp):
    other = CA.issue("other.test")
    answers = []
    server = Recorder(data=echo)
    client = TLSRecorder(open=lambda socket: answers.append(socket.set_servername("other.test")) or socket.write(b"x"))
    client._functions["data"] = hang_up
    talk(loop, tcp, other.options, server=server, client=client)
    assert answers == [True]
    assert client.verdict == (True, None)
    assert server.socket.get_servername() == client.socket.get_servername() == "other.test"


@pytest.mark.parametrize("name", ["other.test", "127.0.0.2", "::2"])
def test_set_servername_to_what_the_certificate_is_not_for_is_refused(loop, tcp, name):
    client = TLSRecorder(open=lambda socket: socket.set_servername(name))
    ends = talk(loop, tcp, client=client)
    assert isinstance(ends.error, ssl.SSLCertVerificationError)
    assert ends.error.verify_code in (62, 64)  # of names, and of addresses


def test_set_servername_to_an_address_sends_none(loop, tcp):
    client = TLSRecorder(open=lambda socket: socket.set_servername("127.0.0.1"))
    ends = joined(loop, tcp, client=client, hostname="localhost")
    assert ends.server.socket.get_servername() is None
    finish(loop, ends)


@pytest.mark.parametrize("name", ["", "a\0b", 5, None, "a" * 64])
def test_set_servername_refuses_what_is_no_name(loop, tcp, name):
    def open(socket):
        with pytest.raises((TypeError, ValueError)):
            socket.set_servername(name)

    client = TLSRecorder(open=open)
    finish(loop, joined(loop, tcp, client=client))
    assert client.verdict == (True, None)


def test_set_servername_is_no_verb_of_servers(loop, tcp):
    ends = joined(loop, tcp)
    with pytest.raises(ValueError, match="server"):
        ends.server.socket.set_servername("localhost")
    finish(loop, ends)


def test_after_the_handshake_it_is_too_late(loop, tcp):
    ends = joined(loop, tcp)
    server, client = both(ends)
    assert client.set_servername("localhost") is False
    assert client.set_session(b"x") is False
    assert client.set_verify_mode(True, True) is False
    assert server.set_verify_mode(True, True) is False
    finish(loop, ends)


@pytest.mark.parametrize(
    ("mode", "identity", "success", "authorized"),
    [
        ((True, True), CLIENT, True, True),
        ((True, True), None, False, False),
        ((True, False), CLIENT, True, True),
        ((True, False), None, True, False),
        ((False, False), CLIENT, True, False),
        ((False, True), None, True, False),
    ],
)
def test_set_verify_mode_of_a_server_is_this_connections_alone(loop, tcp, mode, identity, success, authorized):
    server = TLSRecorder(open=lambda socket: socket.set_verify_mode(*mode), data=echo)
    client_tls = {**CLIENT_TLS, **(identity.options if identity else {})}
    talk(loop, tcp, {**SERVER_TLS, "ca": CA.pem}, client_tls, server=server, client=speaker(error=ignore))
    assert server.verdict[0] is success
    assert server.socket.authorized is authorized
    assert (server.received() == b"ping") is success


@pytest.mark.parametrize("mode", [(True, False), (False, False), (False, True)])
def test_set_verify_mode_of_a_client_lets_a_server_in_that_does_not_verify(loop, tcp, mode):
    client = TLSRecorder(open=lambda socket: socket.set_verify_mode(*mode) and socket.write(b"ping"), data=hang_up)
    talk(loop, tcp, STRANGE_SERVER.options, client=client)
    assert client.verdict[0]
    assert not client.socket.authorized
    assert (client.verdict[1] is None) is not mode[0]


def test_set_verify_mode_of_a_client_makes_it_verify(loop, tcp):
    client = TLSRecorder(open=lambda socket: socket.set_verify_mode(True, True))
    ends = talk(loop, tcp, STRANGE_SERVER.options, {**CLIENT_TLS, "reject_unauthorized": False}, client=client)
    assert isinstance(ends.error, ssl.SSLCertVerificationError)


# ---------------------------------------------------------------- records


@pytest.mark.parametrize(
    ("size", "answer"),
    [(512, True), (1024, True), (16384, True), (511, False), (16385, False), (0, False), (-1, False)],
)
def test_set_max_send_fragment_takes_512_to_16384(loop, tcp, size, answer):
    ends = joined(loop, tcp)
    assert [socket.set_max_send_fragment(size) for socket in both(ends)] == [answer, answer]
    finish(loop, ends)


@pytest.mark.parametrize("size", [512, 4096])
def test_set_max_send_fragment_is_the_most_that_a_record_carries(loop, tcp, size):
    records = []

    def look(connection, direction, version, kind, message, data):
        if direction == "read" and len(data) == 5 and data[0] == 23:  # the header of a record of application data
            records.append(int.from_bytes(data[3:], "big"))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=CA.pem.decode())
    context._msg_callback = look
    ends = joined(loop, tcp, client_tls=context)
    assert ends.server.socket.set_max_send_fragment(size)
    records.clear()
    ends.server.socket.write(b"x" * 20000)
    loop.run_until(lambda: len(ends.client.received()) == 20000)
    assert size <= max(records) <= size + 32  # what sealing adds
    finish(loop, ends)
