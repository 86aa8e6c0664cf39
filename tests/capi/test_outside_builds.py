"""An outside package builds against the pybuntcp under test, with setuptools and with scikit-build-core, and serves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest
from support import packages
from support.addresses import dialled
from support.programs import Program

HERE = Path(__file__).parent
FOREIGN = re.compile(rb"\buv\.h\b|\buv_\w+|\bopenssl\b|\bSSL_\w+", re.IGNORECASE)

ECHO = """
    import outside.silent, outside.recording
    echo = outside.silent.Echo(last=2)
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=echo.handlers())
    echo.on_last = listener.stop
    say(listener.port)
    pybuntcp.run()
    say(echo.counts)
"""


@pytest.fixture(params=["setuptools", "scikit-build-core"])
def installed(request, tmp_path):
    """Where the package is, built with each of the two."""
    if request.param == "setuptools":
        return request.getfixturevalue("built")[0]
    packages.install(HERE / "outside_cmake", tmp_path / "target", tmp_path, source=HERE / "outside" / "outside")
    return tmp_path / "target"


@pytest.mark.timeout(300)
def test_the_package_serves_an_echo_whichever_way_it_was_built(installed, monkeypatch):
    path = os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    with Program(ECHO) as program:
        port = program.hear()
        for _ in range(2):
            with dialled(port) as client:
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"
        (counts,) = program.finish()
    assert (counts["opens"], counts["received"], counts["closes"], counts["errors"], counts["held"]) == (2, 10, 2, 0, 0)


def test_its_generated_c_mentions_neither_libuv_nor_openssl(built):
    sources = sorted((built[1] / "outside").glob("*.c"))
    assert {source.stem for source in sources} == {source.stem for source in (built[1] / "outside").glob("*.pyx")}
    for source in sources:
        text = source.read_bytes()
        assert (b"socket_" in text) == ("pybuntcp cimport" in source.with_suffix(".pyx").read_text())
        assert set(FOREIGN.findall(text)) == set()


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_its_binaries_need_no_symbol_of_libuv_or_openssl(built):
    binaries = sorted((built[0] / "outside").glob("*.so"))
    assert binaries
    for binary in binaries:
        listed = subprocess.run(["nm", "-D", "--undefined-only", binary], check=True, capture_output=True).stdout
        assert b"Py" in listed
        assert set(FOREIGN.findall(listed)) == set()


def test_it_uses_every_name_that_a_cimport_gives():
    """So that none is left untested."""
    given = (resources.files("pybuntcp") / "__init__.pxd").read_text()
    names = set(re.findall(r"^    (\w+),$", given, re.MULTILINE)) | {"Socket"}
    assert len(names) > 40
    used = "\n".join(path.read_text() for path in (HERE / "outside" / "outside").glob("*.p*"))
    assert {name for name in names if not re.search(rf"\b{name}\b", used)} == set()


def test_every_declared_name_can_be_cimported_from_the_package():
    """`from pybuntcp cimport ...` and `from pybuntcp._core cimport ...` give the same."""
    declared = (resources.files("pybuntcp") / "_core.pxd").read_text().partition("the seam to _tls")[0]
    given = (resources.files("pybuntcp") / "__init__.pxd").read_text()
    functions = re.findall(r"^cdef [\w ]*?\*?(\w+)\(", declared, re.MULTILINE)
    types = [*re.findall(r"^ctypedef [\w*]+ \(\*(\w+)\)", declared, re.MULTILINE), "socket_t", "slots_t"]
    constants = re.findall(r"^    (S\w+) = -?\d", declared, re.MULTILINE)
    assert min(len(functions), len(types), len(constants)) > 5
    assert {name for name in functions + types + constants if f"    {name},\n" not in given} == set()
