"""memory_file: paths by which OpenSSL reads what is in memory.

The `ssl` module takes keys and lists of revoked certificates from files alone. Here bytes get a path while a block
lasts: a memfd under /proc/self/fd, or a pipe under /dev/fd where the system has no memfd.
Promises that `memory_path` writes nothing to a disk. `readable` may, where there is no /proc, so it is for what is no
secret. Knows no PEM and imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO

PIPE_MAX = 65536  # the capacity of a pipe


@contextlib.contextmanager
def memory_path(data: bytes) -> Iterator[str]:
    """A path by which the bytes can be read, in memory and in no file. OSError: the system has no such path."""
    reader, file, path = memory_end()
    try:
        with file:
            if not os.path.exists(path):
                raise OSError(f"memory has no path without /proc ({path} is not there)")
            if not hasattr(os, "memfd_create") and len(data) > PIPE_MAX:
                raise OSError(f"more than {PIPE_MAX} bytes of PEM; give its path")
            file.write(data)
        yield path
    finally:
        os.close(reader)


def memory_end() -> tuple[int, IO[bytes], str]:
    """A descriptor to read from, a file to write to, and the path of the descriptor."""
    if hasattr(os, "memfd_create"):
        reader = os.memfd_create("pybuntcp", os.MFD_CLOEXEC)
        return reader, open(reader, "wb", closefd=False), f"/proc/self/fd/{reader}"
    reader, writer = os.pipe()
    return reader, open(writer, "wb"), f"/dev/fd/{reader}"


@contextlib.contextmanager
def readable(public: bytes) -> Iterator[str]:
    """A path by which bytes that are no secret can be read.

    It is in memory. Without /proc it is a temporary file that only this user may read, removed when the block ends.
    """
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(memory_path(public))
        except OSError as error:
            path = stack.enter_context(temporary_path(public, error))
        yield path


@contextlib.contextmanager
def temporary_path(data: bytes, why: OSError) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="pybuntcp-"))
            file.write(data)
            file.flush()
        except OSError as error:
            raise OSError(f"{why}, and no file can be made in its place: {error}") from None
        yield file.name
