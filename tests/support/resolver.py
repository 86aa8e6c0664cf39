"""A resolver that hangs, for programs that tests start: no network, and nothing waits without a bound.

Owns: the library that is put in front of the system's resolver (LD_PRELOAD), and what such a program begins with.
Names under "hang.test" do not return until `release()`, and then there is no such name; "good.test" and what is under it
is 127.0.0.1; "both.test" is 127.0.0.1 and 127.0.0.2; `asked()` is the name that was asked for last, as bytes. What a program waits for is that lookups are in the resolver (`hung(count)`), not that time passes.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from .programs import Program

SHIM = r"""
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <netdb.h>
    #include <poll.h>
    #include <string.h>
    #include <strings.h>
    #include <unistd.h>

    static int begun = -1, until = -1;
    static char asked[256];

    const char *last_asked(void) { return asked; }
    void hang_with(int tell, int wait) { begun = tell; until = wait; }

    static int is_under(const char *node, const char *name) {
        size_t size = strlen(node), end = strlen(name);
        return size >= end && strcasecmp(node + size - end, name) == 0;
    }
    int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
        int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
            dlsym(RTLD_NEXT, "getaddrinfo");
        struct pollfd released = {until, POLLIN, 0};
        if (node != NULL) strncpy(asked, node, sizeof asked - 1);
        if (node != NULL && is_under(node, "hang.test")) {
            if (write(begun, "x", 1) == 1) poll(&released, 1, -1);
            return EAI_NONAME;
        }
        if (node != NULL && (is_under(node, "good.test") || is_under(node, "good.test."))) node = "127.0.0.1";
        if (node != NULL && is_under(node, "both.test")) {
            int rc = real("127.0.0.1", service, hints, result);
            return rc != 0 ? rc : real("127.0.0.2", service, hints, &(*result)->ai_next);
        }
        return real(node, service, hints, result);
    }
"""

PROLOGUE = """
    import asyncio, contextlib, ctypes, threading
    from support import LOOPS, Recorder, TIMEOUT
    from support.handlers import QUIET, ignore
    from support.addresses import bound_not_listening, port_of, raw_tcp

    begun, tell = os.pipe()
    wait, until = os.pipe()
    shim = ctypes.CDLL(None)
    shim.hang_with(tell, wait)
    shim.last_asked.restype = ctypes.c_char_p

    def asked():
        return shim.last_asked().decode("ascii")

    def hung(count):
        "Wait until so many more lookups are in the resolver."
        while count:
            count -= len(os.read(begun, count))

    def release():
        os.write(until, b"x")

    def connect_hanging(count, **options):
        return [pybuntcp.connect(**{"hostname": f"{n}.hang.test", "port": 9, "socket": QUIET, **options})
                for n in range(count)]

    def connect_well(loop, server, name="good.test"):
        "Connect by a name that resolves: seconds until it is open."
        recorder, start = Recorder(), time.monotonic()
        pybuntcp.connect(hostname=name, port=port_of(server), socket=recorder.handlers)
        loop.run_until(lambda: recorder.sockets)
        took = time.monotonic() - start
        recorder.socket.terminate()
        return took
"""


@pytest.fixture(scope="session")
def hanging_resolver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if platform.libc_ver()[0] != "glibc" or compiler is None:
        pytest.skip("needs a C compiler and glibc")
    library = tmp_path_factory.mktemp("resolver") / "hanging.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", library, "-ldl"], input=SHIM, text=True, check=True
    )
    return library


@pytest.fixture
def program_that_hangs(hanging_resolver: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start a program whose names may hang: `program_that_hangs(source, *args)` gives the `Program`."""
    before = os.environ.get("LD_PRELOAD")  # a sanitizer's runtime, say, which must come first
    monkeypatch.setenv("LD_PRELOAD", ":".join(filter(None, [before, str(hanging_resolver)])))
    return lambda source, *args: Program(textwrap.dedent(PROLOGUE) + textwrap.dedent(source), *args)
