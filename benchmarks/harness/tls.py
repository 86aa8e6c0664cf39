"""What the questions over TLS need: a certificate, the load that speaks TLS, and what each server says of itself.

Promises: one certificate for all (EC, P-256), made once into the git-ignored build folder; the load uses the OpenSSL that Python's `ssl` uses, found where the process has it in memory.
Before anything is measured each server is asked once, by Python's `ssl`, with the certificate verified: what it picks of all that OpenSSL offers is in the result.
It does not know: what is asked, how it is measured.
"""

from __future__ import annotations

import functools
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

from harness.build import BUILD, CannotBuildError, compile_program, run
from harness.names import AIO_TLS, TLS, TLS_FOLDER
from harness.processes import MeasurementError, Server
from harness.runtimes import Peer

if TYPE_CHECKING:
    from harness.questions import Plan, Row

NAME = "localhost"
PINNED = "TLS_AES_128_GCM_SHA256"
PINNED_1_2 = "ECDHE-ECDSA-AES128-GCM-SHA256"
FLOOD_MARGIN = 0.5  # seconds that the flood goes on when the messages are done
WHERE_IS_LIBSSL = "import _ssl; print(next((l.split()[-1] for l in open('/proc/self/maps') if 'libssl' in l), ''))"


def prepare(python: str) -> None:
    """All that can be missing, told before anything is measured."""
    compile_program("load/tls_load.c")
    libssl(python)
    make_certificate()


@functools.cache
def libssl(python: str) -> str:
    """The path of the library behind that Python's `ssl`."""
    found = run([python, "-c", WHERE_IS_LIBSSL]).strip()
    if not found:
        raise CannotBuildError(f"the OpenSSL of {python} is no shared library: the load cannot use it")
    return found


def make_certificate() -> None:
    """cert.pem, key.pem and ca.pem, unless they are there."""
    parts = [TLS_FOLDER / name for name in ("cert.pem", "key.pem", "ca.pem")]
    if all(part.exists() for part in parts):
        return
    try:
        import trustme
    except ImportError:
        raise CannotBuildError("no trustme: pip install trustme") from None
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert(NAME, "127.0.0.1", key_type=trustme.KeyType.ECDSA)
    TLS_FOLDER.mkdir(parents=True, exist_ok=True)
    parts[0].write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(parts[1])
    authority.cert_pem.write_to_path(parts[2])


# --- the load ---


def tls_command(row: Row, port: int, plan: Plan) -> list[str]:
    """As measure.load_command."""
    asked: dict[str, Any] = {
        "mode": row.mode,
        "connections": row.connections,
        "base": row.base,
        "size": row.size,
        "warmup": plan.warmup,
        "seconds": plan.seconds,
    }
    if row.pieces:
        asked |= {"reply": 50 * 20, "period": 20}
    if row.rate:
        asked["rate"] = row.rate
    switches = [f"--{name}" for name in ("touch", "resume") if getattr(row, name)]
    return [*base_command(row.tls, port, plan), *options(asked), *switches]


def flood_command(row: Row, port: int, plan: Plan) -> list[str]:
    """Clients that do nothing but handshakes, on what is left of the load's core."""
    asked = {
        "mode": "handshake",
        "connections": row.flood,
        "size": 1,
        "warmup": plan.warmup,
        "seconds": plan.warmup + plan.seconds + FLOOD_MARGIN,
    }
    return [*base_command(row.tls, port, plan), *options(asked), "--meek"]


def base_command(version: str, port: int, plan: Plan) -> list[str]:
    suite = PINNED_1_2 if plan.suite and version == "1.2" else plan.suite
    asked = {"openssl": plan.libssl, "port": port, "version": version} | ({"suite": suite} if suite else {})
    return [str(BUILD / "tls_load"), *options(asked)]


def options(asked: dict[str, Any]) -> list[str]:
    return [str(part) for name, value in asked.items() for part in (f"--{name}", value)]


# --- what a server says of itself ---


def ask(peer: Peer, plan: Plan) -> dict[str, Any]:
    """The library it says it has, and what it picks when it is offered what OpenSSL offers by itself."""
    told: dict[str, Any] = {"openssl": ask_library(peer)}
    try:
        mode = "tls" if "tls" in peer.modes else "aio-tls"
        with Server(peer.name, peer.start_command(mode), plan.cores.server) as server:
            return told | {"picks": pick(server.port)}
    except (MeasurementError, OSError) as error:
        return told | {"error": str(error)}


def ask_library(peer: Peer) -> str | None:
    try:
        return run(list(peer.openssl)).strip() if peer.openssl else None
    except (CannotBuildError, OSError, subprocess.TimeoutExpired) as error:
        return str(error)


def pick(port: int) -> str:
    """Version and suite; verified."""
    context = ssl.create_default_context(cafile=str(TLS_FOLDER / "ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        context.wrap_socket(raw, server_hostname=NAME) as secured,
    ):
        secured.sendall(b"x")
        if secured.recv(1) != b"x":
            raise MeasurementError("it did not answer")
        cipher = secured.cipher()
        assert cipher is not None
        return f"{secured.version()} {cipher[0]}"


def ask_all(peers: list[Peer], plan: Plan) -> dict[str, dict[str, Any]]:
    """Each peer that sends back over TLS what it receives."""
    return {peer.name: ask(peer, plan) for peer in peers if not peer.missing and peer.modes & (TLS | AIO_TLS)}
