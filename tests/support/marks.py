"""What a machine may lack: the marks that skip a test there."""

from __future__ import annotations

import sys

import pytest

mended_in_3_11 = pytest.mark.skipif(
    (3, 11) <= sys.version_info < (3, 11, 7), reason="asyncio and ssl of the first releases of Python 3.11 differ here"
)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a facility of Linux")
