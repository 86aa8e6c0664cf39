"""What a build says on a machine that lacks something: one clear sentence, with what to do.

CMake configures the project in a folder of the test's own. What is missing is taken from it by its environment; nothing
is compiled or downloaded. Needs cmake and ninja, which `make test` installs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = ("CMakeLists.txt", "pybuntcp", "vendor")
NO_INDEX = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
pytestmark = [
    pytest.mark.skipif(not (ROOT / "CMakeLists.txt").exists(), reason="the source of the package is not here"),
    pytest.mark.timeout(120),
]
Configure = Callable[..., str]


def tool(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"needs {name}")
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What a checkout has of the source; libuv is there as three lines, of which only the version is read."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in NAMED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(
                path, copy / name, ignore=shutil.ignore_patterns("libuv", ".libuv-*", "*.so", "__pycache__")
            )
        else:
            shutil.copy(path, copy / name)
    return copy


@pytest.fixture
def configure(source: Path, tmp_path: Path) -> Configure:
    """Configures it, which has to fail. Returns what is said, in one line."""
    command = [
        tool("cmake"),
        "-G",
        "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]
    command += ["-S", str(source), "-B", str(tmp_path / "build")]

    def configure(*options: str, **environment: str) -> str:
        done = subprocess.run(
            [*command, *options], env={**os.environ, **environment}, capture_output=True, text=True, timeout=100
        )
        assert done.returncode != 0
        return re.sub(r"\s+", " ", done.stderr)

    return configure


def put_libuv(source: Path, version: str) -> None:
    """A folder without a stamp is somebody's own, and is used."""
    header = source / "vendor" / "libuv" / "include" / "uv" / "version.h"
    header.parent.mkdir(parents=True)
    parts = zip(("MAJOR", "MINOR", "PATCH"), version.split("."), strict=True)
    header.write_text("".join(f"#define UV_VERSION_{name} {number}\n" for name, number in parts))


def test_without_a_c_compiler_it_says_so(configure: Configure, source: Path) -> None:
    put_libuv(source, "1.52.1")
    said = configure(CC=str(source / "no-such-compiler"))
    assert "pybuntcp needs a C compiler, and none was found. Install gcc or clang" in said


def test_without_the_headers_of_python_it_says_so(configure: Configure, source: Path) -> None:
    put_libuv(source, "1.52.1")
    said = configure(f"-DPython_INCLUDE_DIR={source / 'no-such-folder'}")
    assert f"pybuntcp needs the C headers of {sys.executable}, and they were not found." in said


def test_without_network_it_says_so(configure: Configure) -> None:
    said = configure(**NO_INDEX)
    assert (
        "pybuntcp could not fetch libuv's source from the package index. Without network, put a libuv source tree"
        in said
    )


def test_a_libuv_of_ones_own_that_is_too_old_is_refused(configure: Configure, source: Path) -> None:
    put_libuv(source, "1.51.0")
    assert f"pybuntcp needs libuv 1.52 or newer, and the one in {source}/vendor/libuv is 1.51.0." in configure()


def test_a_libuv_of_the_system_that_is_too_old_is_refused(configure: Configure, tmp_path: Path) -> None:
    tool("pkg-config")
    (tmp_path / "libuv.pc").write_text("Name: libuv\nDescription: events\nVersion: 1.44.2\nLibs: -luv\n")
    said = configure("-DPYBUNTCP_SYSTEM_LIBUV=ON", PKG_CONFIG_PATH=str(tmp_path), PKG_CONFIG_LIBDIR=str(tmp_path))
    assert "pybuntcp needs libuv 1.52 or newer, and the one of the system is 1.44.2." in said


def test_a_libuv_of_the_system_that_is_not_there_is_named(configure: Configure, tmp_path: Path) -> None:
    said = configure("-DPYBUNTCP_SYSTEM_LIBUV=ON", PKG_CONFIG_PATH="", PKG_CONFIG_LIBDIR=str(tmp_path))
    assert "PYBUNTCP_SYSTEM_LIBUV=ON needs pkg-config and libuv's headers, and pkg-config found no libuv." in said


def test_imported_from_its_source_folder_it_says_so(source: Path) -> None:
    """As after `pip install .`, in the checkout: what is found first is the folder. -S: an editable install would come before it."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import pybuntcp"], cwd=source, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: pybuntcp was imported from its source folder '{source}/pybuntcp', which has no compiled"
    )
    assert last.endswith("start Python in another folder, or build it in place with `pip install --editable .`")
