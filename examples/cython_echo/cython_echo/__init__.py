"""An echo server in Cython: `cython_echo.handlers()` for your own listener, `python -m cython_echo` for one that runs."""

from .slots import handlers

__all__ = ["handlers"]
