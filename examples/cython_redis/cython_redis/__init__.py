"""A small Redis in Cython: `python -m cython_redis`, or `pybuntcp.listen(socket=cython_redis.handlers(), ...)`."""

from ._server import handlers

__all__ = ["handlers"]
