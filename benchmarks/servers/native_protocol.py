"""The peer `asyncio-native`: pybuntcp's native loop under protocol_echo.py. It owns the choice of the loop and nothing else."""

from __future__ import annotations

from protocol_echo import run

import pybuntcp

if __name__ == "__main__":
    run(pybuntcp.new_event_loop, "Echo of asyncio's transports on pybuntcp's native loop.")
