"""Work in a thread of its own: what a call returned there, and tests that need a thread whose loop they may close.

Owns: the thread, which is joined within a bound.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from .kernel import TIMEOUT


def in_thread(function: Callable[[], Any], name: str = "another") -> Any:
    """What `function` returned or raised in a thread of its own."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=call, name=name)
    thread.start()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    return outcome[0]


def in_a_thread_of_its_own(test: Callable[..., None]) -> Callable[..., None]:
    """A test that closes a loop under open sockets: the guest goes with it, and in the main thread that may be the
    loop of `run()`, with the descriptors that the leak check counts."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        outcome = in_thread(lambda: test(*args, **options))
        if isinstance(outcome, BaseException):
            raise outcome

    return run
