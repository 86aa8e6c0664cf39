"""STARTTLS on both sides: a small mail server that takes mail over TLS alone, and a client that delivers some.

    python examples/starttls.py serve --port 2525 --cert cert.pem --key key.pem
    echo hello | python examples/starttls.py send --port 2525 --ca cert.pem

Owns the upgrade in the middle of a conversation (RFC 3207): both sides begin in plain text and go on with
`upgrade_tls`. Promises what the RFC asks for: whatever was said before the handshake is forgotten, and nothing
that came in plain text is taken for something that came over TLS. Lines and messages have a limit, slow clients a
time. Keeps no mail, it prints it; delivers to everybody, and knows no other extension of SMTP.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pybuntcp

LINE_LIMIT = 1000  # RFC 5321, 4.5.3.1
MAIL_LIMIT = 1 << 20
RECIPIENT_LIMIT = 100
PATIENCE = 60.0


# --- the server: callbacks -----------------------------------------------------------------------


class Session:
    """One client: received bytes that are not a whole line yet, and the mail under way."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.recipients: list[str] = []
        self.mail: bytearray | None = None  # not None: the next lines are the text of a mail


class Mail:
    """What the plain and the secured half of a conversation have in common: lines in, replies out."""

    def data(self, socket: pybuntcp.Socket[Session], chunk: bytes) -> None:
        session = socket.data
        session.buffer += chunk
        while (end := session.buffer.find(b"\n")) >= 0:
            line = bytes(session.buffer[:end]).rstrip(b"\r")
            del session.buffer[: end + 1]
            if not self.line(socket, session, line):
                return
        if len(session.buffer) > LINE_LIMIT:
            self.dismiss(socket, "500 line too long")

    def line(self, socket: pybuntcp.Socket[Session], session: Session, line: bytes) -> bool:
        """A command, answered. False: this half has nothing more to read."""
        verb = line[:4].decode("ascii", "replace").lower()
        if verb == "quit":
            return self.dismiss(socket, "221 bye")
        answer: Callable[[Session, str], str] | None = getattr(self, f"on_{verb}", None)
        return self.reply(socket, answer(session, line.decode("utf-8", "replace")) if answer else "502 unknown command")

    def on_noop(self, session: Session, line: str) -> str:
        return "250 ok"

    def reply(self, socket: pybuntcp.Socket[Session], words: str) -> bool:
        """False: the client asks and does not read, and has to go."""
        if socket.write(words + "\r\n") == len(words) + 2:
            return True
        socket.terminate()
        return False

    def dismiss(self, socket: pybuntcp.Socket[Session], words: str) -> bool:
        """Last words. After `close` there is no more `data`."""
        socket.write(words + "\r\n")
        socket.close()
        return False

    def timeout(self, socket: pybuntcp.Socket[Session]) -> None:
        self.dismiss(socket, "421 too slow")


class Plain(Mail):
    """Before the handshake: nothing but the way to it."""

    def __init__(self, tls: Mapping[str, Any]) -> None:
        self.tls = tls

    def open(self, socket: pybuntcp.Socket[Session]) -> None:
        socket.data = Session()
        socket.write("220 example ESMTP\r\n")

    def line(self, socket: pybuntcp.Socket[Session], session: Session, line: bytes) -> bool:
        """Bytes behind STARTTLS in the buffer came in plain text, perhaps from an attacker between us and the client.

        They are given to the handshake, which fails if they are anything else, and never to `Secured`.
        """
        if line.strip().upper() != b"STARTTLS":
            return super().line(socket, session, line)
        socket.write("220 go ahead\r\n")
        behind = bytes(session.buffer)
        socket.upgrade_tls(tls=self.tls, socket=Secured(), data=Session(), server=True, initial_data=behind)
        return False

    def on_ehlo(self, session: Session, line: str) -> str:
        return "250-example\r\n250 STARTTLS"

    def on_mail(self, session: Session, line: str) -> str:
        return "530 must issue a STARTTLS command first"

    on_rcpt = on_data = on_mail


class Secured(Mail):
    """After the handshake: mail is taken."""

    def handshake(self, socket: pybuntcp.Socket[Session], success: bool, error: OSError | None) -> None:
        """Print what was agreed on, or why not. A failure is followed by `close`."""
        print("TLS:", socket.get_tls_version() if success else error, flush=True)

    def line(self, socket: pybuntcp.Socket[Session], session: Session, line: bytes) -> bool:
        """A command, or a line of the mail under way."""
        if session.mail is None:
            return super().line(socket, session, line)
        if line == b".":
            print(f"mail for {', '.join(session.recipients)}:\n{session.mail.decode('utf-8', 'replace')}", flush=True)
            session.mail, session.recipients = None, []
            return self.reply(socket, "250 taken")
        session.mail += line.removeprefix(b".") + b"\n"
        return len(session.mail) <= MAIL_LIMIT or self.dismiss(socket, "552 too much mail")

    def on_ehlo(self, session: Session, line: str) -> str:
        return "250 example"

    def on_mail(self, session: Session, line: str) -> str:
        session.recipients = []
        return "250 ok"

    def on_rcpt(self, session: Session, line: str) -> str:
        if len(session.recipients) == RECIPIENT_LIMIT:
            return "452 too many recipients"
        session.recipients.append(line.partition(":")[2].strip())
        return "250 ok"

    def on_data(self, session: Session, line: str) -> str:
        if not session.recipients:
            return "503 no recipients"
        session.mail = bytearray()
        return "354 end with a line that has nothing but a dot"


def serve(hostname: str, port: int, cert: Path, key: Path) -> None:
    tls = {"cert": cert, "key": key}
    with pybuntcp.listen(socket=Plain(tls), hostname=hostname, port=port, idle_timeout=PATIENCE) as listener:
        print("listening on", f"{listener.hostname}:{listener.port}", flush=True)
        pybuntcp.run()


# --- the client: await ---------------------------------------------------------------------------


class Refused(Exception):
    """What the server answers instead of what was expected."""


class Client:
    """A conversation: a command, its reply, the next."""

    def __init__(self, socket: pybuntcp.Socket[None]) -> None:
        self.socket = socket
        self.reader = socket.reader()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exception: Any) -> None:
        """End the connection and wait until it is closed: what was sent still arrives."""
        await self.socket.__aexit__(*exception)

    async def reply(self, expected: int) -> str:
        """The text of the next reply, its lines joined."""
        lines: list[str] = []
        while True:
            line = (await self.reader.readline()).decode().rstrip("\r\n")
            lines.append(line[4:])
            if not line.startswith(str(expected)):
                raise Refused(line or "the server has gone")
            if line[3:4] != "-":
                return "\n".join(lines)

    async def command(self, words: str, expected: int) -> str:
        self.socket.sink().write(words + "\r\n")  # a sink takes it whole, however long the mail
        return await self.reply(expected)

    async def secure(self, tls: Mapping[str, Any]) -> None:
        """Go on over TLS; the server's certificate must be good.

        The new socket's reader raises what goes wrong in the handshake, so no handler has to be there for it.
        """
        await self.command("STARTTLS", 220)
        self.socket = self.socket.upgrade_tls(tls=tls, socket={"data": lambda socket, chunk: None})
        self.reader = self.socket.reader()


async def send(hostname: str, port: int, ca: Path, recipient: str, text: str) -> str:
    """Deliver a mail; what the server says of it. OSError, ssl.SSLError among them, or Refused."""
    socket = await pybuntcp.connect(hostname=hostname, port=port, timeout=PATIENCE, idle_timeout=PATIENCE)
    async with Client(socket) as client:
        await client.reply(220)
        if "STARTTLS" not in await client.command("EHLO client.example", 250):
            raise Refused("the server has no STARTTLS")  # or an attacker between us has cut it out
        await client.secure({"ca": ca, "server_name": hostname})
        await client.command("EHLO client.example", 250)
        print("TLS:", client.socket.get_tls_version(), "with", hostname, flush=True)
        await client.command("MAIL FROM:<client@client.example>", 250)
        await client.command(f"RCPT TO:<{recipient}>", 250)
        await client.command("DATA", 354)
        lines = [f".{line}" if line.startswith(".") else line for line in text.splitlines()]
        taken = await client.command("\r\n".join([*lines, "."]), 250)
        await client.command("QUIT", 221)
        return taken


def main() -> None:
    parser = argparse.ArgumentParser(description="Mail over STARTTLS.")
    parser.add_argument("what", choices=["serve", "send"])
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=2525, help="0 lets the system choose")
    parser.add_argument("--cert", type=Path, default=Path("cert.pem"), help="serve: the certificate, PEM")
    parser.add_argument("--key", type=Path, default=Path("key.pem"), help="serve: its private key, PEM")
    parser.add_argument("--ca", type=Path, default=Path("cert.pem"), help="send: whom to trust, PEM")
    parser.add_argument("--to", default="somebody@example", help="send: the recipient; the text is standard input")
    options = parser.parse_args()
    if options.what == "serve":
        serve(options.host, options.port, options.cert, options.key)
        return
    try:
        print(asyncio.run(send(options.host, options.port, options.ca, options.to, sys.stdin.read())))
    except (OSError, Refused) as error:
        sys.exit(f"not delivered: {error}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
