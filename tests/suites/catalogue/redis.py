"""redis-py's tests of its asyncio client, with a redis-server of their own, in plain text and over TLS.

The certificates are not in its source distribution: they are made here, with the names that the tests look for.
"""

from suite import Place, Suite
from users import NO_PLUGINS, PYTEST, missing, own_network, plugins, without_uvloop

FILES = ["connect", "connection", "connection_pool", "pipeline", "pubsub", "ssl"]
ELSEWHERE = "onlycluster redismod replica cp_integration multidb_integration experimental"


def prepare(place: Place) -> None:
    import trustme

    without_uvloop(place)
    folder = place.tests / "dockers" / "standalone" / "tls"
    folder.mkdir(parents=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    for name, issued in (
        ("redis", authority.issue_cert("localhost", "127.0.0.1")),
        ("client", authority.issue_cert("client.example.test")),
        ("test_user", authority.issue_cert("user.example.test", common_name="test_user")),
    ):
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.crt")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")


SUITE = Suite(
    name="redis",
    title="redis-py's",
    version="8.1.0",
    sha256="6e1a19beef9225c83efd689c7e6b7da2d5215b1f42cd13b7fc3714d0a09c7b25",
    config="pyproject.toml",
    files=tuple(f"tests/test_asyncio/test_{name}.py" for name in FILES),
    needs=(
        *PYTEST,
        "redis==8.1.0",
        "pytest-asyncio==1.5.0",
        "numpy==2.4.6",
        "opentelemetry-api==1.45.2",
        "opentelemetry-sdk==1.45.2",
        "pybreaker==1.4.1",
        "redis-entraid==1.2.2",
        "xxhash==4.1.0",
    ),
    arguments=(
        *plugins("pytest_asyncio.plugin", "timeout", "pybuntcp_redis"),
        "-m",
        " and ".join(f"not {mark}" for mark in ELSEWHERE.split()),
    ),
    environment={**NO_PLUGINS, **({"PYBUNTCP_SUITE_REDIS_PORT": "6379"} if own_network() else {})},
    before=own_network(),
    prepare=prepare,
    unavailable=lambda: missing("redis-server"),
    tls=("*::test_tcp_ssl_*", "*/test_ssl.py::*"),
    fewest=350,
    control_fails_at_most=10,  # some ask port 6379, which is theirs only in a network of its own
    seconds=600,
)
