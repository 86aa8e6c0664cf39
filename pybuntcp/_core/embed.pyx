"""embed: the one chapter that knows asyncio.

Owns asyncio's exceptions, taken from it only when one is needed: a program without asyncio
never imports it.
"""


cdef object asyncio_exception(str name):
    """`CancelledError` or `InvalidStateError`, the class."""
    import asyncio

    return getattr(asyncio, name)
