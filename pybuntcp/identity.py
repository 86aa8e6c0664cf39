"""identity: our certificates and their keys.

Owns which certificate belongs to which key, and their way into an `ssl.SSLContext`. One key and one certificate, with
what leads to its root behind it, are the rule. Several keys, of different kinds (an RSA and an ECDSA one), are several
identities, of which OpenSSL shows each peer the one that it can verify; they come in any order, and each certificate
that is for a key begins an identity, to which those behind it lead.
Promises that what is for nothing is refused by its name, and never sent as what leads to the root of another.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .pem import PEM, Block, Materials, first_element, naming, readable, readable_key, renamed

MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
VERSION = 0xA0  # the tag of that field, which may be absent


class Pair(NamedTuple):
    """A key, and its certificate with what leads to its root behind it."""

    key: Block
    chain: tuple[Block, ...]


@dataclass(frozen=True)
class Identity:
    pairs: tuple[Pair, ...]

    @property
    def own(self) -> tuple[bytes, ...]:
        """The certificates, DER."""
        return tuple(pair.chain[0].der for pair in self.pairs)


def identity_of(materials: Materials, passphrase: Any) -> Identity | None:
    """Our certificates and their keys; both or none."""
    cert, key = materials.cert, materials.key
    Passphrase(passphrase)
    if cert is None and key is None:
        if passphrase is not None:
            raise ValueError("passphrase is for a key, and there is none")
        return None
    if cert is None or key is None:
        raise ValueError("key and cert go together: " + ("cert" if cert is None else "key") + " is missing")
    keys, chain = key.blocks, cert.blocks
    pairs = (Pair(keys[0], tuple(chain)),) if len(keys) == 1 else tuple(pairs_of(keys, chain, passphrase))
    for pair in pairs:
        refuse_strangers(cert, pair)
    return Identity(pairs)


def set_identity(context: ssl.SSLContext, identity: Identity | None, passphrase: Any) -> None:
    for pair in identity.pairs if identity is not None else ():
        load(context, pair, passphrase)


def load(context: ssl.SSLContext, pair: Pair, passphrase: Any) -> None:
    asked = Passphrase(passphrase)
    pem = "".join(ssl.DER_cert_to_PEM_cert(block.der) for block in pair.chain)
    with readable(pem.encode()) as chain, readable_key(pair.key) as key:
        try:
            context.load_cert_chain(chain, key, asked)
        except ssl.SSLError as error:
            both = f"{pair.key.part.name} {{}} {pair.chain[0].part.name}"
            option = both.format("and") if is_mismatch(error) else "passphrase" if asked.asked else both.format("or")
            raise renamed(error, option) from None
        except ValueError as error:
            raise ValueError(f"passphrase: {error}") from None


def is_mismatch(error: ssl.SSLError) -> bool:
    return getattr(error, "reason", None) in MISMATCHES


class Passphrase:
    """Asked only for a key that is encrypted; OpenSSL would ask the terminal."""

    def __init__(self, value: Any) -> None:
        if value is not None and not isinstance(value, (str, bytes, bytearray)):
            raise TypeError(f"passphrase must be a str or bytes, not {type(value).__name__!r}")
        self.value = value
        self.asked = False

    def __call__(self) -> Any:
        self.asked = True
        if self.value is None:
            raise ValueError("required, since the key is encrypted")
        return self.value


# ---------------------------------------------------------------------------- which is whose


def pairs_of(keys: list[Block], chain: list[Block], passphrase: Any) -> Iterator[Pair]:
    """Each key with its certificate, and with those between that and the next key's."""
    owners = {index: key for key in keys for index in leaf_of(key, chain, passphrase)}
    if 0 not in owners:
        raise no_owner(chain[0], "it is for none of the keys")
    kinds: dict[bytes, Block] = {}
    begins = sorted(owners)
    for index, following in zip(begins, [*begins[1:], len(chain)], strict=True):
        kind = facts_of(chain[index]).kind
        if kind in kinds:
            words = f"its key is of the same kind as that of {kinds[kind].part.name}, and of each kind one is used"
            raise no_owner(chain[index], words)
        kinds[kind] = chain[index]
        yield Pair(owners[index], tuple(chain[index:following]))


def leaf_of(key: Block, chain: list[Block], passphrase: Any) -> list[int]:
    """The index of its certificate, in a list. What begins a part of a list is tried first, since it costs time."""
    for index in sorted(range(len(chain)), key=lambda index: index > 0 and chain[index].part is chain[index - 1].part):
        try:
            load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Pair(key, (chain[index],)), passphrase)
        except ssl.SSLError as error:
            if not is_mismatch(error):
                raise
        else:
            return [index]
    raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"{key.part.name}: no certificate in cert is for this key")


def refuse_strangers(cert: PEM, pair: Pair) -> None:
    """What begins a part of a list is a certificate of its own, unless it has issued another one of this identity."""
    parts = [block.part for block in pair.chain]
    issuers = {facts.issuer for facts in map(facts_of, pair.chain) if facts.issuer != facts.subject}
    for index, block in enumerate(pair.chain[1:], 1):
        if block.part is not parts[index - 1] and len(cert.parts) > 1 and facts_of(block).subject not in issuers:
            raise no_owner(block, "it is for none of the keys, and has issued no other certificate")


def no_owner(block: Block, why: str) -> ssl.SSLError:
    return ssl.SSLError(ssl.SSL_ERROR_SSL, f"key and cert: {block.part.name} does not match: {why}")


def is_root(block: Block) -> bool:
    """Has it issued itself?"""
    facts = facts_of(block)
    return facts.issuer == facts.subject


class Facts(NamedTuple):
    """Of a certificate, as DER (RFC 5280, section 4.1)."""

    issuer: bytes
    subject: bytes
    kind: bytes  # of its key: the algorithm's identifier


def facts_of(block: Block) -> Facts:
    with naming(block.part.name):
        try:
            fields = fields_of(block.der)
            _, _, issuer, _, subject, key = fields[1:7] if fields[0][0] == VERSION else fields[:6]
            return Facts(issuer, subject, elements(elements(key)[0])[0])
        except (IndexError, ValueError):
            raise ValueError("a CERTIFICATE in it is none") from None


def fields_of(certificate: bytes) -> list[bytes]:
    return elements(elements(certificate, 1)[0], 7)


def elements(der: bytes, most: int | None = None) -> list[bytes]:
    """What a constructed element of DER is made of, or the first few of that."""
    at = 2 if der[1] < 0x80 else 2 + (der[1] & 0x7F)
    found: list[bytes] = []
    while at < len(der) and len(found) != most:
        found.append(first_element(der[at:]))
        at += len(found[-1])
    return found
