"""The package `outside` for every test of this folder, what makes a Writer of it, and no handle that is left of the test before."""

from __future__ import annotations

import functools
import os
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
