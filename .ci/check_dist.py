"""Checks what a built wheel and source distribution contain: `python check_dist.py dist/*`.

Owns the list of what is shipped. Standard library, and nm for the symbols, which are read of Linux's wheels alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

LIBUV_PIN = Path(__file__).resolve().parents[1] / "vendor" / "libuv.txt"
BILL = "sboms/libuv.cdx.json"
SHIPPED = re.compile(
    r"""pybuntcp/(?:(?:(?:tls|aio)/)?\w+\.py | \w+\.pyi | (?:__init__|_core)\.pxd | py\.typed | _(?:core|tls|aio)\.[\w.-]+\.(?:so|pyd))
    | pybuntcp-[\w.]+\.dist-info/(?:METADATA | WHEEL | RECORD | licenses/LICENSE | licenses/libuv/LICENSE[\w-]* | sboms/libuv\.cdx\.json)""",
    re.VERBOSE,
)
IN_WHEEL = (
    "pybuntcp/__init__.py",
    "pybuntcp/__init__.pxd",
    "pybuntcp/tls/config.py",
    "pybuntcp/_core.pxd",
    "pybuntcp/_core.pyi",
    "pybuntcp/_tls.pyi",
    "pybuntcp/aio/loop.py",
    "pybuntcp/_aio.pyi",
    "pybuntcp/py.typed",
    "licenses/LICENSE",
    "licenses/libuv/LICENSE",
    BILL,
)
EXTENSIONS = ("_core", "_tls", "_aio")
OF_OPENSSL = ("SSL_", "BIO_", "CRYPTO_", "ERR_", "EVP_", "X509_", "OPENSSL_", "OpenSSL_")
IN_SDIST = ("PKG-INFO", "LICENSE", "pybuntcp/_core.pyx", "pybuntcp/_c/uv.pxd", "vendor/fetch_libuv.py", "vendor/source_archive.py",
            "pybuntcp/_tls.pyx", "pybuntcp/_tls/engine.pyx", "pybuntcp/_aio.pyx", "pybuntcp/_aio/transport.pyx", "pybuntcp/_c/openssl.pxd",
            "vendor/libuv/include/uv.h", "vendor/libuv/CMakeLists.txt", "vendor/libuv/configure.ac")  # fmt: skip
LEFT_OUT = re.compile(r"\.(?:so|o|pyc|html)$|/build/|/\.")


def main(paths: list[str]) -> int:
    complaints = []
    for path in map(Path, paths):
        check = check_wheel if path.suffix == ".whl" else check_sdist
        complaints += [f"{path.name}: {complaint}" for complaint in check(path)]
    print("\n".join(complaints) or f"content as it should be: {', '.join(Path(path).name for path in paths)}")
    return 1 if complaints or not paths else 0


def check_wheel(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        names = [name for name in archive.namelist() if not name.endswith("/")]  # auditwheel lists folders, too
        complaints = [f"{name} must not be shipped" for name in names if not SHIPPED.fullmatch(name)]
        complaints += missing(names, IN_WHEEL)
        libraries = [name for name in names if name.endswith(".so")]
        for name in libraries:
            print(f"  {name}: {archive.getinfo(name).file_size // 1024} KiB")
            if "macosx" not in path.name:
                complaints += check_symbols(archive.extract(name, folder))
        complaints += [
            problem for name in names if name.endswith(f"/{BILL}") for problem in check_bill(archive.read(name), path)
        ]
    built = [Path(name).name.partition(".")[0] for name in libraries]
    return complaints + [f"no extension {name}" for name in EXTENSIONS if name not in built]


def check_symbols(library: str) -> list[str]:
    """Only the module's init function may be seen; no uv_* and nothing of OpenSSL may be asked of anybody else."""
    listed = subprocess.run(["nm", "-D", "--format=posix", library], check=True, capture_output=True, text=True).stdout
    symbols = [line.split()[:2] for line in listed.splitlines()]
    complaints = [
        f"exports {name}" for name, kind in symbols if kind in "TDBRGVW" and not name.startswith(("PyInit_", "_"))
    ]
    return complaints + [f"exports or wants {name}" for name, _ in symbols if name.startswith(("uv_", *OF_OPENSSL))]


def check_bill(text: bytes, wheel: Path) -> list[str]:
    """The bill of materials names this version of ours, and the pinned libuv as the one part of it."""
    bill = json.loads(text)
    ours = bill["metadata"]["component"]
    parts = [(part["name"], part["version"], part["purl"]) for part in bill["components"]]
    pinned = re.search(r"our libuv \(([\d.]+)\)", LIBUV_PIN.read_text(encoding="utf-8"))
    version = wheel.name.split("-")[1]
    wanted = [("libuv", pinned[1], f"pkg:github/libuv/libuv@v{pinned[1]}")] if pinned else []
    complaints = []
    if (ours["name"], ours["version"], ours["purl"]) != ("pybuntcp", version, f"pkg:pypi/pybuntcp@{version}"):
        complaints.append(f"{BILL} is that of {ours['name']} {ours['version']}")
    if parts != wanted:
        complaints.append(f"{BILL} names {parts}, wanted is {wanted}")
    return complaints


def check_sdist(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        names = [member.name.split("/", 1)[1] for member in archive if member.isfile()]
    strays = [name for name in names if LEFT_OUT.search(f"/{name}") and not name.startswith("vendor/libuv/")]
    return [f"{name} must not be packed" for name in strays] + missing(names, IN_SDIST)


def missing(names: list[str], wanted: tuple[str, ...]) -> list[str]:
    return [f"{end} is missing" for end in wanted if not any(f"/{name}".endswith(f"/{end}") for name in names)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
