"""An ASGI application that uvicorn serves: echoes, a stream, a WebSocket, and what the loop says of itself."""

import asyncio
import json

import pybuntcp

BLOCK = b"0123456789abcdef" * 4096


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await web_socket(receive, send)
    else:
        await PAGES[scope["path"]](receive, send)


async def lifespan(receive, send):
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def web_socket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "leave":
            await send({"type": "websocket.close", "code": 4001})
            return
        await send({"type": "websocket.send", **{kind: message.get(kind) for kind in ("text", "bytes")}})


async def begin(send, **headers):
    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": named})


async def loop(receive, send):
    """The class of the loop, and what our sockets did."""
    await begin(send)
    kind = type(asyncio.get_running_loop())
    facts = {"loop": f"{kind.__module__}.{kind.__name__}", **pybuntcp.stats()}
    await send({"type": "http.response.body", "body": json.dumps(facts).encode()})


async def echo(receive, send):
    """As it comes."""
    await begin(send)
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": True})
    await send({"type": "http.response.body"})


async def stream(receive, send):
    """16 MiB."""
    await begin(send)
    for _ in range(256):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    await send({"type": "http.response.body"})


async def patient(receive, send):
    """Begins, and ends half a second later."""
    await begin(send)
    await send({"type": "http.response.body", "body": b"at ", "more_body": True})
    await asyncio.sleep(0.5)
    await send({"type": "http.response.body", "body": b"last"})


async def disconnect(receive, send):
    """Says on stdout that its client has left."""
    await begin(send)
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    print("client has left", flush=True)


PAGES = {"/loop": loop, "/echo": echo, "/stream": stream, "/patient": patient, "/disconnect": disconnect}
