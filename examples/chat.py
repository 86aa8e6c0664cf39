"""A chat server with rooms, in which a slow client does not hurt the others.

    python examples/chat.py --port 7001      then, in several terminals:  nc 127.0.0.1 7001

A line is said to your room; `/nick NAME`, `/join ROOM`, `/who` and `/quit` are commands.

Owns the rule for slow clients. What one client may hold in memory is its `high_water_mark`. The
line that does not fit is finished later, lines after it are counted and not sent. A client that
catches up is told how many it missed; one that stays behind longer than `patience` is dropped with
a notice, to itself and to its room. Nobody ever waits for anybody.
"""

from __future__ import annotations

import argparse

import pybuntcp

LONGEST_LINE = 1000
LONGEST_NAME = 20
LOBBY = "lobby"


class Member:
    """What the server knows of one connection; its `socket.data`."""

    def __init__(self, socket: pybuntcp.Socket[Member], name: str) -> None:
        self.socket = socket
        self.name = name
        self.room = LOBBY
        self.line = b""  # received, and not yet ended by a newline
        self.cut = b""  # the rest of the line that did not fit
        self.missed = 0

    @property
    def behind(self) -> bool:
        return bool(self.cut)


class Chat:
    """The handlers, shared by all connections."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.members: dict[str, Member] = {}
        self.guests = 0

    # --- events of a connection

    def open(self, socket: pybuntcp.Socket[Member]) -> None:
        member = socket.data = Member(socket, self._guest_name())
        self.members[member.name] = member
        self.tell(member, f"* you are {member.name}, in {member.room}; /nick NAME /join ROOM /who /quit")
        self.tell_room(member.room, f"* {member.name} came in", without=member)

    def data(self, socket: pybuntcp.Socket[Member], chunk: bytes) -> None:
        member = socket.data
        *lines, member.line = (member.line + chunk).split(b"\n")
        for line in lines:
            if self.is_here(member):
                self.hear(member, line)
        if len(member.line) > LONGEST_LINE:
            member.line = b""
            self.dismiss(member, "was dropped: a line too long")

    def drain(self, socket: pybuntcp.Socket[Member]) -> None:
        """All that was accepted is sent: finish the line that was cut, and own up to the gap."""
        member = socket.data
        missed, member.missed = member.missed, 0
        rest, member.cut = member.cut, b""
        socket.timeout(0)
        socket.write(rest)
        if missed:
            self.tell(member, f"* you were slow and missed {missed} lines")

    def timeout(self, socket: pybuntcp.Socket[Member]) -> None:
        """Still behind, and patience is over."""
        self.dismiss(socket.data, "was dropped: too slow")

    def close(self, socket: pybuntcp.Socket[Member], error: BaseException | None) -> None:
        if socket.data is not None:  # `open` may have been cut short, by Ctrl-C for one
            self.leave(socket.data, "left" if error is None else "was disconnected")

    # --- what a member says

    def hear(self, member: Member, line: bytes) -> None:
        text = printable(line[:LONGEST_LINE])
        if text.startswith("/"):
            command, _, argument = text.partition(" ")
            self.obey(member, command, argument.strip())
        elif text:
            self.tell_room(member.room, f"{member.name}: {text}", without=member)

    def obey(self, member: Member, command: str, argument: str) -> None:
        if command == "/nick":
            self.rename(member, argument)
        elif command == "/join":
            self.move(member, argument)
        elif command == "/who":
            self.tell(member, f"* in {member.room}: {', '.join(self.names_in(member.room))}")
        elif command == "/quit":
            self.dismiss(member, "left")
        else:
            self.tell(member, f"* there is no {command}; there are /nick, /join, /who and /quit")

    def rename(self, member: Member, name: str) -> None:
        if not name.isalnum() or len(name) > LONGEST_NAME:
            self.tell(member, f"* a nickname is 1 to {LONGEST_NAME} letters and digits")
            return
        if name in self.members:
            self.tell(member, f"* {name} is taken")
            return
        self.tell_room(member.room, f"* {member.name} is now {name}")
        self.members[name] = self.members.pop(member.name)
        member.name = name

    def move(self, member: Member, room: str) -> None:
        if not room.isalnum() or len(room) > LONGEST_NAME:
            self.tell(member, f"* a room is 1 to {LONGEST_NAME} letters and digits")
            return
        self.tell_room(member.room, f"* {member.name} went to {room}", without=member)
        member.room = room
        self.tell_room(room, f"* {member.name} came in", without=member)
        self.tell(member, f"* you are in {room}: {', '.join(self.names_in(room))}")

    def dismiss(self, member: Member, how: str) -> None:
        """Say why and end. `end` delivers all it is given, unless that takes longer than `linger_timeout`."""
        if self.is_here(member):
            self.leave(member, how)
            member.socket.timeout(0)
            member.socket.end(member.cut + f"* {member.name} {how}\n".encode())

    def leave(self, member: Member, how: str) -> None:
        """Out of the list and its room told, once, however the connection ends."""
        if self.is_here(member):
            del self.members[member.name]
            self.tell_room(member.room, f"* {member.name} {how}")

    def is_here(self, member: Member) -> bool:
        return self.members.get(member.name) is member

    # --- who hears what

    def tell_room(self, room: str, text: str, without: Member | None = None) -> None:
        for member in self.in_room(room):
            if member is not without:
                self.tell(member, text)

    def tell(self, member: Member, text: str) -> None:
        """Send a line, or as much as fits; the clock of `patience` starts with the first cut."""
        if member.behind:
            member.missed += 1
            return
        line = text.encode() + b"\n"
        taken = member.socket.write(line)
        if 0 <= taken < len(line):
            member.cut = line[taken:]
            member.socket.timeout(self.patience)

    def in_room(self, room: str) -> list[Member]:
        return [member for member in self.members.values() if member.room == room]

    def names_in(self, room: str) -> list[str]:
        return [f"{member.name} (behind)" if member.behind else member.name for member in self.in_room(room)]

    def _guest_name(self) -> str:
        self.guests += 1
        while f"guest{self.guests}" in self.members:
            self.guests += 1
        return f"guest{self.guests}"


def printable(line: bytes) -> str:
    """Its text without control characters: nobody moves the cursor in a neighbour's terminal."""
    text = line.decode("utf-8", "replace")
    return "".join(character for character in text if character.isprintable()).strip()


def main() -> None:
    """Listen, say where, serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A chat server with rooms.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7001, help="0 lets the system choose")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds a client may stay behind")
    options = parser.parse_args()
    with pybuntcp.listen(
        socket=Chat(options.patience),
        hostname=options.host,
        port=options.port,
        high_water_mark=65536,
        linger_timeout=options.patience,
    ) as listener:
        print(f"listening on {listener.hostname}:{listener.port}", flush=True)
        pybuntcp.run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
