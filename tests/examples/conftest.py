"""Makes `programs` importable, whichever way pytest imports the tests of this folder, and SIGINT heard by what they start."""

import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # for --import-mode=importlib
pytest.register_assert_rewrite("programs")


@pytest.fixture(scope="session", autouse=True)
def _sigint_is_heard():
    """A shell starts background jobs with SIGINT ignored, and programs started by them inherit that."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
