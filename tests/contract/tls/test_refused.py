"""CONTRACT.md, TLS (S2): what is wrong with `tls=` is refused at the call, by an error that names the option."""

from __future__ import annotations

import errno
import ssl
from pathlib import Path

import pytest
from support import GAUGES, descriptors
from support.handlers import QUIET
from support.tls import (
    BORROWED,
    CA,
    CLIENT,
    CRL,
    ENCRYPTED_KEY,
    PASSPHRASE,
    SERVER,
    needs_borrowed,
    on_fallback,
    refused_by_fallback,
)

import pybuntcp

TCP = {"hostname": "127.0.0.1", "port": 0}
HERE = Path(__file__).parent
BOTH = [pybuntcp.listen, pybuntcp.connect]
BROKEN_CERT = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
BROKEN_KEY = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
BROKEN_CRL = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
NOT_BASE64 = b"-----BEGIN CERTIFICATE-----\n\xff***\n-----END CERTIFICATE-----\n"


def refused(call, kind, *names, tls, **where):
    """It raises at once, names the option, and leaves nothing open."""
    before, gauges = descriptors(), pybuntcp.stats()
    with pytest.raises(kind) as caught:
        call(socket=QUIET, tls=tls, **(where or {**TCP, "port": 443 if call is pybuntcp.connect else 0}))
    assert [name for name in names if name not in str(caught.value)] == [], str(caught.value)
    assert descriptors() == before
    assert {gauge: pybuntcp.stats()[gauge] for gauge in GAUGES} == {gauge: gauges[gauge] for gauge in GAUGES}
    return caught.value


def refused_option(call, kind, name, value):
    """An option beside a key and a certificate that are good, unless it takes their place."""
    tls = {**SERVER.options, name: value}
    for good in ("key", "cert"):
        if name == good + "_file":
            del tls[good]
    return refused(call, kind, name, tls=tls)


def cases(table):
    """Their names are those of the options, numbered: keys differ from process to process."""
    return [
        pytest.param(name, value, id=f"{name} {i}") for name, values in table.items() for i, value in enumerate(values)
    ]


# ---------------------------------------------------------------- types and values

NO_MATERIAL = (5, True, 2.5, object(), [5], [None], {})
NO_PATH = (5, 2.5, [])
NO_FLAG = (0, 1, None, "false", "", [])

WRONG_TYPES = {
    "key": NO_MATERIAL,
    "cert": NO_MATERIAL,
    "ca": NO_MATERIAL,
    "crl": NO_MATERIAL,
    "passphrase": (5, ["secret"], True),
    "key_file": NO_PATH,
    "cert_file": NO_PATH,
    "ca_file": NO_PATH,
    "dh_params_file": NO_PATH,
    "keylog_file": NO_PATH,
    "server_name": (5, b"localhost", ["localhost"]),
    "reject_unauthorized": NO_FLAG,
    "low_memory_mode": NO_FLAG,
    "alpn_protocols": ("h2", 5, {"h2"}, [5], [None], [True], ["h2", 2.5]),
    "ciphers": (5, b"HIGH", ["HIGH"]),
    "ecdh_curve": (5, b"prime256v1", ["prime256v1"]),
    "min_version": (771, 1.2, b"TLSv1.2", True),
    "max_version": (771, 1.3, b"TLSv1.3", True),
    "secure_options": ("0", 1.5, []),
}

WRONG_VALUES = {
    "key": (b"", "", []),
    "cert": (b"", "", []),
    "ca": ([],),
    "crl": ([],),
    "alpn_protocols": (
        [""],
        [b""],
        ["x" * 256],
        ["h2", ""],
        b"h2",
        b"\x03h2",
        b"\x00",
        b"\x02h2\x05http",
        bytearray(b"\x09x"),
        ["\u00e9"],
        [b"\xff"],
    ),
    "ciphers": ("", "a\0b"),
    "ecdh_curve": ("",),
    "min_version": ("1.2", "TLSv1_2", "tlsv1.2", "TLSv1.4", ""),
    "max_version": ("1.3", "TLSv1_3", "SSL"),
    "secure_options": (-1, 2**64),
}


@pytest.mark.parametrize(("name", "value"), cases(WRONG_TYPES))
@pytest.mark.parametrize("call", BOTH)
def test_s2_an_option_of_a_wrong_type_is_a_type_error_that_names_it(call, name, value):
    refused_option(call, TypeError, name, value)


@pytest.mark.parametrize(("name", "value"), cases(WRONG_VALUES))
@pytest.mark.parametrize("call", BOTH)
def test_s2_a_value_that_cannot_be_meant_is_refused_by_name(call, name, value):
    refused_option(call, (ValueError, ssl.SSLError), name, value)


@pytest.mark.parametrize("value", ["", "a\0b", ".example.test", "a" * 64 + ".test"])
def test_s2_a_server_name_that_no_server_can_have_is_refused_by_name(value):
    refused_option(pybuntcp.connect, ValueError, "server_name", value)


@pytest.mark.parametrize("value", NO_FLAG)
def test_s2_request_cert_is_a_bool(value):
    refused_option(pybuntcp.listen, TypeError, "request_cert", value)


@pytest.mark.parametrize("call", BOTH)
@pytest.mark.parametrize(("least", "most"), [("TLSv1.3", "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.2")])
def test_s2_a_min_version_above_max_version_is_a_value_error_that_names_both(call, least, most):
    refused(
        call,
        ValueError,
        "min_version",
        "max_version",
        tls={**SERVER.options, "min_version": least, "max_version": most},
    )


@pytest.mark.parametrize("call", BOTH)
def test_s2_a_max_version_below_the_least_that_is_the_default_is_a_value_error(call):
    refused(call, ValueError, "min_version", "max_version", tls={**SERVER.options, "max_version": "TLSv1.1"})


@pytest.mark.parametrize("value", ["yes", 5, 0, 1, [], [("ca", "x")], b"", object(), 1.5])
@pytest.mark.parametrize("call", BOTH)
def test_s2_tls_is_true_or_options_or_a_context(call, value):
    refused(call, TypeError, "tls", tls=value)


# ---------------------------------------------------------------- unknown and unfit options


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("rejectUnauthorized", "reject_unauthorized"),
        ("requestCert", "request_cert"),
        ("serverName", "server_name"),
        ("servername", "server_name"),
        ("ALPNProtocols", "alpn_protocols"),
        ("keyFile", "key_file"),
        ("certFile", "cert_file"),
        ("caFile", "ca_file"),
        ("dhParamsFile", "dh_params_file"),
        ("secureOptions", "secure_options"),
        ("lowMemoryMode", "low_memory_mode"),
        ("minVersion", "min_version"),
        ("ecdhCurve", "ecdh_curve"),
        ("passphrasee", "passphrase"),
    ],
)
@pytest.mark.parametrize("call", BOTH)
def test_s2_an_unknown_option_is_a_type_error_that_suggests_the_right_one(call, given, meant):
    refused(call, TypeError, repr(given), repr(meant), tls={**SERVER.options, given: True})


@pytest.mark.parametrize("given", ["quux", 5, None, b"key"])
@pytest.mark.parametrize("call", BOTH)
def test_s2_an_unknown_option_without_a_likeness_is_a_type_error(call, given):
    refused(call, TypeError, repr(given), tls={**SERVER.options, given: True})


def test_s2_tls_options_takes_no_unknown_option():
    with pytest.raises(TypeError, match="rejectUnauthorized"):
        pybuntcp.TLSOptions(rejectUnauthorized=False)


@pytest.mark.parametrize("name", ["sni", "request_cert"])
def test_s2_an_option_of_servers_is_refused_on_a_client(name):
    refused(pybuntcp.connect, ValueError, name, tls={name: {"a.test": SERVER.options} if name == "sni" else True})


def test_s2_a_session_is_refused_on_a_server():
    refused(pybuntcp.listen, ValueError, "session", tls={**SERVER.options, "session": b"x"})


@pytest.mark.parametrize("name", ["key", "cert", "ca"])
@pytest.mark.parametrize("call", BOTH)
def test_s2_material_and_its_file_exclude_each_other(call, name, tmp_path):
    path = tmp_path / "pem"
    path.write_bytes({"key": SERVER.key, "cert": SERVER.cert, "ca": CA.pem}[name])
    tls = {**SERVER.options, "ca": CA.pem, f"{name}_file": path}
    refused(call, TypeError, name, f"{name}_file", tls=tls)


# ---------------------------------------------------------------- keys and certificates


@pytest.mark.parametrize("tls", [{}, True, {"ca": CA.pem}, pybuntcp.TLSOptions()])
def test_s2_a_server_without_key_and_cert_is_refused(tls):
    refused(pybuntcp.listen, ValueError, "key", "cert", tls=tls)


@pytest.mark.parametrize("missing", ["key", "cert"])
@pytest.mark.parametrize("call", BOTH)
def test_s2_a_key_without_a_cert_and_the_other_way_round_is_refused(call, missing):
    refused(call, ValueError, missing, tls={name: pem for name, pem in SERVER.options.items() if name != missing})


@pytest.mark.parametrize("call", BOTH)
def test_s2_a_key_that_is_not_the_certificates_is_refused_by_name(call):
    refused(call, ssl.SSLError, "key", "cert", tls={"key": CLIENT.key, "cert": SERVER.cert})


GARBAGE = {
    "key": ("garbage", b"\0\xff", SERVER.cert, BROKEN_KEY, "/etc/ssl/key.pem", SERVER.key[:80]),
    "cert": ("garbage", b"\0\xff", SERVER.key, BROKEN_CERT, NOT_BASE64, "/etc/ssl/cert.pem", SERVER.cert[:80]),
    "ca": ("garbage", b"", SERVER.key, BROKEN_CERT, NOT_BASE64, [CA.pem, "garbage"], "/etc/ssl/certs"),
    "crl": ("garbage", b"", SERVER.key, BROKEN_CRL, CRL[:80]),
}


@pytest.mark.parametrize(("name", "value"), cases(GARBAGE))
@pytest.mark.parametrize("call", BOTH)
def test_s2_garbage_instead_of_pem_is_refused_by_name(call, name, value):
    refused_option(call, (ssl.SSLError, ValueError), name, value)


@pytest.mark.parametrize("name", ["key_file", "cert_file", "ca_file", "dh_params_file"])
@pytest.mark.parametrize("call", BOTH)
def test_s2_a_file_of_garbage_is_refused_by_name(call, name, tmp_path):
    path = tmp_path / "pem"
    path.write_bytes(b"garbage")
    refused_option(call, (ssl.SSLError, ValueError), name, path)


@pytest.mark.parametrize("passphrase", ["wrong", b"wrong", b""])
@pytest.mark.parametrize("call", BOTH)
def test_s2_a_wrong_passphrase_is_refused_by_name(call, passphrase):
    refused(call, ssl.SSLError, "passphrase", tls={"key": ENCRYPTED_KEY, "cert": SERVER.cert, "passphrase": passphrase})


@pytest.mark.parametrize("call", BOTH)
def test_s2_an_encrypted_key_without_its_passphrase_is_refused_and_the_terminal_not_asked(call):
    refused(call, ValueError, "passphrase", tls={"key": ENCRYPTED_KEY, "cert": SERVER.cert})


@pytest.mark.parametrize("passphrase", [PASSPHRASE * 200, "\ud800"], ids=["too long", "no text"])
@pytest.mark.parametrize("call", BOTH)
def test_s2_a_passphrase_that_no_key_can_have_is_refused_by_name(call, passphrase):
    refused(call, ValueError, "passphrase", tls={"key": ENCRYPTED_KEY, "cert": SERVER.cert, "passphrase": passphrase})


# ---------------------------------------------------------------- files


FILES = ("key_file", "cert_file", "ca_file", "dh_params_file")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("call", BOTH)
def test_s2_a_missing_file_is_file_not_found_that_names_option_and_path(call, name, tmp_path):
    error = refused_option(call, FileNotFoundError, name, tmp_path / "absent")
    assert (error.errno, error.filename) == (errno.ENOENT, str(tmp_path / "absent"))


@pytest.mark.parametrize("name", ["key", "cert", "ca", "crl"])
@pytest.mark.parametrize("call", BOTH)
def test_s2_a_missing_path_in_the_place_of_pem_is_file_not_found(call, name, tmp_path):
    for value in (tmp_path / "absent", [SERVER.cert, tmp_path / "absent"]):
        error = refused_option(call, FileNotFoundError, name, value)
        assert error.filename == str(tmp_path / "absent")


@pytest.mark.parametrize("name", ["key_file", "cert_file", "ca_file"])
@pytest.mark.parametrize("call", BOTH)
def test_s2_a_directory_in_the_place_of_a_file_is_refused_by_name(call, name):
    refused_option(call, IsADirectoryError, name, HERE)


@pytest.mark.parametrize("call", BOTH)
def test_s2_a_keylog_file_that_cannot_be_made_is_refused_by_name(call, tmp_path):
    refused_option(call, FileNotFoundError, "keylog_file", tmp_path / "absent" / "keys")


# ---------------------------------------------------------------- names that OpenSSL does not know


@pytest.mark.parametrize("value", ["NONSENSE", "TLS_NONSENSE", "ECDHE+AESGCM:TLS_NONSENSE"])
@pytest.mark.parametrize("call", BOTH)
def test_s2_unknown_ciphers_are_refused_by_name(call, value):
    if not BORROWED and "TLS_" in value:
        with refused_by_fallback("ciphers"):
            call(socket=QUIET, tls={**SERVER.options, "ciphers": value}, **{**TCP, "port": 1})
    else:
        refused_option(call, ssl.SSLError, "ciphers", value)


@pytest.mark.parametrize("call", BOTH)
def test_s2_an_unknown_curve_is_refused_by_name(call):
    refused_option(call, (ssl.SSLError, ValueError), "ecdh_curve", "nonsense")


@needs_borrowed
@pytest.mark.parametrize("value", ["prime256v1:nonsense", ":"])
@pytest.mark.parametrize("call", BOTH)
def test_s2_one_unknown_curve_among_several_is_refused_by_name(call, value):
    refused_option(call, ssl.SSLError, "ecdh_curve", value)


@needs_borrowed
@pytest.mark.parametrize(
    ("value", "kind"), [(b"", ValueError), (b"garbage", ValueError), ("text", TypeError), (5, TypeError)]
)
def test_s2_bytes_that_are_no_session_are_refused_by_name(value, kind):
    refused(pybuntcp.connect, kind, "session", tls={"session": value})


@on_fallback
@pytest.mark.parametrize(
    ("call", "what", "tls"),
    [
        (pybuntcp.connect, "session", {"session": b"x"}),
        (pybuntcp.connect, "ciphers", {"ciphers": "TLS_AES_128_GCM_SHA256"}),
        (pybuntcp.connect, "ecdh_curve", {"ecdh_curve": "prime256v1:secp384r1"}),
        (pybuntcp.listen, "request_cert", {**SERVER.options, "request_cert": True, "reject_unauthorized": False}),
        (pybuntcp.listen, "sni", {**SERVER.options, "sni": {"a.test": {**SERVER.options, "request_cert": True}}}),
        (pybuntcp.listen, "sni", {**SERVER.options, "request_cert": True, "sni": {"a.test": SERVER.options}}),
    ],
)
def test_s2_what_the_fallback_cannot_do_is_refused_at_the_call(call, what, tls):
    before = descriptors()
    with refused_by_fallback(what):
        call(socket=QUIET, tls=tls, hostname="127.0.0.1", port=0 if call is pybuntcp.listen else 1)
    assert descriptors() == before


# ---------------------------------------------------------------- sni, contexts, names


@pytest.mark.parametrize(
    ("sni", "kind", "names"),
    [
        ([("a.test", SERVER.options)], TypeError, ["sni"]),
        ("a.test", TypeError, ["sni"]),
        ({5: SERVER.options}, TypeError, ["sni"]),
        ({"": SERVER.options}, ValueError, ["sni"]),
        ({"a.test": {}}, ValueError, ["a.test", "key", "cert"]),
        ({"a.test": None}, TypeError, ["sni", "a.test"]),
        ({"a.test": {**SERVER.options, "serverName": "x"}}, TypeError, ["a.test", "serverName", "server_name"]),
        ({"a.test": {**SERVER.options, "sni": {"b.test": SERVER.options}}}, ValueError, ["sni"]),
        ({"a.test": {**SERVER.options, "session": b"x"}}, ValueError, ["session"]),
        ({"a.test": {**SERVER.options, "ca": "garbage"}}, ssl.SSLError, ["ca"]),
        ({"a.test": {"key": CLIENT.key, "cert": SERVER.cert}}, ssl.SSLError, ["key"]),
    ],
)
def test_s2_what_is_wrong_with_a_name_in_sni_is_refused_by_name(sni, kind, names):
    refused(pybuntcp.listen, kind, *names, tls={**SERVER.options, "sni": sni})


def test_s2_a_context_of_clients_is_refused_on_a_server():
    refused(pybuntcp.listen, (TypeError, ValueError, ssl.SSLError), "tls", tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_s2_a_context_of_servers_is_refused_on_a_client():
    refused(pybuntcp.connect, (TypeError, ValueError, ssl.SSLError), "tls", tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


@pytest.mark.parametrize("where", [{"unix": "/nowhere/at/all"}, {"fd": 0}])
@pytest.mark.parametrize("tls", [True, {}, {"ca": CA.pem}, ssl.create_default_context()])
def test_s2_a_client_that_verifies_and_knows_no_name_is_refused(where, tls):
    refused(pybuntcp.connect, ValueError, "server_name", tls=tls, **where)
