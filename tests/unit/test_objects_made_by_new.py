"""Objects that a program makes by `__new__` instead of by our functions: an error, or an object that does nothing."""

from __future__ import annotations

import pytest
from support.programs import run_program

CLASSES = [
    "Connecting",
    "Listener",
    "ListenerThreads",
    "Socket",
    "SocketReader",
    "SocketSink",
    "ThreadsafeCallback",
    "Timer",
]


@pytest.mark.parametrize("name", CLASSES)
def test_using_all_that_it_has_ends_no_process(name):
    source = f"""
        try:
            made = pybuntcp.{name}.__new__(pybuntcp.{name})
            for member in dir(made):
                if member != "__class__":
                    try:
                        getattr(made, member)()
                    except Exception:
                        pass
        except TypeError:
            pass
        say("lives")
    """
    assert run_program(source) == ["lives"]
