"""Our client against `openssl s_server` with small records, behind a slow link: its tickets come in pieces."""

from __future__ import annotations

import contextlib
import socket as stdlib
import threading

import pytest
from support import TIMEOUT, Recorder
from support.programs import HOST
from support.tls import CLIENT, CLIENT_TLS

DATA = 23  # a record of this type is the first that a client seals


class SlowLink:
    """Between a client and a server: what the server sends behind the handshake passes one record at a `step()`."""

    def __init__(self, port):
        self._listener = stdlib.create_server((HOST, 0))
        self.sock = self._listener
        self._steps, self._passed = threading.Semaphore(0), threading.Semaphore(0)
        self._agreed, self._open = threading.Event(), False
        self._ends = [stdlib.create_connection((HOST, port), TIMEOUT)]
        self._threads = [threading.Thread(target=self._up)]
        self._threads[0].start()

    def step(self):
        self._steps.release()
        assert self._passed.acquire(timeout=TIMEOUT)

    def open(self):
        self._open = True
        self._steps.release()

    def _up(self):
        self._listener.settimeout(TIMEOUT)
        self._ends.append(self._listener.accept()[0])
        self._threads.append(threading.Thread(target=self._down))
        self._threads[1].start()
        with contextlib.suppress(OSError):
            while record := read_record(self._ends[1]):
                if record[0] == DATA:
                    self._agreed.set()
                self._ends[0].sendall(record)
            self._ends[0].shutdown(stdlib.SHUT_WR)

    def _down(self):
        with contextlib.suppress(OSError):
            while record := read_record(self._ends[0]):
                stepping = self._agreed.is_set() and not self._open
                if stepping:
                    assert self._steps.acquire(timeout=TIMEOUT)
                self._ends[1].sendall(record)
                if stepping:
                    self._passed.release()
            self._ends[1].shutdown(stdlib.SHUT_WR)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.open()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(stdlib.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT)
        for end in (*self._ends, self._listener):
            end.close()


def read_record(sock):
    header = read(sock, 5)
    return header + read(sock, int.from_bytes(header[3:], "big")) if header else b""


def read(sock, size):
    data = b""
    while len(data) < size and (chunk := sock.recv(size - len(data))):
        data += chunk
    return data


@pytest.mark.parametrize("mutual", [False, True], ids=["alone", "with a client certificate"])
@pytest.mark.parametrize("verb", ["write", "end"])
def test_what_a_client_says_while_half_a_ticket_is_there_is_heard(loop, tcp, s_server, mutual, verb):
    server = s_server(
        "-rev", "-naccept", "1", "-tls1_3", "-max_send_frag", "512", *(["-verify", "1"] if mutual else [])
    )
    recorder = Recorder(data=lambda socket, chunk: socket.end())
    with SlowLink(server.port) as link:
        options = {**CLIENT_TLS, **(CLIENT.options if mutual else {}), "server_name": "localhost"}
        port = link.sock.getsockname()[1]
        tcp.connect(recorder, server, hostname=HOST, port=port, tls=options)
        loop.run_until(lambda: recorder.sockets)
        socket = recorder.socket
        link.step()
        loop.settle()
        getattr(socket, verb)(b"hello\n")
        loop.settle()
        waited = socket.pending
        link.open()
        loop.run()
    assert waited == (6 if mutual else 0)  # with a certificate inside, a ticket takes two records
    assert recorder.received() == b"olleh\n"
    assert recorder.close_error is None
    server.finished().result()
