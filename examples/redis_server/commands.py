"""The commands: functions from a session and arguments to the bytes of a reply, and the tables that name them.

`execute` is the way in. Promises replies as Redis 7.0 words them, errors included, for the commands in
COMMANDS and SUBCOMMANDS (of the options of SET: EX, PX, NX and XX); a command given wrongly is answered,
only a bug raises. Does not know how requests are cut out of the stream, sockets, persistence or passwords.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Iterable

from data import DATABASES, CommandError, Database, Session
from resp import NIL, OK, Arguments, array, bulk, failure, integer_of, number, printable, simple

VERSION = "7.0.0"
CONFIG = {b"appendonly": b"no", b"databases": b"16", b"maxmemory": b"0", b"save": b"", b"timeout": b"0"}


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
    """RESP2 is what we speak; a client that asks for more gets that answer and goes on with it."""
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
    """Name and arity of each; flags and key positions are left out."""
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
