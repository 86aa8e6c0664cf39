"""What the tests of this folder share: `programs` made importable, SIGINT heard by what they start, packages built once."""

import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # for --import-mode=importlib
pytest.register_assert_rewrite("programs", "redis_traffic")

from programs import EXAMPLES, HOST, output_of, redis_server, tool  # noqa: E402
from support import packages  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def _sigint_is_heard():
    """A shell starts background jobs with SIGINT ignored, and programs started by them inherit that."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture(scope="session")
def cython_redis(tmp_path_factory):
    """The folder that examples/cython_redis is installed in; beside it, the one it was built in."""
    folder = tmp_path_factory.mktemp("cython-redis")
    packages.install(EXAMPLES / "cython_redis", folder / "installed", folder)
    return folder / "installed"


@pytest.fixture(scope="module")
def real_server(tmp_path_factory):
    """A redis-server to compare with."""
    version = output_of(tool("redis-server"), "--version")
    if " v=7." not in version:
        pytest.skip(f"the examples speak as Redis 7; this is {version.strip()}")
    with redis_server(tmp_path_factory.mktemp("redis")) as program:
        yield program


@pytest.fixture
def cli_of():
    """redis-cli for a server: what it prints."""
    path = tool("redis-cli")

    def cli(server):
        where = ("-h", HOST, "-p", str(server.port))
        assert output_of(path, *where, "FLUSHALL") == "OK\n"
        return lambda *words, stdin=b"": output_of(path, *where, *words, stdin=stdin)

    return cli


@pytest.fixture
def cli(server, cli_of):
    """redis-cli for the `server` of the test's own module."""
    return cli_of(server)
