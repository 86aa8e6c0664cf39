"""A machine for a shell script of the project: its PATH has the tools that the script is made of, and what a test puts there.

Imitations of programs that would change the machine log how they are called. The script is a copy in a checkout of the test's.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


class ScriptMachine:
    """A PATH, a log of what was called in it, and a checkout with nothing but these files."""

    def __init__(self, folder: Path, tools: Sequence[str], root: Path, files: Sequence[str]) -> None:
        self.bin, self.log, self.checkout = folder / "bin", folder / "log", folder / "checkout"
        self.bin.mkdir()
        self.log.touch()
        for name in files:
            (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, self.checkout / name)
        for tool in tools:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        self.add("id", "echo 0")

    def add(self, name: str, script: str = "", folder: Path | None = None) -> None:
        """A program that logs how it is called, and does what the script says; `$BIN` is the folder of such programs."""
        path = (folder or self.bin) / name
        path.write_text(f'#!{shutil.which("bash")}\necho "{name} $*" >>"{self.log}"\nBIN={self.bin}\n{script}\n')
        path.chmod(0o755)

    def started(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What became of a script of the checkout, in that PATH."""
        script, *words = command
        return subprocess.run(
            [self.checkout / script, *words],
            cwd=self.checkout,
            env={"PATH": str(self.bin), "HOME": str(self.checkout), **environment},
            capture_output=True,
            text=True,
            timeout=30,
        )

    def calls(self, name: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith(f"{name} ")]
