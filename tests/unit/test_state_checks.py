"""The rules of a connection's state (docs/state.md): a state that cannot be ends the process, and the message names the rule.

No program reaches such a state, so each test here makes one: a program of its own finds the word of flags in the memory of a
socket, by what `unref` changes, and sets one flag more.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import DOCS
from support.marks import linux_only
from support.programs import PATIENCE

from pybuntcp import _core

FLAGS = re.findall(r"^\| `(S_[A-Z_]+)` \|", (DOCS / "state.md").read_text(), re.MULTILINE)  # in the order of their bits

BROKEN = {
    "S_CLOSING": "closing, and not S_ENDED",
    "S_CLOSE_EMITTED": "`close` was called, or waits, and not S_CLOSED",
    "S_FIN_SENT": "a FIN of ours, and not S_ENDED",
    "S_BROKEN": "S_BROKEN, and no error",
    "S_BYTES_LOST": "S_BYTES_LOST, and neither S_BROKEN nor S_CLOSED",
    "S_EOF": "S_EOF, and it is read",
    "S_EOF_DELIVERED": "S_EOF_DELIVERED, and not S_EOF",
    "S_CLOSE_NOTIFY_SENT": "the engine's flags, and not S_TLS",
}

PROGRAM = """
import ctypes, resource, sys
from pybuntcp.testing import pair, run_until_idle

SIZE = 328  # no more than a socket_t has

def words():
    return (ctypes.c_uint32 * (SIZE // 4)).from_address(place)

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
heard = []
ours, theirs = pair({"data": lambda socket, chunk: heard.append(chunk)})
place = ctypes.c_void_p.from_address(id(ours) + object.__basicsize__).value  # the first member of a Socket
before = list(words())
ours.unref()
changed = [at for at, word in enumerate(words()) if word ^ before[at] == 1 << int(sys.argv[1])]
ours.ref()
assert list(words()) == before
assert len(changed) == 1, changed
theirs.write(b"x")
words()[changed[0]] |= int(sys.argv[2])
run_until_idle()
print(heard)
"""


def after(flag: int) -> subprocess.CompletedProcess[str]:
    """The program that has set this flag, and then has received a byte."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(FLAGS.index("S_UNREF")), str(flag)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def has_checks() -> bool:
    return b"this state cannot be" in Path(_core.__file__).read_bytes()


@linux_only
def test_a_connection_whose_flags_were_left_alone_goes_on():
    done = after(0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[b'x']\n", "")


@linux_only
@pytest.mark.skipif(not has_checks(), reason="a release build, which does not check its states")
@pytest.mark.parametrize("flag", BROKEN)
def test_a_state_that_cannot_be_ends_the_process_with_the_rule(flag):
    done = after(1 << FLAGS.index(flag))
    assert done.returncode == -signal.SIGABRT, done
    assert f"pybuntcp: this state cannot be: {BROKEN[flag]} (flags 0x" in done.stderr
