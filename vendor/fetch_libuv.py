"""Fills vendor/libuv with the libuv source that vendor/libuv.txt pins.

Owns the folder vendor/libuv as long as it bears our stamp (`.pin`, a copy of the pin). Promises that the folder is
either complete or absent, that a copy of the right pin is left alone, that a folder without a stamp is never touched,
and that nothing is unpacked whose hash is not the pinned one (source_archive.py). Knows nothing of CMake, which runs it;
needs pip.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

import source_archive

HERE = Path(__file__).resolve().parent
PIN = HERE / "libuv.txt"
TARGET = HERE / "libuv"
STAMP = ".pin"
FOLDERS = ("src", "include")
FILES = re.compile(r"LICENSE.*|CMakeLists\.txt|configure\.ac|libuv-static\.pc\.in")


def main() -> int:
    pin = PIN.read_text(encoding="utf-8")
    if is_usable(TARGET, pin):
        return 0
    print("libuv's source is taken from another project's source distribution, which is not installed:", flush=True)
    with tempfile.TemporaryDirectory(prefix=".libuv-", dir=HERE) as scratch:
        archive = source_archive.download(PIN, Path(scratch))
        if archive is None:
            return 1  # CMakeLists.txt says what to do
        fresh = Path(scratch, "fresh")
        unpack(archive, fresh)
        (fresh / STAMP).write_text(pin, encoding="utf-8")
        put_in_place(fresh, Path(scratch, "old"), pin)
    return 0


def is_usable(folder: Path, pin: str) -> bool:
    """Whether `folder` holds the pinned source, or somebody's own."""
    if not folder.is_dir():
        return False
    stamp = folder / STAMP
    return not stamp.exists() or stamp.read_text(encoding="utf-8") == pin


def unpack(archive: Path, folder: Path) -> None:
    """Writes the files that a build needs; dotfiles and tests stay behind."""
    source_archive.unpack(archive, folder, inner_path)
    if not (folder / "include" / "uv.h").is_file():
        raise SystemExit(f"{archive.name} holds no vendor/libuv")


def inner_path(name: str) -> str | None:
    """`uvloop-1.2/vendor/libuv/src/x.c` -> `src/x.c`; None for what is not wanted."""
    parts = name.split("/")
    if parts[1:3] != ["vendor", "libuv"] or len(parts) < 4:
        return None
    wanted = parts[3] in FOLDERS if len(parts) > 4 else FILES.fullmatch(parts[3])
    return "/".join(parts[3:]) if wanted else None


def put_in_place(fresh: Path, old: Path, pin: str) -> None:
    """One rename in; of two builds at the same time the first wins and the second keeps its copy."""
    if TARGET.exists():
        TARGET.rename(old)
    try:
        fresh.rename(TARGET)
    except OSError:
        if not is_usable(TARGET, pin):
            raise
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
