"""API.md, `TLSOptions`: whose certificates are believed, and what is never taken for one that is."""

from __future__ import annotations

import ssl
import subprocess

import pytest
import trustme
from cryptography import x509
from support import TIMEOUT, Recorder
from support.handlers import ignore
from support.programs import tool
from support.tls import (
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
    Authority,
    Identity,
    speaker,
    talk,
)

import pybuntcp
from pybuntcp.tls import cache, contexts

pytestmark = pytest.mark.standalone("whom a peer believes does not depend on the loop")

REVOKED, NO_LIST = 23, 3  # X509_V_ERR_CERT_REVOKED, X509_V_ERR_UNABLE_TO_GET_CRL
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
    with pytest.raises(ssl.SSLError, match=rf"crl(\[1\])?: a [A-Z0-9 ]*{stranger.partition(',')[0]} is in it"):
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


# ---------------------------------------------------------------- ca: what `openssl verify -CAfile` takes


def noted(pem: bytes, *notes: str) -> bytes:
    """A TRUSTED CERTIFICATE: with notes, for what it is trusted and for what it is not."""
    command = [tool("openssl"), "x509", "-trustout", *notes]
    return subprocess.run(command, input=pem, capture_output=True, timeout=TIMEOUT, check=True).stdout


BUNDLES = {
    "a remark in UTF-8": lambda pem: "# Autorité de Müller\n".encode() + pem,
    "a remark in Latin-1": lambda pem: b"# Autorit\xe9\n" + pem,
    "a remark behind": lambda pem: pem + b"\xff\xfe\n",
    "in a str": lambda pem: "# Müller, 日本\n" + pem.decode(),
    "X509 CERTIFICATE": lambda pem: relabelled(pem, b"X509 CERTIFICATE"),
    "TRUSTED CERTIFICATE without notes": lambda pem: relabelled(pem, b"TRUSTED CERTIFICATE"),
    "TRUSTED CERTIFICATE": lambda pem: noted(pem, "-addtrust", "serverAuth"),
    "TRUSTED CERTIFICATE with CRLF": lambda pem: noted(pem, "-addtrust", "serverAuth").replace(b"\n", b"\r\n"),
    "twice": lambda pem: pem + pem,
    "one of many": lambda pem: OTHER_CA.pem + relabelled(OTHER_CA.pem, b"X509 CERTIFICATE") + noted(OTHER_CA.pem) + pem,
    "among other things": lambda pem: CRL + pem + SERVER.key,
    "a remark that looks like one": lambda pem: b"# -----BEGIN CERTIFICATE-----\n" + pem,
}


@pytest.mark.parametrize("file", [False, True], ids=["ca", "ca_file"])
@pytest.mark.parametrize("bundle", list(BUNDLES))
def test_s2_a_bundle_of_authorities_is_taken(loop, tcp, tmp_path, bundle, file):
    given = BUNDLES[bundle](CA.pem)
    path = tmp_path / "ca.pem"
    path.write_bytes(given.encode() if isinstance(given, str) else given)
    ends = talk(loop, tcp, SERVER_TLS, {"ca_file": path} if file else {"ca": given})
    assert ends.error is None
    assert ends.client.socket.authorized
    assert isinstance(talk(loop, tcp, CA.issue("other.example").options, {"ca": given}).error, ssl.SSLError)


def test_s1_an_authority_that_is_noted_as_not_trusted_is_not(loop, tcp):
    """With servers, and is with clients."""
    rejecting = noted(CA.pem, "-addreject", "serverAuth")
    assert isinstance(talk(loop, tcp, SERVER_TLS, {"ca": rejecting}).refusal, ssl.SSLCertVerificationError)
    assert is_let_in(loop, tcp, {**ASKS, "ca": rejecting}, CLIENT)


@pytest.mark.parametrize("ca", ["CERTIFICATE REQUEST", "X509 CRL", "PKCS7"])
def test_s2_what_is_no_certificate_is_refused_as_authority(ca):
    with pytest.raises(ssl.SSLError, match="ca: no CERTIFICATE is in it"):
        pybuntcp.connect(hostname="127.0.0.1", port=1, tls={"ca": relabelled(CA.pem, ca.encode())})


@pytest.mark.parametrize("label", ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"])
def test_s2_our_own_certificate_may_be_labelled_so(loop, tcp, label):
    cert = "# Prüfung\n".encode() + relabelled(SERVER.cert, label.encode())
    ends = talk(loop, tcp, {"key": SERVER.key, "cert": cert}, CLIENT_TLS)
    assert ends.error is None
    assert ends.client.socket.get_peer_certificate()["raw"] == SERVER.der
    assert ends.server.socket.get_certificate()["raw"] == SERVER.der


def test_s2_our_own_certificate_may_have_notes_behind_it(loop, tcp):
    ends = talk(loop, tcp, {"key": SERVER.key, "cert": noted(SERVER.cert, "-addtrust", "serverAuth")}, CLIENT_TLS)
    assert ends.error is None
    assert ends.server.socket.get_certificate()["raw"] == SERVER.der


# ---------------------------------------------------------------- ca: an intermediate one, or the peer's own


ROOT = trustme.CA(key_type=trustme.KeyType.ECDSA)
BETWEEN = ROOT.create_child_ca(key_type=trustme.KeyType.ECDSA)
BESIDE = ROOT.create_child_ca(key_type=trustme.KeyType.ECDSA)


def issued_between(*names, ca=BETWEEN):
    return Identity(ca.issue_cert(*names, key_type=trustme.KeyType.ECDSA))


PINNED = issued_between("127.0.0.1")


def verdict(loop, tcp, identity, ca, **options):
    """None: it is believed."""
    ends = talk(loop, tcp, identity.options, {"ca": ca, **options})
    assert ends.error is not None or ends.client.socket.authorized
    return ends.error


def test_s1_an_intermediate_authority_is_believed(loop, tcp):
    ca = BETWEEN.cert_pem.bytes()
    assert verdict(loop, tcp, PINNED, ca) is None
    assert isinstance(verdict(loop, tcp, issued_between("other.example"), ca), ssl.SSLCertVerificationError)
    assert isinstance(verdict(loop, tcp, issued_between("127.0.0.1", ca=BESIDE), ca), ssl.SSLCertVerificationError)
    assert isinstance(verdict(loop, tcp, SERVER, ca), ssl.SSLCertVerificationError)


def test_s1_an_intermediate_authority_that_the_system_trusts_is_believed(loop, tcp, monkeypatch, tmp_path):
    monkeypatch.setattr(contexts, "_clients", cache.Cache())
    monkeypatch.setenv("SSL_CERT_FILE", str(_written(tmp_path / "system.pem", BETWEEN.cert_pem.bytes())))
    assert talk(loop, tcp, PINNED.options, True).error is None
    assert isinstance(talk(loop, tcp, SERVER_TLS, True).error, ssl.SSLCertVerificationError)


def test_s1_an_intermediate_authority_beside_a_root_is_believed(loop, tcp):
    ca = [CA.pem, BETWEEN.cert_pem.bytes()]
    assert verdict(loop, tcp, PINNED, ca) is None
    assert verdict(loop, tcp, SERVER, ca) is None


def test_s1_a_pinned_certificate_is_believed_and_no_other(loop, tcp):
    ca = ssl.DER_cert_to_PEM_cert(PINNED.der)
    assert verdict(loop, tcp, PINNED, ca) is None
    assert isinstance(verdict(loop, tcp, issued_between("127.0.0.1"), ca), ssl.SSLCertVerificationError)


def test_s1_a_pinned_certificate_must_be_for_the_name_and_valid(loop, tcp):
    other, late = CA.issue("other.example"), CA.issue("127.0.0.1", expired=True)
    for identity in (other, late):
        pinned = ssl.DER_cert_to_PEM_cert(identity.der)
        assert isinstance(verdict(loop, tcp, identity, pinned), ssl.SSLCertVerificationError)
    assert verdict(loop, tcp, other, ssl.DER_cert_to_PEM_cert(other.der), server_name="other.example") is None


def test_s3_a_server_believes_a_client_that_is_pinned(loop, tcp):
    tls = {**ASKS, "ca": ssl.DER_cert_to_PEM_cert(CLIENT.der)}
    assert is_let_in(loop, tcp, tls, CLIENT)
    assert not is_let_in(loop, tcp, tls, CA.issue("other@example.test"))


# ---------------------------------------------------------------- crl: of each authority of the chain


def lists_of(ca, *revoked):
    """A list of revoked certificates, of an authority of trustme's."""
    authority = Authority.__new__(Authority)
    authority._ca, authority.pem = ca, ca.cert_pem.bytes()
    authority.parsed = x509.load_pem_x509_certificate(authority.pem)
    return authority.revoke(*revoked)


class Parsed:
    """A certificate to revoke."""

    def __init__(self, pem):
        self.parsed = x509.load_pem_x509_certificate(pem)


ROOT_PEM, BETWEEN_PEM = ROOT.cert_pem.bytes(), BETWEEN.cert_pem.bytes()
NOBODY = [lists_of(ROOT), lists_of(BETWEEN)]


def code(error):
    return None if error is None else error.verify_code


@pytest.mark.parametrize("ca", [ROOT_PEM, [ROOT_PEM, BETWEEN_PEM]], ids=["the root", "the root and between"])
def test_s3_each_authority_of_the_chain_has_its_list(loop, tcp, ca):
    other = issued_between("127.0.0.1")
    assert verdict(loop, tcp, PINNED, ca, crl=NOBODY) is None
    revoked = verdict(loop, tcp, PINNED, ca, crl=[lists_of(ROOT), lists_of(BETWEEN, PINNED)])
    assert code(revoked) == REVOKED
    assert verdict(loop, tcp, other, ca, crl=[lists_of(ROOT), lists_of(BETWEEN, PINNED)]) is None


@pytest.mark.parametrize("ca", [ROOT_PEM, [ROOT_PEM, BETWEEN_PEM]], ids=["the root", "the root and between"])
def test_s3_a_revoked_authority_takes_all_that_it_issued_with_it(loop, tcp, ca):
    crl = [lists_of(ROOT, Parsed(BETWEEN_PEM)), lists_of(BETWEEN)]
    assert code(verdict(loop, tcp, PINNED, ca, crl=crl)) == REVOKED
    assert verdict(loop, tcp, issued_between("127.0.0.1", ca=BESIDE), ca, crl=[*crl, lists_of(BESIDE)]) is None


@pytest.mark.parametrize("crl", NOBODY, ids=["the root's alone", "the other's alone"])
def test_s3_where_a_list_is_missing_nobody_is_believed(loop, tcp, crl):
    assert code(verdict(loop, tcp, PINNED, ROOT_PEM, crl=crl)) == NO_LIST


def test_s3_without_a_root_the_list_of_the_issuer_is_enough(loop, tcp):
    assert verdict(loop, tcp, PINNED, BETWEEN_PEM, crl=lists_of(BETWEEN)) is None
    assert code(verdict(loop, tcp, PINNED, BETWEEN_PEM, crl=lists_of(BETWEEN, PINNED))) == REVOKED


def test_s3_a_servers_clients_are_looked_at_so_too(loop, tcp):
    client = issued_between("client@example.test")
    asks = {**SERVER_TLS, "ca": ROOT_PEM, "request_cert": True}
    assert is_let_in(loop, tcp, {**asks, "crl": NOBODY}, client)
    assert not is_let_in(loop, tcp, {**asks, "crl": [lists_of(ROOT, Parsed(BETWEEN_PEM)), lists_of(BETWEEN)]}, client)
