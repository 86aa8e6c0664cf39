"""The asyncio event loops a server of this folder can be put on, by name. It owns the names and knows no server."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable

MODULES = ("uvloop", "rloop", "zuvloop", "rsloop")  # each has a new_event_loop
INSTALLED = ("installed-asyncio", "installed-uvloop")  # that loop with pybuntcp's transports in place of its own
EVENT_LOOPS = (
    "native",
    "asyncio",
    *MODULES,
    *INSTALLED,
    "aiofastnet",
    "aiofastnet-uvloop",
)  # `native` is pybuntcp's own


def factory_of(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop of that name; only its own module is imported."""
    if name in MODULES:
        make: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(name).new_event_loop
        return make
    if name == "native":
        import pybuntcp

        return pybuntcp.new_event_loop
    if name in INSTALLED:
        return with_ours_installed(factory_of(name.removeprefix("installed-")))
    if name.startswith("aiofastnet"):
        import aiofastnet

        return aiofastnet.loop_factory(factory_of(name.removeprefix("aiofastnet").removeprefix("-")))
    return asyncio.SelectorEventLoop


def with_ours_installed(make: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], asyncio.AbstractEventLoop]:
    """A loop that stays: its own but for the transports."""
    import pybuntcp.aio

    def make_with_ours() -> asyncio.AbstractEventLoop:
        loop = make()
        pybuntcp.aio.install(loop)
        return loop

    return make_with_ours
