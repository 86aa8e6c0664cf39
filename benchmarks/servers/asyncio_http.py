"""The peers `<loop>-uvicorn`, `<loop>-aiohttp`: uvicorn with httptools and a bare ASGI application, or aiohttp's server, on a loop of choice.

Promises: the protocol of this folder for `uvicorn` and `aiohttp`: 13 bytes of plain text for `GET /`, over TLS with `--tls`. It does not know: which loop it runs on.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from event_loops import EVENT_LOOPS, factory_of
from protocol_echo import BACKLOG, make_parser, serve_with, tls_context

BODY = b"Hello, World!"


async def application(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Plain text, whatever is asked."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


async def serve_uvicorn(arguments: argparse.Namespace) -> None:
    """Until ended, by uvicorn's own handler of SIGTERM."""
    import uvicorn

    class Announced(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            print(f"LISTENING {self.servers[0].sockets[0].getsockname()[1]}", flush=True)

    options = {"lifespan": "off", "access_log": False, "log_level": "warning", "backlog": BACKLOG}
    if arguments.tls is not None:
        folder = Path(arguments.tls)
        options |= {"ssl_certfile": folder / "cert.pem", "ssl_keyfile": folder / "key.pem"}
    config = uvicorn.Config(application, arguments.host, arguments.port, http="httptools", loop="none", **options)
    await Announced(config).serve()


async def serve_aiohttp(arguments: argparse.Namespace) -> None:
    """Until ended."""
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=BODY, content_type="text/plain")

    server = web.Application()
    server.router.add_get("/", answer)
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    context = tls_context(arguments.tls)
    await web.TCPSite(runner, arguments.host, arguments.port, backlog=BACKLOG, ssl_context=context).start()
    print(f"LISTENING {runner.addresses[0][1]}", flush=True)
    await asyncio.get_running_loop().create_future()  # never set


SERVING = {"uvicorn": serve_uvicorn, "aiohttp": serve_aiohttp}


def main() -> None:
    """On the loop that is asked for."""
    parser = make_parser("A tiny HTTP application on asyncio.", modes=tuple(SERVING), tls=True)
    parser.add_argument("--loop", choices=EVENT_LOOPS, default="asyncio")
    arguments = parser.parse_args()
    serve_with(factory_of(arguments.loop), arguments, SERVING[arguments.mode])


if __name__ == "__main__":
    main()
