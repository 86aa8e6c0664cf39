"""API.md, `TLSOptions`: `key` and `cert` as lists, an RSA and an ECDSA identity beside one another."""

from __future__ import annotations

import functools
import itertools
import ssl

import pytest
import trustme
from support import Recorder
from support.handlers import ignore
from support.tls import (
    CA,
    CLIENT_TLS,
    PASSPHRASE,
    SERVER,
    SERVER_TLS,
    Identity,
    needs_borrowed,
    on_fallback,
    refused_by_fallback,
    speaker,
    talk,
)
from support.tls_peer import client_context, dialling

import pybuntcp
from pybuntcp.tls.identity import identity_of
from pybuntcp.tls.settings import server_settings

pytestmark = pytest.mark.standalone("which certificate is shown is nothing that a loop decides")

EC = CA.issue("localhost", "127.0.0.1")
SUITES = {"RSA": "ECDHE-RSA-AES128-GCM-SHA256", "ECDSA": "ECDHE-ECDSA-AES128-GCM-SHA256"}
ORDERS = list(itertools.product((1, -1), repeat=2))
orders = pytest.mark.parametrize(("certs", "keys"), ORDERS)
kinds = pytest.mark.parametrize("kind", list(SUITES))


@functools.cache
def rsa(*names):
    names = names or ("localhost", "127.0.0.1")
    return Identity(CA._ca.issue_cert(*names, key_type=trustme.KeyType.RSA))


def both(certs=1, keys=1):
    """An RSA and an ECDSA identity, in this order or (-1) the other."""
    pairs = [rsa(), EC]
    return {"cert": [pair.cert for pair in pairs[::certs]], "key": [pair.key for pair in pairs[::keys]]}


def only(kind):
    """A client that can verify this kind alone."""
    return {**CLIENT_TLS, "ciphers": SUITES[kind], "max_version": "TLSv1.2"}


def shown(loop, tcp, server_tls, client_tls):
    ends = talk(loop, tcp, server_tls, client_tls)
    assert ends.error is None
    return ends.client.socket.get_peer_certificate()["raw"]


def listening(tls):
    pybuntcp.listen(socket=Recorder().handlers, hostname="127.0.0.1", port=0, tls=tls)


def refused(*words, **tls):
    with pytest.raises((ssl.SSLError, ValueError)) as caught:
        listening(tls)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    with pytest.raises(type(caught.value)):
        pybuntcp.connect(hostname="127.0.0.1", port=1, tls=tls)


# ---------------------------------------------------------------- a server with several


@orders
@kinds
def test_s7_each_client_is_shown_the_identity_that_it_can_verify(loop, tcp, kind, certs, keys):
    assert shown(loop, tcp, both(certs, keys), only(kind)) == {"RSA": rsa(), "ECDSA": EC}[kind].der


@kinds
def test_s7_a_name_in_sni_may_have_several_too(loop, tcp, kind):
    tls = {**SERVER_TLS, "sni": {"localhost": both()}}
    client = {**only(kind), "server_name": "localhost"}
    assert shown(loop, tcp, tls, client) == {"RSA": rsa(), "ECDSA": EC}[kind].der


@kinds
@pytest.mark.parametrize("form", ["lists", "one text", "parts", "files"])
def test_s7_what_leads_to_the_root_goes_with_its_own_identity(loop, tcp, tmp_path, kind, form):
    root = trustme.CA(key_type=trustme.KeyType.ECDSA)
    between = [root.create_child_ca(key_type=trustme.KeyType.ECDSA) for _ in range(2)]
    types = {"RSA": trustme.KeyType.RSA, "ECDSA": trustme.KeyType.ECDSA}
    leaves = {each: ca.issue_cert("127.0.0.1", key_type=types[each]) for each, ca in zip(types, between, strict=True)}
    chains = [
        [leaf.cert_chain_pems[0].bytes(), ca.cert_pem.bytes()]
        for leaf, ca in zip(leaves.values(), between, strict=True)
    ]
    keys = [leaf.private_key_pem.bytes() for leaf in leaves.values()]
    every = [pem for chain in chains for pem in chain]
    tls = {
        "lists": {"cert": [b"".join(chain) for chain in chains], "key": keys},
        "one text": {"cert": b"".join(every), "key": b"".join(keys[::-1])},
        "parts": {"cert": every, "key": keys},
        "files": {
            "cert_file": written(tmp_path / "cert.pem", b"".join(every)),
            "key_file": written(tmp_path / "key.pem", b"".join(keys)),
        },
    }[form]
    context = client_context()
    context.load_verify_locations(cadata=root.cert_pem.bytes().decode())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITES[kind])
    peer = dialling(
        tcp, tcp.listen(Recorder(data=lambda socket, chunk: socket.end()), tls=tls), context, name="127.0.0.1"
    )
    peer.write(b"x").ignore()
    loop.wait(peer.read_to_end())
    sent = [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in peer.tls._sslobj.get_unverified_chain()]
    own = chains[list(types).index(kind)]
    assert sent == [ssl.PEM_cert_to_DER_cert(each.decode()) for each in own]


def written(path, pem):
    path.write_bytes(pem)
    return path


@needs_borrowed
@kinds
def test_s7_get_certificate_is_the_one_that_was_shown(loop, tcp, kind):
    ends = talk(loop, tcp, both(), only(kind))
    assert ends.server.socket.get_certificate()["raw"] == {"RSA": rsa(), "ECDSA": EC}[kind].der


@on_fallback
def test_s7_the_fallback_does_not_know_which_was_shown(loop, tcp):
    ends = talk(loop, tcp, both(), only("RSA"))
    with refused_by_fallback("get_certificate"):
        ends.server.socket.get_certificate()


def test_s7_one_of_the_keys_may_be_encrypted(loop, tcp):
    tls = {**both(), "key": [rsa().key, EC.encrypted_key(PASSPHRASE)], "passphrase": PASSPHRASE}
    assert shown(loop, tcp, tls, only("ECDSA")) == EC.der
    refused("passphrase", **{**tls, "passphrase": "wrong"})


def test_s7_lists_of_one_pair_are_that_pair(loop, tcp):
    tls = {name: [pem] for name, pem in SERVER.options.items()}
    assert shown(loop, tcp, tls, CLIENT_TLS) == SERVER.der


# ---------------------------------------------------------------- a client with several


@kinds
def test_s3_a_client_shows_what_the_server_can_verify(loop, tcp, kind):
    clients = {"RSA": rsa("rsa@example.test"), "ECDSA": CA.issue("ec@example.test")}
    tls = {"cert": [each.cert for each in clients.values()], "key": [each.key for each in clients.values()]}
    server = {**{"RSA": rsa(), "ECDSA": EC}[kind].options, "ca": CA.pem, "request_cert": True}
    ends = talk(loop, tcp, server, {**only(kind), **tls}, client=speaker(error=ignore))
    assert ends.client.received() == b"ping"
    assert ends.server.socket.get_peer_certificate()["raw"] in [each.der for each in clients.values()]


# ---------------------------------------------------------------- what is printed


def test_s7_no_key_is_in_the_words_for_what_was_read():
    settings = server_settings("tls", {**both(), "sni": {"a.example": both()}, "passphrase": "not to be seen"})
    words = f"{settings!r} {identity_of(settings.materials, None)!r}"
    assert "key[1]" in words
    for secret in (*(line for key in (rsa().key, EC.key) for line in key.decode().split("\n")[1:3]), "not to be seen"):
        assert secret not in words


# ---------------------------------------------------------------- what does not match

OTHER = CA.issue("other.example")


def test_s2_a_certificate_without_its_key_is_refused_by_name():
    refused("key and cert", "cert[1]", cert=[EC.cert, rsa().cert], key=EC.key)
    refused("key and cert", "cert[1]", cert=[EC.cert, rsa().cert], key=[EC.key])
    refused("key and cert", "cert[2]", cert=[EC.cert, rsa().cert, OTHER.cert], key=[EC.key, rsa().key])
    refused("cert[0]", cert=[OTHER.cert, EC.cert, rsa().cert], key=[EC.key, rsa().key])


def test_s2_a_key_without_its_certificate_is_refused_by_name():
    refused("key[1]", "cert", cert=EC.cert, key=[EC.key, rsa().key])
    refused("key[0]", "cert", cert=[EC.cert, rsa().cert], key=[OTHER.key, rsa().key])


def test_s2_two_identities_of_one_kind_are_refused_by_name():
    refused("cert[1]", "cert[0]", "same kind", cert=[EC.cert, OTHER.cert], key=[EC.key, OTHER.key])


def test_s2_a_broken_part_is_refused_by_name():
    refused("cert[1]", cert=[EC.cert, "garbage"], key=[EC.key, rsa().key])
    refused("key[1]", cert=[EC.cert, rsa().cert], key=[EC.key, b"garbage"])
    refused("cert[1]", cert=[EC.cert, rsa().cert[:200]], key=[EC.key, rsa().key])
