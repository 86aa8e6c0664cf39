"""tlsfuzzer itself: found in a folder that somebody names, checked against the pin, kept in build/tlsfuzzer.

tlsfuzzer is on no package index, and under a licence (GPL 2) that keeps it out of this repository. Promises that what
is run is the pinned commit's to the byte: of its tree only `tlsfuzzer/` is taken, and that folder's name in git, which
is a hash of all that is in it, is pinned as well. So a clone, a bare clone and an unpacked archive are all as good.
What it needs besides comes from the package index (requirements.txt), hashes checked by pip, into the same folder.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "tlsfuzzer"
REPOSITORY = "https://github.com/tlsfuzzer/tlsfuzzer"
COMMIT = "14555fe211456c46deccc4b2d94751dbd894aece"
TREE = "52db49db483fd87f31de0e04ad6b5cfaaf48d976"  # git rev-parse COMMIT:tlsfuzzer
PACKAGE = "tlsfuzzer"

HELP = f"""\
tlsfuzzer is needed once, at commit {COMMIT}:

    git clone {REPOSITORY} /path && make tlsfuzzer TLSFUZZER=/path

/path may be a clone, a bare one, or a folder with that commit's files. It is copied to {BUILD}."""


class NotTheSource(Exception):
    """What is there is not the pinned commit's."""


def provide(given: str | None) -> Path:
    """The folder that has the package in it. Errors: SystemExit, which says what to do."""
    kept = BUILD / COMMIT
    if not kept.is_dir():
        if not given:
            raise SystemExit(HELP)
        try:
            take(Path(given), kept)
        except NotTheSource as error:
            raise SystemExit(f"{error}\n\n{HELP}") from None
    check(kept)
    return kept


def take(given: Path, kept: Path) -> None:
    fresh = kept.with_suffix(".fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    archive = of_the_commit(given)
    if archive is not None:
        unpack(archive, fresh)
    elif (given / PACKAGE / "runner.py").is_file():
        shutil.copytree(given / PACKAGE, fresh / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        raise NotTheSource(
            f"TLSFUZZER={given}: neither a git repository that has the commit, nor a folder with its files"
        )
    check(fresh)
    fresh.rename(kept)


def of_the_commit(repository: Path) -> bytes | None:
    """A tar archive of the package; None: no repository that has the commit."""
    if not repository.is_dir():
        return None
    command = ["git", "-C", str(repository), "archive", "--format=tar", COMMIT, PACKAGE]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def unpack(archive: bytes, folder: Path) -> None:
    """Regular files alone, and none outside of the folder."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            source = tar.extractfile(member) if member.isfile() and ".." not in member.name.split("/") else None
            if source is not None:
                path = folder / member.name.lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(source.read())


def check(folder: Path) -> None:
    found = tree(folder / PACKAGE).hex()
    if found != TREE:
        raise NotTheSource(f"{folder / PACKAGE} is not that of the pinned commit: it is tree {found}, not {TREE}")


def tree(folder: Path) -> bytes:
    """git's name of a folder of regular files that are not executable, and of such folders."""
    entries = [path for path in folder.iterdir() if path.name != "__pycache__"]
    rows = b""
    for path in sorted(entries, key=lambda path: path.name + "/" * path.is_dir()):
        mode, name = (b"40000", tree(path)) if path.is_dir() else (b"100644", named("blob", path.read_bytes()))
        rows += mode + b" " + path.name.encode() + b"\0" + name
    return named("tree", rows)


def named(kind: str, content: bytes) -> bytes:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).digest()


def packages() -> Path:
    """The folder that tlsfuzzer's own needs are installed in."""
    wanted = (HERE / "requirements.txt").read_text(encoding="utf-8")
    folder = BUILD / f"packages-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        fresh = folder.with_suffix(".fresh")
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--target", str(fresh), "--requirement", str(HERE / "requirements.txt")]
        subprocess.run(command, check=True)
        fresh.rename(folder)
    return folder
