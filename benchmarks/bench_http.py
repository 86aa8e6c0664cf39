"""http: what does a tiny HTTP request cost? `GET /` by wrk, 50 connections, 13 bytes of plain text back.

The generator is not ours. The servers that everybody has here answer each blank line, and understand nothing: the price of the socket layer under an HTTP server. Those that speak all of
HTTP (nginx, bun-http, node-http, and pybuntcp-http, the example of this project in Python) are another kind; the report sets each beside its like.
"""

from __future__ import annotations

from harness.names import HTTP_EXAMPLE, OURS, SPEAK_HTTP
from harness.questions import Question, Row

BESIDE = ((OURS, "uvloop"), (OURS, "bun"), *((HTTP_EXAMPLE, peer) for peer in SPEAK_HTTP))
GET = Row("http", "GET / by wrk, 50 connections", "http", unit="request", beside=BESIDE)
QUESTION = Question(name="http", about="a tiny HTTP reply, asked by wrk", rows=(GET,), quick=(GET,))
