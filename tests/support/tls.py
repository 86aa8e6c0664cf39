"""The TLS part of the test harness: certificates, a server and a client of ours in one loop, and which engine it is.

Owns: what is made once per process (keys are EC, so that it costs milliseconds): `CA` and `OTHER_CA`, certificates of
servers and clients under them, one that has expired, a list of revoked ones, an encrypted key; `TLSRecorder`, a
Recorder with a `handshake` handler; `talk` and `joined`, which bring a server and a client together; the marks of what
only one engine does. The suite is run once per engine: PYBUNTCP_TLS_ENGINE says which. Everything is bounded as in
`support`.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

import pybuntcp

from .async_handlers import Notes
from .handlers import echo
from .recorder import Recorder
from .tls_socket import tell_truncations

# ---------------------------------------------------------------- engines

ENGINE = pybuntcp.tls_engine_info()
BORROWED = ENGINE["engine"] == "borrowed"

needs_borrowed = pytest.mark.skipif(not BORROWED, reason="the fallback engine refuses it; its counterpart tests that")
on_fallback = pytest.mark.skipif(BORROWED, reason="what the fallback engine refuses")


@contextlib.contextmanager
def refused_by_fallback(what: str) -> Iterator[None]:
    """NotImplementedError that names what is refused, why, and where to look."""
    with pytest.raises(NotImplementedError, match=re.escape(what)) as caught:
        yield
    assert ENGINE["reason"] in str(caught.value)
    assert "tls_engine_info()" in str(caught.value)


# ---------------------------------------------------------------- certificates


class Identity:
    """A certificate and its key, PEM: `cert` with what leads to its root behind it, `key`; `options` has both."""

    def __init__(self, issued: trustme.LeafCert) -> None:
        self.cert = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        self.key = issued.private_key_pem.bytes()
        self.parsed = x509.load_pem_x509_certificate(self.cert)
        self.der = self.parsed.public_bytes(serialization.Encoding.DER)

    @property
    def options(self) -> dict[str, Any]:
        return {"key": self.key, "cert": self.cert}

    def encrypted_key(self, passphrase: bytes) -> bytes:
        return self._key().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase),
        )

    def _key(self) -> Any:
        return serialization.load_pem_private_key(self.key, None)


class Authority:
    """A certificate authority: `pem`, and what it issues and revokes."""

    def __init__(self) -> None:
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.pem = self._ca.cert_pem.bytes()
        self.parsed = x509.load_pem_x509_certificate(self.pem)

    def issue(self, *names: str, expired: bool = False, **options: Any) -> Identity:
        """For host names, addresses, e-mail addresses; a first name may be a wildcard."""
        if expired:
            options["not_after"] = _now() - datetime.timedelta(days=1)
        return Identity(self._ca.issue_cert(*names, key_type=trustme.KeyType.ECDSA, **options))

    def revoke(self, *identities: Identity) -> bytes:
        """A list (PEM) that revokes these, and is valid now."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.parsed.subject)
        builder = builder.last_update(_now() - datetime.timedelta(days=1))
        builder = builder.next_update(_now() + datetime.timedelta(days=365))
        for identity in identities:
            revoked = x509.RevokedCertificateBuilder().serial_number(identity.parsed.serial_number)
            builder = builder.add_revoked_certificate(revoked.revocation_date(_now()).build())
        key = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


CA = Authority()
OTHER_CA = Authority()
SERVER = CA.issue("localhost", "127.0.0.1", "::1")
STRANGE_SERVER = OTHER_CA.issue("localhost", "127.0.0.1", "::1")
EXPIRED_SERVER = CA.issue("localhost", "127.0.0.1", "::1", expired=True)
CLIENT = CA.issue("client@example.test", common_name="client")
STRANGE_CLIENT = OTHER_CA.issue("stranger@example.test", common_name="stranger")
EXPIRED_CLIENT = CA.issue("late@example.test", common_name="late", expired=True)
REVOKED_CLIENT = CA.issue("revoked@example.test", common_name="revoked")
CRL = CA.revoke(REVOKED_CLIENT)
PASSPHRASE = b"open sesame"
ENCRYPTED_KEY = SERVER.encrypted_key(PASSPHRASE)

# The group of RFC 7919, appendix A.1.
FFDHE2048 = b"""-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""

# What a server and a client need who trust each other's authority.
SERVER_TLS: dict[str, Any] = {**SERVER.options}
CLIENT_TLS: dict[str, Any] = {"ca": CA.pem}


# ---------------------------------------------------------------- two ends of ours


def trusting(kind: type[ssl.SSLContext] = ssl.SSLContext, ca: Authority = CA) -> ssl.SSLContext:
    """A client's own context."""
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    tell_truncations(context)
    context.load_verify_locations(cadata=ca.pem.decode())
    return context


class TLSRecorder(Notes):
    """Notes with a `handshake` handler: `handshake(socket, success, error)` is logged as other events are.

    A plain Recorder has none, which changes when `open` comes (C4). Functions may be `async def`.
    """

    def __init__(self, *, handshake: Callable[..., Any] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._names.insert(0, "handshake")
        if handshake is not None:
            self._functions["handshake"] = handshake

    @property
    def verdict(self) -> tuple[bool, BaseException | None]:
        """What the only `handshake` was given: (success, error)."""
        (verdict,) = self.args("handshake")
        return verdict


class Ends:
    """A listener, a connection to it, and the recorders of both."""

    def __init__(self, listener: Any, connecting: Any, server: Recorder, client: Recorder) -> None:
        self.listener, self.connecting = listener, connecting
        self.server, self.client = server, client

    @property
    def error(self) -> BaseException | None:
        """What the client's awaitable raised."""
        return self.connecting.exception()

    @property
    def refusal(self) -> BaseException:
        """The error that the client's `connect_error` was given, once."""
        ((error,),) = self.client.args("connect_error")
        return error


def meet(
    transport: Any,
    server_tls: Any = None,
    client_tls: Any = None,
    *,
    server: Recorder | None = None,
    client: Recorder | None = None,
    listen: dict[str, Any] | None = None,
    **connect: Any,
) -> Ends:
    """Listen, and connect to it; `connect` and `listen` are further options of those two. The loop has not turned."""
    server = Recorder(label="server") if server is None else server
    client = Recorder(label="client") if client is None else client
    listener = transport.listen(server, tls=SERVER_TLS if server_tls is None else server_tls, **(listen or {}))
    connecting = transport.connect(client, listener, tls=CLIENT_TLS if client_tls is None else client_tls, **connect)
    return Ends(listener, connecting, server, client)


def talk(loop: Any, transport: Any, server_tls: Any = None, client_tls: Any = None, **options: Any) -> Ends:
    """`meet`, and turn until both ends are closed.

    Recorders not given are an echo, and a client that says b"ping" and ends when it hears an answer.
    """
    options["server"] = options.get("server") or Recorder(label="server", data=echo)
    options["client"] = options.get("client") or speaker()
    ends = meet(transport, server_tls, client_tls, **options)
    loop.run_until(lambda: settled(ends.client))
    ends.listener.stop()
    loop.run()
    return ends


def speaker(**functions: Callable[..., Any]) -> Recorder:
    """A client that says b"ping" and ends when it hears an answer."""
    return Recorder(label="client", **{"open": ping, "data": hang_up, **functions})


def joined(loop: Any, transport: Any, server_tls: Any = None, client_tls: Any = None, **options: Any) -> Ends:
    """`meet`, and turn until the handshakes of both are done; the listener has stopped. `ends.server.socket` is open."""
    ends = meet(transport, server_tls, client_tls, **options)
    loop.run_until(lambda: established(ends.server) and established(ends.client))
    ends.listener.stop()
    return ends


def finish(loop: Any, ends: Ends) -> None:
    """Close a connection that `joined` made."""
    ends.client.socket.close()
    loop.run()


def settled(recorder: Recorder) -> bool:
    """Its handshake is done, or nothing will become of it."""
    return established(recorder) or bool({"connect_error", "close"} & set(recorder.names()))


def established(recorder: Recorder, count: int = 1) -> bool:
    """So many of its handshakes are done."""
    return recorder.count("handshake" if isinstance(recorder, TLSRecorder) else "open") >= count


def ping(socket: Any) -> None:
    socket.write(b"ping")


def hang_up(socket: Any, chunk: bytes) -> None:
    socket.end()


class Silent:
    """A raw server, and its first peer, that says nothing."""

    def __init__(self, transport: Any) -> None:
        self.server = transport.raw_server()
        self.peer = self.server.accept()

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *exc: object) -> None:
        self.peer.close().ignore()
