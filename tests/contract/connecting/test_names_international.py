"""API.md, hostname, server_name, sni: one rule for names, whatever is done with them; and the final dot of a name."""

from __future__ import annotations

import json
import ssl
import sys

import pytest
from support import Recorder
from support.handlers import echo, ignore
from support.tls import CA, CLIENT_TLS, SERVER_TLS, TLSRecorder, hang_up, needs_borrowed, talk, trusting

import pybuntcp

standalone = pytest.mark.standalone("what a name is does not depend on the loop")

NAMES = [
    ("straße.good.test", "xn--strae-oqa.good.test"),
    ("b\u00fccher.good.test", "xn--bcher-kva.good.test"),
    ("bu\u0308cher.good.test", "xn--bcher-kva.good.test"),  # NFD
    ("B\u00dcCHER.Good.Test", "xn--bcher-kva.Good.Test"),
    ("bücher\u3002good\uff0etest", "xn--bcher-kva.good.test"),
    ("ｂooks.good.test", "books.good.test"),
    ("παράδειγμας.good.test", "xn--hxajbheg2az3als.good.test"),
    ("xn--bcher-kva.good.test", "xn--bcher-kva.good.test"),
    ("Plain.good.test", "Plain.good.test"),
]
LOOKED_UP_ONLY = [
    ("_tcp.bücher.good.test", "_tcp.xn--bcher-kva.good.test"),
    ("Plain_Name.good.test", "Plain_Name.good.test"),
]
IMPOSSIBLE = [
    "ü..test",
    ".ü",
    "☃☃.test",
    "a\u2100b.test",
    "…ü",
    "\u0301a.test",
    "ü" * 64 + ".test",
    "\ud800.test",
    "\u00ad.test",
]
names = pytest.mark.parametrize(("name", "encoded"), NAMES)
impossible = pytest.mark.parametrize("name", IMPOSSIBLE)


def calls(name):
    """Everything that takes a name, and by what option."""
    where = {"hostname": "127.0.0.1", "port": 9, "socket": {"data": ignore}}
    return {
        "hostname": lambda: pybuntcp.connect(**{**where, "hostname": name}),
        "hostname ": lambda: pybuntcp.listen(**{**where, "hostname": name}),
        "server_name": lambda: pybuntcp.connect(**where, tls={**CLIENT_TLS, "server_name": name}),
        "sni": lambda: pybuntcp.listen(**where, tls={**SERVER_TLS, "sni": {name: SERVER_TLS}}),
    }


# ---------------------------------------------------------------- looked up


def test_a_name_is_looked_up_by_its_a_label(program_that_hangs):
    """By `connect`, with a final dot, too, and by `listen`."""
    with program_that_hangs(
        """
        loop = LOOPS["standalone"]()
        with raw_tcp("127.0.0.1") as server:
            for name in json.loads(sys.argv[1]):
                for each in (name, name + "."):
                    connect_well(loop, server, each)
                    say(asked().lower())
                with pybuntcp.listen(hostname=name, port=0, socket=QUIET):
                    say(asked().lower())
            loop.close()
        """,
        json.dumps([name for name, _ in NAMES + LOOKED_UP_ONLY]),
    ) as program:
        answers = program.finish()
    assert answers == [encoded.lower() + dot for _, encoded in NAMES + LOOKED_UP_ONLY for dot in ("", ".", "")]


# ---------------------------------------------------------------- asked for, and checked


@standalone
@names
@pytest.mark.parametrize("final", ["", "."])
def test_the_name_asked_for_is_the_one_that_is_checked(loop, tcp, tmp_path, name, encoded, final):
    """With a final dot, too, which is for the lookup alone."""
    seen = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity = CA.issue(encoded.lower())
    (tmp_path / "identity.pem").write_bytes(identity.key + identity.cert)
    context.load_cert_chain(tmp_path / "identity.pem")
    context.sni_callback = lambda connection, name, context: seen.append(name)
    ends = talk(loop, tcp, context, {**CLIENT_TLS, "server_name": name + final})
    assert ends.error is None
    assert [each.lower() for each in seen] == [encoded.lower()]
    assert ends.client.socket.get_servername() == seen[0]


@pytest.mark.parametrize("tls", ["CLIENT_TLS", "trusting()"])
@pytest.mark.parametrize("engine", ["borrowed", "stdlib"])
def test_a_hostname_is_looked_up_asked_for_and_checked_as_one_name(program_that_hangs, monkeypatch, tls, engine):
    monkeypatch.setenv("PYBUNTCP_TLS_ENGINE", engine)
    with program_that_hangs(
        f"""
        from support.tls import CA, CLIENT_TLS, trusting

        def told(*args):
            listener.stop()
            return [str(each) for each in args]

        for name, encoded in json.loads(sys.argv[1]):
            served = []
            listener = pybuntcp.listen(
                hostname="127.0.0.1",
                port=0,
                tls={{**CA.issue("localhost").options, "sni": {{name: CA.issue(encoded.lower()).options}}}},
                socket={{"data": lambda socket, chunk: served.append(socket.get_servername()), "close": told}},
            )
            pybuntcp.connect(hostname=name + ".", port=listener.port, tls={tls}, socket={{
                "data": ignore,
                "open": lambda socket: socket.end(b"x"),
                "connect_error": lambda _, error: served.extend(told(error)),
            }})
            pybuntcp.run()
            say([asked(), *served])
        """,
        json.dumps(NAMES),
    ) as program:
        found = [[each.lower() for each in told] for told in program.finish()]
    assert found == [[encoded.lower() + ".", encoded.lower()] for _, encoded in NAMES]


@standalone
@names
@pytest.mark.parametrize("asked", [0, 1])
def test_a_key_of_sni_is_chosen_by_the_name_that_clients_ask_for(loop, tcp, name, encoded, asked):
    server = {**SERVER_TLS, "sni": {name: CA.issue(encoded.lower()).options}}
    ends = talk(loop, tcp, server, {**CLIENT_TLS, "server_name": (name, encoded)[asked]})
    assert ends.error is None


@standalone
def test_a_key_of_sni_may_be_a_wildcard_of_an_international_name(loop, tcp):
    server = {**SERVER_TLS, "sni": {"*.BÜCHER.test": CA.issue("*.xn--bcher-kva.test").options}}
    assert talk(loop, tcp, server, {**CLIENT_TLS, "server_name": "neue.bücher.test"}).error is None


@standalone
@needs_borrowed
@names
@pytest.mark.parametrize("final", ["", "."])
def test_set_servername_takes_names_as_the_options_do(loop, tcp, name, encoded, final):
    server = Recorder(data=echo)
    client = TLSRecorder(open=lambda socket: socket.set_servername(name + final) and socket.write(b"x"), data=hang_up)
    ends = talk(loop, tcp, CA.issue(encoded.lower()).options, server=server, client=client)
    assert ends.error is None
    assert client.socket.get_servername().lower() == server.socket.get_servername().lower() == encoded.lower()


@standalone
@pytest.mark.parametrize("name", ["localhost.", "LOCALHOST."])
def test_the_final_dot_of_the_hostname_is_for_the_lookup_only(loop, tcp, name):
    server = Recorder(data=echo)
    ends = talk(loop, tcp, server=server, hostname=name)
    assert ends.error is None
    assert ends.client.socket.get_servername() == server.socket.get_servername() == name[:-1]


# ---------------------------------------------------------------- refused


@standalone
@impossible
@pytest.mark.parametrize("option", calls(""))
def test_what_can_be_no_name_is_refused_at_the_call_by_the_options_name(loop, option, name):
    with pytest.raises(ValueError, match=option.strip()):
        calls(name)[option]()


@standalone
@pytest.mark.parametrize("option", calls(""))
def test_without_the_package_idna_a_name_that_is_not_ascii_is_refused(loop, monkeypatch, option):
    monkeypatch.setitem(sys.modules, "idna", None)
    with pytest.raises(ValueError, match=option.strip()) as caught:
        calls("bücher.test")[option]()
    assert "pybuntcp[idna]" in str(caught.value)


@standalone
@needs_borrowed
def test_set_servername_refuses_by_its_argument_s_name(loop, tcp, monkeypatch):
    refused = []

    def opened(socket):
        for name in (*IMPOSSIBLE, "a..b", "."):
            with pytest.raises(ValueError, match="name"):
                socket.set_servername(name)
            refused.append(name)
        monkeypatch.setitem(sys.modules, "idna", None)
        with pytest.raises(ValueError, match=r"name.*pybuntcp\[idna\]"):
            socket.set_servername("ü.test")
        socket.write(b"x")

    ends = talk(loop, tcp, client=TLSRecorder(open=opened, data=hang_up))
    assert ends.error is None
    assert len(refused) == len(IMPOSSIBLE) + 2


@standalone
def test_without_the_package_idna_ascii_is_as_good_as_ever(loop, tcp, monkeypatch):
    monkeypatch.setitem(sys.modules, "idna", None)
    certificate = CA.issue("xn--bcher-kva.test")
    assert talk(loop, tcp, certificate.options, {**CLIENT_TLS, "server_name": "xn--bcher-kva.test"}).error is None


# ---------------------------------------------------------------- how names are compared


@standalone
@needs_borrowed
@pytest.mark.parametrize("counts", [True, False])
def test_s9_set_servername_leaves_it_to_the_users_context_whether_a_common_name_counts(loop, tcp, counts):
    context = trusting()
    context.hostname_checks_common_name = counts
    identity = CA.issue("who@example.test", common_name="common.test")  # without a name of a host
    client = TLSRecorder(open=lambda socket: socket.set_servername("common.test") and socket.write(b"x"), data=hang_up)
    ends = talk(loop, tcp, identity.options, context, client=client)
    if counts:
        assert ends.error is None
    else:
        assert isinstance(ends.error, ssl.SSLCertVerificationError)
        assert ends.error.verify_code == 62
