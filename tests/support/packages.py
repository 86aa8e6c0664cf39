"""Other people's Cython: packages built against the pybuntcp that these tests import.

Owns: the building, by the package's own backend, in a copy, into a folder of the caller's; and `Bare`, in which a
reader's commands are run. What a backend needs and the environment lacks is a skip that says so; so is what pip cannot
fetch. Knows no package.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distribution, version
from pathlib import Path

import pytest

import pybuntcp

BUILD_SECONDS = 240
DECLARATIONS = Path(pybuntcp.__file__).resolve().parents[1]  # where Cython finds pybuntcp's .pxd files
PIP_OPTIONS = ("--disable-pip-version-check", "--quiet", "--no-build-isolation", "--no-deps", "--no-index")

NEEDED = {
    "setuptools.build_meta": ("setuptools", "Cython"),
    "scikit_build_core.build": ("scikit_build_core", "Cython", "cython_cmake"),
}


def skip_unless_buildable(backend: str, cxx: bool = False) -> None:
    """Skip when the backend, Cython or a compiler is not here; `cxx`: a compiler of C++, too."""
    missing = [name for name in NEEDED[backend] if importlib.util.find_spec(name) is None]
    if (
        "setuptools" in NEEDED[backend]
        and "setuptools" not in missing
        and int(version("setuptools").split(".")[0]) < 77
    ):
        missing.append("setuptools 77 or later")  # one before 70.1 needs another package to make wheels
    if shutil.which(os.environ.get("CC", "cc").split()[0]) is None:
        missing.append("a C compiler")
    compiler = os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++"
    if cxx and shutil.which(compiler.split()[0]) is None:
        missing.append("a C++ compiler")
    if (
        backend == "scikit_build_core.build"
        and shutil.which("cmake") is None
        and importlib.util.find_spec("cmake") is None
    ):
        missing.append("cmake")
    if missing:
        pytest.skip(f"building with {backend} needs {', '.join(missing)}")


def backend_of(package: Path) -> str:
    """The build backend that its pyproject.toml names."""
    text = (package / "pyproject.toml").read_text()
    (backend,) = (name for name in NEEDED if f'"{name}"' in text)
    return backend


def install(
    package: Path, target: Path, scratch: Path, *, source: Path | None = None, declarations: Path = DECLARATIONS
) -> None:
    """Build `package` with its own backend and install it into `target`; what it leaves behind is in `scratch`.

    source: a folder of it that lies elsewhere. declarations: where the .pxd files are that it is built against.
    """
    copy = scratch / package.name
    leave_out = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", "*.so", "*.c", "*.cpp")
    shutil.copytree(package, copy, ignore=leave_out)
    if source is not None:
        shutil.copytree(source, copy / source.name, ignore=leave_out)
    install_in_place(copy, target, declarations=declarations)


def install_in_place(folder: Path, target: Path, *options: str, declarations: Path = DECLARATIONS) -> None:
    """Build what lies in `folder`, there, and install it into `target`; `options`: more of pip's."""
    backend = backend_of(folder)
    skip_unless_buildable(backend, 'language = "c++"' in (folder / "pyproject.toml").read_text())
    if backend == "scikit_build_core.build":
        options = ("--config-settings=cmake.build-type=Debug", *options)
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *PIP_OPTIONS, *options, "--target", str(target), str(folder)],
        env={"CFLAGS": "-O0 -g0", **environment, "PYTHONPATH": str(declarations)},  # most of the time is the compiler's
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{folder.name} does not build:\n{done.stdout}\n{done.stderr}"


class Bare:
    """A virtual environment of a reader, who has installed pybuntcp and nothing else: pip is there, and this pybuntcp."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True, symlinks=True)
        self.bin = folder / "bin"
        self.python = str(self.bin / "python")
        ask = "import sysconfig; print(sysconfig.get_path('platlib'))"
        site = Path(subprocess.run([self.python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
        own = site / "pybuntcp"
        shutil.copytree(DECLARATIONS / "pybuntcp", own, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        for module in ("pybuntcp._core", "pybuntcp._tls"):
            shutil.copy(str(importlib.import_module(module).__file__), own)
        record = f"pybuntcp-{version('pybuntcp')}.dist-info"
        shutil.copytree(Path(str(distribution("pybuntcp").locate_file(record))), site / record)

    def run(self, line: str, folder: Path) -> None:
        """A line of a shell, in a folder. What pip cannot fetch is a skip."""
        environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "PYTHONPATH")}
        done = subprocess.run(
            shlex.split(line),
            cwd=folder,
            env={"CFLAGS": "-O1", "PIP_RETRIES": "0", **environment, "PATH": f"{self.bin}:{environment['PATH']}"},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        if done.returncode and (lacking := re.search("No matching distribution found for (.*)", done.stderr)):
            pytest.skip(f"pip cannot fetch {lacking[1]}")
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
