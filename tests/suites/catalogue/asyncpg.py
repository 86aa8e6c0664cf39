"""asyncpg's tests of connections, pools, COPY, cancellation and bad networks, with a PostgreSQL of their own.

PostgreSQL refuses to run as root, and asyncpg's tests start it. So there root becomes `postgres`, who keeps the one right
that it needs to read what is root's: CAP_DAC_OVERRIDE.
"""

import os

from suite import Suite
from users import NO_PLUGINS, PYTEST, missing, plugins, postgresql, without_uvloop

SETPRIV = (
    "setpriv --reuid=postgres --regid=postgres --init-groups --inh-caps=+dac_override --ambient-caps=+dac_override"
)
FILES = ["connect", "pool", "copy", "cancellation", "adversity"]

SUITE = Suite(
    name="asyncpg",
    title="asyncpg's",
    version="0.32.0",
    sha256="45e64e56714d888330b884aad1dfb363d0bf43fb343e3d1a8968525f3bade478",
    config="pyproject.toml",
    files=tuple(f"tests/test_{name}.py" for name in FILES),
    needs=(*PYTEST, "asyncpg==0.32.0", "distro==1.9.0"),
    arguments=(*plugins("timeout"), "--import-mode=importlib"),
    environment={**NO_PLUGINS, "PGINSTALLATION": postgresql(), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
    before=tuple(SETPRIV.split()) if os.geteuid() == 0 else (),
    prepare=without_uvloop,
    unavailable=lambda: missing(os.path.join(postgresql(), "pg_ctl")),
    tls=("*SSL*", "*ssl*", "*tls*"),
    fewest=150,
    control_fails_at_most=2,  # some of those about TLS interrupt a connection after a fixed time
    seconds=900,
    test_seconds=180,
)
