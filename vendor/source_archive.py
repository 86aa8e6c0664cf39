"""Downloads one pinned source distribution by pip, unpacks what is wanted of it, and runs nothing of it.

Owns the way to ask: a file in pip's requirements format pins name, version and sha256, and pip checks all three. Promises
that what it returns is the archive that the pin names. Does not know which of its files are wanted. Needs pip.

One line needs its reason. To learn a source distribution's name pip asks its build backend for metadata; that would
install the backend and run the foreign setup.py, for two words we already know. So pip is told not to isolate the build
and is shown a stand-in backend, which answers with the name and version of the pin and runs nothing. It bears the names
of the backends that projects use.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

BACKENDS = ("setuptools/build_meta.py", "hatchling/build.py", "flit_core/buildapi.py", "poetry/core/masonry/api.py",
            "mesonpy.py", "pdm/backend.py", "uv_build.py")  # fmt: skip

STAND_IN = """\
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    import pathlib
    info = pathlib.Path(folder, "{name}-{version}.dist-info")
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return info.name
"""


def download(pin: Path, scratch: Path) -> Path | None:
    """The archive that the file `pin` names, in the empty folder `scratch`, or None (pip has said why)."""
    name, version = pinned_release(pin.read_text(encoding="utf-8"))
    backends = scratch / "backend"
    for backend in BACKENDS:
        path = backends / backend
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STAND_IN.format(name=name, version=version), encoding="utf-8")
    for folder in backends.rglob("*"):
        if folder.is_dir():
            (folder / "__init__.py").touch()
    paths = [str(backends), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    command += ["--no-deps", "--require-hashes", "--no-build-isolation", "--use-pep517"]
    command += ["--dest", str(scratch), "--requirement", str(pin)]
    print(f"fetching the source distribution of {name} {version}", flush=True)
    if subprocess.run(command, env=environment, check=False).returncode != 0:
        return None
    return next(scratch.glob("*.tar.gz"), None)


def pinned_release(pin: str) -> tuple[str, str]:
    """Name and version in the one line of the form 'name==version --hash=sha256:...'."""
    match = re.search(r"^([\w.-]+)==([\w.]+)\s+--hash=", pin, re.MULTILINE)
    if match is None:
        raise SystemExit("no line of the form 'name==version --hash=sha256:...' in the pin")
    return match[1], match[2]


def unpack(archive: Path, folder: Path, inner_path: Callable[[str], str | None]) -> None:
    """Writes regular files below `folder`, each where `inner_path` wants the member of that name; None: nowhere. Links stay behind."""
    with tarfile.open(archive) as tar:
        for member in tar:
            inner = inner_path(member.name)
            if not inner or ".." in inner.split("/") or not member.isfile():
                continue
            source = tar.extractfile(member)
            assert source is not None  # it is a file
            path = folder / inner
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read())
