"""Signal handlers that use verbs: while the loop waits, while it is busy, standalone and inside each asyncio loop; and a loop
that nobody turns. That calls of `threadsafe` are allowed there is in test_threadsafe.py."""

from __future__ import annotations

import signal

import pytest
from support.asyncio_loops import hosts
from support.programs import Program, run_program

SERVER = """
    import asyncio
    ours, theirs = socket.socketpair()
    def opened(socket):
        sockets.append(socket)
        say("ready")
    sockets = []
    timer = None
    def handler(number, frame):
        timer.cancel()
        sockets[0].write(b"last words")
        sockets[0].end()
        listener.stop(True)
    signal.signal(signal.SIGUSR1, handler)
    def start():
        global listener, timer
        timer = pybuntcp.call_later(60, say, "not reached")
        listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print})
        pybuntcp.connect(fd=ours.detach(), socket={"open": opened, "data": print, "close": lambda socket, error: ended()})
    def finish():
        theirs.setblocking(False)
        say(theirs.recv(100).decode())
        theirs.close()
"""

STANDALONE = """
    def ended(): pass
    start()
    theirs.settimeout(10)
    import threading
    heard = []
    peer = threading.Thread(target=lambda: [heard.append(theirs.recv(100).decode()), theirs.close()])
    peer.start()
    pybuntcp.run()
    peer.join()
    say(heard[0])
"""

HOSTED = """
    from support.asyncio_loops import run_of
    async def main():
        global ended
        done = asyncio.get_running_loop().create_future()
        ended = lambda: done.done() or done.set_result(None)
        start()
        import threading
        heard = []
        peer = threading.Thread(target=lambda: [heard.append(theirs.recv(100).decode()), theirs.close()])
        peer.start()
        await done
        peer.join()
        say(heard[0])
    run_of(sys.argv[1])(main())
"""


def served(source, *args):
    with Program(SERVER + source, *args) as program:
        assert program.hear() == "ready"
        program.signal(signal.SIGUSR1)
        assert program.hear() == "last words"
        program.finish()


def test_a_signal_handler_uses_verbs_while_the_loop_waits():
    served(STANDALONE)


def test_a_signal_handler_uses_verbs_while_the_loop_is_busy():
    busy = """
    def again():
        if listener.fd != -1:
            pybuntcp.call_soon(again)
    pybuntcp.call_soon(again)
    """
    served(STANDALONE.replace("    pybuntcp.run()\n", f"{busy}\n    pybuntcp.run()\n"))


@hosts("asyncio", "uvloop", "native")
def test_a_signal_handler_uses_verbs_inside_asyncio_while_that_waits(host):
    served(HOSTED, host)


# ---------------------------------------------------------------- a loop that nobody turns


FORGOTTEN = """
    import warnings
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, category, *_: say([category.__name__, str(message)])
"""


@pytest.mark.parametrize(
    "opened",
    [
        'listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print})',
        'pybuntcp.connect(hostname="127.0.0.1", port=1, socket={"data": print})',
        "pybuntcp.call_later(1, print)",
    ],
)
def test_a_program_that_forgets_run_is_warned_once(opened):
    (said,) = run_program(FORGOTTEN + f"    {opened}\n")
    assert said[0] == "ResourceWarning"
    assert "run()" in said[1]


@pytest.mark.parametrize(
    "done",
    [
        "listener.unref()",
        "listener.stop()",
        "pybuntcp.run(timeout=0)",
    ],
)
def test_a_program_that_did_not_forget_is_not_warned(done):
    opened = 'listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"data": print})'
    assert run_program(FORGOTTEN + f"    {opened}\n    {done}\n") == []


@pytest.mark.parametrize("run", ["asyncio.run(main())", "pybuntcp.run(main())"])
def test_a_listener_that_was_opened_before_asyncio_ran_is_warned_of_once(run):
    said = run_program(
        FORGOTTEN
        + f"""
    import asyncio
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={{"data": print}})
    async def main():
        pybuntcp.call_later(0, int)
        say("in asyncio")
    {run}
    """
    )
    assert [what for what in said if what == "in asyncio"] == ["in asyncio"]
    (warning,) = [what for what in said if what != "in asyncio"]
    assert warning[0] == "ResourceWarning"
    assert "asyncio" in warning[1]
