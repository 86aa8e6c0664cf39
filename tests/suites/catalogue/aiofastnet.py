"""aiofastnet's own tests, with its switch for the loop's own transports instead of its: TCP and unix sockets."""

from suite import Suite

ENDS = "end the whole run on stock asyncio, whose TLS protocol does not catch the exception"

SUITE = Suite(
    name="aiofastnet",
    title="aiofastnet's",
    version="1.2.0",
    sha256="d1fa2500e287b7e31a88754724ce7bfcf8b83884a15547be4b5f7753946128c3",
    config="pyproject.toml",
    files=("tests/test_smoke.py", "tests/test_protocol_error.py"),
    needs=("aiofastnet==1.2.0", "pytest-asyncio==1.4.0", "async-timeout==5.0.1"),
    environment={"NO_AIOFN": "1"},
    left_out={
        "*uvloop*": "run on uvloop in both runs",
        "*::test_exc_connection_made*ssl*": ENDS,
        "*::test_exc_connection_made*stls*": ENDS,
        "*ktls*": "test kTLS, which only aiofastnet has",
    },
    tls=("*ssl*", "*stls*"),
    # without aiofastnet its ways of TLS, ssl_mbio, ssl_mbio_fall and ssl_sbio, are one
    not_quick=("*ssl_mbio*", "*::test_echo_writelines*ssl*", "*::test_echo_writelines*stls*", "*::test_write_huge*"),
    seconds=900,
    fewest=150,
    control_fails_at_most=75,
    test_seconds=20,
)
