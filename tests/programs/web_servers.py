"""Programs that serve HTTP, as processes of their own: uvicorn and aiohttp, which tell where they serve in the same words."""

from __future__ import annotations

import os
import re
from pathlib import Path

from support.programs import Dialogue


def serving(*command: str | Path, cwd: Path | None = None) -> Dialogue:
    """The program when it serves, with its port if it has one, and whether it speaks TLS. `stop` ends it with SIGTERM."""
    program = Dialogue(*command, cwd=cwd, env=dict(os.environ))
    try:
        told = program.hear("(Press CTRL+C to quit)").result()
    except BaseException:
        program.stop()
        raise
    where = re.search(r"(https?)://[\w.]+:(\d+)", told)
    if where:
        program.tls, program.port = where[1] == "https", int(where[2])
    return program
