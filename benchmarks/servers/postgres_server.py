"""PostgreSQL behind the clients of asyncio_clients.py: a cluster of its own that keeps nothing, and trusts everybody on loopback. It owns the options and nothing else.

Root may not run PostgreSQL: then it is the user `postgres`, whom Debian's package makes.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from typing import Any

from becoming import announce, free_port, parse

PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), *glob.glob("/usr/lib/postgresql/*/bin")))
SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "unix_socket_directories=", "jit=off")


def as_user(folder: str) -> dict[str, Any]:
    """What makes a process of root an ordinary user's, to whom the folder belongs."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        raise SystemExit(f"no {name}")
    return found


def end(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    arguments = parse(__doc__.splitlines()[0], "postgres")
    signal.signal(signal.SIGTERM, end)
    with tempfile.TemporaryDirectory(prefix="pybuntcp-postgres-") as folder:
        options = {"cwd": folder, **as_user(folder)}
        initdb = [program("initdb"), "-D", folder, "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **options)
        port = free_port(arguments.host)
        settings = (part for setting in SETTINGS for part in ("-c", setting))
        where = ["-D", folder, "-h", arguments.host, "-p", str(port)]
        with subprocess.Popen([program("postgres"), *where, *settings], **options) as server:
            try:
                announce(arguments.host, port)
                server.wait()
            finally:
                server.send_signal(signal.SIGINT)  # at once: clients are not waited for
