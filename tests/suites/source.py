"""Puts a suite's source into build/suites: fetched by pip, its hash checked, unpacked, its tests copied aside.

Owns build/suites/NAME. Promises that a folder that bears the stamp of a pin is complete, and that of another pin is made
anew. Nothing of it is committed, and nothing of the archive is run here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path, PurePosixPath
from types import ModuleType

from suite import Place, Suite

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "suites"


def module_at(path: str) -> ModuleType:
    """The module in a file of this project that is not on the path of imports."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


source_archive = module_at("vendor/source_archive.py")


def provide(suite: Suite, build: Path = BUILD) -> Place:
    """The suite, ready to run. SystemExit: it cannot be had."""
    home = build / suite.name
    place = Place(home / "source", home / "run", home / "site")
    home.mkdir(parents=True, exist_ok=True)
    stamp = home / "source.pin"
    if suite.sha256 and not (stamp.exists() and stamp.read_text(encoding="utf-8") == pin(suite)):
        fetch(suite, home)
        stamp.write_text(pin(suite), encoding="utf-8")
    for folder in (place.tests, place.site):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for name in suite.folders if suite.sha256 else ():
        shutil.copytree(place.source / name, place.tests / name)
    settings = (place.source / suite.config).read_bytes() if suite.config else b"[pytest]\n"
    (place.tests / (suite.config or "pytest.ini")).write_bytes(settings)
    if suite.prepare is not None:
        suite.prepare(place)
    return place


def pin(suite: Suite) -> str:
    return f"--no-binary={suite.name}\n{suite.name}=={suite.version} --hash=sha256:{suite.sha256}\n"


def fetch(suite: Suite, home: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=home) as scratch:
        requirement = Path(scratch, "pin.txt")
        requirement.write_text(pin(suite), encoding="utf-8")
        archive = source_archive.download(requirement, Path(scratch))
        if archive is None:
            raise SystemExit(f"{suite.name}: its source distribution could not be fetched")
        source_archive.unpack(archive, Path(scratch, "fresh"), without_first_folder)
        shutil.rmtree(home / "source", ignore_errors=True)
        Path(scratch, "fresh").rename(home / "source")


def without_first_folder(name: str) -> str:
    return "/".join(PurePosixPath(name).parts[1:])


def interpreter(suite: Suite, build: Path = BUILD) -> str:
    """A Python that has what the suite needs: this one, or an environment of the suite's that sees all that this one has."""
    if not suite.needs:
        return sys.executable
    wanted = "\n".join([sys.executable, sys.version, *suite.needs])
    venv = build / suite.name / f"venv-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    python = venv / "bin" / "python"
    if not (venv / ".complete").exists():
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        ours = sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)})
        Path(ours, "parent.pth").write_text(
            f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n", encoding="utf-8"
        )
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--python", str(python)]
        if subprocess.run([*command, "install", "--quiet", *suite.needs], check=False).returncode != 0:
            raise SystemExit(f"{suite.name}: what it needs could not be installed")
        (venv / ".complete").touch()
    return str(python)
