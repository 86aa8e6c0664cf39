"""What an installed pybuntcp consists of, whichever way it was installed.

Asks the imported package, not the source tree. What the wheel and the source distribution contain is checked by
`.ci/check_dist.py`, since that needs them built.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType

import pytest

import pybuntcp
from pybuntcp import _aio, _core, _tls

ROOT = Path(__file__).resolve().parents[2]


EXTENSIONS = {"_core": _core, "_tls": _tls, "_aio": _aio}
OF_OPENSSL = ("SSL_", "BIO_", "CRYPTO_", "ERR_", "EVP_", "X509_", "OPENSSL_", "OpenSSL_")


def symbols(kind: str, extension: ModuleType = _core) -> set[str]:
    """An extension's dynamic symbols: `--defined-only` or `--undefined-only`."""
    command = ["nm", "-D", kind, "--format=posix", str(extension.__file__)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in listed.splitlines()}


needs_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")


@needs_nm
@pytest.mark.parametrize("name", EXTENSIONS)
def test_an_extension_exports_only_its_init_function(name: str) -> None:
    exported = symbols("--defined-only", EXTENSIONS[name])
    assert {symbol for symbol in exported if not symbol.startswith("_")} == {f"PyInit_{name}"}


@needs_nm
def test_nothing_is_linked_with_openssl() -> None:
    """Its functions are looked up in the interpreter's own; a copy of ours would be another one."""
    wanted = symbols("--undefined-only", _tls)
    assert wanted
    assert [name for name in wanted if name.startswith(OF_OPENSSL)] == []


@needs_nm
def test_libuv_is_in_the_core_alone() -> None:
    both = symbols("--undefined-only", _tls) | symbols("--defined-only", _tls)
    assert [name for name in both if name.startswith("uv_")] == []


@pytest.mark.parametrize("name", ["py.typed", "__init__.pxd", "_core.pxd", "_core.pyi", "_tls.pyi", "_aio.pyi"])
def test_the_package_carries(name: str) -> None:
    assert (resources.files("pybuntcp") / name).is_file()


def test_the_version_is_the_distribution_s() -> None:
    assert pybuntcp.__version__ == metadata.version("pybuntcp")


def test_nothing_is_needed_at_run_time() -> None:
    assert [need for need in metadata.requires("pybuntcp") or [] if "extra ==" not in need] == []


@needs_nm
def test_libuv_is_the_pinned_one() -> None:
    if any(name.startswith("uv_") for name in symbols("--undefined-only")):
        pytest.skip("built against the system's libuv")
    promised = re.search(r"libuv folder is our libuv \(([\d.]+)\)", (ROOT / "vendor/libuv.txt").read_text())
    assert promised
    assert pybuntcp.libuv_version == promised[1]
