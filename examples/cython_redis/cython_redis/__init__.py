"""A small Redis in Cython: `python -m cython_redis`, or `pybuntcp.listen(socket=cython_redis.handlers(), ...)`."""

from __future__ import annotations

import pybuntcp

from ._server import Server

__all__ = ["Server", "handlers"]


def handlers() -> pybuntcp.Handlers:
    """For a listener with keys and values of its own; `Server` is for several that share them."""
    return Server().handlers()
