"""AnyIO's tests of sockets, on its asyncio backend: TCP, unix and datagram sockets, listeners, TLS on top."""

from suite import Suite
from users import NO_PLUGINS, PYTEST, no_ipv6, plugins, without_uvloop

SUITE = Suite(
    name="anyio",
    title="AnyIO's",
    version="4.16.0",
    sha256="59bb03251907983d1603d27c3087ddb1e93299ea2163adcdba37899a4fb12ffb",
    config="pyproject.toml",
    files=("tests/test_sockets.py", "tests/streams/test_tls.py"),
    tls=("tests/streams/test_tls.py::*",),
    secures=False,  # it encrypts what it writes
    needs=(
        *PYTEST,
        "anyio==4.16.0",
        "blockbuster==1.5.29",
        "cryptography==50.0.2",
        "hypothesis==6.170.17",
        "psutil==7.2.2",
        "trustme==1.2.1",
        "truststore==0.10.5",
    ),
    arguments=plugins("anyio", "pytest_mock", "timeout"),
    environment=NO_PLUGINS,
    prepare=without_uvloop,
    left_out={
        "*[[]*trio*": "run on Trio",
        "*[[]asyncio+uvloop*": "run on uvloop",
        **({"*ipv6*": "need IPv6, which localhost does not have here"} if no_ipv6() else {}),
    },
    fewest=250,
    control_fails_at_most=10,
    seconds=600,
)
