"""API.md, `TLSOptions`: whose certificates are believed, and what is never taken for one that is."""

from __future__ import annotations

import ssl

import pytest
from support import Recorder
from support_tls import (
    CA,
    CLIENT,
    CLIENT_TLS,
    CRL,
    OTHER_CA,
    REVOKED_CLIENT,
    SERVER,
    SERVER_TLS,
    STRANGE_CLIENT,
    STRANGE_SERVER,
    ignore,
    speaker,
    talk,
)

import pybuntcp

pytestmark = pytest.mark.standalone("whom a peer believes does not depend on the loop")

ASKS = {**SERVER_TLS, "ca": CA.pem, "request_cert": True}


def relabelled(pem: bytes, label: bytes) -> bytes:
    return pem.replace(b"CERTIFICATE-----", label + b"-----")


def is_let_in(loop, tcp, server_tls, identity):
    client_tls = {**CLIENT_TLS, **identity.options}
    return talk(loop, tcp, server_tls, client_tls, client=speaker(error=ignore)).client.received() == b"ping"


# ---------------------------------------------------------------- crl: revoked ones, and nothing else


STRANGERS = {
    "CERTIFICATE": OTHER_CA.pem,
    "X509 CERTIFICATE": relabelled(OTHER_CA.pem, b"X509 CERTIFICATE"),
    "TRUSTED CERTIFICATE": relabelled(OTHER_CA.pem, b"TRUSTED CERTIFICATE"),
    "CERTIFICATE, that has no end": OTHER_CA.pem[:200] + b"\n",
    "PRIVATE KEY": SERVER.key,
}
GIVEN = {
    "before it": lambda pem, folder: pem + CRL,
    "behind it": lambda pem, folder: CRL + pem,
    "in a str": lambda pem, folder: (CRL + pem).decode(),
    "in a list": lambda pem, folder: [CRL, CRL + pem],
    "with CRLF": lambda pem, folder: (CRL + pem).replace(b"\n", b"\r\n"),
    "in a file": lambda pem, folder: _written(folder / "crl.pem", CRL + pem),
}


def _written(path, pem):
    path.write_bytes(pem)
    return path


def listening(tls):
    pybuntcp.listen(socket=Recorder().handlers, hostname="127.0.0.1", port=0, tls=tls)


ENDS = {
    "server": lambda crl: listening({**ASKS, "crl": crl}),
    "name in sni": lambda crl: listening({**SERVER_TLS, "sni": {"a.example": {**ASKS, "crl": crl}}}),
    "client": lambda crl: pybuntcp.connect(hostname="127.0.0.1", port=1, tls={**CLIENT_TLS, "crl": crl}),
}
ends = pytest.mark.parametrize("end", list(ENDS))


@pytest.mark.parametrize("where", list(GIVEN))
@pytest.mark.parametrize("stranger", list(STRANGERS))
@ends
def test_s2_what_is_no_list_of_revoked_ones_is_refused_in_crl(tmp_path, stranger, where, end):
    crl = GIVEN[where](STRANGERS[stranger], tmp_path)
    with pytest.raises(ssl.SSLError, match=rf"crl: a [A-Z0-9 ]*{stranger.partition(',')[0]} is in it"):
        ENDS[end](crl)


@ends
def test_s2_a_list_of_revoked_ones_that_has_no_end_is_refused(end):
    with pytest.raises(ssl.SSLError, match=r"crl: .* no end"):
        ENDS[end](CRL + CRL[:120])


@pytest.mark.parametrize(
    "crl",
    [CRL + OTHER_CA.revoke(), [CRL, OTHER_CA.revoke()], b"# sch\xf6n\n" + CRL],
    ids=["one text", "a list", "a remark"],
)
def test_s3_several_lists_hold_together(loop, tcp, crl):
    tls = {**ASKS, "crl": crl}
    assert is_let_in(loop, tcp, tls, CLIENT)
    assert not is_let_in(loop, tcp, tls, REVOKED_CLIENT)
    assert not is_let_in(loop, tcp, tls, STRANGE_CLIENT)


# ---------------------------------------------------------------- what else is given beside it


def test_s3_what_leads_to_our_own_root_is_no_authority_of_clients(loop, tcp):
    tls = {**ASKS, "cert": SERVER.cert + OTHER_CA.pem}
    assert not is_let_in(loop, tcp, tls, STRANGE_CLIENT)
    assert is_let_in(loop, tcp, tls, CLIENT)


def test_s1_our_own_certificate_is_no_authority_of_servers(loop, tcp):
    tls = {**CLIENT_TLS, **CLIENT.options, "cert": CLIENT.cert + OTHER_CA.pem}
    assert isinstance(talk(loop, tcp, STRANGE_SERVER.options, tls).refusal, ssl.SSLCertVerificationError)
