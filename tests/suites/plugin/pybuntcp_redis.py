"""A pytest plugin for redis-py's suite: a redis-server as long as the tests run, on a port that the system picks.
In a network of its own that is PYBUNTCP_SUITE_REDIS_PORT, which some tests have in their text.

Sets the option --redis-url, before the suite's own conftest reads it. Ends the server by its process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from typing import Any


class Server:
    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="pybuntcp-redis-")
        self.port = 0
        for _ in range(5):  # another process may take the port meanwhile
            self.process = self.start()
            if self.wait_until_ready():
                return
            self.end()
        raise RuntimeError("redis-server does not start")

    def start(self) -> subprocess.Popen[str]:
        wanted = int(os.environ.get("PYBUNTCP_SUITE_REDIS_PORT", "0"))
        with socket.create_server(("127.0.0.1", wanted)) as probe:
            self.port = probe.getsockname()[1]
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.folder.name]
        command += ["--save", "", "--enable-debug-command", "yes"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def wait_until_ready(self) -> bool:
        """It says so; False: it has ended."""
        assert self.process.stdout is not None
        return any("Ready to accept connections" in line for line in self.process.stdout)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def pytest_unconfigure(self) -> None:
        self.end()
        self.folder.cleanup()


def pytest_configure(config: Any) -> None:
    server = Server()
    config.pluginmanager.register(server, "pybuntcp-redis-server")
    config.option.redis_url = f"redis://127.0.0.1:{server.port}/0"
