"""What a machine may lack: the marks that skip a test there."""

from __future__ import annotations

import sys

import pytest

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a facility of Linux")
