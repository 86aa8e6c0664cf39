"""uvicorn's tests of servers and of WebSockets, which serve on the loop that the test runs in, and by `uvicorn.run`."""

from suite import Suite
from users import NO_PLUGINS, PYTEST, plugins, without_uvloop

SUITE = Suite(
    name="uvicorn",
    title="uvicorn's",
    version="0.54.0",
    sha256="a2e33cbfaa0306f8e6b0c13e0cb89d7d7a2da3e62b90c66e18c33d9807b28620",
    config="pyproject.toml",
    files=("tests/protocols/test_websocket.py", "tests/test_main.py", "tests/test_server.py", "tests/test_ssl.py"),
    tls=("tests/test_ssl.py::*",),
    needs=(
        *PYTEST,
        "uvicorn==0.54.0",
        "a2wsgi==1.10.10",
        "anyio==4.16.0",
        "cryptography==50.0.2",
        "h11==0.16.0",
        "httptools==0.9.0",
        "httpx2==2.16.2",
        "python-dotenv==1.2.4",
        "PyYAML==6.0.4",
        "trustme==1.2.1",
        "watchfiles==1.3.0",
        "websockets==17.4",
        "wsproto==1.3.2",
        "zttp==0.0.35",
    ),
    arguments=plugins("anyio", "pytest_mock", "timeout"),
    environment=NO_PLUGINS,
    prepare=without_uvloop,
    fewest=400,
    seconds=600,
)
