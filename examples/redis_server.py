"""A small Redis: enough of the server for redis-cli, redis-benchmark and client libraries.

    python examples/redis_server.py --port 6380      then:  redis-cli -p 6380

Three parts, each usable without the others:
RequestParser   bytes in, requests out; RESP arrays and inline commands, cut anywhere
the commands    functions from a session and arguments to the bytes of a reply
RedisServer     the handlers that join the two to a socket, with backpressure

Promises replies as Redis 7.0 words them, errors included, for the commands in COMMANDS (of the
options of SET: EX, PX, NX and XX); that a client which does not read its replies is not served
further until it does; and work in proportion to the bytes received, however they are cut. Keeps
everything in memory; an expired key goes when it is next asked for. Does not know RESP3,
persistence or passwords.
"""

from __future__ import annotations

import argparse
import fnmatch
import re
import time
from collections.abc import Callable, Iterable, Sequence

import pybuntcp

VERSION = "7.0.0"
LONGEST_LINE = 64 * 1024
LONGEST_VALUE = 512 * 1024 * 1024
LARGEST_COUNT = 2**31 - 1
DATABASES = 16
CONFIG = {b"appendonly": b"no", b"databases": b"16", b"maxmemory": b"0", b"save": b"", b"timeout": b"0"}

Arguments = list[bytes]


# --- requests ------------------------------------------------------------------------------------


class ProtocolError(Exception):
    """What came cannot be a request; nothing after it can be understood."""


class RequestParser:
    """Cuts a stream of bytes into requests. `feed` what arrives, then call `next` until None.

    A request that is not complete is kept as far as it was understood, and not looked at again.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # what is before it was understood
        self._searched = 0  # what is before it holds no end of line
        self._missing = 0  # arguments still to come of the request under way
        self._length = -1  # bytes of the argument under way; -1: not known yet
        self._arguments: Arguments = []

    def feed(self, chunk: bytes) -> None:
        del self._buffer[: self._at]
        self._searched = max(self._searched - self._at, 0)
        self._at = 0
        self._buffer += chunk

    def next(self) -> Arguments | None:
        """The next request; None until more is fed. Raises ProtocolError."""
        while self._at < len(self._buffer):
            if not self._missing and not self._start():
                return None
            while self._missing:
                argument = self._argument()
                if argument is None:
                    return None
                self._arguments.append(argument)
                self._missing -= 1
            if self._arguments:  # an empty request is no request
                arguments, self._arguments = self._arguments, []
                return arguments
        return None

    def _start(self) -> bool:
        """Read the first line of a request: the count of an array, or all of an inline command."""
        if self._buffer[self._at] != ord("*"):
            line = self._line(b"\n", "too big inline request")
            if line is not None:
                self._arguments = split_inline(line.removesuffix(b"\r"))
            return line is not None
        line = self._line(b"\r\n", "too big mbulk count string")
        if line is None:
            return False
        count = integer_of(line[1:])
        if count is None or count > LARGEST_COUNT:
            raise ProtocolError("invalid multibulk length")
        self._missing = max(count, 0)
        return True

    def _argument(self) -> bytes | None:
        """Read one argument, a line `$3` and three bytes on a line of their own; None until it is complete."""
        if self._length < 0:
            line = self._line(b"\r\n", "too big bulk count string")
            if line is None:
                return None
            self._length = argument_length(line)
        end = self._at + self._length
        if len(self._buffer) < end + 2:
            return None
        argument = bytes(self._buffer[self._at : end])
        self._at = end + 2
        self._length = -1
        return argument

    def _line(self, newline: bytes, too_long: str) -> bytes | None:
        """The line at hand without its end; None until it is complete."""
        end = self._buffer.find(newline, max(self._at, self._searched))
        if end >= 0:
            line = bytes(self._buffer[self._at : end])
            self._at = end + len(newline)
            return line
        self._searched = len(self._buffer) - 1  # its last byte may be half an end
        if len(self._buffer) - self._at > LONGEST_LINE:
            raise ProtocolError(too_long)
        return None


STRICT_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


def integer_of(text: bytes) -> int | None:
    """A signed 64-bit number as Redis reads it: no spaces, no plus sign, no leading zeros."""
    if not STRICT_INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def argument_length(line: bytes) -> int:
    """The length in `$3`."""
    if line[:1] != b"$":
        found = line[:1] or b"\r"
        raise ProtocolError(f"expected '$', got '{printable(found)}'")
    length = integer_of(line[1:])
    if length is None or not 0 <= length <= LONGEST_VALUE:
        raise ProtocolError("invalid bulk length")
    return length


INLINE_WORD = re.compile(
    rb"""\s* (?=\S) (?P<plain> [^\s"']* )
         (?: " (?P<double> (?: \\. | [^"\\] )* ) "
           | ' (?P<single> (?: \\' | \\(?!') | [^'\\] )* ) ' )?
         (?=\s|\Z)""",
    re.VERBOSE | re.DOTALL,
)
ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split_inline(line: bytes) -> Arguments:
    """The words of an inline command, as typed into telnet; quotes keep spaces together."""
    words = []
    line = line.strip()
    at = 0
    while at < len(line):
        word = INLINE_WORD.match(line, at)
        if word is None:
            raise ProtocolError("unbalanced quotes in request")
        words.append(unquoted(word))
        at = word.end()
    return words


def unquoted(word: re.Match[bytes]) -> bytes:
    """The word itself: what stands before the quotes, and what stands in them."""
    if word["double"] is not None:
        return word["plain"] + ESCAPE.sub(unescaped, word["double"])
    if word["single"] is not None:
        return word["plain"] + word["single"].replace(b"\\'", b"'")
    return word["plain"]


def unescaped(escape: re.Match[bytes]) -> bytes:
    if escape[1] is not None:
        return bytes.fromhex(escape[1].decode())
    return ESCAPED.get(escape[2], escape[2])


# --- replies -------------------------------------------------------------------------------------

OK = b"+OK\r\n"
NIL = b"$-1\r\n"


def simple(text: str) -> bytes:
    return b"+%b\r\n" % text.encode()


def number(value: int) -> bytes:
    return b":%d\r\n" % value


def bulk(value: bytes | None) -> bytes:
    return NIL if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def array(replies: Sequence[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(replies), b"".join(replies))


def failure(message: str) -> bytes:
    """An error; a reply's line cannot hold a newline, and bytes that are no UTF-8 pass unchanged."""
    line = message.encode("utf-8", "surrogateescape").replace(b"\r", b" ").replace(b"\n", b" ")
    return b"-%b\r\n" % line


def printable(text: bytes) -> str:
    """For the words of an error; `failure` turns it back into the same bytes."""
    return text.decode("utf-8", "surrogateescape")


# --- data ----------------------------------------------------------------------------------------


class CommandError(Exception):
    """What the client is told: a code and a text, as `ERR syntax error`."""


class Database:
    """Keys, values, and when some of them expire. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._expiry: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> bytes | None:
        if self._expiry:
            self._expire(key)
        return self._values.get(key)

    def set(self, key: bytes, value: bytes) -> None:
        """A new value; when the key expires does not change."""
        self._values[key] = value

    def delete(self, key: bytes) -> bool:
        existed = self.get(key) is not None
        self._values.pop(key, None)
        self._expiry.pop(key, None)
        return existed

    def clear(self) -> None:
        self._values.clear()
        self._expiry.clear()

    def expire_in(self, key: bytes, seconds: float | None) -> None:
        """None: never."""
        if seconds is None:
            self._expiry.pop(key, None)
        else:
            self._expiry[key] = time.monotonic() + seconds

    def time_to_live(self, key: bytes) -> float | None:
        """Seconds; None for a key that stays."""
        at = self._expiry.get(key)
        return None if at is None else max(at - time.monotonic(), 0.0)

    def _expire(self, key: bytes) -> None:
        at = self._expiry.get(key)
        if at is not None and at <= time.monotonic():
            del self._values[key], self._expiry[key]


class Server:
    """What all sessions share."""

    def __init__(self) -> None:
        self.databases = [Database() for _ in range(DATABASES)]
        self.sessions = 0


class Session:
    """One connection; its `socket.data`."""

    def __init__(self, server: Server) -> None:
        server.sessions += 1
        self.id = server.sessions
        self.server = server
        self.database = server.databases[0]
        self.name = b""
        self.parser = RequestParser()
        self.unsent = memoryview(b"")  # the rest of a reply that the socket did not take
        self.ending = False  # after QUIT or a protocol error nothing more is heard


# --- commands: strings ---------------------------------------------------------------------------


def get(session: Session, arguments: Arguments) -> bytes:
    return bulk(session.database.get(arguments[0]))


def set_(session: Session, arguments: Arguments) -> bytes:
    key, value, *words = arguments
    condition, seconds = set_options(words)
    database = session.database
    if condition is not None and (database.get(key) is not None) != (condition == b"XX"):
        return NIL
    database.set(key, value)
    database.expire_in(key, seconds)
    return OK


def set_options(words: Arguments) -> tuple[bytes | None, float | None]:
    """NX or XX, and the seconds of EX or PX."""
    condition: bytes | None = None
    unit: bytes | None = None
    amount = b""
    left = [*reversed(words)]
    while left:
        word = left.pop().upper()
        if word in (b"NX", b"XX") and condition in (None, word):
            condition = word
        elif word in (b"EX", b"PX") and unit in (None, word) and left:
            unit, amount = word, left.pop()
        else:
            raise CommandError("ERR syntax error")
    return condition, None if unit is None else expiry_seconds(unit, amount)


def expiry_seconds(unit: bytes, amount: bytes) -> float:
    count = whole_number(amount)
    milliseconds = count * 1000 if unit == b"EX" else count
    if count <= 0 or milliseconds >= 2**63 - time.time() * 1000:
        raise CommandError("ERR invalid expire time in 'set' command")
    return milliseconds / 1000


def mget(session: Session, arguments: Arguments) -> bytes:
    return array([bulk(session.database.get(key)) for key in arguments])


def mset(session: Session, arguments: Arguments) -> bytes:
    if len(arguments) % 2:
        raise wrong_number(b"mset")
    for key, value in zip(arguments[::2], arguments[1::2], strict=True):
        session.database.set(key, value)
        session.database.expire_in(key, None)
    return OK


def incr(session: Session, arguments: Arguments) -> bytes:
    return add(session.database, arguments[0], 1)


def decr(session: Session, arguments: Arguments) -> bytes:
    return add(session.database, arguments[0], -1)


def incrby(session: Session, arguments: Arguments) -> bytes:
    return add(session.database, arguments[0], whole_number(arguments[1]))


def decrby(session: Session, arguments: Arguments) -> bytes:
    amount = whole_number(arguments[1])
    if amount == -(2**63):
        raise CommandError("ERR decrement would overflow")
    return add(session.database, arguments[0], -amount)


def add(database: Database, key: bytes, amount: int) -> bytes:
    value = database.get(key)
    total = (0 if value is None else whole_number(value)) + amount
    if not -(2**63) <= total < 2**63:
        raise CommandError("ERR increment or decrement would overflow")
    database.set(key, b"%d" % total)
    return number(total)


def whole_number(text: bytes) -> int:
    value = integer_of(text)
    if value is None:
        raise CommandError("ERR value is not an integer or out of range")
    return value


# --- commands: keys ------------------------------------------------------------------------------


def delete(session: Session, arguments: Arguments) -> bytes:
    return number(sum(session.database.delete(key) for key in arguments))


def exists(session: Session, arguments: Arguments) -> bytes:
    return number(sum(session.database.get(key) is not None for key in arguments))


def ttl(session: Session, arguments: Arguments) -> bytes:
    return time_left(session.database, arguments[0], 1)


def pttl(session: Session, arguments: Arguments) -> bytes:
    return time_left(session.database, arguments[0], 1000)


def time_left(database: Database, key: bytes, per_second: int) -> bytes:
    if database.get(key) is None:
        return number(-2)
    seconds = database.time_to_live(key)
    return number(-1 if seconds is None else round(seconds * per_second))


def dbsize(session: Session, arguments: Arguments) -> bytes:
    return number(len(session.database))


def flushdb(session: Session, arguments: Arguments) -> bytes:
    return flush([session.database], arguments)


def flushall(session: Session, arguments: Arguments) -> bytes:
    return flush(session.server.databases, arguments)


def flush(databases: Iterable[Database], words: Arguments) -> bytes:
    if len(words) > 1 or any(word.upper() not in (b"SYNC", b"ASYNC") for word in words):
        raise CommandError("ERR syntax error")
    for database in databases:
        database.clear()
    return OK


# --- commands: the connection --------------------------------------------------------------------


def ping(session: Session, arguments: Arguments) -> bytes:
    if len(arguments) > 1:
        raise wrong_number(b"ping")
    return bulk(arguments[0]) if arguments else simple("PONG")


def echo(session: Session, arguments: Arguments) -> bytes:
    return bulk(arguments[0])


def quit_(session: Session, arguments: Arguments) -> bytes:
    session.ending = True
    return OK


def select(session: Session, arguments: Arguments) -> bytes:
    index = whole_number(arguments[0])
    if not 0 <= index < DATABASES:
        raise CommandError("ERR DB index is out of range")
    session.database = session.server.databases[index]
    return OK


def hello(session: Session, arguments: Arguments) -> bytes:
    """RESP2 is what we speak; a client that asks for more is told so and goes on with it."""
    if arguments:
        wanted = integer_of(arguments[0])
        if wanted is None:
            raise CommandError("ERR Protocol version is not an integer or out of range")
        if wanted != 2:
            raise CommandError("NOPROTO unsupported protocol version")
    if len(arguments) > 1:
        raise CommandError(f"ERR Syntax error in HELLO option '{printable(arguments[1])}'")
    facts = {"server": "redis", "version": VERSION, "proto": 2, "id": session.id, "mode": "standalone"}
    facts["role"] = "master"
    replies = []
    for name, fact in facts.items():
        replies += [bulk(name.encode()), number(fact) if isinstance(fact, int) else bulk(str(fact).encode())]
    return array([*replies, bulk(b"modules"), array([])])


def client_id(session: Session, arguments: Arguments) -> bytes:
    return number(session.id)


def client_getname(session: Session, arguments: Arguments) -> bytes:
    return bulk(session.name or None)


def client_setname(session: Session, arguments: Arguments) -> bytes:
    if not all(33 <= byte <= 126 for byte in arguments[0]):
        raise CommandError("ERR Client names cannot contain spaces, newlines or special characters.")
    session.name = arguments[0]
    return OK


# --- commands: the server ------------------------------------------------------------------------


def config_get(session: Session, arguments: Arguments) -> bytes:
    patterns = [pattern.lower() for pattern in arguments]
    found = [name for name in CONFIG if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    return array([bulk(part) for name in found for part in (name, CONFIG[name])])


def info(session: Session, arguments: Arguments) -> bytes:
    lines = ["# Server", f"redis_version:{VERSION}", "redis_mode:standalone", "", "# Keyspace"]
    for index, database in enumerate(session.server.databases):
        if len(database):
            lines.append(f"db{index}:keys={len(database)}")
    return bulk("".join(line + "\r\n" for line in lines).encode())


def command(session: Session, arguments: Arguments) -> bytes:
    """Name and arity of each; flags and key positions are not told."""
    rows = [(name, arity) for name, (arity, _) in COMMANDS.items()]
    return array([array([bulk(name.lower()), number(arity)]) for name, arity in rows])


def command_count(session: Session, arguments: Arguments) -> bytes:
    return number(len(COMMANDS))


def command_docs(session: Session, arguments: Arguments) -> bytes:
    return array([])


Command = Callable[[Session, Arguments], bytes]

# Name: arity and function. The arity counts the name; a negative one means "or more", as in Redis.
COMMANDS: dict[bytes, tuple[int, Command]] = {
    b"GET": (2, get),
    b"SET": (-3, set_),
    b"MGET": (-2, mget),
    b"MSET": (-3, mset),
    b"INCR": (2, incr),
    b"DECR": (2, decr),
    b"INCRBY": (3, incrby),
    b"DECRBY": (3, decrby),
    b"DEL": (-2, delete),
    b"EXISTS": (-2, exists),
    b"TTL": (2, ttl),
    b"PTTL": (2, pttl),
    b"DBSIZE": (1, dbsize),
    b"FLUSHDB": (-1, flushdb),
    b"FLUSHALL": (-1, flushall),
    b"PING": (-1, ping),
    b"ECHO": (2, echo),
    b"QUIT": (-1, quit_),
    b"SELECT": (2, select),
    b"HELLO": (-1, hello),
    b"INFO": (-1, info),
    b"COMMAND": (-1, command),
}
# Those whose second word says what is meant; CLIENT and CONFIG mean nothing without it.
SUBCOMMANDS: dict[bytes, dict[bytes, tuple[int, Command]]] = {
    b"CLIENT": {b"ID": (2, client_id), b"GETNAME": (2, client_getname), b"SETNAME": (3, client_setname)},
    b"COMMAND": {b"COUNT": (2, command_count), b"DOCS": (-2, command_docs)},
    b"CONFIG": {b"GET": (-3, config_get)},
}


def execute(session: Session, request: Arguments) -> bytes:
    """The reply to a request; an error is a reply too."""
    try:
        function, arguments = look_up(request)
        return function(session, arguments)
    except CommandError as error:
        return failure(str(error))


def look_up(request: Arguments) -> tuple[Command, Arguments]:
    """The function for a request and what it is to be given; raises CommandError."""
    name = request[0].upper()
    if name in SUBCOMMANDS and len(request) > 1:
        return look_up_subcommand(name, request)
    if name in COMMANDS:
        arity, function = COMMANDS[name]
        check_arity(arity, request, request[0])
        return function, request[1:]
    raise wrong_number(name) if name in SUBCOMMANDS else unknown_command(request)


def look_up_subcommand(name: bytes, request: Arguments) -> tuple[Command, Arguments]:
    row = SUBCOMMANDS[name].get(request[1].upper())
    if row is None:
        raise CommandError(f"ERR unknown subcommand '{printable(request[1][:128])}'. Try {printable(name)} HELP.")
    arity, function = row
    check_arity(arity, request, name + b"|" + request[1])
    return function, request[2:]


def check_arity(arity: int, request: Arguments, name: bytes) -> None:
    if len(request) != arity if arity > 0 else len(request) < -arity:
        raise wrong_number(name)


def wrong_number(name: bytes) -> CommandError:
    return CommandError(f"ERR wrong number of arguments for '{printable(name.lower())}' command")


def unknown_command(request: Arguments) -> CommandError:
    """With the arguments' first 128 bytes or so, as Redis cuts them."""
    shown = b""
    for argument in request[1:]:
        if len(shown) >= 128:
            break
        shown += b"'%b' " % argument[: 128 - len(shown)]
    name = printable(request[0][:128])
    return CommandError(f"ERR unknown command '{name}', with args beginning with: {printable(shown)}")


# --- the server ----------------------------------------------------------------------------------


class RedisServer:
    """The handlers. All replies to one chunk leave together: writes inside a handler are gathered."""

    def __init__(self) -> None:
        self.server = Server()

    def open(self, socket: pybuntcp.Socket[Session]) -> None:
        socket.data = Session(self.server)

    def data(self, socket: pybuntcp.Socket[Session], chunk: bytes) -> None:
        session = socket.data
        if not session.ending:
            session.parser.feed(chunk)
            serve(socket)

    def drain(self, socket: pybuntcp.Socket[Session]) -> None:
        """The client took its replies: send the rest of the last one, then serve what waits."""
        session = socket.data
        rest, session.unsent = session.unsent, memoryview(b"")
        socket.resume()
        send(socket, rest)
        serve(socket)

    def error(self, socket: pybuntcp.Socket[Session], error: BaseException) -> None:
        """A bug in a command ends that connection; the others are not concerned."""
        print(f"{socket!r}: {error!r}", flush=True)
        socket.terminate()


def serve(socket: pybuntcp.Socket[Session]) -> None:
    """Answer the requests that are complete, for as long as the client takes the answers."""
    session = socket.data
    try:
        while not session.unsent and not session.ending:
            request = session.parser.next()
            if request is None:
                return
            send(socket, execute(session, request))
    except ProtocolError as error:
        session.ending = True
        send(socket, failure(f"ERR Protocol error: {error}"))
    if session.ending and not session.unsent:
        socket.end()


def send(socket: pybuntcp.Socket[Session], reply: bytes | memoryview) -> None:
    """Write; what is not taken is kept without a copy, and nothing more is read until it is."""
    taken = max(socket.write(reply), 0)
    if taken < len(reply):
        socket.data.unsent = memoryview(reply)[taken:]
        socket.pause()


def main() -> None:
    """Listen, say where, serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A small Redis server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6380, help="0 lets the system choose")
    options = parser.parse_args()
    with pybuntcp.listen(socket=RedisServer(), hostname=options.host, port=options.port) as listener:
        print(f"listening on {listener.hostname}:{listener.port}", flush=True)
        pybuntcp.run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
