"""asyncio's transports on pybuntcp's sockets: any asyncio program, unchanged.

    asyncio.run(main(), loop_factory=pybuntcp.new_event_loop)

See docs/asyncio.md. A program that does not use it does not load it.
"""

from .loop import EventLoop

__all__ = ["EventLoop"]
