"""First use at awkward moments: while asyncio is being imported, in a thread that `signal` does not take for the main one,
in a subinterpreter. Each scenario is a program of its own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from support.asyncio_loops import each_host
from support.programs import PATIENCE, run_program

# ---------------------------------------------------------------- the import itself

# Each takes milliseconds, and is imported by who uses it: dataclasses with TLS, asyncio by the program itself.
NOT_IMPORTED = ("asyncio", "dataclasses", "difflib", "inspect", "ipaddress", "logging", "pathlib", "ssl")


def test_importing_pybuntcp_imports_nothing_that_a_program_may_not_need():
    source = f"""
        import sys
        before = set(sys.modules)
        import pybuntcp
        print(*sorted({{*{NOT_IMPORTED}}} & (set(sys.modules) - before)))
    """
    assert subprocess.check_output([sys.executable, "-c", textwrap.dedent(source)], text=True).split() == []


def test_the_options_of_tls_are_a_dataclass_that_is_imported_when_it_is_asked_for():
    source = """
        seen = ["dataclasses" in sys.modules, "TLSOptions" in dir(pybuntcp)]
        from pybuntcp import *
        import dataclasses
        say([*seen, dataclasses.is_dataclass(TLSOptions), TLSOptions is pybuntcp.TLSOptions])
    """
    assert run_program(source) == [[False, True, True, True]]


def test_the_module_testing_is_imported_when_it_is_asked_for():
    source = """
        seen = "pybuntcp.testing" in sys.modules
        found = pybuntcp.testing
        from pybuntcp import testing
        say([seen, found is testing, found is sys.modules["pybuntcp.testing"]])
    """
    assert run_program(source) == [[False, True, True]]


def test_a_name_that_pybuntcp_does_not_have_is_an_attribute_error_as_elsewhere():
    import pybuntcp

    with pytest.raises(AttributeError, match="'pybuntcp' has no attribute 'TLSOption'"):
        pybuntcp.TLSOption  # noqa: B018


# ---------------------------------------------------------------- asyncio, half imported


@each_host
def test_asyncio_imported_by_a_thread_while_others_use_us_is_found_whole(host):
    """Another thread looks for a running loop at every line of asyncio's import; then all that we take of it is used."""
    answer = run_program(
        """
        import threading
        assert "asyncio" not in sys.modules

        def trace(frame, event, argument):
            if frame.f_code.co_filename.endswith("asyncio/__init__.py"):
                looking = threading.Thread(target=look)
                looking.start()
                looking.join()
                return trace

        def look():
            looks.append(pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print}).stop())

        looks = []
        sys.settrace(trace)
        import asyncio
        sys.settrace(None)
        assert len(looks) > 10
        from support.asyncio_loops import run_of

        async def main():
            async with pybuntcp.listen(hostname="127.0.0.1", port=0, socket={
                    "data": lambda socket, chunk: socket.end(chunk)}) as listener:
                async with await pybuntcp.connect(hostname="127.0.0.1", port=listener.port) as client:
                    client.sink().write(b"whole")
                    await client.sink().drain()
                    return bytes(await client.reader().read())

        say(run_of(sys.argv[1])(main()).decode())
        """,
        host,
    )
    assert answer == ["whole"]


# ---------------------------------------------------------------- threads and signals

SERVE = """
    import _thread, os, signal, sys, time

    def serve_once():
        got = []
        mine = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={
            "data": lambda socket, chunk: (socket.end(chunk), mine.stop())})
        pybuntcp.connect(hostname="127.0.0.1", port=mine.port, socket={
            "open": lambda socket: socket.end(b"hello"), "data": lambda socket, chunk: got.append(chunk)})
        return got

    async def serve_in_asyncio():
        import asyncio
        got = serve_once()
        while not got:
            await asyncio.sleep(0.001)
        return got

    def every_way():
        import asyncio
        first = serve_once()
        pybuntcp.run()
        return first + pybuntcp.run(serve_in_asyncio()) + asyncio.run(serve_in_asyncio())
"""


def printed_by(source):
    """What a program prints that has imported nothing before."""
    code = textwrap.dedent(SERVE) + textwrap.dedent(source)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_it_works_in_a_thread_that_only_threading_takes_for_the_main_one_and_ctrl_c_in_the_other():
    """`threading` takes the thread that imports it first for the main one, up to Python 3.12."""
    said = printed_by("""
    def first():
        global pybuntcp, answer
        try:
            import threading, pybuntcp
            answer = every_way()
        finally:
            lock.release()

    assert "threading" not in sys.modules
    lock = _thread.allocate_lock()
    lock.acquire()
    _thread.start_new_thread(first, ())
    lock.acquire()
    print(answer)
    import threading
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print})
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    signal.alarm(10)
    try:
        pybuntcp.run()
    except KeyboardInterrupt:
        print("interrupted")
    """)
    assert said == ["[b'hello', b'hello', b'hello']", "interrupted"]


def test_it_works_in_a_child_forked_in_another_thread():
    """The thread that forked is the child's main one."""
    said = printed_by("""
    import threading, pybuntcp

    def fork():
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            print(every_way(), flush=True)
            os._exit(0)
        os.waitpid(child, 0)

    every_way()
    forking = threading.Thread(target=fork)
    forking.start()
    forking.join()
    """)
    assert said == ["[b'hello', b'hello', b'hello']"]


@pytest.mark.parametrize("first", ["", "import pybuntcp"], ids=["first there", "second there"])
def test_in_a_subinterpreter_it_works_or_the_import_says_that_it_does_not(first):
    said = printed_by(f"""
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    {first}
    program = '''
    {textwrap.indent(textwrap.dedent(SERVE), "    ").strip()}
    try:
        import pybuntcp
    except ImportError as error:
        print("refused:", "interpreter" in str(error).lower())
    else:
        first = serve_once()
        pybuntcp.run()
        print("worked:", first)
    '''
    import textwrap
    one = interpreters.create()
    failed = interpreters.run_string(one, textwrap.dedent(program))
    assert failed is None, failed
    interpreters.destroy(one)
    """)
    assert said in (["worked: [b'hello']"], ["refused: True"])
