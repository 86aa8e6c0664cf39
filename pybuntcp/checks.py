"""checks: one value of an option, checked and brought into the shape that the core takes.

Owns the checks of values: whole numbers in a range, booleans, text, seconds, paths of unix sockets, owners of files.
Promises a TypeError or ValueError that begins with the option's name. "For ever" becomes infinity.
Knows no option by itself and imports nothing of this package, so every other module may use it.
"""

from __future__ import annotations

import math
import operator
import os
from typing import Any

FOREVER = math.inf


def integer(option: str, value: Any, minimum: int, maximum: int) -> int:
    """A whole number in a range. A bool is none: it is a slip for another option."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{option} must be an integer, not {type(value).__name__!r}") from None
    if not minimum <= number <= maximum:
        raise ValueError(f"{option} must be in {minimum}..{maximum}, not {number}")
    return number


def boolean(option: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{option} must be a bool, not {type(value).__name__!r}")
    return value


def text(option: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{option} must be a str, not {type(value).__name__!r}")
    if value is not None and (not value or "\0" in value):
        raise ValueError(f"{option} must not be empty and have no NUL character, not {value!r}")
    return value


def seconds(option: str, value: Any) -> float:
    """Seconds as a float; None means for ever."""
    if value is None:
        return FOREVER
    if isinstance(value, (str, bytes, bool)):
        raise TypeError(f"{option} must be a number of seconds or None, not {type(value).__name__!r}")
    try:
        number = float(value)
    except TypeError:
        raise TypeError(f"{option} must be a number of seconds or None, not {type(value).__name__!r}") from None
    except OverflowError:  # an integer that no float is as large as
        number = FOREVER if value > 0 else -1.0
    if not number >= 0:
        raise ValueError(f"{option} must not be negative or NaN, not {value!r}")
    return number


def positive_seconds(option: str, value: Any) -> float:
    """As `seconds`, but 0 is refused."""
    number = seconds(option, value)
    if number == 0:
        raise ValueError(f"{option} must be more than 0 seconds, or None for ever")
    return number


def keep_alive_seconds(value: Any) -> int | None:
    """Seconds idle before the first probe, rounded up because the kernel counts whole ones."""
    if value is None:
        return None
    number = seconds("keep_alive", value)
    if not 0 < number <= 32767:
        raise ValueError(f"keep_alive must be more than 0 and at most 32767 seconds, not {value!r}")
    return math.ceil(number)


def unix_path(value: Any) -> str:
    """A socket file's path, or an abstract name (leading NUL, Linux)."""
    if isinstance(value, (bytes, os.PathLike)):
        value = os.fsdecode(value)
    if not isinstance(value, str):
        raise TypeError(f"unix must be a str or path, not {type(value).__name__!r}")
    if not value.rstrip("\0"):
        raise ValueError("unix must not be empty")
    if "\0" in value and not value.startswith("\0"):
        raise ValueError("unix: a path must not contain a NUL character")
    return value


# ---------------------------------------------------------------------------- owners of files

NO_ID = -1  # to chown(2): leave it as it is


def owner_ids(value: Any) -> tuple[int, int]:
    """A user and a group as chown(2) takes them, of "user", "user:group", ":group", a uid, or a pair of them."""
    if isinstance(value, str):
        user, colon, group = value.partition(":")
        if (not user and not group) or (colon and not group):
            raise ValueError(f'owner must be "user", "user:group" or ":group", not {value!r}')
        pair: tuple[Any, Any] = (user or None, group or None)
    elif isinstance(value, (tuple, list)):
        if len(value) != 2 or value[0] is value[1] is None:
            raise ValueError(f"owner must be a pair of a user and a group, not {value!r}")
        pair = (value[0], value[1])
    else:
        pair = (value, None)
    return one_id("user", pair[0]), one_id("group", pair[1])


def one_id(kind: str, value: Any) -> int:
    """A number, or the number of a name that the system knows; None: NO_ID."""
    if value is None:
        return NO_ID
    if not isinstance(value, str):
        return integer("owner", value, 0, 2**32 - 2)
    import grp
    import pwd

    try:
        return pwd.getpwnam(value).pw_uid if kind == "user" else grp.getgrnam(value).gr_gid
    except KeyError:
        if value.isascii() and value.isdigit():
            return integer("owner", int(value), 0, 2**32 - 2)
        raise ValueError(f"owner: there is no {kind} {value!r}") from None
