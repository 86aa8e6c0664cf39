"""layers: what does each layer add? The echo of bench_echo.py on bare epoll, on bare libuv, with Cython slots, with a Python handler, with a sink, inside event loops, with `await`; and over TLS.

Same work, one run: the difference between two lines is what stands between them. The row over TLS is that of bench_tls_echo.py.
"""

from __future__ import annotations

from bench_tls_echo import SMALL
from harness.questions import Question, Row

LAYERS = Row("layers", "echo, 100 B, 50 connections, layer by layer", among="layers")
QUESTION = Question(name="layers", about="what each layer of ours adds", rows=(LAYERS, SMALL), quick=(LAYERS,))
