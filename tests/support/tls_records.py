"""Records of TLS made by hand: their types and messages, records in plain text, and `Sealer`, which encrypts them.

Owns: `Sealer`, which makes records with the sending keys of a connection (found by `keylog`), so that a peer sends what no
library lets anybody send; and `records`, which cuts a stream of bytes by record headers. Knows a peer by what it has sent
and received; does not know sockets.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import ssl
import struct
import tempfile
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23  # types of records
KEY_UPDATE_REQUESTED = bytes.fromhex("1800000101")
KEY_UPDATE_NOT_REQUESTED = bytes.fromhex("1800000100")
HELLO_REQUEST = bytes(4)
CLOSE_NOTIFY, FATAL = b"\1\0", b"\2\x50"  # alerts
_TICKET = b"\0\0\x1c\x20" + b"abcd" + b"\x08" + b"nonce  1" + b"\0\x20" + bytes(range(32)) + b"\0\0"
TICKET = b"\4" + len(_TICKET).to_bytes(3, "big") + _TICKET


def records(stream: bytes) -> list[tuple[int, bytes]]:
    """The records of a stream: (type, what is in them, sealed or not). A part of one at the end is left out."""
    found, at = [], 0
    while at + 5 <= len(stream):
        kind, _, size = struct.unpack_from("!BHH", stream, at)
        if at + 5 + size > len(stream):
            break
        found.append((kind, bytes(stream[at + 5 : at + 5 + size])))
        at += 5 + size
    return found


def record(kind: int, content: bytes, version: int = 0x0303) -> bytes:
    """A record as it is on the wire."""
    return struct.pack("!BHH", kind, version, len(content)) + content


def alert(description: int, level: int = 2) -> bytes:
    return record(ALERT, bytes([level, description]))


@contextlib.contextmanager
def keylog(context: ssl.SSLContext) -> Iterator[str]:
    """Have the keys of this context's connections written to a file, for `Sealer`."""
    with tempfile.TemporaryDirectory(prefix="pybuntcp-") as folder:
        context.keylog_filename = os.path.join(folder, "keys")
        yield context.keylog_filename
        context.keylog_filename = None


class Sealer:
    """Makes records with the sending keys of a peer whose handshake is done, and which sends nothing itself any more.

    AES-GCM of TLS 1.3 and TLS 1.2. A server of TLS 1.3 has sent no tickets (`num_tickets = 0`).
    """

    def __init__(self, peer: Any, keys: str) -> None:
        hello = bytes(peer.came if peer.server else peer.went)
        with open(keys) as lines:
            words = [line.split() for line in lines if not line.startswith("#")]
        found = {(label, random): bytes.fromhex(secret) for label, random, secret in words}
        self._new = peer.tls.version() in ("TLSv1.3", None)  # None: in the handshake, when 1.3 alone has such keys
        name, _, _ = peer.tls.cipher()
        self._hash = hashlib.sha384 if name.endswith("SHA384") else hashlib.sha256
        self._size = 16 if "128" in name else 32
        self._count = 0 if self._new else 1  # TLS 1.2: the Finished message was the first
        random = hello[11:43]
        if self._new:
            label = ("SERVER" if peer.server else "CLIENT") + "_TRAFFIC_SECRET_0"
            self._secret = found[label, random.hex()]
            self._turn_keys()
        else:
            answer = bytes(peer.went if peer.server else peer.came)
            self._derive_old(found["CLIENT_RANDOM", random.hex()], answer[11:43] + random, peer.server)

    def seal(self, content: bytes, kind: int = DATA, padding: int = 0) -> bytes:
        """One record, whatever its size."""
        number = self._count.to_bytes(8, "big")
        self._count += 1
        if self._new:
            inner = content + bytes([kind]) + bytes(padding)
            header = struct.pack("!BHH", DATA, 0x0303, len(inner) + 16)
            nonce = bytes(a ^ b for a, b in zip(self._iv, number.rjust(12, b"\0"), strict=True))
            return header + self._aead.encrypt(nonce, inner, header)
        about = number + struct.pack("!BHH", kind, 0x0303, len(content))
        return record(kind, number + self._aead.encrypt(self._iv + number, content, about))

    def message(self, content: bytes) -> bytes:
        """A record of a message of the handshake, or of a piece of one."""
        return self.seal(content, HANDSHAKE)

    def close_notify(self) -> bytes:
        return self.seal(CLOSE_NOTIFY, ALERT)

    def fatal_alert(self) -> bytes:
        return self.seal(FATAL, ALERT)

    def key_update(self) -> bytes:
        """A KeyUpdate that asks for one in return; what follows is sealed with the new keys."""
        made = self.message(KEY_UPDATE_REQUESTED)
        self.update_keys()
        return made

    def update_keys(self) -> None:
        """The last piece of a KeyUpdate was sealed."""
        self._secret = self._expand_label(self._secret, "traffic upd", self._hash().digest_size)
        self._turn_keys()

    def _turn_keys(self) -> None:
        self._aead = AESGCM(self._expand_label(self._secret, "key", self._size))
        self._iv = self._expand_label(self._secret, "iv", 12)
        self._count = 0

    def _expand_label(self, secret: bytes, label: str, size: int) -> bytes:
        """HKDF-Expand-Label (RFC 8446, section 7.1), of one block at most."""
        name = b"tls13 " + label.encode()
        info = struct.pack("!HB", size, len(name)) + name + b"\0"
        return hmac.new(secret, info + b"\1", self._hash).digest()[:size]

    def _derive_old(self, master: bytes, randoms: bytes, server: bool) -> None:
        """The key block (RFC 5246, section 6.3)."""
        seed, block = b"key expansion" + randoms, b""
        link = seed
        while len(block) < 2 * self._size + 8:
            link = hmac.new(master, link, self._hash).digest()
            block += hmac.new(master, link + seed, self._hash).digest()
        key, iv = server * self._size, 2 * self._size + server * 4
        self._aead, self._iv = AESGCM(block[key : key + self._size]), block[iv : iv + 4]
