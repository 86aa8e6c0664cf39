"""aiosmtpd's tests, all of them: SMTP and LMTP servers in threads of their own, with blocking clients."""

from suite import Suite
from users import NO_PLUGINS, no_own_network, own_network, plugins, without_uvloop

SUITE = Suite(
    name="aiosmtpd",
    title="aiosmtpd's",
    version="1.4.6",
    sha256="5a811826e1a5a06c25ebc3e6c4a704613eb9a1bcf6b78428fbe865f4f6c9a4b8",
    folders=("aiosmtpd",),
    config="pytest.ini",
    files=("aiosmtpd/tests",),
    needs=(
        "pytest==8.2.0",
        "pytest-asyncio==0.23.6",
        "pytest-mock==3.14.0",
        "pytest-timeout==2.4.0",
        "atpublic==9.0.0",
        "attrs==26.1.0",
        "setuptools==65.5.0",
    ),
    arguments=plugins("pytest_asyncio.plugin", "pytest_mock", "timeout"),
    environment=NO_PLUGINS,
    tls=("*/test_starttls.py::*", "*/test_smtps.py::*", "*::test_smtps", "*::test_server_creation_ssl"),
    before=own_network(),
    unavailable=no_own_network,
    prepare=without_uvloop,
    fewest=500,
    seconds=600,
)
