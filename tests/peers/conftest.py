"""What the tests of this folder share: programs that end with their test, certificates as files, `openssl`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import TIMEOUT
from support.programs import HOST, Dialogue, environment, tool
from support.tls import CA, CLIENT, OTHER_CA, REVOKED_CLIENT, SERVER, STRANGE_CLIENT, Identity


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """One PostgreSQL is enough."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if "postgres" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group("postgres"))


class Files:
    """Certificates and keys for programs that take paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = self.put("ca", CA.pem)
        self.other_ca = self.put("other_ca", OTHER_CA.pem)
        self.server = self.pair("server", SERVER)
        self.client = self.pair("client", CLIENT)
        self.strange_client = self.pair("strange_client", STRANGE_CLIENT)
        self.revoked_client = self.pair("revoked_client", REVOKED_CLIENT)

    def put(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def pair(self, name: str, identity: Identity) -> tuple[str, str]:
        """Paths of its certificate and of its key."""
        return self.put(f"{name}.cert", identity.cert), self.put(f"{name}.key", identity.key)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def start(no_leaks):
    """Start a program that is talked to; it is ended with the test."""
    started: list[Dialogue] = []

    def begin(*command, **options):
        started.append(Dialogue(*command, **options))
        return started[-1]

    yield begin
    for program in reversed(started):
        program.stop()


@pytest.fixture(scope="session")
def openssl_path():
    """Of one that words what it prints as these tests know it."""
    path = tool("openssl")
    asked = subprocess.run([path, "version"], env=environment(), capture_output=True, text=True, timeout=TIMEOUT)
    version = asked.stdout.strip()
    return path if version.startswith("OpenSSL 3.") else pytest.skip(f"the tests know OpenSSL 3, this is {version}")


@pytest.fixture
def openssl(start, openssl_path):
    """`openssl` with these arguments."""
    return lambda *arguments, **options: start(openssl_path, *arguments, **options)


@pytest.fixture
def s_server(openssl, files):
    """`openssl s_server` with our certificate and these arguments; it listens. -WWW gives out what is in `files`."""

    def begin(*arguments, identity=None):
        cert, key = files.server if identity is None else identity
        where = ("-accept", f"{HOST}:0", "-cert", cert, "-key", key)
        program = openssl("s_server", *where, *arguments, cwd=files.folder)
        program.hear(f"ACCEPT {HOST}:").result()
        program.port = int(program.hear("\n").result())
        return program

    return begin
