"""errors: errors that name the option they are about.

Owns how an error of `ssl`, of the system or of a check gets the name of an option, and keeps its type.
Imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator


@contextlib.contextmanager
def naming_option(option: str) -> Iterator[None]:
    """An error inside the block gets the option's name."""
    try:
        yield
    except ssl.SSLError as error:
        raise with_option_name(error, option) from None
    except OSError as error:
        raise type(error)(error.errno, f"{error.strerror} ({option})", error.filename) from None
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{option}: {error}") from None


def with_option_name(error: ssl.SSLError, option: str) -> ssl.SSLError:
    """A copy. Some errors have no `library`, no `reason` and no number."""
    number = error.errno if error.errno is not None else ssl.SSL_ERROR_SSL
    message = error.strerror or (error.args[-1] if error.args else error)
    named = type(error)(number, f"{option}: {message}")
    for name in ("library", "reason"):
        setattr(named, name, getattr(error, name, None))
    return named
