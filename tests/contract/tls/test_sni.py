"""CONTRACT.md, "TLS": S7, one of several certificates is picked by the name a client asks for, and that name's policy holds."""

from __future__ import annotations

import _ssl
import ctypes
import functools
import ssl
import sys

import pytest
from support import Recorder
from support.handlers import echo, ignore
from support.tls import (
    CA,
    CLIENT,
    CLIENT_TLS,
    SERVER,
    SERVER_TLS,
    STRANGE_CLIENT,
    TLSRecorder,
    needs_borrowed,
    on_fallback,
    ping,
    refused_by_fallback,
    talk,
)
from support.tls_peer import client_context, dialling, hello
from support.tls_records import HANDSHAKE, record, records

import pybuntcp

SSL_CTRL_SET_TLSEXT_HOSTNAME = 55

pytestmark = pytest.mark.standalone("which certificate is picked is nothing that a loop decides")


@functools.cache
def identity(*names):
    return CA.issue(*names)


def hosts(**options):
    """Options of a listener with three names besides its own; `options` are further ones of shop.example's."""
    return {
        **SERVER_TLS,
        "sni": {
            "shop.example": {**identity("shop.example").options, **options},
            "Mail.Example": identity("mail.example").options,
            "*.cloud.example": identity("*.cloud.example").options,
        },
    }


def names_of(certificate):
    return [value for _, value in certificate["subjectAltName"]]


def unchecked(name, **options):
    """A client that asks for a name and takes any certificate."""
    return {**CLIENT_TLS, "server_name": name, "reject_unauthorized": False, **options}


def asked(loop, tcp, name, tls=None, **options):
    """What the listener shows to who asks for this name, and what its socket knows of that: (name of the certificate, name)."""
    served = []

    def data(socket, chunk):
        served.append((socket.get_servername(), socket.get_certificate()["raw"]))
        socket.write(chunk)

    ends = talk(loop, tcp, tls or hosts(), unchecked(name, **options), server=Recorder(data=data))
    ((told, own),) = served
    shown = ends.client.socket.get_peer_certificate()["raw"]
    assert shown == own
    return names_of_der(shown)[0], told


def names_of_der(raw):
    from cryptography import x509

    extension = x509.load_der_x509_certificate(raw).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in extension.value]


OWN = "localhost"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("shop.example", "shop.example"),
        ("mail.example", "mail.example"),
        ("localhost", OWN),
        ("unknown.example", OWN),
        ("SHOP.Example", "shop.example"),
        ("any.cloud.example", "*.cloud.example"),
        ("cloud.example", OWN),
        ("two.levels.cloud.example", OWN),
        ("notcloud.example", OWN),
    ],
)
def test_s7_the_certificate_is_of_the_name_asked_for_or_else_the_default(loop, tcp, name, shown):
    assert asked(loop, tcp, name) == (shown, name)


def test_s7_a_client_that_asks_for_an_address_gets_the_default(loop, tcp):
    assert asked(loop, tcp, "127.0.0.1") == (OWN, None)


def test_s7_a_trailing_dot_is_no_part_of_a_name(loop, tcp):
    """In `sni`, and in what a client sends (which RFC 6066 forbids it)."""
    tls = {**SERVER_TLS, "sni": {"shop.example.": identity("shop.example").options}}
    assert asked(loop, tcp, "shop.example", tls)[0] == "shop.example"
    context = client_context()
    context.check_hostname = False
    recorder = Recorder(data=echo)
    peer = dialling(tcp, tcp.listen(recorder, tls=tls), context, name="shop.example.")
    peer.write(b"x")
    loop.wait(peer.read(1))
    assert names_of(peer.tls.getpeercert()) == ["shop.example"]


def test_s7_a_client_that_asks_for_no_name_gets_the_default(loop, tcp):
    context = client_context()
    context.check_hostname = False
    peer = dialling(tcp, tcp.listen(Recorder(data=echo), tls=hosts()), context, name=None)
    peer.write(b"x")
    loop.wait(peer.read(1))
    assert names_of(peer.tls.getpeercert())[0] == "localhost"


# ---------------------------------------------------------------- one certificate for all names

SERVER_NAME = 0


def extensions(message):
    """The types of the extensions in a ServerHello (RFC 8446, section 4.1.3)."""
    at, found = 4 + 2 + 32, []
    at += 1 + message[at] + 2 + 1 + 2
    while at < len(message):
        found.append(int.from_bytes(message[at : at + 2], "big"))
        at += 4 + int.from_bytes(message[at + 2 : at + 4], "big")
    return found


def test_a_server_that_chooses_by_no_name_does_not_say_that_it_looked_at_one(loop, tcp):
    # RFC 6066, section 3: a server that uses the name "SHALL include" the extension in its own hello
    peer = dialling(tcp, tcp.listen(Recorder(data=echo), tls=SERVER_TLS), client_context(ssl.TLSVersion.TLSv1_2))
    loop.wait(peer.handshake())
    kind, message = records(peer.came)[0]
    assert (kind, message[0]) == (HANDSHAKE, 2)
    found = extensions(message[: 4 + int.from_bytes(message[1:4], "big")])
    assert found
    assert SERVER_NAME not in found


def test_a_name_that_is_no_ascii_is_let_pass(loop, tcp):
    peer = dialling(tcp, tcp.listen(Recorder(data=echo), tls=SERVER_TLS), client_context())
    peer.send(hello().replace(b"localhost", "lociąst".encode() + b"a"))
    loop.wait(peer.take_in())
    assert peer.came[0] == HANDSHAKE


def test_the_name_is_known_of_a_hello_that_comes_in_pieces(loop, tcp):
    named = []
    recorder = TLSRecorder(handshake=lambda socket, *told: named.append(socket.get_servername()))
    peer = dialling(tcp, tcp.listen(recorder, tls=SERVER_TLS), client_context())
    said = peer.step().result()
    (_, message), *_ = records(said)
    for at in range(0, len(message), 7):
        peer.send(record(HANDSHAKE, message[at : at + 7], 0x0301))
    peer.handshake().ignore()
    loop.run_until(lambda: named)
    assert named == ["localhost"]


@pytest.mark.parametrize("name", ["localhost", None])
def test_the_name_is_known_from_the_handshake_on_and_still_after_the_end(loop, tcp, name):
    named = []
    recorder = TLSRecorder(
        open=lambda socket: named.append(socket.get_servername()),
        handshake=lambda socket, *told: named.append(socket.get_servername()),
    )
    context = client_context()
    context.check_hostname = False
    peer = dialling(tcp, tcp.listen(recorder, tls=SERVER_TLS), context, name=name)
    loop.wait(peer.handshake())
    peer.notify().ignore()
    loop.run_until(lambda: "close" in recorder.names())
    assert [*named, recorder.socket.get_servername()] == [None, name, name]


# ---------------------------------------------------------------- clients that check


def test_s7_a_client_that_checks_is_content_with_the_name_it_asked_for(loop, tcp):
    ends = talk(loop, tcp, hosts(), {**CLIENT_TLS, "server_name": "www.cloud.example"})
    assert ends.error is None
    assert ends.client.socket.authorized


def test_s7_a_client_that_checks_refuses_the_default_for_another_name(loop, tcp):
    ends = talk(loop, tcp, hosts(), {**CLIENT_TLS, "server_name": "unknown.example"})
    assert isinstance(ends.error, ssl.SSLCertVerificationError)


def test_s7_an_exact_name_goes_before_a_wildcard(loop, tcp):
    sni = {"*.example": identity("*.example").options, "shop.example": identity("shop.example").options}
    assert asked(loop, tcp, "shop.example", {**SERVER_TLS, "sni": sni})[0] == "shop.example"
    assert asked(loop, tcp, "mail.example", {**SERVER_TLS, "sni": sni})[0] == "*.example"


def test_s7_many_connections_at_once_each_get_their_own(loop, tcp):
    clients = []
    listener = tcp.listen(Recorder(data=echo), tls=hosts())
    for number in range(24):
        name = ["shop.example", "mail.example", "localhost", f"a{number}.cloud.example"][number % 4]
        client = Recorder(label=name)
        tcp.connect(client, listener, tls={**CLIENT_TLS, "server_name": name})
        clients.append(client)
    loop.run_until(lambda: all(client.names() for client in clients))
    assert [client.names() for client in clients] == [["open"]] * 24
    listener.stop(True)
    loop.run()


# ---------------------------------------------------------------- the name's own policy


MUST = {"ca": CA.pem, "request_cert": True}


def refused_client():
    """In TLS 1.3 it is open when it hears of it."""
    return Recorder(label="client", open=ping, error=ignore)


@needs_borrowed
def test_s7_a_names_own_client_certificate_policy_is_enforced(loop, tcp):
    """The listener's own clients need none."""
    server = Recorder(data=echo)
    ends = talk(
        loop, tcp, hosts(**MUST), {**CLIENT_TLS, "server_name": "shop.example"}, server=server, client=refused_client()
    )
    assert server.events == []
    assert isinstance(ends.client.close_error, ssl.SSLError)
    assert ends.client.received() == b""
    assert talk(loop, tcp, hosts(**MUST), CLIENT_TLS).client.received() == b"ping"


@needs_borrowed
def test_s7_a_good_certificate_satisfies_the_names_policy(loop, tcp):
    seen = []

    def data(socket, chunk):
        seen.append((socket.authorized, names_of_der(socket.get_peer_certificate()["raw"])))
        socket.write(chunk)

    client = {**CLIENT_TLS, **CLIENT.options, "server_name": "shop.example"}
    ends = talk(loop, tcp, hosts(**MUST), client, server=Recorder(data=data))
    assert ends.client.received() == b"ping"
    assert seen == [(True, ["client@example.test"])]


@needs_borrowed
def test_s7_a_strange_certificate_does_not_satisfy_it(loop, tcp):
    server = TLSRecorder(data=echo)
    client = {**CLIENT_TLS, **STRANGE_CLIENT.options, "server_name": "shop.example"}
    talk(loop, tcp, hosts(**MUST), client, server=server, client=refused_client())
    assert server.names() == ["open", "handshake", "close"]
    success, error = server.verdict
    assert not success
    assert isinstance(error, ssl.SSLError)


@needs_borrowed
def test_s7_a_name_that_asks_and_does_not_insist_tells_the_verdict(loop, tcp):
    server = TLSRecorder(data=echo)
    lenient = hosts(ca=CA.pem, request_cert=True, reject_unauthorized=False)
    ends = talk(loop, tcp, lenient, {**CLIENT_TLS, "server_name": "shop.example"}, server=server)
    assert ends.client.received() == b"ping"
    success, error = server.verdict
    assert success
    assert isinstance(error, ssl.SSLError)
    assert not server.socket.authorized


@needs_borrowed
def test_s7_a_name_that_does_not_ask_frees_its_clients_of_the_listeners_policy(loop, tcp):
    tls = {**SERVER_TLS, **MUST, "sni": {"shop.example": identity("shop.example").options}}
    assert talk(loop, tcp, tls, {**CLIENT_TLS, "server_name": "shop.example"}).client.received() == b"ping"
    assert talk(loop, tcp, tls, CLIENT_TLS, client=refused_client()).client.received() == b""


@needs_borrowed
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_s7_a_session_of_one_name_does_not_get_past_the_policy_of_another(loop, tcp, version):
    """The client resumes under another name what it was given without showing a certificate."""
    listener = tcp.listen(Recorder(data=echo), tls=hosts(**MUST))
    sessions = []

    def keep(socket, chunk):
        sessions.append(socket.get_session())
        socket.end()

    def visit(name, **options):
        client = Recorder(open=ping, data=keep, error=ignore)
        tcp.connect(client, listener, tls=unchecked(name, max_version=version, **options))
        loop.run_until(lambda: client.count("close") or client.count("connect_error"))
        return client

    assert visit("localhost").received() == b"ping"
    assert visit("localhost", session=sessions[0]).socket.is_session_reused()
    assert visit("shop.example", session=sessions[0]).received() == b""
    assert visit("mail.example", session=sessions[0]).socket.is_session_reused() is False


def ask_for(connection, name):
    """Have the standard library's object ask for another name from now on, which it has no way to be asked for."""
    library = ctypes.CDLL(_ssl.__file__)
    library.SSL_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
    behind_the_socket = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    address = ctypes.c_void_p.from_address(id(connection._sslobj) + behind_the_socket).value
    assert library.SSL_ctrl(address, SSL_CTRL_SET_TLSEXT_HOSTNAME, 0, name.encode()) == 1


@needs_borrowed
@pytest.mark.skipif(sys.version_info >= (3, 14) or not hasattr(_ssl, "__file__"), reason="another layout of _ssl")
@pytest.mark.parametrize(("first", "second"), [("shop.example", "localhost"), ("localhost", "mail.example")])
def test_s7_a_client_of_other_name_in_its_second_hello_does_not_get_past_the_policy(loop, tcp, first, second):
    """The server asks for a ClientHello with another key share; RFC 8446 wants all else in it to be as before."""
    free = {**identity("shop.example").options, "ecdh_curve": "secp384r1"}
    strict = {**identity("mail.example").options, "ecdh_curve": "secp384r1", **MUST}
    default = {**SERVER_TLS, **(MUST if second == "localhost" else {}), "ecdh_curve": "secp384r1"}
    recorder, context = Recorder(data=lambda socket, chunk: socket.close()), client_context()
    context.check_hostname = False
    listener = tcp.listen(recorder, tls={**default, "sni": {"shop.example": free, "mail.example": strict}})
    peer = dialling(tcp, listener, context, name=first)
    peer.send(peer.step().result())
    loop.wait(peer.take_in())
    ask_for(peer.tls, second)
    peer.handshake().ignore()
    peer.write(b"secret?").ignore()
    loop.wait(peer.read_to_end())
    assert recorder.events == []


@on_fallback
def test_s7_the_fallback_engine_refuses_a_names_own_client_certificate_policy(tcp):
    with refused_by_fallback("sni with request_cert"):
        pybuntcp.listen(hostname="127.0.0.1", port=0, socket=Recorder().handlers, tls=hosts(**MUST))


# ---------------------------------------------------------------- other options of a name


@needs_borrowed
def test_s7_a_names_versions_are_its_own(loop, tcp):
    def version(name):
        ends = talk(loop, tcp, hosts(max_version="TLSv1.2"), {**CLIENT_TLS, "server_name": name})
        return ends.client.socket.get_tls_version()

    assert version("shop.example") == "TLSv1.2"
    assert version("mail.example") == "TLSv1.3"


@needs_borrowed
def test_s7_a_name_that_wants_a_newer_version_refuses_an_older_one(loop, tcp):
    old = {**CLIENT_TLS, "max_version": "TLSv1.2"}
    tls = hosts(min_version="TLSv1.3")
    assert talk(loop, tcp, tls, {**old, "server_name": "mail.example"}).error is None
    assert isinstance(talk(loop, tcp, tls, {**old, "server_name": "shop.example"}).error, ssl.SSLError)


@on_fallback
@pytest.mark.parametrize(("option", "value"), [("min_version", "TLSv1.3"), ("max_version", "TLSv1.2")])
def test_s7_the_fallback_engine_refuses_a_names_own_versions(option, value):
    with refused_by_fallback(f"sni['shop.example']: {option}"):
        pybuntcp.listen(hostname="127.0.0.1", port=0, socket=Recorder().handlers, tls=hosts(**{option: value}))


def test_s7_a_names_protocols_are_its_own(loop, tcp):
    tls = {**hosts(alpn_protocols=["shop/1"]), "alpn_protocols": ["main/1"]}

    def protocol(name):
        client = {**CLIENT_TLS, "server_name": name, "alpn_protocols": ["main/1", "shop/1"]}
        return talk(loop, tcp, tls, client).client.socket.alpn_protocol

    assert protocol("localhost") == "main/1"
    assert protocol("shop.example") == "shop/1"


# ---------------------------------------------------------------- refused at the call


@pytest.mark.parametrize(
    ("sni", "error", "message"),
    [
        (["shop.example"], TypeError, "sni"),
        ({"shop.example": {}}, ValueError, "key and cert"),
        ({"shop.example": {"key": SERVER.key}}, ValueError, "cert"),
        ({"shop.example": {"kee": 1}}, TypeError, r"sni\['shop.example'\].*'kee'"),
        ({"": SERVER.options}, ValueError, "sni"),
        ({1: SERVER.options}, TypeError, "sni"),
        ({"a.example": {**SERVER.options, "sni": {"b.example": SERVER.options}}}, ValueError, "sni"),
    ],
)
def test_s2_wrong_names_are_refused_at_the_call(sni, error, message):
    with pytest.raises(error, match=message):
        pybuntcp.listen(hostname="127.0.0.1", port=0, socket=Recorder().handlers, tls={**SERVER_TLS, "sni": sni})


def test_s2_a_client_has_no_sni_option():
    with pytest.raises(ValueError, match="sni"):
        pybuntcp.connect(hostname="127.0.0.1", port=1, tls={"sni": {"a.example": SERVER.options}})
