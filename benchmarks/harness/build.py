"""The C programs of this folder, compiled with `$CC -O2` (cc if unset) into the git-ignored benchmarks/build when their source is newer than what is there.

Promises: a program is complete or absent (compiled beside its place, then renamed). It does not know what the programs do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
BUILD = HERE / "build"


class CannotBuildError(Exception):
    """No compiler, or it refused."""


def compile_program(source: str) -> Path:
    """`load/load.c` -> build/load, ready to run."""
    origin = HERE / source
    target = BUILD / origin.stem
    if target.exists() and target.stat().st_mtime >= origin.stat().st_mtime:
        return target
    compiler = os.environ.get("CC", "cc").split()
    if shutil.which(compiler[0]) is None:
        raise CannotBuildError(f"no C compiler ({compiler[0]})")
    BUILD.mkdir(exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    command = [*compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(unfinished), str(origin)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise CannotBuildError(f"{source} does not compile: {done.stderr.strip().splitlines()[-1:]}")
    unfinished.replace(target)
    return target
