"""API.md, `TLSOptions`, where /proc is not mounted (a chroot, a strict container): which engine is used, and which keys load."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import TIMEOUT
from support.tls import CA, CRL, ENGINE, PASSPHRASE, REVOKED_CLIENT, SERVER, STRANGE_SERVER

WITHOUT = 'mount -t tmpfs -o size=1m nothing /proc && exec "$@"'
ALONE = [shutil.which("unshare") or "unshare", "--user", "--map-root-user", "--mount"]


def can_hide() -> bool:
    tried = subprocess.run(
        [*ALONE, "sh", "-c", WITHOUT, "sh", "true"], capture_output=True, timeout=TIMEOUT, check=False
    )
    return tried.returncode == 0


pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("unshare") is None or not can_hide(),
    reason="needs a mount namespace of its own",
)

HEAD = """
import os, sys
from pathlib import Path
assert not os.path.exists("/proc/self")
import pybuntcp
folder = Path(sys.argv[1])
places = {name: folder / name for name in ("key", "cert", "ca", "crl", "encrypted", "two")}
texts = {name: path.read_bytes() for name, path in places.items()}

def visit(server_tls, client_tls):
    class Server:
        def data(socket, chunk):
            socket.end(chunk)
    heard = []
    client = {"open": lambda socket: socket.write("ping"), "data": lambda socket, chunk: heard.append(chunk),
              "end": lambda socket: None, "error": lambda socket, error: None, "connect_error": lambda socket, error: None}
    with pybuntcp.listen(socket=Server, hostname="127.0.0.1", port=0, tls=server_tls) as listener:
        listener.unref()
        pybuntcp.connect(socket=client, hostname="127.0.0.1", port=listener.port, tls=client_tls)
        pybuntcp.run()
    return b"".join(heard)

def refused(**tls):
    try:
        pybuntcp.listen(socket={"data": print}, hostname="127.0.0.1", port=0, tls=tls)
    except NotImplementedError as error:
        return str(error)
"""


def run(program, folder, **environment):
    """What it prints, where there is no /proc; it leaves no file behind."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    done = subprocess.run(
        [*ALONE, "sh", "-c", WITHOUT, "sh", sys.executable, "-c", HEAD + program, str(folder)],
        env={**os.environ, "TMPDIR": str(scratch), **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stderr == ""
    assert list(scratch.iterdir()) == []
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path):
    contents = {
        "key": SERVER.key,
        "cert": SERVER.cert,
        "ca": CA.pem,
        "crl": CRL,
        "encrypted": SERVER.encrypted_key(PASSPHRASE),
        "two": SERVER.key + STRANGE_SERVER.key,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_s2_the_engine_is_the_same(folder):
    told = run("print(pybuntcp.tls_engine_info()['engine'], pybuntcp.tls_engine_info()['reason'])", folder)
    assert told == f"{ENGINE['engine']} {ENGINE['reason']}"


SERVERS = {
    "key_file": "{'key_file': places['key'], 'cert_file': places['cert']}",
    "key_file as str": "{'key_file': str(places['key']), 'cert_file': str(places['cert'])}",
    "Path": "{'key': places['key'], 'cert': places['cert']}",
    "list of a Path": "{'key': [places['key']], 'cert': [places['cert']]}",
    "cert in memory": "{'key': places['key'], 'cert': texts['cert']}",
    "encrypted": f"{{'key': places['encrypted'], 'cert': places['cert'], 'passphrase': {PASSPHRASE!r}}}",
}


@pytest.mark.parametrize("server", list(SERVERS))
@pytest.mark.parametrize("ca", ["places['ca']", "texts['ca']"])
def test_s2_keys_in_files_load(folder, server, ca):
    assert run(f"print(visit({SERVERS[server]}, {{'ca': {ca}}}))", folder) == "b'ping'"


def test_s2_a_list_of_revoked_ones_in_memory_is_taken_and_holds(folder):
    (folder / "key").write_bytes(REVOKED_CLIENT.key)
    (folder / "cert").write_bytes(REVOKED_CLIENT.cert)
    (folder / "server").write_bytes(SERVER.key + SERVER.cert)
    program = """
server = {'key': folder / 'server', 'cert': folder / 'server', 'ca': texts['ca'], 'request_cert': True}
client = {'key': places['key'], 'cert': places['cert'], 'ca': texts['ca']}
print(visit(server, client), visit({**server, 'crl': texts['crl']}, client))
"""
    assert run(program, folder) == "b'ping' b''"


@pytest.mark.parametrize("key", ["texts['key']", "[texts['key']]", "places['two']"])
def test_s2_a_key_in_memory_is_refused_by_name_and_says_what_it_needs(folder, key):
    told = run(f"print(refused(key={key}, cert=places['cert']))", folder)
    assert told.startswith("key: ")
    assert "/proc" in told
    assert "key_file" in told


def test_s2_without_a_place_for_files_too_the_reason_says_so(folder):
    program = "print(pybuntcp.tls_engine_info()['engine'], pybuntcp.tls_engine_info()['reason'])"
    program = "import tempfile; tempfile.tempdir = '/absent'\n" + program
    told = run(program, folder)
    if ENGINE["engine"] == "borrowed":
        assert told.startswith("stdlib the trial failed: ")
        assert "/proc" in told
        assert "/absent" in told
    else:
        assert told == f"stdlib {ENGINE['reason']}"
    assert Path("/proc/self").exists()  # ours is as it was
