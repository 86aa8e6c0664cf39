"""Contract, Process (P3): a name that does not resolve holds up no other, and no exit."""

from __future__ import annotations

import os
import sys

import pytest
from support import LOOPS

A_SECOND = 1.0

on_every_loop = pytest.mark.parametrize(
    "loop",
    [pytest.param(name, marks=pytest.mark.skipif(bool(LOOPS[name].missing()), reason="not here")) for name in LOOPS],
)


# ---------------------------------------------------------------- no other name


@on_every_loop
@pytest.mark.parametrize("count", [2, 20, 100])
def test_p3_names_that_hang_hold_up_no_other(program_that_hangs, loop, count):
    with program_that_hangs(
        """
        loop = LOOPS[sys.argv[1]]()
        with raw_tcp("127.0.0.1") as server:
            hanging = connect_hanging(int(sys.argv[2]))
            hung(len(hanging))
            say(connect_well(loop, server))
            say([each.done() for each in hanging].count(True))
            for each in hanging:
                each.cancel()
            loop.close()
        """,
        loop,
        count,
    ) as program:
        assert program.hear() < A_SECOND
        assert program.finish() == [0]


@on_every_loop
def test_p3_cancelled_lookups_hold_up_no_other(program_that_hangs, loop):
    with program_that_hangs(
        """
        loop = LOOPS[sys.argv[1]]()
        with raw_tcp("127.0.0.1") as server:
            hanging = connect_hanging(20)
            hung(20)
            say([each.cancel() for each in hanging].count(True))
            say(pybuntcp.stats()["connecting"])
            say(connect_well(loop, server))
            loop.close()
        """,
        loop,
    ) as program:
        assert (program.hear(), program.hear()) == (20, 0)
        assert program.hear() < A_SECOND
        program.finish()


def test_p3_names_that_hang_in_one_thread_hold_up_none_in_another(program_that_hangs):
    with program_that_hangs(
        """
        def elsewhere():
            hanging.extend(connect_hanging(20))
            hung(20)
            all_hang.set()
            pybuntcp.run()

        hanging, all_hang = [], threading.Event()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        all_hang.wait()
        loop = LOOPS["standalone"]()
        with raw_tcp("127.0.0.1") as server:
            say(connect_well(loop, server))
            loop.close()
        release()
        thread.join()
        say([type(each.exception()).__name__ for each in hanging].count("gaierror"))
        """
    ) as program:
        assert program.hear() < A_SECOND
        assert program.finish() == [20]


def test_p3_names_that_hang_do_not_hold_up_listen(program_that_hangs):
    with program_that_hangs(
        """
        hanging = connect_hanging(20)
        hung(20)
        start = time.monotonic()
        listener = pybuntcp.listen(hostname="good.test", port=0, socket=QUIET)
        say(time.monotonic() - start)
        listener.stop()
        for each in hanging:
            each.cancel()
        pybuntcp.run()
        """
    ) as program:
        assert program.hear() < A_SECOND
        program.finish()


def test_p3_a_forked_child_looks_up_names_while_its_parents_hang(program_that_hangs):
    """More of them than there are threads, so that there is a line as well."""
    with program_that_hangs(
        """
        loop = LOOPS["standalone"]()
        hanging = connect_hanging(300)
        hung(256)
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            loop = LOOPS["standalone"]()
            with raw_tcp("127.0.0.1") as server:
                took = connect_well(loop, server)
                loop.close()
            os._exit(0 if took < 1 else 1)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        for each in hanging:
            each.cancel()
        loop.close()
        """
    ) as program:
        assert program.hear() == 0
        program.finish()


# ---------------------------------------------------------------- no exit


@on_every_loop
def test_p3_a_loop_ends_before_a_lookup_that_was_cancelled(program_that_hangs, loop):
    """`run` returns, an asyncio loop closes, the interpreter ends: nothing ever releases the name."""
    with program_that_hangs(
        """
        loop = LOOPS[sys.argv[1]]()
        hanging = connect_hanging(3)
        hung(3)
        for each in hanging:
            each.cancel()
        loop.run()
        loop.close()
        say("closed")
        """,
        loop,
    ) as program:
        assert program.finish() == ["closed"]


@on_every_loop
def test_p3_a_loop_ends_before_a_lookup_whose_time_is_over(program_that_hangs, loop):
    with program_that_hangs(
        """
        loop = LOOPS[sys.argv[1]]()
        recorder = Recorder()
        start = time.monotonic()
        pybuntcp.connect(hostname="a.hang.test", port=9, socket=recorder.handlers, timeout=0.2)
        hung(1)
        loop.run()
        say([type(error).__name__ for error, in recorder.args("connect_error")])
        say(time.monotonic() - start)
        loop.close()
        """,
        loop,
    ) as program:
        assert program.hear() == ["TimeoutError"]
        assert 0.2 <= program.hear() < 0.2 + A_SECOND
        program.finish()


def test_p3_an_asyncio_loop_is_let_go_of_when_the_last_lookup_is_cancelled(program_that_hangs):
    """It watches nothing of ours any more."""
    with program_that_hangs(
        """
        async def main():
            watched = asyncio.get_running_loop()._selector.get_map()
            before = len(watched)
            hanging = connect_hanging(3)
            hung(3)
            for _ in range(5):
                await asyncio.sleep(0)  # our loop has turned, and sleeps
            say(len(watched) - before)
            for each in hanging:
                each.cancel()
            while len(watched) != before:
                await asyncio.sleep(0.01)

        loop = asyncio.SelectorEventLoop()
        loop.run_until_complete(asyncio.wait_for(main(), TIMEOUT))
        loop.close()
        """
    ) as program:
        assert program.finish() == [1]


@pytest.mark.parametrize("end", ["pybuntcp.new_event_loop", "asyncio.new_event_loop"])
def test_p3_asyncio_run_ends_before_the_lookup_of_a_task_that_was_cancelled(program_that_hangs, end):
    with program_that_hangs(
        f"""
        async def main():
            task = asyncio.ensure_future(attempt())
            await asyncio.sleep(0)
            hung(1)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            say("cancelled")

        async def attempt():
            await pybuntcp.connect(hostname="a.hang.test", port=9, socket=QUIET)

        loop = {end}()
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        say("closed")
        """
    ) as program:
        assert program.finish() == ["cancelled", "closed"]


def test_p3_a_program_ends_while_names_hang(program_that_hangs):
    """Of this thread and of one that has ended, neither cancelled nor run."""
    with program_that_hangs(
        """
        kept = []
        def ask():
            kept.extend(connect_hanging(3))
            hung(3)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        ask()
        say("ends")
        """
    ) as program:
        assert program.finish() == ["ends"]


def test_p3_a_thread_that_ends_leaves_its_lookups_to_themselves(program_that_hangs):
    """What they find once they return is told to nobody: the loop that asked is gone."""
    with program_that_hangs(
        """
        told = []
        def elsewhere():
            connect_hanging(20, socket={
                "data": ignore, "connect_error": lambda socket, error: told.append(error)})
            hung(20)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        release()
        loop = LOOPS["standalone"]()
        with raw_tcp("127.0.0.1") as server:
            for _ in range(40):
                connect_well(loop, server)
            loop.close()
        say(told)
        """
    ) as program:
        assert program.finish() == [[]]


# ---------------------------------------------------------------- those that return


@on_every_loop
def test_a_lookup_that_returns_after_all_is_reported(program_that_hangs, loop):
    """And those that were cancelled meanwhile are not: the answers of both wake the loop together."""
    with program_that_hangs(
        """
        loop = LOOPS[sys.argv[1]]()
        kept, dropped = Recorder(), Recorder()
        hanging = connect_hanging(10, socket=kept.handlers)
        for each in connect_hanging(10, socket=dropped.handlers):
            hanging.append(each)
        hung(20)
        for each in hanging[10:]:
            each.cancel()
        release()
        loop.run_until(lambda: kept.count("connect_error") == 10)
        say(sorted({error.code for error, in kept.args("connect_error")}))
        say(dropped.names())
        loop.close()
        """,
        loop,
    ) as program:
        assert program.finish() == [["EAI_NONAME"], []]


def test_an_answer_that_is_there_may_be_cancelled_by_the_handler_of_another(program_that_hangs):
    """All have returned before the loop turns; the first that is told cancels the others."""
    with program_that_hangs(
        """
        from support import spin
        told = []

        def failed(socket, error):
            told.append(error.code)
            for each in hanging:
                each.cancel()

        hanging = connect_hanging(20, socket={"data": ignore, "connect_error": failed})
        hung(20)
        release()
        spin(0.1)  # by now most of them are there; those that are not are abandoned on their way
        pybuntcp.run()
        say(told)
        say(pybuntcp.stats()["connecting"])
        """
    ) as program:
        assert program.finish() == [["EAI_NONAME"], 0]


def test_past_256_lookups_those_that_ask_wait_in_line_and_may_leave_it(program_that_hangs):
    """Who has left is never looked up; the others are, when those that hang return."""
    with program_that_hangs(
        """
        loop = LOOPS["standalone"]()
        hanging = connect_hanging(300)
        hung(256)
        for each in hanging[270:]:
            each.cancel()
        recorder = Recorder()
        with raw_tcp("127.0.0.1") as server:
            last = pybuntcp.connect(hostname="good.test", port=port_of(server), socket=recorder.handlers)
            release()
            loop.run_until(lambda: recorder.sockets)
            recorder.socket.terminate()
            loop.run_until(lambda: all(each.done() for each in hanging[:270]))
            loop.close()
        os.set_blocking(begun, False)
        say(len(os.read(begun, 1000)))
        """
    ) as program:
        assert program.finish() == [14]


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_thread_looks_up_one_name_after_the_other(program_that_hangs):
    with program_that_hangs(
        """
        loop = LOOPS["standalone"]()
        with raw_tcp("127.0.0.1") as server:
            connect_well(loop, server)
            before = len(os.listdir("/proc/self/task"))
            for _ in range(50):
                connect_well(loop, server)
            say(len(os.listdir("/proc/self/task")) - before)
            loop.close()
        """
    ) as program:
        assert program.finish()[0] <= 1  # the next name may come before the thread of the last is back


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="looks at threads in /proc")
def test_the_threads_of_lookups_take_no_signals(program_that_hangs):
    with program_that_hangs(
        """
        before = set(os.listdir("/proc/self/task"))
        hanging = connect_hanging(3)
        hung(3)
        taken = 0
        for task in set(os.listdir("/proc/self/task")) - before:
            with open(f"/proc/self/task/{task}/status") as status:
                blocked = next(line.split()[1] for line in status if line.startswith("SigBlk"))
            taken |= ~int(blocked, 16) & sum(1 << (n - 1) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM))
        say(taken)
        for each in hanging:
            each.cancel()
        pybuntcp.run()
        """
    ) as program:
        assert program.finish() == [0]
