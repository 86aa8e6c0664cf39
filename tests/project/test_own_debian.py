"""`.ci/debian`: which Debian it makes, from where, when, and what it says if it cannot. Nothing is made or mounted.

Its PATH has the tools that it is made of and imitations of those that change a machine, which log how they are called.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.script_machine import ScriptMachine

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "dirname", "flock", "head", "install", "mkdir", "rm", "sed", "sort", "tail", "touch")
INDEXES = """\
Debian-Security|http://a.example/debian-security/
Debian Backports|http://a.example/debian/
Nodesource|http://b.example/node/
Debian|http://c.example/debian/
Debian|http://c.example/debian/"""
DEBOOTSTRAP = 'for word; do case $word in /*) mkdir -p "$word/etc/apt/apt.conf.d" ;; esac; done'
FAILS = "echo 'E: no such suite'; exit 1"

pytestmark = [
    pytest.mark.skipif(not (ROOT / ".ci").exists(), reason=".ci is not here"),
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason="the script needs flock"),
]


class Machine(ScriptMachine):
    """A checkout with nothing but the script, and what it calls that would change the machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, TOOLS, ROOT, [".ci/debian"])
        self.add("apt-get", f"case $1 in indextargets) echo '{INDEXES}' ;; esac")
        self.add("debootstrap", DEBOOTSTRAP)
        self.add("unshare", 'shift 3; case $1 in debootstrap) "$@" ;; esac')
        self.add("chroot")

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        return self.started(".ci/debian", *words, **environment)

    def refusal(self, *words: str, **environment: str) -> str:
        done = self.run(*words, **environment)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr.splitlines()[-1].partition(": ")[2]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_it_is_made_of_debians_own_archive_in_mounts_of_its_own(machine: Machine) -> None:
    root = machine.checkout / "build" / "debian" / "bookworm"
    assert machine.run("bookworm", "--where").stdout == f"{root}\n"
    made = f"debootstrap --variant=minbase bookworm {root} http://c.example/debian/"
    assert machine.calls("debootstrap") == [made]
    assert machine.calls("unshare") == [f"unshare --mount --propagation private {made}"]
    *_, installed = machine.calls("chroot")
    assert installed.endswith(" apt-get install -qq -y --no-install-recommends python3")


def test_it_is_made_once(machine: Machine) -> None:
    machine.run("bookworm", "--where")
    assert machine.run("bookworm", "true").returncode == 0
    assert machine.calls("debootstrap") == []
    assert len(machine.calls("unshare")) == 1
    assert machine.log.read_text().endswith(f" {machine.checkout} true\n")


def test_one_that_could_not_be_made_says_why_and_is_made_again(machine: Machine) -> None:
    machine.add("debootstrap", FAILS)
    done = machine.run("sid", "true")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        "E: no such suite",
        f"{machine.checkout}/.ci/debian: Debian sid could not be set up",
    ]
    machine.add("debootstrap", DEBOOTSTRAP)
    assert machine.run("sid", "true").returncode == 0
    assert len(machine.calls("debootstrap")) == 1


def test_one_whose_packages_cannot_be_had_is_not_taken_for_made(machine: Machine) -> None:
    machine.add("chroot", 'case "$*" in *" install "*) exit 100 ;; esac')
    assert machine.refusal("sid", "true") == "Debian sid could not be set up"
    assert machine.refusal("sid", "true") == "Debian sid could not be set up"


def test_what_a_command_returns_is_what_it_returns(machine: Machine) -> None:
    machine.run("bookworm", "--where")
    machine.add("unshare", "exit 7")
    assert machine.run("bookworm", "false").returncode == 7


def test_without_a_debootstrap_that_can_be_installed_it_says_so(machine: Machine) -> None:
    (machine.bin / "debootstrap").unlink()
    machine.add("apt-get", "exit 100")
    assert machine.refusal("sid", "true") == "debootstrap is missing: apt-get install debootstrap"


def test_it_says_what_it_cannot_do(machine: Machine) -> None:
    assert machine.refusal("buzz", "true") == "no kind buzz"
    assert machine.refusal("sid").startswith("usage: ")
    assert machine.refusal("sid", "true", PYBUNTCP_DEBIAN="here") == "PYBUNTCP_DEBIAN must be an absolute path"
    machine.add("id", "echo 1000")
    assert machine.refusal("sid", "true") == "chroot is for root"
