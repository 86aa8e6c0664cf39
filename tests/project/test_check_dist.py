"""`.ci/check_dist.py` complains of a wheel that lacks something, has too much, or names another libuv than it contains.

The wheel is a test's own: the files that a wheel has, empty. Whose symbols are looked at are extensions that are there.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pybuntcp import _tls

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "check_dist.py"
INFO = "pybuntcp-1.2rc3.dist-info"
BILL = f"{INFO}/sboms/libuv.cdx.json"
LINUX, MACOS = "cp314-cp314-linux_x86_64", "cp314-cp314-macosx_11_0_arm64"
EXTENSIONS = ("_core", "_tls", "_aio")
Files = dict[str, bytes]
Complaints = Callable[..., list[str]]

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason=".ci is not here")


@pytest.fixture(scope="module")
def check_dist() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_dist", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bill(ours: str = "1.2rc3", libuv: str | None = None) -> dict[str, Any]:
    """As the build writes it out of the template."""
    if libuv is None:
        pin = re.search(r"our libuv \(([\d.]+)\)", (ROOT / "vendor" / "libuv.txt").read_text())
        assert pin
        libuv = pin[1]
    words = {"SKBUILD_PROJECT_VERSION_FULL": ours, "libuv_VERSION": libuv, "libuv_tag": f"v{libuv}"}
    template = (ROOT / "vendor" / "libuv.cdx.json.in").read_text()
    written: dict[str, Any] = json.loads(re.sub(r"@(\w+)@", lambda found: words[found[1]], template))
    return written


@pytest.fixture
def files(check_dist: ModuleType) -> Files:
    """Of a wheel as it should be."""
    listed = {name: b"" for name in check_dist.IN_WHEEL if name.startswith("pybuntcp/")}
    listed |= {f"{INFO}/{name}": b"" for name in check_dist.IN_WHEEL if not name.startswith("pybuntcp/")}
    listed |= {f"{INFO}/{name}": b"" for name in ("METADATA", "WHEEL", "RECORD")}
    listed |= {f"pybuntcp/{name}.cpython-314.so": b"" for name in EXTENSIONS}
    return listed | {BILL: json.dumps(bill()).encode()}


@pytest.fixture
def complaints(
    check_dist: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Complaints:
    monkeypatch.setattr(
        check_dist, "check_symbols", lambda path: [f"symbols of {Path(path).name}"] if Path(path).read_bytes() else []
    )

    def complaints(files: Files, tag: str = LINUX) -> list[str]:
        """What is said of the wheel that has these files, without its name. An extension that is not empty has bad symbols."""
        wheel = tmp_path / f"pybuntcp-1.2rc3-{tag}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        failed = check_dist.main([str(wheel)])
        said = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith(wheel.name)]
        assert failed == bool(said)
        return said

    return complaints


def test_a_wheel_as_it_should_be_is_not_complained_of(complaints: Complaints, files: Files) -> None:
    assert complaints(files) == []


def test_each_file_that_must_be_there_is_missed(complaints: Complaints, files: Files, check_dist: ModuleType) -> None:
    for end in check_dist.IN_WHEEL:
        others = {name: content for name, content in files.items() if not name.endswith(end)}
        assert f"{end} is missing" in complaints(others)


@pytest.mark.parametrize("name", EXTENSIONS)
def test_each_extension_is_missed(complaints: Complaints, files: Files, name: str) -> None:
    del files[f"pybuntcp/{name}.cpython-314.so"]
    assert complaints(files) == [f"no extension {name}"]


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_symbols_of_each_extension_are_looked_at_in_a_wheel_for_linux(
    complaints: Complaints, files: Files, name: str
) -> None:
    files[f"pybuntcp/{name}.cpython-314.so"] = b"bad"
    assert complaints(files) == [f"symbols of {name}.cpython-314.so"]
    assert complaints(files, MACOS) == []


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_an_extension_of_ours_has_no_symbol_too_many(check_dist: ModuleType) -> None:
    assert check_dist.check_symbols(_tls.__file__) == []


@pytest.mark.parametrize(
    ("symbols", "said"),
    [
        ("SSL_new@OPENSSL_3.0.0 U", ["exports or wants SSL_new@OPENSSL_3.0.0"]),
        ("uv_run U", ["exports or wants uv_run"]),
        ("uv_run T 1a0 40", ["exports uv_run", "exports or wants uv_run"]),
        ("helper T 1a0 40", ["exports helper"]),
        ("PyInit__core T 1a0 40\nPyDict_New U\n_init T 1000", []),
    ],
)
def test_a_symbol_too_many_is_named(
    check_dist: ModuleType, monkeypatch: pytest.MonkeyPatch, symbols: str, said: list[str]
) -> None:
    """`symbols`: as nm lists them."""
    listed = subprocess.CompletedProcess([], 0, stdout=symbols)
    monkeypatch.setattr(check_dist.subprocess, "run", lambda *words, **options: listed)
    assert check_dist.check_symbols("_core.so") == said


@pytest.mark.parametrize(
    "name", ["pybuntcp/_core.pyx", "pybuntcp/_c/uv.pxd", "tests/test_x.py", f"{INFO}/sboms/x.json"]
)
def test_a_file_too_many_is_named(complaints: Complaints, files: Files, name: str) -> None:
    assert complaints({**files, name: b""}) == [f"{name} must not be shipped"]


def test_folders_are_not_taken_for_files(complaints: Complaints, files: Files) -> None:
    """auditwheel writes them into the archive."""
    assert complaints({**files, "pybuntcp/": b"", f"{INFO}/sboms/": b""}) == []


def test_a_bill_of_materials_of_another_version_of_ours_is_refused(complaints: Complaints, files: Files) -> None:
    files[BILL] = json.dumps(bill(ours="1.2")).encode()
    assert complaints(files) == ["sboms/libuv.cdx.json is that of pybuntcp 1.2"]


def test_a_bill_of_materials_of_another_libuv_is_refused(complaints: Complaints, files: Files) -> None:
    files[BILL] = json.dumps(bill(libuv="1.44.2")).encode()
    (said,) = complaints(files)
    assert said.startswith(
        "sboms/libuv.cdx.json names [('libuv', '1.44.2', 'pkg:github/libuv/libuv@v1.44.2')], wanted is "
    )


def test_a_bill_of_materials_without_a_part_is_refused(complaints: Complaints, files: Files) -> None:
    files[BILL] = json.dumps({**bill(), "components": []}).encode()
    (said,) = complaints(files)
    assert said.startswith("sboms/libuv.cdx.json names [], wanted is [('libuv', ")
