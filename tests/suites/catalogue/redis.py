"""redis-py's tests of its asyncio client, with a redis-server of their own."""

from suite import Suite
from users import NO_PLUGINS, PYTEST, missing, own_network, plugins, without_uvloop

FILES = ["connect", "connection", "connection_pool", "pipeline", "pubsub"]
ELSEWHERE = "onlycluster redismod ssl replica cp_integration multidb_integration experimental"

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
    prepare=without_uvloop,
    unavailable=lambda: missing("redis-server"),
    fewest=350,
    control_fails_at_most=10,  # some ask port 6379, which is theirs only in a network of its own
    seconds=600,
)
