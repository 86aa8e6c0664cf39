"""aiohttp's functional tests: client and server of HTTP and WebSockets, `run_app`, runners, files."""

import shutil

from suite import Place, Suite
from users import NO_PLUGINS, PYTEST, plugins, without_uvloop


def prepare(place: Place) -> None:
    without_uvloop(place)
    shutil.copy(place.source / "README.rst", place.tests)  # which a server must not give away


FILES = [
    "client_functional",
    "client_ws_functional",
    "run_app",
    "web_functional",
    "web_runner",
    "web_sendfile",
    "web_sendfile_functional",
    "web_websocket_functional",
]

SUITE = Suite(
    name="aiohttp",
    title="aiohttp's",
    version="3.14.5",
    sha256="5558a7f5a05af9ecf744af91e5baefc436f93c9333e656c27ec253f9a6bbe178",
    config="pytest.ini",
    files=tuple(f"tests/test_{name}.py" for name in FILES),
    needs=(
        *PYTEST,
        "aiohttp==3.14.5",
        "backports.zstd==1.8.0; python_version < '3.14'",
        "blockbuster==1.5.29",
        "brotli==1.2.1",
        "coverage==7.17.5",
        "freezegun==1.5.5",
        "isal==1.9.1",
        "proxy.py==2.4.10",
        "trustme==1.2.1",
        "zlib_ng==1.1.0",
    ),
    arguments=(*plugins("pytest_mock", "timeout"), "-m", "not dev_mode and not autobahn and not internal"),
    environment=NO_PLUGINS,
    tls=("*::test_ssl_*", "*_ssl", "*::test_run_app_https*"),
    prepare=prepare,
    fewest=800,
    seconds=900,
)
