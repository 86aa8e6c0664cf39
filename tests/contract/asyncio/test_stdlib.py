"""The native asyncio loop: the interpreter's own tests of asyncio pass on it (see tests/project/stdlib_asyncio.py)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "project" / "stdlib_asyncio.py"
LIMIT = 180  # seconds; in test_ssl one that is expected to fail waits a minute for its server

spec = importlib.util.spec_from_file_location("stdlib_asyncio", PROGRAM)
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT + 20)]


def passes(*arguments):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--limit", str(LIMIT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT + 10,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:]


@pytest.mark.skipif(not program.available(), reason="this interpreter was installed without test.test_asyncio")
@pytest.mark.parametrize("module", program.available())
def test_the_interpreters_own_tests_of_asyncio_pass_with_sockets_of_ours_open(module):
    passes(module)


@pytest.mark.skipif(not program.available(), reason="this interpreter was installed without test.test_asyncio")
@pytest.mark.parametrize("module", ["test_events", "test_sock_lowlevel", "test_unix_events"])
def test_the_interpreters_own_tests_of_asyncio_pass_with_nothing_of_ours_open(module):
    passes("--bare", module)
