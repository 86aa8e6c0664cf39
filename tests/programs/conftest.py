"""What the tests of this folder share: real servers, a file of tests each, and how often the kernel sends a file."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # for --import-mode=importlib
pytest.register_assert_rewrite("carried", "web_site")

from support import servers  # noqa: E402


@pytest.fixture
def sendfile_calls(monkeypatch):
    """How often the kernel was asked to send a file."""
    calls = []
    real = os.sendfile
    monkeypatch.setattr(os, "sendfile", lambda *given: calls.append(given) or real(*given))
    return calls


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    """One that tests do not end. Its unix socket is `folder / "redis"`."""
    folder = tmp_path_factory.mktemp("redis")
    with servers.redis_server(folder) as program:
        program.folder = folder
        yield program


@pytest.fixture(scope="module")
def tls_redis_server(tmp_path_factory):
    """One that speaks TLS on its port."""
    with servers.redis_server(tmp_path_factory.mktemp("redis"), tls=True) as program:
        yield program


@pytest.fixture(scope="module")
def postgres():
    """A real server. Its unix sockets are in `folder`."""
    with servers.postgres_server() as program:
        yield program


@pytest.fixture(scope="module")
def tls_postgres():
    """One that speaks TLS, if it is asked to."""
    settings = {"ssl": "on", "ssl_cert_file": "../cert.pem", "ssl_key_file": "../key.pem"}
    with servers.postgres_server(servers.identity_files, **settings) as program:
        yield program
