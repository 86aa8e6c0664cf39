"""identity: our certificates and their keys.

Owns which certificate belongs to which key, and their way into an `ssl.SSLContext`. The rule is one key and one
certificate, followed by the certificates that lead to its root. Several keys of different kinds (an RSA and an ECDSA
one) are several identities; OpenSSL shows each peer one that it can verify. They may come in any order: a certificate
that belongs to a key begins an identity, and those behind it lead to its root.
Promises that a certificate that belongs nowhere is refused by its name, and never sent in another one's chain.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .certificate import Facts, read_facts
from .errors import naming_option, with_option_name
from .memory_file import readable
from .pem import PEM, Block, Materials, readable_key

MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


class Pair(NamedTuple):
    """A key and its chain: its certificate, followed by those that lead to its root."""

    key: Block
    chain: tuple[Block, ...]


@dataclass(frozen=True)
class Identity:
    pairs: tuple[Pair, ...]

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """Our certificates, as DER."""
        return tuple(pair.chain[0].der for pair in self.pairs)


def identity_of(materials: Materials, passphrase: Any) -> Identity | None:
    """None if the options give neither. One without the other is an error."""
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
        refuse_unrelated(cert, pair)
    return Identity(pairs)


def set_identity(context: ssl.SSLContext, identity: Identity | None, passphrase: Any) -> None:
    for pair in identity.pairs if identity is not None else ():
        load_pair(context, pair, passphrase)


def load_pair(context: ssl.SSLContext, pair: Pair, passphrase: Any) -> None:
    callback = Passphrase(passphrase)
    pem = "".join(ssl.DER_cert_to_PEM_cert(block.der) for block in pair.chain)
    with readable(pem.encode()) as chain, readable_key(pair.key) as key:
        try:
            context.load_cert_chain(chain, key, callback)
        except ssl.SSLError as error:
            both = f"{pair.key.part.name} {{}} {pair.chain[0].part.name}"
            option = (
                both.format("and") if is_mismatch(error) else "passphrase" if callback.called else both.format("or")
            )
            raise with_option_name(error, option) from None
        except ValueError as error:
            raise ValueError(f"passphrase: {error}") from None


def is_mismatch(error: ssl.SSLError) -> bool:
    return getattr(error, "reason", None) in MISMATCHES


class Passphrase:
    """The password callback of `load_cert_chain`, called for an encrypted key. Without one OpenSSL asks the terminal."""

    def __init__(self, value: Any) -> None:
        if value is not None and not isinstance(value, (str, bytes, bytearray)):
            raise TypeError(f"passphrase must be a str or bytes, not {type(value).__name__!r}")
        self.value = value
        self.called = False

    def __call__(self) -> Any:
        self.called = True
        if self.value is None:
            raise ValueError("required, since the key is encrypted")
        return self.value


# ---------------------------------------------------------------------------- which certificate is for which key


def pairs_of(keys: list[Block], chain: list[Block], passphrase: Any) -> Iterator[Pair]:
    """Each key with its chain, which ends where the certificate of another key begins."""
    owners = {leaf_of(key, chain, passphrase): key for key in keys}
    if 0 not in owners:
        raise no_owner(chain[0], "it is for none of the keys")
    kinds: dict[bytes, Block] = {}
    begins = sorted(owners)
    for index, following in zip(begins, [*begins[1:], len(chain)], strict=True):
        kind = facts_of(chain[index]).key_type
        if kind in kinds:
            message = f"its key is of the same kind as that of {kinds[kind].part.name}, and of each kind one is used"
            raise no_owner(chain[index], message)
        kinds[kind] = chain[index]
        yield Pair(owners[index], tuple(chain[index:following]))


def leaf_of(key: Block, chain: list[Block], passphrase: Any) -> int:
    """The index of the key's certificate.

    A try costs time, so the first certificate of each part of a list is tried before the others.
    """
    for index in sorted(range(len(chain)), key=lambda index: index > 0 and chain[index].part is chain[index - 1].part):
        try:
            load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Pair(key, (chain[index],)), passphrase)
        except ssl.SSLError as error:
            if not is_mismatch(error):
                raise
        else:
            return index
    raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"{key.part.name}: no certificate in cert is for this key")


def refuse_unrelated(cert: PEM, pair: Pair) -> None:
    """The first certificate of a part of a list must have issued another certificate of this identity."""
    parts = [block.part for block in pair.chain]
    issuers = {facts.issuer for facts in map(facts_of, pair.chain) if facts.issuer != facts.subject}
    for index, block in enumerate(pair.chain[1:], 1):
        if block.part is not parts[index - 1] and len(cert.parts) > 1 and facts_of(block).subject not in issuers:
            raise no_owner(block, "it is for none of the keys, and has issued no other certificate")


def no_owner(block: Block, why: str) -> ssl.SSLError:
    return ssl.SSLError(ssl.SSL_ERROR_SSL, f"key and cert: {block.part.name} does not match: {why}")


def is_root(block: Block) -> bool:
    """True if the certificate has issued itself."""
    facts = facts_of(block)
    return facts.issuer == facts.subject


def facts_of(block: Block) -> Facts:
    with naming_option(block.part.name):
        return read_facts(block.der)
