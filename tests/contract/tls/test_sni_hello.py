"""Contract, TLS (S7): the name in a client's hello, as clients may send it: in pieces, in no ASCII, malformed."""

from __future__ import annotations

import _ssl
import ctypes
import sys

import pytest
from support import Recorder, unraisable
from support.handlers import echo
from support.tls import CA, SERVER_TLS
from support.tls_peer import client_context, dialling

pytestmark = pytest.mark.standalone("which certificate is picked is nothing that a loop decides")

SSL_CTRL_SET_TLSEXT_HOSTNAME = 55
SHOP = CA.issue("shop.example")
HEADER = 5  # bytes in front of a record

asks_for_anything = pytest.mark.skipif(
    sys.version_info >= (3, 14) or not hasattr(_ssl, "__file__"), reason="another layout of _ssl"
)


def ask_for(connection, name):
    """Have the standard library's object ask for these bytes, which it has no way to be asked for."""
    library = ctypes.CDLL(_ssl.__file__)
    library.SSL_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
    behind_the_socket = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    address = ctypes.c_void_p.from_address(id(connection._sslobj) + behind_the_socket).value
    assert library.SSL_ctrl(address, SSL_CTRL_SET_TLSEXT_HOSTNAME, 0, name) == 1


class Visit:
    """A client of a listener with a name besides its own, that has not said hello yet."""

    def __init__(self, loop, tcp, name, sni=None, **options):
        self.loop = loop
        self.recorder = Recorder(data=echo)
        context = client_context()
        context.check_hostname = False
        names = {"shop.example": SHOP.options} if sni is None else sni
        self.listener = tcp.listen(self.recorder, tls={**SERVER_TLS, "sni": names, **options})
        self.peer = dialling(tcp, self.listener, context, name=name)

    def shown(self):
        """Go on, and talk: the name of the certificate, and what the server knows of the one that was asked for."""
        self.peer.write(b"x")
        self.loop.wait(self.peer.read(1))
        return self.peer.tls.getpeercert()["subjectAltName"][0][1], self.recorder.socket.get_servername()


@asks_for_anything
@pytest.mark.parametrize(
    "name", ["bücher.example".encode(), "bücher.example".encode("latin-1"), b"\xff", b"shop.example\xc2\xa0"]
)
@pytest.mark.parametrize("sni", [None, {}], ids=["names", "no names"])
def test_s7_a_client_that_asks_for_what_is_no_ascii_gets_the_default(loop, tcp, name, sni):
    """As one that asks for no name: nothing is reported, and it is not refused."""
    visit = Visit(loop, tcp, None, sni)
    ask_for(visit.peer.tls, name)
    with unraisable() as told:
        assert visit.shown() == ("localhost", None)
    assert told == []
    assert visit.recorder.count("error") == 0


@pytest.mark.parametrize("size", [1, 2, 5, 6, 43, 100])
def test_s7_a_hello_may_come_in_pieces(loop, tcp, size):
    visit = Visit(loop, tcp, "shop.example")
    hello = visit.peer.step().result()
    for start in range(0, len(hello), size):
        loop.wait(visit.peer.send(hello[start : start + size]))
    assert visit.shown() == ("shop.example", "shop.example")


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_s7_a_hello_may_come_in_several_records(loop, tcp, size):
    visit = Visit(loop, tcp, "shop.example")
    hello = visit.peer.step().result()
    head, message = hello[:3], hello[HEADER:]
    for start in range(0, len(message), size):
        piece = message[start : start + size]
        visit.peer.send(head + len(piece).to_bytes(2, "big") + piece)
    assert visit.shown() == ("shop.example", "shop.example")


def test_s7_a_client_without_a_name_gets_the_default(loop, tcp):
    assert Visit(loop, tcp, None).shown() == ("localhost", None)


def test_s7_a_hello_of_two_attempts_gets_the_same_certificate(loop, tcp):
    """The server asks for another key share: the hello comes twice."""
    curve = {"ecdh_curve": "secp384r1"}
    names = {"shop.example": {**SHOP.options, **curve}}
    assert Visit(loop, tcp, "shop.example", names, **curve).shown() == ("shop.example", "shop.example")


@pytest.mark.parametrize("cut", [6, 10, 44, 60, 100])
def test_s4_a_hello_that_is_malformed_is_refused_and_nothing_more(loop, tcp, cut):
    """Its lengths say less than there is, or more: OpenSSL judges, whatever name was read in it."""
    visit = Visit(loop, tcp, "shop.example")
    hello = bytearray(visit.peer.step().result())
    hello[cut] ^= 0xFF
    with unraisable() as told:
        visit.peer.send(bytes(hello)).ignore()
        visit.peer.shutdown().ignore()
        loop.wait(visit.peer.call(wait_for_the_end, visit.peer.sock))
    assert told == []
    assert visit.recorder.count("open") == visit.recorder.count("data") == 0


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x00" * 9000, b"\x16" * 70000, b"\x80\x2e\x01\x03\x01"]
)
def test_s4_what_is_no_hello_is_refused(loop, tcp, sent):
    visit = Visit(loop, tcp, "shop.example")
    visit.peer.send(sent).ignore()
    visit.peer.shutdown().ignore()
    loop.wait(visit.peer.call(wait_for_the_end, visit.peer.sock))
    assert visit.recorder.count("open") == visit.recorder.count("data") == 0


def wait_for_the_end(sock):
    try:
        while sock.recv(65536):
            pass
    except OSError:
        pass
