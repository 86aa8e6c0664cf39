"""One server, twice: pybuntcp's, and one of Python's own `ssl` with a thread per connection; what tlsfuzzer talks to.

    server.py pybuntcp|ssl FILE      FILE: JSON, a `Server` of scripts.py with the paths of its certificates

Promises: both are configured alike, say the same in answer to the same, and end a connection in the same way: a peer's
close_notify is answered with ours, and what breaks the protocol with the alert that OpenSSL chose. The first line on
stdout is JSON: the port, and which OpenSSL it is. They go on until they are killed. It does not know what is asked of
it: a request ends with an empty line, and with `echo` every byte is sent back.

What pybuntcp is by default and `ssl` is not is said to `ssl`: no renegotiation. The number of session tickets is left
at what each does by default: that difference is meant, and documented.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"
ENDS = (b"\r\n\r\n", b"\n\n")
PATIENCE = 15.0  # seconds: longer than any script waits


class Talk:
    """What one connection has said, and what the answer is."""

    def __init__(self, echo: bool) -> None:
        self.echo, self.asked = echo, b""

    def answer(self, chunk: bytes) -> bytes:
        if self.echo:
            return chunk
        self.asked = (self.asked + chunk)[-65536:]
        if not self.asked.endswith(ENDS):
            return b""
        self.asked = b""
        return ANSWER


# ---------------------------------------------------------------------------- pybuntcp


def serve_with_pybuntcp(wanted: dict[str, Any]) -> None:
    import pybuntcp

    class Handlers:
        def open(self: Any) -> None:
            self.data = Talk(wanted["echo"])

        def data(self: Any, chunk: bytes) -> None:
            if answer := self.data.answer(chunk):
                self.write(answer)

    tls: dict[str, Any] = {"cert_file": Path(wanted["cert"]), "key_file": Path(wanted["key"])}
    tls |= {name: wanted[name] for name in ("min_version", "max_version", "ciphers", "ecdh_curve") if wanted[name]}
    if wanted["client_ca"]:
        tls |= {"request_cert": True, "ca_file": Path(wanted["client_ca"])}
    if wanted["alpn"]:
        tls["alpn_protocols"] = wanted["alpn"]
    if wanted["dh_params"]:
        tls["dh_params_file"] = Path(wanted["dh_params"])
    if wanted["names"]:
        tls["sni"] = {name: dict(tls) for name in wanted["names"]}
    listener = pybuntcp.listen(socket=Handlers, hostname="127.0.0.1", port=0, tls=tls)
    ready(listener.port, pybuntcp.tls_engine_info()["engine"])
    pybuntcp.run()


# ---------------------------------------------------------------------------- ssl


def serve_with_ssl(wanted: dict[str, Any]) -> None:
    context = context_of(wanted)
    if wanted["names"]:
        other = context_of(wanted)
        context.sni_callback = lambda secured, name, _: choose(secured, wanted["names"], name, other)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        ready(listener.getsockname()[1], "ssl")
        while True:
            accepted = listener.accept()[0]
            threading.Thread(target=answer_one, args=(accepted, context, wanted["echo"]), daemon=True).start()


def choose(secured: ssl.SSLObject, names: list[str], name: str | None, other: ssl.SSLContext) -> None:
    if name in names:
        secured.context = other


def context_of(wanted: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.0 and 1.1 are asked for by name
        context.minimum_version = version(wanted["min_version"] or "TLSv1.2")
        context.maximum_version = version(wanted["max_version"] or "TLSv1.3")
    if wanted["ciphers"]:
        context.set_ciphers(wanted["ciphers"])
    context.load_cert_chain(wanted["cert"], wanted["key"])
    if wanted["ecdh_curve"]:
        context.set_ecdh_curve(wanted["ecdh_curve"])
    if wanted["client_ca"]:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(wanted["client_ca"])
    if wanted["alpn"]:
        context.set_alpn_protocols(wanted["alpn"])
    if wanted["dh_params"]:
        context.load_dh_params(wanted["dh_params"])
    return context


def version(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]


def answer_one(accepted: socket.socket, context: ssl.SSLContext, echo: bool) -> None:
    """OpenSSL sends its alert by itself. Then nothing more is said, and what still comes is read: no reset eats the alert."""
    accepted.settimeout(PATIENCE)
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError), accepted:
        raw = accepted.dup()
        with raw:
            with contextlib.suppress(OSError), context.wrap_socket(accepted, server_side=True) as secured:
                converse(secured, Talk(echo))
                secured.unwrap()
            raw.settimeout(PATIENCE)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(65536):
                pass


def converse(secured: ssl.SSLSocket, talk: Talk) -> None:
    while chunk := secured.recv(65536):
        if answer := talk.answer(chunk):
            secured.sendall(answer)


def ready(port: int | None, engine: str) -> None:
    print(json.dumps({"port": port, "engine": engine, "openssl": ssl.OPENSSL_VERSION}), flush=True)


if __name__ == "__main__":
    serve = {"pybuntcp": serve_with_pybuntcp, "ssl": serve_with_ssl}[sys.argv[1]]
    serve(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
