"""What the suites of our users' projects have in common: pins, pytest's plugins, and what a machine must have for them.

Some use fixed ports, and both runs of a suite go on at the same time. Those have a network of their own, in which nothing
but the loopback is.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
from pathlib import Path

from suite import Place

PYTEST = ("pytest==9.2.0", "pytest-mock==3.17.0", "pytest-timeout==2.4.0")

# The interpreter here has plugins that these suites do not know.
NO_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def plugins(*names: str) -> tuple[str, ...]:
    """Arguments of pytest: these plugins, and none of the options of a suite's own settings."""
    return ("-o", "addopts=", *(word for name in names for word in ("-p", name)))


def without_uvloop(place: Place) -> None:
    """uvicorn, aiohttp and AnyIO take uvloop by themselves where it is installed."""
    (place.site / "uvloop.py").write_text('raise ImportError("not in this run")\n', encoding="utf-8")


@functools.cache
def own_network() -> tuple[str, ...]:
    """What starts a program in a network of its own; nothing where the system does not allow it."""
    user = () if os.geteuid() == 0 else ("--map-root-user",)
    words = ("unshare", "--net", *user, "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    try:
        subprocess.run([*words, "true"], check=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return words


def no_own_network() -> str:
    """Why a suite that uses fixed ports cannot run here, or ""."""
    return "" if own_network() else "it uses fixed ports, and this system gives it no network of its own"


def no_ipv6() -> bool:
    """Whether nothing can listen at `localhost` by IPv6."""
    try:
        with socket.create_server(("localhost", 0), family=socket.AF_INET6):
            return False
    except OSError:
        return True


def missing(program: str) -> str:
    """Why a suite cannot run here, or ""."""
    return "" if shutil.which(program) else f"no {program} here"


def postgresql() -> str:
    """The folder of PostgreSQL's programs: the newest of Debian's, which POSTGRESQL names otherwise, or that of PATH."""
    found = Path(os.environ.get("POSTGRESQL", "/usr/lib/postgresql")).glob("*/bin/pg_ctl")
    newest = max(found, key=lambda path: float(path.parts[-3]), default=shutil.which("pg_ctl"))
    return str(Path(newest).parent) if newest else ""
