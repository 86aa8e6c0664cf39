"""The peer `uvloop`: uvloop's loop under protocol_echo.py. It owns the choice of the loop and nothing else."""

from __future__ import annotations

import uvloop
from protocol_echo import run

if __name__ == "__main__":
    run(uvloop.new_event_loop, "Echo on uvloop.")
