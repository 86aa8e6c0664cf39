"""uvloop's own tests, on a package of its name that has our loop in it, so that they take what they ask of uvloop itself."""

from suite import Place, Suite

STAND_IN = '''\
"""Stands in for uvloop: the loop of this run, and uvloop's helpers for tests out of its source distribution."""
import asyncio, os
import pybuntcp_suite

__path__.append({folder!r})
__version__ = "{version}"

if pybuntcp_suite.SIDE == "asyncio":
    Base = asyncio.SelectorEventLoop
else:
    from pybuntcp.aio import EventLoop as Base


class Loop(Base):
    """Not in a module of asyncio's: the tests are to be as strict as with uvloop."""


def new_event_loop():
    return Loop()


def run(main, **options):
    return asyncio.run(main, loop_factory=new_event_loop, **options)


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = Loop


def install():
    asyncio.set_event_loop_policy(EventLoopPolicy())
'''


def prepare(place: Place) -> None:
    package = place.site / "uvloop"
    package.mkdir()
    text = STAND_IN.format(folder=str(place.source / "uvloop"), version=SUITE.version)
    (package / "__init__.py").write_text(text, encoding="utf-8")


FILES = ["tcp", "unix", "context", "sockets", "base", "dns", "aiohttp", "signals", "process", "executors", "regr1"]

HANGS = "wait until their time limit on stock asyncio too, because they "

LEFT_OUT = {
    "*::*AIO*": "run on stock asyncio in both runs",
    "*::test_socket_connect_and_close": HANGS + "expect uvloop's refusal to close a socket that a sock_* method uses",
    "*::test_socket_recv_and_close": HANGS + "expect uvloop's refusal to close a socket that a sock_* method uses",
    "*::test_socket_recv_into_and_close": HANGS + "expect uvloop's refusal to close a socket that a sock_* method uses",
    "*::test_first_data_after_wakeup": "wait until their time limit, and fail on stock asyncio, because they "
    "expect start_tls to return before the first data, as uvloop's does",
    "*::test_start_tls_client_buf_proto_1": HANGS + "have a protocol with get_buffer that is not a BufferedProtocol",
    "*::test_shutdown_timeout_handler_not_set": HANGS + "use a field of uvloop's own TLS protocol",
    "*::test_shutdown_while_pause_reading": HANGS + "test uvloop's own TLS protocol",
    "*::test_flush_before_shutdown": HANGS + "use a field of uvloop's own TLS protocol",
}

TLS = "tests/test_tcp.py::Test_UV_TCPSSL::"
EXPECTED = {
    TLS + "test_remote_shutdown_receives_trailing_data": "use private parts of asyncio's own TLS transport",
    TLS + "test_renegotiation": "TLS 1.2's renegotiation is off on the engine that borrows OpenSSL's connection",
}

SUITE = Suite(
    name="uvloop",
    title="uvloop's",
    version="0.23.0",
    sha256="28d160f51ab4da3b187063652e643dea6831072add4adc1e6d62afbe73b6be27",
    files=tuple(f"tests/test_{name}.py" for name in FILES),
    needs=("psutil==7.1.3", "pyOpenSSL==25.3.0"),
    patch_loops=False,
    prepare=prepare,
    left_out=LEFT_OUT,
    expected=EXPECTED,
    but_not_on_fallback=(TLS + "test_renegotiation",),
    tls=("*SSL*", "*ssl*", "*tls*"),
    not_quick=(
        "*::test_call_soon_threadsafe_safety",
        "*::test_many_small_writes",
        "*::test_renegotiation",
        "*_large_stdout_1000000",
    ),
    test_seconds=120,  # one moves two gigabytes
    seconds=900,
    fewest=200,
    control_fails_at_most=40,
)
