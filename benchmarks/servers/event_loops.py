"""The asyncio event loops a server of this folder can be put on, by name. It owns the names and knows no server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

EVENT_LOOPS = ("native", "uvloop", "asyncio", "aiofastnet", "aiofastnet-uvloop", "rloop")  # `native` is pybuntcp's own


def factory_of(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop of that name; only its own module is imported."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    if name == "native":
        import pybuntcp

        return pybuntcp.new_event_loop
    if name == "rloop":
        import rloop

        return rloop.new_event_loop
    if name.startswith("aiofastnet"):
        import aiofastnet

        return aiofastnet.loop_factory(factory_of(name.removeprefix("aiofastnet").removeprefix("-")))
    return asyncio.SelectorEventLoop
