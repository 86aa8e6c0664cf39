"""The fixture `streams`: what the transports of asyncio's loops run on."""

from __future__ import annotations

import pytest
from support.streams import Streams


@pytest.fixture(params=["tcp", "unix"])
def streams(request, no_leaks):
    """A family of stream connections (`support.streams.Streams`)."""
    streams = Streams(request.param)
    yield streams
    streams.close()
