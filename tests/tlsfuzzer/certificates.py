"""The certificates that servers and scripts show, made once by the `openssl` program into a folder that is not committed.

Owns their kinds. Each signs itself: what verifies it is itself. RSA keys are what tlsfuzzer's scripts expect, and are
the client's too.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

KINDS = {
    "rsa": "-newkey rsa:2048",
    "rsa-pss": "-newkey rsa-pss -pkeyopt rsa_keygen_bits:2048",
    "p256": "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1",
    "ed25519": "-newkey ed25519",
    "ed448": "-newkey ed448",
    "dsa": "-newkey dsa:{dsa_parameters}",
}
SUBJECT = "/CN=localhost"
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"
USAGE = "keyUsage=digitalSignature,keyEncipherment"


def make_all(folder: Path) -> None:
    """KIND.pem and KIND.key of all kinds, and dh.pem; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    make(folder / "dh.pem", "genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048")
    make(folder / "dsa-parameters.pem", "genpkey -genparam -algorithm DSA -pkeyopt dsa_paramgen_bits:2048")
    for kind, how in KINDS.items():
        key = how.format(dsa_parameters=folder / "dsa-parameters.pem")
        make(
            folder / f"{kind}.pem",
            f"req -x509 {key} -nodes -days 3650 -subj {SUBJECT} -addext {NAMES} -addext {USAGE} -keyout {folder / kind}.key",
        )


def make(path: Path, command: str) -> None:
    if not path.exists():
        subprocess.run(["openssl", *command.split(), "-out", path], check=True, capture_output=True)


def authorities(folder: Path, kinds: str) -> Path:
    """One file of all these certificates, for whoever is to trust them."""
    path = folder / f"{'+'.join(kinds.split())}.ca"
    path.write_bytes(b"".join((folder / f"{kind}.pem").read_bytes() for kind in kinds.split()))
    return path
