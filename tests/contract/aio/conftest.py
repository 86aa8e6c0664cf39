"""Fixtures of what the transports of asyncio's loops run on: `streams`, and `tls`, whose peers speak TLS by hand; a `file`; a `loop`."""

from __future__ import annotations

import pytest
from support.asyncio_loops import open_host
from support.kernel import pattern
from support.streams import LARGE, Streams
from support.tls_end import TlsStreams


@pytest.fixture(params=["tcp", "unix"])
def streams(request, no_leaks):
    """A family of stream connections (`support.streams.Streams`)."""
    streams = Streams(request.param)
    yield streams
    streams.close()


@pytest.fixture
def tls(request, no_leaks):
    """As `streams`, with peers of TLS (`support.tls_end.TlsStreams`): of TCP, or of the family that a test is given."""
    streams = TlsStreams(getattr(request, "param", "tcp"))
    yield streams
    streams.close()


@pytest.fixture
def file(tmp_path):
    """A file of `pattern(LARGE)`, open to be read."""
    path = tmp_path / "file"
    path.write_bytes(pattern(LARGE))
    with path.open("rb") as file:
        yield file


@pytest.fixture
def loop(host):
    """A new loop of the kind `host`, which does not run: for tests of the loop itself."""
    with open_host(host) as loop:
        yield loop
