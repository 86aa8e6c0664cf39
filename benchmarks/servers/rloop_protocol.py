"""The peer `rloop`: rloop's loop, written in Rust, under protocol_echo.py. It owns the choice of the loop and nothing else."""

from __future__ import annotations

import rloop
from protocol_echo import run

if __name__ == "__main__":
    run(rloop.new_event_loop, "Echo on rloop.")
