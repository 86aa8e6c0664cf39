"""Old binaries and new cores: a table that was compiled before slots were appended goes on working.

A copy of the source tree, in which `slots_t` has one slot more, is the newer pybuntcp. Each side of the two is loaded
beside the other in a process of its own. Needs the source tree, and what builds it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import packages

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
SOURCE = ("pybuntcp", "vendor", "CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LAST_SLOT = "    connect_error_slot connect_error\n"
APPENDED = LAST_SLOT + "    open_slot later\n"
LOOK = '''

def later_of(Handlers handlers):
    """Whether the slot that was appended is NULL; how large a table is here."""
    return handlers.table.slots.later == NULL, sizeof(slots_t)
'''

ECHO = """
import json, socket, sys, threading
import pybuntcp
from pybuntcp import _core
from outside import silent, tables

echo = silent.Echo(last=2)
handlers = echo.handlers({"error": print})
listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=handlers)
echo.on_last = listener.stop
answers = []

def client():
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", listener.port), 10) as one, one.makefile("rb") as file:
            one.sendall(b"hello" * 1000)
            answers.append(file.read(5000) == b"hello" * 1000)

thread = threading.Thread(target=client)
thread.start()
pybuntcp.run()
thread.join()
print(json.dumps([answers, echo.counts, tables.SIZE, _core.later_of(handlers), _core.__file__]))
"""


@pytest.fixture(scope="module")
def newer_source(tmp_path_factory):
    """The source tree with one slot more."""
    if not (ROOT / "pybuntcp/_core.pyx").exists() or not (ROOT / "vendor/libuv").is_dir():
        pytest.skip("needs the source tree, libuv's in it")
    copy = tmp_path_factory.mktemp("newer-source")
    for name in SOURCE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(ROOT / name, copy / name)
    declarations = copy / "pybuntcp/_core.pxd"
    text = declarations.read_text()
    assert text.count(LAST_SLOT) == 1
    declarations.write_text(text.replace(LAST_SLOT, APPENDED))
    with open(copy / "pybuntcp/_core/objects/handlers.pyx", "a") as chapter:
        chapter.write(LOOK)
    return copy


@pytest.fixture(scope="module")
def newer_core(newer_source, tmp_path_factory):
    """The newer pybuntcp, installed."""
    if shutil.which("ninja") is None and importlib.util.find_spec("ninja") is None:
        pytest.skip("building pybuntcp needs ninja")
    target = tmp_path_factory.mktemp("newer-core")
    packages.install_in_place(newer_source, target, "--config-settings=cmake.define.PYBUNTCP_LTO=OFF")
    return target


@pytest.fixture(scope="module")
def newer_outside(newer_source, tmp_path_factory):
    """The outside package, built against the newer declarations."""
    target, scratch = tmp_path_factory.mktemp("newer-outside"), tmp_path_factory.mktemp("newer-outside-build")
    packages.install(HERE / "outside", target, scratch, declarations=newer_source)
    return target


def run(code, *folders, site):
    """What a process prints that imports from these folders; `site`: from where pybuntcp is installed, too."""
    done = subprocess.run(
        [sys.executable, *([] if site else ["-S"]), "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(str, folders)))},
        cwd=folders[0],  # not where a source tree might be imported from
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_binary_built_before_a_slot_was_appended_serves_beside_the_newer_core(built, newer_core):
    answers, counts, size, (empty, size_there), core = run(ECHO, newer_core, built[0], site=False)
    assert core.startswith(str(newer_core))
    assert answers == [True, True]
    assert (counts["opens"], counts["received"], counts["closes"], counts["errors"]) == (2, 10000, 2, 0)
    assert size < size_there  # it is the older one
    assert empty  # the slot that it does not know of


def test_a_binary_built_with_the_newer_core_serves_beside_it(newer_outside, newer_core):
    answers, counts, size, (empty, size_there), _ = run(ECHO, newer_core, newer_outside, site=False)
    assert answers == [True, True]
    assert counts["closes"] == 2
    assert (size, empty) == (size_there, True)


def test_a_newer_binary_is_refused_by_this_core_when_it_binds_a_table(newer_outside, outside):
    code = """
import json
from outside import tables
told = []
for bind in (tables.bind, tables.bound_then_changed, tables.greeting):
    try:
        bind()
    except ValueError as error:
        told.append(str(error))
print(json.dumps([told, tables.SIZE, tables.ABI]))
"""
    told, size, abi = run(code, newer_outside, os.environ.get("PYTHONPATH", ""), site=True)
    assert (size > outside.tables.SIZE, abi) == (True, outside.tables.ABI)
    assert len(told) == 3
    for message in told:
        assert message == (
            f"slots_t: size {size} is more than this pybuntcp's {outside.tables.SIZE}: "
            "it was built against a newer pybuntcp"
        )
