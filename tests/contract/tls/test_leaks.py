"""CONTRACT.md, Process (P2), over TLS: what a connection was made of is gone when nobody knows its socket any more."""

from __future__ import annotations

import gc
import ssl
import weakref
from typing import ClassVar

import pytest
from support import Recorder
from support.handlers import Boom, echo, ignore, raising
from support.tls import CA, SERVER, TLSRecorder, finish, joined, meet, speaker, talk

pytestmark = pytest.mark.standalone("objects live as long on every loop")


class Tracked(ssl.SSLObject):
    """The standard library's object of a connection: OpenSSL's lives as long as it."""

    made = 0
    alive: ClassVar[weakref.WeakSet[ssl.SSLObject]] = weakref.WeakSet()

    @classmethod
    def _create(cls, *args, **options):
        one = super()._create(*args, **options)
        Tracked.made += 1
        cls.alive.add(one)
        return one


@pytest.fixture
def contexts(tmp_path):
    """(a server's, a client's)"""
    (tmp_path / "pem").write_bytes(SERVER.key + SERVER.cert)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(tmp_path / "pem")
    client.load_verify_locations(cadata=CA.pem.decode())
    server.sslobject_class = client.sslobject_class = Tracked
    Tracked.made = 0
    return server, client


def ended(loop, tcp, contexts, kind):
    assert talk(loop, tcp, *contexts, server=kind(data=echo)).client.received() == b"ping"


def closed_early(loop, tcp, contexts, kind):
    ends = joined(loop, tcp, *contexts, server=kind(), client=kind())
    finish(loop, ends)


def terminated(loop, tcp, contexts, kind):
    ends = joined(loop, tcp, *contexts, server=kind(), client=kind())
    ends.server.socket.terminate()
    loop.run()


def refused(loop, tcp, contexts, kind):
    contexts[1].verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF  # there is no list: nobody is good enough
    ends = talk(loop, tcp, *contexts, server=kind(), client=kind())
    assert isinstance(ends.error, ssl.SSLCertVerificationError)


def refused_by_a_handler(loop, tcp, contexts, kind):
    ends = talk(loop, tcp, *contexts, server=kind(), client=TLSRecorder(open=raising(Boom()), error=ignore))
    assert ends.client.count("error") == 1


def timed_out(loop, tcp, contexts, kind):
    server = tcp.raw_server()
    server.accept()
    client = kind()
    for _ in range(2):
        connecting = tcp.connect(client, server, tls=contexts[1], handshake_timeout=0.02)
        loop.run()
        assert isinstance(connecting.exception(), TimeoutError)


def cancelled(loop, tcp, contexts, kind):
    ends = meet(tcp, *contexts, server=kind(error=ignore), client=TLSRecorder(handshake=lambda *told: cancel()))
    cancel = ends.connecting.cancel
    loop.run_until(lambda: ends.client.count("close"))
    ends.listener.stop()
    loop.run()


def stopped(loop, tcp, contexts, kind):
    ends = joined(loop, tcp, *contexts, server=kind(), client=kind())
    ends.listener.stop(True)
    ends.server.socket.close()
    loop.run()


@pytest.mark.parametrize("kind", [Recorder, TLSRecorder])
@pytest.mark.parametrize(
    "fate", [ended, closed_early, terminated, refused, refused_by_a_handler, timed_out, cancelled, stopped]
)
def test_p2_a_connection_that_is_over_is_forgotten(loop, tcp, contexts, fate, kind):
    fate(loop, tcp, contexts, kind)
    assert Tracked.made == 2
    tcp.close()
    Recorder.alive.clear()
    gc.collect()
    assert list(Tracked.alive) == []


def test_p2_a_connection_is_forgotten_without_the_collector(loop, tcp, contexts):
    gc.collect()
    gc.disable()
    try:
        talk(loop, tcp, *contexts, server=Recorder(data=echo), client=speaker())
        tcp.close()
        Recorder.alive.clear()
        assert list(Tracked.alive) == []
    finally:
        gc.enable()
