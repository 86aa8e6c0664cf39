"""tests/peers/install.sh: what it installs, what it says in its one line, and that it never fails.

Its PATH has the tools that it is made of and what a test puts there: imitations of apt-get, npm and id, which log how they
are called. The script is a copy in a folder of the test's, so what it would install for this checkout is not touched.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.script_machine import ScriptMachine

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "cat", "chmod", "dirname", "grep", "mkdir", "mktemp", "rm", "sed", "timeout")
PROGRAMS = ("redis-server", "redis-benchmark", "postgres", "nginx", "haproxy", "wrk", "openssl", "valgrind", "node")
PACKAGES = (
    "redis-server, redis-tools, postgresql, nginx-light, libnginx-mod-stream, haproxy, wrk, openssl, valgrind, nodejs"
)

if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
    pytest.skip(f"the script needs {', '.join(missing)}", allow_module_level=True)

APT = """
for word; do
  case $word in
    redis-tools) program=redis-benchmark ;; nginx-light) program=nginx ;; nodejs) program=node ;;
    postgresql) program=postgres ;; *) program=$word ;;
  esac
  case $program in libnginx-mod-stream) : >"$NGINX_MODULES/ngx_stream_module.so" ;; esac
  case $program in redis-server|redis-benchmark|postgres|nginx|haproxy|wrk|openssl|valgrind|node)
    printf '#!/bin/sh\\n' >"$BIN/$program"; chmod +x "$BIN/$program" ;;
  esac
done"""
APT_WITHOUT_WRK = f"""
case " $* " in *" wrk "*) echo "E: Unable to locate package wrk"; exit 100 ;; esac{APT}"""
APT_OFFLINE = "echo 'W: some index'; echo 'E: no network'; exit 100"
NPM = """
for word; do version=${word#bun@}; done
mkdir -p build/peers/node_modules/bun
echo "\\"version\\": \\"$version\\"" >build/peers/node_modules/bun/package.json"""


class Machine(ScriptMachine):
    """A checkout with nothing but the script that installs, and what it reads."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, TOOLS, ROOT, ["tests/peers/install.sh", "tests/peers/package.json"])

    def add(self, name: str, script: str = "", folder: Path | None = None) -> None:
        """nginx comes with its module."""
        if name == "nginx":
            (self.bin / "ngx_stream_module.so").touch()
        super().add(name, script, folder)

    def install(self, **environment: str) -> str:
        """What the script prints: one line."""
        folders = {"NGINX_MODULES": str(self.bin), "POSTGRESQL": str(self.bin)}
        done = self.started("tests/peers/install.sh", **folders, **environment)
        assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
        return done.stdout.removesuffix("\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_if_nothing_is_missing_no_installer_is_called(machine: Machine) -> None:
    for name in (*PROGRAMS, "apt-get", "npm"):
        machine.add(name)
    assert machine.install(BUN="/of/the/user") == "peers: none is missing"
    assert machine.calls("apt-get") == machine.calls("npm") == []


def test_all_packages_are_installed_at_once_and_bun_by_npm(machine: Machine) -> None:
    machine.add("apt-get", APT)
    machine.add("npm", NPM)
    assert machine.install() == f"peers: installed: {PACKAGES}, bun"
    update, install = machine.calls("apt-get")
    assert update.endswith(" update")
    assert install.endswith(f" --no-install-recommends {PACKAGES.replace(',', '')}")
    assert machine.install() == "peers: none is missing"
    assert len(machine.calls("apt-get")) == 2


def test_what_is_there_is_not_installed_again(machine: Machine) -> None:
    for name in set(PROGRAMS) - {"wrk"}:
        machine.add(name)
    machine.add("apt-get", APT)
    assert machine.install(BUN="") == "peers: installed: wrk"
    assert machine.calls("apt-get")[1].endswith(" --no-install-recommends wrk")


def test_the_switch_forbids_both_installers(machine: Machine) -> None:
    machine.add("apt-get", APT)
    machine.add("npm", NPM)
    assert machine.install(PYBUNTCP_INSTALL="no") == f"peers: missing: {PACKAGES}, bun (PYBUNTCP_INSTALL=no)"
    assert machine.calls("apt-get") == machine.calls("npm") == []


def test_without_root_apt_get_is_not_called_and_bun_is_still_installed(machine: Machine) -> None:
    machine.add("apt-get", APT)
    machine.add("npm", NPM)
    machine.add("id", "echo 1000")
    assert machine.install() == f"peers: installed: bun; missing: {PACKAGES} (apt-get needs root)"
    assert machine.calls("apt-get") == []


def test_without_any_installer_the_line_says_so(machine: Machine) -> None:
    assert machine.install() == f"peers: missing: {PACKAGES}, bun (no apt-get; bun: no npm)"


def test_a_package_that_cannot_be_had_keeps_none_of_the_others_away(machine: Machine) -> None:
    machine.add("apt-get", APT_WITHOUT_WRK)
    others = PACKAGES.replace("wrk, ", "")
    said = machine.install(BUN="")
    assert said == f"peers: installed: {others}; missing: wrk (wrk: Unable to locate package wrk)"


def test_installers_that_fail_are_no_failure(machine: Machine) -> None:
    for name in set(PROGRAMS) - {"node"}:
        machine.add(name)
    machine.add("apt-get", APT_OFFLINE)
    machine.add("npm", "exit 1")
    assert machine.install() == "peers: missing: nodejs, bun (nodejs: no network; bun: npm cannot install it)"


def test_a_package_without_its_program_is_told_as_missing(machine: Machine) -> None:
    for name in set(PROGRAMS) - {"node"}:
        machine.add(name)
    machine.add("apt-get")
    assert machine.install(BUN="") == "peers: missing: nodejs (its program is not in PATH)"


def test_a_server_in_the_sbin_beside_a_bin_of_path_is_found(machine: Machine) -> None:
    sbin = machine.bin.with_name("sbin")
    sbin.mkdir()
    for name in PROGRAMS:
        machine.add(name, folder=sbin if name in ("nginx", "haproxy") else None)
    assert machine.install(BUN="") == "peers: none is missing"


def test_a_postgresql_in_debians_folder_is_found(machine: Machine) -> None:
    folder = machine.bin / "15" / "bin"
    folder.mkdir(parents=True)
    for name in PROGRAMS:
        machine.add(name, folder=folder if name == "postgres" else None)
    assert machine.install(BUN="") == "peers: none is missing"


def test_another_version_of_bun_is_replaced(machine: Machine) -> None:
    for name in PROGRAMS:
        machine.add(name)
    machine.add("npm", NPM)
    machine.add("bun", "echo 0.1.0")
    assert machine.install() == "peers: installed: bun"
    assert machine.install() == "peers: none is missing"
    assert len(machine.calls("npm")) == 1
