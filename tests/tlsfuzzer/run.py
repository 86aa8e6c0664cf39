"""tlsfuzzer against pybuntcp and against Python's own `ssl`: where does ours fail, and `ssl` does not?

    make tlsfuzzer TLSFUZZER=/path                  every script; /path: see source.py, needed once
    make tlsfuzzer ARGS="keyupdate alpn"            those scripts whose label has one of the words in it
    make tlsfuzzer ARGS="--engine stdlib --list"    one engine of ours; or only say what would be run

tlsfuzzer judges a server by what a strict reading of the RFCs asks for, and a server that is made of OpenSSL does not
pass all of it. So the judge is the comparison: each script has the same conversations (seeded, at most as many as the
list says) with both servers of server.py, which have the same OpenSSL and the same configuration, one script at a time.
A conversation that fails on ours and passes on `ssl` is a difference. Those that are meant are in scripts.KNOWN, with
the reason; any other makes the exit code 1. A difference is looked for twice: what does not come again was a matter of
time on a busy machine, and is told apart.

The output of every script is kept in build/tlsfuzzer/output, one file for a script and a server, and the table with all
that it says in build/tlsfuzzer/report.txt. Needs the `openssl` program, which makes the certificates.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import certificates
import source
from results import Difference, Result, differences, read_output, unexplained, unlike
from scripts import KNOWN, SCRIPTS, Script, Server

HERE = Path(__file__).resolve().parent
REFERENCE = "ssl"
ENGINES = ("borrowed", "stdlib")
CERTIFICATES = source.BUILD / "certificates"
OUTPUT = source.BUILD / "output"
REPORT = source.BUILD / "report.txt"
SECONDS = 90.0  # a script's bound
STARTING = 20.0  # a server's
NICE = 5


# ---------------------------------------------------------------------------- servers


class Running:
    """A server process of one kind: `ssl`, `borrowed` or `stdlib`. Started again if it is found dead."""

    def __init__(self, kind: str, server: Server) -> None:
        self.kind, self.server = kind, server
        self.process: subprocess.Popen[str] | None = None
        self.port, self.openssl = 0, ""

    def start(self) -> None:
        wanted = OUTPUT / f"{self.server.name}.json"
        wanted.write_text(json.dumps(as_given(self.server)), encoding="utf-8")
        how = "ssl" if self.kind == REFERENCE else "pybuntcp"
        environment = {name: value for name, value in os.environ.items() if name != "PYBUNTCP_TLS_ENGINE"}
        if self.kind == "stdlib":
            environment["PYBUNTCP_TLS_ENGINE"] = "stdlib"
        with open(OUTPUT / f"{self.server.name}-server.{self.kind}.txt", "a", encoding="utf-8") as complaints:
            command = [sys.executable, str(HERE / "server.py"), how, str(wanted)]
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=complaints, env=environment, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the server {self.server.name} ({self.kind}) did not start: see {complaints.name}")
        told = json.loads(line)
        if told["engine"] != self.kind:
            raise SystemExit(f"the engine {self.kind} is not to be had here: it is {told['engine']}")
        self.port, self.openssl = told["port"], told["openssl"]

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def as_given(server: Server) -> dict[str, object]:
    """What server.py reads."""
    given = asdict(server)
    given["cert"] = str(CERTIFICATES / f"{server.certificate}.pem")
    given["key"] = str(CERTIFICATES / f"{server.certificate}.key")
    given["client_ca"] = str(certificates.authorities(CERTIFICATES, server.client_ca)) if server.client_ca else ""
    given["dh_params"] = str(CERTIFICATES / "dh.pem")
    return given


@contextlib.contextmanager
def running(kinds: list[str], server: Server) -> Iterator[dict[str, Running]]:
    servers = {kind: Running(kind, server) for kind in kinds}
    try:
        for each in servers.values():
            each.start()
        yield servers
    finally:
        for each in servers.values():
            each.stop()


# ---------------------------------------------------------------------------- scripts


def play(script: Script, server: Running, path: str) -> Result:
    """One script against one server. A server that it has ended is told as a failure of its own."""
    if not server.alive():
        server.start()
    command = ["nice", "-n", str(NICE), sys.executable, str(HERE / "play.py"), script.module]
    command += ["-h", "localhost", "-p", str(server.port), *map(with_files, script.arguments)]
    command += [] if script.bound is None else ["-n", str(script.bound)]
    kept = OUTPUT / f"{re.sub(r'[^A-Za-z0-9._=-]+', '_', script.label)}.{server.kind}.txt"
    with open(kept, "w", encoding="utf-8") as output:
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
        try:
            subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            output.write(f"\nstopped after {SECONDS} s\n")
    result = read_output(kept.read_text(encoding="utf-8", errors="replace"))
    if not server.alive():
        result.failed["(the server)"] = f"ended, {server.process.returncode if server.process else None}"
    return result


def with_files(argument: str) -> str:
    return re.sub(r"\{(.+?)\}", lambda found: str(CERTIFICATES / found[1]), argument)


# ---------------------------------------------------------------------------- the comparison


@dataclass
class Row:
    script: Script
    results: dict[str, Result] = field(default_factory=dict)
    found: dict[str, list[Difference]] = field(default_factory=dict)
    passing: list[str] = field(default_factory=list)  # differences that did not come again
    seconds: float = 0.0

    def __str__(self) -> str:
        cells = [f"{len(result.failed):>4}{' ' if result.ended else '!'}" for result in self.results.values()]
        mark = "  <--" if any(self.found.values()) else ""
        return f"{self.script.label[:78]:<78} {len(self.results[REFERENCE].ran):>5} {' '.join(cells):>18} {self.seconds:>5.0f} s{mark}"


def compare(script: Script, servers: dict[str, Running], path: str) -> Row:
    row, began = Row(script), time.monotonic()
    for kind, server in servers.items():
        row.results[kind] = play(script, server, path)
    for kind in servers:
        if kind != REFERENCE:
            row.found[kind] = confirmed(row, kind, lambda each: play(script, servers[each], path))
    row.seconds = time.monotonic() - began
    return row


def confirmed(row: Row, kind: str, again: Callable[[str], Result]) -> list[Difference]:
    """The differences that are there a second time. If the reference fails in the second, it was a matter of time."""
    label = row.script.label
    first = differences(label, row.results[REFERENCE], row.results[kind])
    if not first:
        return []
    second = differences(label, again(REFERENCE), again(kind))
    names = {each.conversation for each in second}
    row.passing += [f"{each} ({kind})" for each in first if each.conversation not in names]
    return [each for each in first if each.conversation in names]


def report(rows: list[Row], kinds: list[str], openssl: str, seconds: float, say: Callable[[str], None]) -> bool:
    """What was found, and whether all of it is documented."""
    scripts = len(rows)
    conversations = sum(len(row.results[REFERENCE].ran) for row in rows)
    failing = sum(len(row.results[REFERENCE].failed) for row in rows)
    say(
        f"\n{scripts} scripts, {conversations} conversations with each server, {failing} fail on {REFERENCE}; {openssl}; {seconds:.0f} s"
    )
    say(f"tlsfuzzer {source.COMMIT}")
    fine = True
    for kind in kinds:
        if kind == REFERENCE:
            continue
        found = [each for row in rows for each in row.found[kind]]
        new = unexplained(found, KNOWN)
        fine = fine and not new
        tell(say, f"{kind}: fail on ours and not on {REFERENCE}, and are not documented", new)
        tell(say, f"{kind}: documented differences", [each for each in found if each not in new])
        odd = [
            f"{row.script.label}: {each}" for row in rows for each in unlike(row.results[REFERENCE], row.results[kind])
        ]
        tell(say, f"{kind}: fail on both, for different reasons", odd)
    tell(say, "failed once on ours, and not a second time", [each for row in rows for each in row.passing])
    return fine


def tell(say: Callable[[str], None], title: str, found: list[object]) -> None:
    say(f"\n{title}: {len(found)}")
    for each in found:
        say(f"  {each}")


# ---------------------------------------------------------------------------- the command


def chosen(words: list[str]) -> list[Script]:
    return [script for script in SCRIPTS if not words or any(word in script.label for word in words)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="run the scripts whose label has one of these in it")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="of ours; both by default")
    parser.add_argument("--list", action="store_true", help="print the labels, and run nothing")
    given = parser.parse_args()
    scripts = chosen(given.words)
    if given.list or not scripts:
        print("\n".join(script.label for script in scripts) or "no such script")
        return 0 if scripts else 2
    path = os.pathsep.join(map(str, (source.provide(os.environ.get("TLSFUZZER")), source.packages())))
    certificates.make_all(CERTIFICATES)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    return run(scripts, [REFERENCE, *(given.engine or ENGINES)], path)


def run(scripts: list[Script], kinds: list[str], path: str) -> int:
    rows, openssl, began = [], "", time.monotonic()
    with open(REPORT, "w", encoding="utf-8") as kept:

        def say(line: str) -> None:
            print(line, flush=True)
            print(line, file=kept, flush=True)

        say(f"{'script':<78} {'convs':>5} {' '.join(f'{kind[:5]:>5}' for kind in kinds):>18}")
        for server in dict.fromkeys(script.server for script in scripts):
            with running(kinds, server) as servers:
                openssl = servers[REFERENCE].openssl
                for script in scripts:
                    if script.server == server:
                        rows.append(compare(script, servers, path))
                        say(str(rows[-1]))
        return 0 if report(rows, kinds, openssl, time.monotonic() - began, say) else 1


if __name__ == "__main__":
    sys.exit(main())
