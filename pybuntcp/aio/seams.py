"""seams: what our event loop overrides of the standard library's, as type checkers should know it.

CPython's guide to extending asyncio names these methods. They differ between versions, and the standard library's types leave
them out. At run time this is `asyncio.SelectorEventLoop` itself.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:

    class StockEventLoop(asyncio.SelectorEventLoop):
        """With the methods that stubs leave out."""

        _selector: Any
        _ready: Any

        def __init__(self, selector: selectors.BaseSelector | None = None) -> None: ...

        def _make_socket_transport(
            self, sock: Any, protocol: Any, waiter: Any = None, *, extra: Any = None, server: Any = None, **more: Any
        ) -> asyncio.Transport: ...

        def _make_ssl_transport(
            self, rawsock: Any, protocol: Any, sslcontext: Any, waiter: Any = None, **more: Any
        ) -> asyncio.Transport: ...

        async def _create_connection_transport(self, sock: Any, *args: Any, **options: Any) -> Any: ...

        def _start_serving(
            self, protocol_factory: Callable[[], Any], sock: Any, sslcontext: Any = None, *args: Any, **more: Any
        ) -> None: ...

        def _stop_serving(self, sock: Any) -> None: ...

        async def _sendfile_native(self, transport: Any, file: IO[bytes], offset: int, count: int | None) -> int: ...

        def _ensure_fd_no_transport(self, fd: Any) -> None: ...

else:
    StockEventLoop = asyncio.SelectorEventLoop
