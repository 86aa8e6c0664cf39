"""The peer `asyncio`: the standard library's selector loop under protocol_echo.py. It owns the choice of the loop and nothing else."""

from __future__ import annotations

import asyncio

from protocol_echo import run

if __name__ == "__main__":
    run(asyncio.SelectorEventLoop, "Echo on asyncio.")
