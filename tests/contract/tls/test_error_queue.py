"""CONTRACT.md, TLS (S9): what other code leaves in OpenSSL's error queue of this thread is nobody's error but its own."""

from __future__ import annotations

import _ssl
import ctypes
import ssl

import pytest
from support import Feed, Recorder
from support.handlers import echo
from support.tls import (
    CA,
    CLIENT_TLS,
    SERVER_TLS,
    TLSRecorder,
    finish,
    joined,
    meet,
    needs_borrowed,
    ping,
    settled,
    speaker,
    talk,
)

pytestmark = pytest.mark.standalone("the queue is the thread's, whatever loop turns in it")


SSL_LIBRARY, AN_ALERT = 20, 1042  # ERR_LIB_SSL, and SSL_R_SSLV3_ALERT_BAD_CERTIFICATE


# The fallback cannot tell an alert that was left from one that came: it fails safe, with an error.
@pytest.fixture(scope="module", params=["of another kind", pytest.param("an alert", marks=needs_borrowed)])
def leave(request):
    """Leave an error in the queue, by the interpreter's own OpenSSL."""
    path = getattr(_ssl, "__file__", None)
    library = ctypes.PyDLL(path)  # None: `_ssl` is part of the interpreter
    if not hasattr(library, "d2i_X509") or not hasattr(library, "ERR_peek_error"):
        pytest.skip("this interpreter's OpenSSL cannot be reached")
    if request.param == "an alert" and not hasattr(library, "ERR_set_error"):
        pytest.skip("this OpenSSL has another way of noting errors")
    library.ERR_peek_error.restype = ctypes.c_ulong
    library.d2i_X509.restype = ctypes.c_void_p
    library.d2i_X509.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long]

    def leave(*args):
        if request.param == "an alert":
            library.ERR_new()
            library.ERR_set_error(SSL_LIBRARY, AN_ALERT, None)
        else:
            garbage = ctypes.c_char_p(b"\xff\xff\xff\xff")
            assert library.d2i_X509(None, ctypes.byref(garbage), 4) is None
        assert library.ERR_peek_error() != 0

    yield leave
    library.ERR_clear_error()


def test_s9_an_error_left_before_the_handshake_does_not_fail_it(loop, tcp, leave):
    leave()
    ends = talk(loop, tcp)
    assert ends.client.received() == b"ping"
    assert ends.error is None


@pytest.mark.parametrize("kind", [Recorder, TLSRecorder])
def test_s9_an_error_left_in_each_handler_harms_no_connection(loop, tcp, leave, kind):
    def open(socket):
        leave()
        socket.write(b"ping")
        leave()

    def data(socket, chunk):
        leave()
        socket.end(chunk)
        leave()

    handlers = {"handshake": leave} if kind is TLSRecorder else {}
    server = kind(open=leave, data=data, **handlers)
    client = kind(open=open, data=leave, end=leave, **handlers)
    ends = talk(loop, tcp, server=server, client=client)
    assert client.received() == server.received() == b"ping"
    assert (client.close_error, server.close_error, ends.error) == (None, None, None)


def test_s9_errors_left_at_every_chunk_of_a_large_stream_lose_nothing(loop, tcp, leave):
    feed = Feed(1 << 20)  # its records are cut in two by the reads

    def fill(socket, *args):
        leave()
        feed.write(socket, 1 << 20)

    server = Recorder(data=leave)
    client = Recorder(open=fill, drain=fill)
    ends = joined(loop, tcp, server=server, client=client)
    loop.run_until(lambda: len(server.received()) == 1 << 20)
    assert server.received() == feed.data
    finish(loop, ends)
    assert (client.close_error, server.close_error) == (None, None)


def test_s9_an_error_left_by_a_refused_connection_is_not_told_to_others(loop, tcp, leave):
    ends = joined(loop, tcp, server=Recorder(data=echo))
    for count in (1, 2, 3):
        refused = meet(tcp, SERVER_TLS, {})
        loop.run_until(lambda refused=refused: settled(refused.client))
        refused.listener.stop()
        assert isinstance(refused.refusal, ssl.SSLCertVerificationError)
        leave()
        ends.client.socket.write(b"still here")
        loop.run_until(lambda count=count: len(ends.client.received()) == 10 * count)
    finish(loop, ends)


def test_s9_an_error_is_the_connections_own_and_not_one_that_was_left(loop, tcp, leave):
    def open(socket):
        leave()
        socket.write(b"ping")

    client = speaker(open=open, error=leave)
    asks = {**SERVER_TLS, "ca": CA.pem, "request_cert": True}
    talk(loop, tcp, asks, {**CLIENT_TLS, "min_version": "TLSv1.3"}, client=client)
    assert client.order() == ["open", "error", "close"]
    assert client.close_error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


def test_s9_close_notify_is_sent_though_an_error_was_left(loop, tcp, leave):
    def data(socket, chunk):
        leave()
        socket.close()

    client = speaker(open=ping)
    ends = talk(loop, tcp, SERVER_TLS, CLIENT_TLS, server=Recorder(data=data), client=client)
    assert client.order() == ["open", "end", "close"]
    assert ends.server.close_error is client.close_error is None
