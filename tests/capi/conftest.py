"""The package `outside` for every test of this folder, a Writer of it and sockets for one; no handle of the test before is left."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

import pytest
from support.slots import built, outside, with_slots  # noqa: F401 - used by name
from support.writers import made

HERE = str(Path(__file__).parent) + os.sep


def pytest_collection_modifyitems(config, items):
    with_slots(config, [item for item in items if str(item.path).startswith(HERE)])


@pytest.fixture(autouse=True)
def _no_stale_handles(outside, no_leaks):  # noqa: F811
    yield
    outside.handle.forget_all()


@pytest.fixture
def make(outside):  # noqa: F811
    """Makes a Writer."""
    return functools.partial(made, outside)


@pytest.fixture(params=["tcp", "unix"])
def pair(request):
    """Two connected sockets. What is detached is not closed here."""
    if request.param == "unix":
        ends = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ends = (socket.create_connection(server.getsockname()), server.accept()[0])
    yield ends
    for end in ends:
        end.close()
