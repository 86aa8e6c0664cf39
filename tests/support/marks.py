"""What a machine may lack: the marks that skip a test there."""

from __future__ import annotations

import importlib.util
import sys

import pytest

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a facility of Linux")
needs_uvloop = pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")
