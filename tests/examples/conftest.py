"""Makes `programs` importable, whichever way pytest imports the tests of this folder."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # for --import-mode=importlib
pytest.register_assert_rewrite("programs")
