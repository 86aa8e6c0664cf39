"""asyncio's transports on pybuntcp's sockets: any asyncio program, unchanged.

    asyncio.run(main(), loop_factory=pybuntcp.new_event_loop)

In another loop, the standard library's or uvloop's, either call the functions listed here in place of asyncio's, or call
`install()`, after which everything in that loop uses them.

See docs/asyncio.md. A program that does not use this package does not load it.
"""

from .functions import (
    connect_accepted_socket,
    create_connection,
    create_server,
    create_unix_connection,
    create_unix_server,
    open_connection,
    open_unix_connection,
    sendfile,
    start_server,
    start_tls,
    start_unix_server,
)
from .installing import Installed, install, is_installed, uninstall
from .loop import EventLoop

__all__ = [
    "EventLoop",
    "Installed",
    "connect_accepted_socket",
    "create_connection",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "install",
    "is_installed",
    "open_connection",
    "open_unix_connection",
    "sendfile",
    "start_server",
    "start_tls",
    "start_unix_server",
    "uninstall",
]
