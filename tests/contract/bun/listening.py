"""Addresses, failures of listen, unix files, and what stop does. The same scenarios for Bun: listening.ts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness import UNREFERENCED, actor, attempt, failure, main, scenario

import pybuntcp

QUIET = {"data": print}
TCP: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0}


def refusal(**options: Any) -> str:
    try:
        pybuntcp.listen(socket=QUIET, **options).stop(True)
    except OSError as error:
        port = "none" if error.port is None else error.port
        return f"{failure(error)} errno {error.errno} syscall {error.syscall} address {error.address} port {port}"
    return "a listener"


def wrong(name: str, **options: Any) -> None:
    options = {"socket": QUIET, **options}
    attempt(actor("listen"), name, lambda: pybuntcp.listen(**options).stop(True))


@scenario
def an_address_in_use(folder: str) -> None:
    first = pybuntcp.listen(socket=QUIET, **TCP)
    line = refusal(hostname="127.0.0.1", port=first.port)
    actor("listen")(line.replace(str(first.port), "that"))
    first.stop()


@scenario
def an_address_not_ours(folder: str) -> None:
    actor("listen")(refusal(hostname="192.0.2.1", port=0))


@scenario
def a_missing_folder(folder: str) -> None:
    actor("listen")(refusal(unix=f"{folder}/missing/socket").replace(folder, ""))


@scenario
def a_path_that_exists(folder: str) -> None:
    taken = Path(folder, "taken")
    taken.write_text("precious")
    actor("listen")(refusal(unix=str(taken)).replace(folder, ""))
    actor("listen")("the file is there" if taken.exists() else "the file is gone")


@scenario
def a_path_with_an_interior_nul(folder: str) -> None:
    wrong("listen", unix=f"{folder}/a\0b")


@scenario
def a_path_past_the_limit(folder: str) -> None:
    wrong("listen", unix=f"{folder}/{'x' * 200}")


@scenario
def an_address_in_brackets(folder: str) -> None:
    wrong("listen", hostname="[::1]", port=0)


@scenario
def two_kinds_of_address(folder: str) -> None:
    wrong("listen", hostname="127.0.0.1", port=0, unix=f"{folder}/socket")


@scenario
def a_port_as_text(folder: str) -> None:
    wrong("listen", hostname="127.0.0.1", port="0")


@scenario
def wrong_options(folder: str) -> None:
    wrong("no address")
    wrong("no port", hostname="127.0.0.1")
    wrong("port out of range", hostname="127.0.0.1", port=70000)
    wrong("port below zero", hostname="127.0.0.1", port=-1)
    wrong("exclusive as a number", **TCP, exclusive=1)
    wrong("reusePort as null", **TCP, reuse_port=None)
    wrong("allowHalfOpen as text", **TCP, allow_half_open="no")
    wrong("no handlers", **TCP, socket=None)


@scenario
def an_unknown_option(folder: str) -> None:
    wrong("listen", **TCP, hostnam="x")


@scenario
def stop_removes_the_file(folder: str) -> None:
    listener = pybuntcp.listen(unix=f"{folder}/socket", socket=QUIET)
    actor("folder")(f"before {' '.join(os.listdir(folder))}")
    listener.stop()
    actor("folder")(f"after {' '.join(os.listdir(folder))}")


@scenario
def stop_when_the_path_is_anothers(folder: str) -> None:
    path = Path(folder, "socket")
    first = pybuntcp.listen(unix=str(path), socket=QUIET)
    path.rename(Path(folder, "moved"))
    second = pybuntcp.listen(unix=str(path), socket=QUIET)
    first.stop()
    actor("folder")("the other's file is there" if path.exists() else "the other's file is gone")
    second.stop()


@scenario
def the_file_at_exit(folder: str) -> None:
    UNREFERENCED.add("open_listeners")
    pybuntcp.listen(unix=f"{folder}/socket", socket=QUIET).unref()


@scenario
def properties_after_stop(folder: str) -> None:
    listener = pybuntcp.listen(socket=QUIET, **TCP)
    port = listener.port
    listener.stop()
    actor("listener")(f"port {'kept' if listener.port == port else listener.port}")
    actor("listener")(f"hostname {listener.hostname}")
    actor("listener")(f"fd {listener.fd}")
    attempt(actor("listener"), "stop again", listener.stop)


if __name__ == "__main__":
    main()
