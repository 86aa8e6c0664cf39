"""The C programs of this folder, and the Cython module of servers/slots, compiled with `$CC -O2` (cc if unset) into the git-ignored benchmarks/build when their source is newer than what is there.

Promises: a program is complete or absent (compiled beside its place, then renamed). It does not know what the programs do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
BUILD = HERE / "build"


class CannotBuildError(Exception):
    """No compiler, or it refused."""


def compile_program(source: str, options: tuple[str, ...] = ()) -> Path:
    """`load/load.c` -> build/load, ready to run. `options` come last: libraries are among them."""
    origin = HERE / source
    target = BUILD / origin.stem
    libraries = (Path(option) for option in options if option.endswith(".a"))
    if not all(is_built(target, part) for part in (origin, *origin.parent.glob("*.h"), *libraries)):
        compile_to(target, origin, ["-std=gnu11", "-Wall", "-Wextra", "-pthread"], options)
    return target


def compile_extension(source: str, python: str) -> Path:
    """`servers/slots/slots_echo.pyx` -> the folder in which `python` finds `slots_echo`, compiled for it against its pybuntcp."""
    origin = HERE / source
    asked = "import pybuntcp, sysconfig; print(sysconfig.get_path('include'), sysconfig.get_config_var('EXT_SUFFIX'), pybuntcp.__file__)"
    include, suffix, package = run([python, "-c", asked]).split()
    target = BUILD / f"{origin.stem}{suffix}"
    declarations = Path(package).parent
    if not (is_built(target, origin) and is_built(target, declarations / "_core.pxd")):
        BUILD.mkdir(exist_ok=True)
        generated = BUILD / f"{origin.stem}.c"
        run([python, "-m", "cython", "-I", str(declarations.parent), "-o", str(generated), str(origin)])
        compile_to(target, generated, ["-shared", "-fPIC", "-w", f"-I{include}"])
    return BUILD


def install_package(source: str, python: str) -> Path:
    """`examples/cython_redis` -> the folder in which `python` finds it, built by its own backend against its pybuntcp."""
    origin = HERE.parent / source
    target = BUILD / f"{origin.name}-{run([python, '-c', 'import sys; print(sys.implementation.cache_tag)']).strip()}"
    package = Path(run([python, "-c", "import pybuntcp; print(pybuntcp.__file__)"]).strip()).parent
    newest = max(
        (f for f in [*origin.rglob("*"), package / "_core.pxd"] if f.is_file()), key=lambda f: f.stat().st_mtime
    )
    if is_built(target, newest):
        return target
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(origin, Path(scratch) / origin.name)
        options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
        run(
            [python, "-m", "pip", "install", *options, "--target", str(Path(scratch) / "built"), str(copy)],
            package.parent,
        )
        shutil.rmtree(target, ignore_errors=True)
        BUILD.mkdir(exist_ok=True)
        shutil.move(Path(scratch) / "built", target)
    target.touch()
    return target


def is_built(target: Path, origin: Path) -> bool:
    """Is it there, and not older than what it is made of?"""
    return target.exists() and target.stat().st_mtime >= origin.stat().st_mtime


def compile_to(target: Path, origin: Path, options: list[str], last: tuple[str, ...] = ()) -> None:
    compiler = os.environ.get("CC", "cc").split()
    if shutil.which(compiler[0]) is None:
        raise CannotBuildError(f"no C compiler ({compiler[0]})")
    BUILD.mkdir(exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    run([*compiler, "-O2", *options, "-o", str(unfinished), str(origin), *last, "-ldl"])
    unfinished.replace(target)


def run(command: list[str], declarations: Path | None = None) -> str:
    """Its output; its last words are the error. `declarations`: where Cython finds pybuntcp when it is installed editable."""
    environment = None if declarations is None else {**os.environ, "PYTHONPATH": str(declarations)}
    # not where the caller is: beside the sources Python would import them, unbuilt
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment, cwd=HERE)
    if done.returncode != 0:
        raise CannotBuildError(f"{' '.join(command[-1:])}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return done.stdout
