"""A pytest plugin for redis-py's suite: a redis-server as long as the tests run, on ports that the system picks: one in plain
text and one with TLS. In a network of its own the first is PYBUNTCP_SUITE_REDIS_PORT, which some tests have in their text.

Sets the options --redis-url and --redis-ssl-url, before the suite's own conftest reads them. The certificates are those
that the tests look for. Ends the server by its process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

TLS = Path("dockers/standalone/tls").absolute()  # pytest runs in the folder that the suite's `prepare` has filled


class Server:
    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="pybuntcp-redis-")
        self.port = self.tls_port = 0
        for _ in range(5):  # another process may take the port meanwhile
            self.process = self.start()
            if self.wait_until_ready():
                return
            self.end()
        raise RuntimeError("redis-server does not start")

    def start(self) -> subprocess.Popen[str]:
        wanted = int(os.environ.get("PYBUNTCP_SUITE_REDIS_PORT", "0"))
        with socket.create_server(("127.0.0.1", wanted)) as probe, socket.create_server(("127.0.0.1", 0)) as other:
            self.port, self.tls_port = (each.getsockname()[1] for each in (probe, other))
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.folder.name]
        command += ["--tls-port", str(self.tls_port), "--tls-auth-clients", "optional"]
        command += ["--tls-cert-file", f"{TLS}/redis.crt", "--tls-key-file", f"{TLS}/redis.key"]
        command += ["--tls-ca-cert-file", f"{TLS}/ca.crt"]
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
    config.option.redis_ssl_url = f"rediss://localhost:{server.tls_port}"
