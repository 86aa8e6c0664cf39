"""What docs/asyncio.md shows and cannot run by itself does what it says: uvicorn's command, pytest-asyncio's hook, a Redis client."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys

import pytest
from support import TIMEOUT
from support.documents import DOCS, blocks_of
from support.programs import HOST, PATIENCE
from web_servers import serving

BLOCKS = blocks_of("asyncio.md", (DOCS / "asyncio.md").read_text())
OURS = "pybuntcp.aio.loop.EventLoop"


def shown(part: str, language: str = "python") -> str:
    """The one block that has this part."""
    (block,) = [block.text for block in BLOCKS if block.language == language and part in block.text]
    return block


def answer_of(program):
    client = http.client.HTTPConnection(HOST, program.port, timeout=TIMEOUT)
    try:
        client.request("GET", "/")
        return client.getresponse().read().decode()
    finally:
        client.close()


def test_uvicorns_command_serves_the_application_on_our_loop(tmp_path):
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    (tmp_path / "app.py").write_text(shown("async def app("))
    (command,) = [line for line in shown("uvicorn --loop", "text").splitlines() if line]
    name, *arguments = command.replace("--port 8000", "--port 0").split()
    with serving(sys.executable, "-m", name, *arguments, cwd=tmp_path) as program:
        assert answer_of(program) == f"served by {OURS}\n"


def test_uvicorn_run_takes_the_same_name(tmp_path):
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    (tmp_path / "app.py").write_text(shown("async def app("))
    (call,) = re.findall(r"`(uvicorn\.run\([^`]*\))`", (DOCS / "asyncio.md").read_text())
    source = f"import uvicorn; {call[:-1]}, port=0)"
    with serving(sys.executable, "-c", source, cwd=tmp_path) as program:
        assert answer_of(program) == f"served by {OURS}\n"


RUN_APP = """
import aiohttp.web, asyncio, pybuntcp

async def hello(request):
    loop = type(asyncio.get_running_loop())
    return aiohttp.web.Response(text=f"{{loop.__module__}}.{{loop.__name__}}")

app = aiohttp.web.Application()
app.add_routes([aiohttp.web.get("/", hello)])
{call}
"""


def test_aiohttps_run_app_takes_a_loop_of_ours(tmp_path):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    (call,) = re.findall(r"`(aiohttp\.web\.run_app\([^`]*\))`", (DOCS / "asyncio.md").read_text())
    command = (sys.executable, "-c", RUN_APP.format(call=f"{call[:-1]}, host={HOST!r}, port=0)"))
    with serving(*command, cwd=tmp_path) as program:
        assert answer_of(program) == OURS


def test_pytest_asyncios_hook_has_tests_run_on_our_loop(tmp_path):
    """The test that is shown looks at our counters, and fails on another loop."""
    pytest.importorskip("pytest_asyncio", reason="pytest-asyncio is not installed")
    (tmp_path / "conftest.py").write_text(shown("pytest_asyncio_loop_factories"))
    (tmp_path / "test_shout.py").write_text(shown("@pytest.mark.asyncio"))
    options = ("-W", "error", "-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")
    command = (sys.executable, "-m", "pytest", "-q", *options, "--rootdir", tmp_path, tmp_path)
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


def test_the_redis_client_prints_what_it_has_set(redis_server, tmp_path):
    pytest.importorskip("redis", reason="redis-py is not installed")
    source = shown("redis.asyncio.Redis").replace("port=6379", f"port={redis_server.port}")
    command = (sys.executable, "-W", "error", "-c", source)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'hello'\n", "")
