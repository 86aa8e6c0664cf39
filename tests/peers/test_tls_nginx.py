"""nginx on both sides of us: it ends TLS in front of our plain server, and it proxies to our TLS server.

One nginx for each process of tests, with a server for each task. What is behind it listens on a unix socket: a
configuration can name a path before anybody is there.
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import shutil
import socket
import ssl
import tempfile
from pathlib import Path

import pytest
from support import Recorder, pattern
from support.programs import HOST, Dialogue, tool
from support.tls import CA, CLIENT, CLIENT_TLS, OTHER_CA, SERVER_TLS, STRANGE_CLIENT, needs_borrowed

CONFIG = """
{user} daemon off; worker_processes 1; pid {folder}/pid; error_log stderr notice;
events {{ worker_connections 64; }}
http {{
  access_log off; log_not_found off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  ssl_certificate {folder}/server.cert; ssl_certificate_key {folder}/server.key;
  ssl_protocols TLSv1.2 TLSv1.3; proxy_ssl_protocols TLSv1.2 TLSv1.3;
  server {{
    listen {host}:{open} ssl; root {folder};
    location /version {{ return 200 "$ssl_protocol $ssl_cipher $ssl_session_reused $ssl_server_name"; }}
    location /proxied/ {{ proxy_pass http://unix:{folder}/plain:/; proxy_buffering off; }}
  }}
  server {{
    listen {host}:{asking} ssl; ssl_client_certificate {folder}/ca; ssl_verify_client on;
    location / {{ return 200 "$ssl_client_s_dn"; }}
  }}
  server {{
    listen {host}:{front};
    client_max_body_size 0; proxy_http_version 1.1; proxy_set_header Connection "close";
    proxy_ssl_trusted_certificate {folder}/ca; proxy_ssl_verify on; proxy_ssl_name localhost;
    proxy_ssl_server_name on;
    location / {{ proxy_pass https://unix:{folder}/secured:/; }}
    location /old {{ proxy_pass https://unix:{folder}/secured:/; proxy_ssl_protocols TLSv1.2; }}
    location /certified {{
      proxy_pass https://unix:{folder}/secured:/;
      proxy_ssl_certificate {folder}/client.cert; proxy_ssl_certificate_key {folder}/client.key;
    }}
    location /misled {{ proxy_pass https://unix:{folder}/secured:/; proxy_ssl_name other.test; }}
  }}
}}
"""
PORTS = ("open", "asking", "front")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


class Nginx(Dialogue):
    """It takes over listening sockets named in $NGINX (how it upgrades itself), so that the system picks the ports and
    connections are taken from the first moment. As root it would give up its rights, and with them the sight of
    `folder`, which is short: the paths of unix sockets are."""

    def __init__(self, folder: Path) -> None:
        listeners = [socket.create_server((HOST, 0)) for _ in PORTS]
        self.folder = folder
        self.ports = {name: each.getsockname()[1] for name, each in zip(PORTS, listeners, strict=True)}
        user = f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};" if os.geteuid() == 0 else ""
        (folder / "conf").write_text(CONFIG.format(user=user, folder=folder, host=HOST, **self.ports))
        fds = tuple(each.fileno() for each in listeners)
        env = {"NGINX": "".join(f"{fd};" for fd in fds)}
        super().__init__(tool("nginx"), "-e", "stderr", "-p", folder, "-c", folder / "conf", env=env, pass_fds=fds)
        for each in listeners:
            each.close()


@pytest.fixture(scope="module")
def nginx(files):
    tool("nginx")
    with tempfile.TemporaryDirectory(prefix="pybuntcp-") as name:
        folder = Path(name)
        shutil.copytree(files.folder, folder, dirs_exist_ok=True)
        with Nginx(folder) as program:
            program.hear("start worker process ").result()
            yield program


@pytest.fixture
def fetch(loop, tcp, nginx):
    """A request of ours to one of its servers; what was recorded."""

    def get(path, *, server="open", tls=CLIENT_TLS, method="GET"):
        recorder = Recorder(error=lambda *_: None)
        nginx.port = nginx.ports[server]
        tcp.connect(recorder, nginx, tls=tls)
        loop.run_until(lambda: recorder.names())
        if recorder.sockets:
            recorder.socket.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        loop.run_until(lambda: set(recorder.names()) & {"close", "connect_error"})
        return recorder

    return get


def body_of(recorder: Recorder) -> bytes:
    head, _, body = recorder.received().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return body


# ---------------------------------------------------------------------------- our client


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_our_client_and_nginx_name_the_same(fetch, version):
    tls = {**CLIENT_TLS, "max_version": version, "server_name": "localhost", "alpn_protocols": ["http/1.1"]}
    recorder = fetch("/version", tls=tls)
    suite = recorder.socket.get_cipher()["name"]
    assert body_of(recorder).decode() == f"{version} {suite} . localhost"
    assert recorder.socket.alpn_protocol == "http/1.1"
    assert recorder.order() == ["open", "data", "end", "close"]
    assert recorder.close_error is None


def test_alpn_with_nginx_is_what_both_have(fetch):
    recorder = fetch("/version", tls={**CLIENT_TLS, "alpn_protocols": ["spdy/3", "http/1.1"]})
    assert recorder.socket.alpn_protocol == "http/1.1"
    assert body_of(recorder)


def test_a_big_file_from_nginx_comes_whole(fetch, nginx):
    blob = pattern(3_000_000)
    (nginx.folder / "blob").write_bytes(blob)
    body = body_of(fetch("/blob"))
    assert hashlib.sha256(body).digest() == hashlib.sha256(blob).digest()


def test_nginx_is_refused_by_a_client_of_another_authority(fetch):
    recorder = fetch("/version", tls={"ca": OTHER_CA.pem})
    assert recorder.names() == ["connect_error"]
    assert isinstance(recorder.args("connect_error")[0][0], ssl.SSLCertVerificationError)


def test_nginx_sees_the_certificate_of_our_client(fetch):
    recorder = fetch("/", server="asking", tls={**CLIENT_TLS, **CLIENT.options})
    assert b"CN=client" in body_of(recorder)


@pytest.mark.parametrize("own", [{}, STRANGE_CLIENT.options])
def test_nginx_tells_a_client_without_a_good_certificate_so(fetch, own):
    """In its own way, which is an HTTP response over TLS."""
    recorder = fetch("/", server="asking", tls={**CLIENT_TLS, **own})
    assert recorder.received().startswith(b"HTTP/1.1 400 ")
    assert recorder.order() == ["open", "data", "end", "close"]


@needs_borrowed
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_session_with_nginx_is_resumed(fetch, version):
    first = fetch("/version", tls={**CLIENT_TLS, "max_version": version})
    second = fetch("/version", tls={**CLIENT_TLS, "max_version": version, "session": first.socket.get_session()})
    assert [recorder.socket.is_session_reused() for recorder in (first, second)] == [False, True]
    assert b" r " in body_of(second)


# ---------------------------------------------------------------------------- nginx in front


def test_nginx_ends_tls_in_front_of_our_plain_server(loop, unix, nginx, fetch):
    blob = pattern(1_000_000)

    def answer(socket, request):
        assert request.startswith(b"GET /path ")
        socket.end(OK % len(blob) + blob)

    behind = unix.listen(Recorder(data=answer), unix=str(nginx.folder / "plain"), high_water_mark=4 << 20)
    recorder = fetch("/proxied/path")
    behind.stop()
    assert hashlib.sha256(body_of(recorder)).digest() == hashlib.sha256(blob).digest()


# ---------------------------------------------------------------------------- nginx as client


@pytest.fixture
def proxied(loop, unix, tcp, nginx):
    """A request through it to a TLS server of ours: what the server recorded, and the response."""

    def ask(path, body=b"", answer=b"hello", **tls):
        def complete(socket, _):
            head, _, received = recorder.received(socket).partition(b"\r\n\r\n")
            if head and len(received) == len(body):
                socket.end(OK % len(answer) + answer)

        recorder = Recorder(data=complete, error=lambda *_: None)
        where = {"unix": str(nginx.folder / "secured"), "high_water_mark": 4 << 20}
        listener = unix.listen(recorder, tls={**SERVER_TLS, **tls}, **where)
        nginx.port = nginx.ports["front"]
        peer = tcp.peer(nginx)
        peer.send(b"POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % (path, len(body)) + body)
        response = loop.wait(peer.recv_until_eof())
        listener.stop()
        loop.run()
        return recorder, response.partition(b"\r\n\r\n")

    return ask


@pytest.mark.parametrize(("path", "version"), [(b"/", "TLSv1.3"), (b"/old", "TLSv1.2")])
def test_nginx_proxies_to_our_tls_server(proxied, path, version):
    recorder, (head, _, body) = proxied(path)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"hello"
    assert recorder.socket.get_tls_version() == version
    assert recorder.socket.get_servername() == "localhost"


def test_nginx_leaves_our_server_without_close_notify_and_that_is_reported(proxied):
    """As a client of other servers it never says close_notify; it may be gone before it has heard ours."""
    recorder, _ = proxied(b"/")
    assert recorder.order() == ["open", "data", "close"]
    assert isinstance(recorder.close_error, (ssl.SSLEOFError, BrokenPipeError))


def test_big_bodies_go_through_nginx_whole_both_ways(proxied):
    up, down = pattern(1_500_000), pattern(2_000_000)
    recorder, (_, _, body) = proxied(b"/", up, down)
    assert hashlib.sha256(body).digest() == hashlib.sha256(down).digest()
    _, _, received = recorder.received().partition(b"\r\n\r\n")
    assert hashlib.sha256(received).digest() == hashlib.sha256(up).digest()


def test_nginx_shows_its_certificate_to_our_server(proxied):
    recorder, (head, _, body) = proxied(b"/certified", request_cert=True, ca=CA.pem)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"hello"
    assert ("email", "client@example.test") in recorder.socket.get_peer_certificate()["subjectAltName"]


def test_nginx_without_a_certificate_is_refused_by_our_server(proxied):
    recorder, (head, _, _) = proxied(b"/", request_cert=True, ca=CA.pem)
    assert head.startswith(b"HTTP/1.1 502 ")
    assert recorder.events == []


def test_nginx_refuses_our_server_under_another_name(proxied):
    recorder, (head, _, _) = proxied(b"/misled")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert "data" not in recorder.names()
