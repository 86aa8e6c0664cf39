"""Fixtures of the contract's tests beside those that every test has: programs with a network or a resolver of their own, and
the axis `handlers`: sentences that hold for slots as well run with a Recorder's Python handlers, and with its slots."""

from __future__ import annotations

import pytest
from support import axis
from support.network_namespaces import _network, program_in_a_network  # noqa: F401 - used by name
from support.resolver import hanging_resolver, program_that_hangs  # noqa: F401
from support.slots import HANDLERS, built, outside, with_slots  # noqa: F401


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    with_slots(config, [item for item in items if axis.has_slots(item)])


@pytest.fixture
def handlers(request, no_leaks):
    """The class of the test's recorders: `handlers(data=f)` logs every call, and runs `f(socket, chunk)` after it."""
    if request.param == "slots":
        yield HANDLERS["slots"]
        request.getfixturevalue("outside").handle.forget_all()
    else:
        yield HANDLERS[request.param]
