"""The peer `pybuntcp-protocol`: pybuntcp's asyncio loop and transports under protocol_echo.py. It owns the choice of the loop and nothing else."""

from __future__ import annotations

from protocol_echo import run

import pybuntcp

if __name__ == "__main__":
    run(pybuntcp.new_event_loop, "Echo on pybuntcp's asyncio transports.")
