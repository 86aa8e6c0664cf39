"""The package `outside`, built once with setuptools against the pybuntcp under test, and importable."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # for --import-mode=importlib

from support import packages

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config, items):
    """The first test builds the package: what is timed is the test, not what it was set up with."""
    seconds = float(config.getoption("timeout") or config.getini("timeout") or 0)
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(seconds, func_only=True))


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Where `outside` is installed, and where it was built: (target, source)."""
    target, scratch = tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("outside-build")
    packages.install(HERE / "outside", target, scratch)
    return target, scratch / "outside"


@pytest.fixture(scope="session", autouse=True)
def outside(built):
    """The package."""
    sys.path.insert(0, str(built[0]))
    for extension in (built[0] / "outside").glob("*.so"):
        importlib.import_module(f"outside.{extension.name.partition('.')[0]}")
    return sys.modules["outside"]


@pytest.fixture(autouse=True)
def _no_stale_handles(outside, no_leaks):
    yield
    outside.handle.forget_all()
