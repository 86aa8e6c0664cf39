"""Programs in a network of their own: a namespace that has a loopback and two ends of a cable, and reaches nothing else.

Owns: how such a program begins, and whether this machine can have one (tests are skipped with the reason where not).
`command(line)` runs `ip` or `sysctl` in there.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest

from .programs import Program

PROLOGUE = """
    import ctypes, subprocess

    def command(line):
        subprocess.run(line.split(), check=True, stdout=subprocess.PIPE)

    CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0 and libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    command("ip link set lo up")
    command("ip link add one type veth peer name two")
    for name in ("lo", "one", "two"):
        command(f"ip link set {name} up")
    command("ip addr add fe80::1/64 dev lo nodad")
    command("ip addr add fe80::a/64 dev one nodad")
    command("ip addr add fe80::b/64 dev two nodad")
"""


@pytest.fixture(scope="session")
def _network() -> None:
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    tried = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROLOGUE)], capture_output=True, text=True, timeout=30
    )
    if tried.returncode != 0:
        pytest.skip(f"no network namespace here: {tried.stderr.strip().splitlines()[-1:]}")


@pytest.fixture
def program_in_a_network(_network: None) -> Any:
    """Start a program in a network of its own: `program_in_a_network(source, *args)` gives the `Program`."""
    return lambda source, *args: Program(textwrap.dedent(PROLOGUE) + textwrap.dedent(source), *args)
