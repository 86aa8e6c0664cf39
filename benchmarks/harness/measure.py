"""The ways of measuring a `Row`, one for each kind of load.

Promises: the server's accounts are read only while nothing is in flight, so the CPU belongs to exactly the messages counted; a fresh server and a fresh load for each sample.
Memory is the slope between two numbers of open connections, so what a server costs by existing does not count.
It does not know: what is asked and why (questions.py), how a load speaks TLS (tls.py), what is done with a sample.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from harness.accounts import Cpu, count_descriptors, read_cpu, read_family, read_memory, read_threads, read_wakeups
from harness.build import HERE, compile_program
from harness.foreign_loads import BUSY_ABOVE, DATABASES, redis_benchmark, wrk
from harness.processes import Load, MeasurementError, Server
from harness.questions import Plan, Row, Sample
from harness.runtimes import Peer
from harness.tls import flood_command, options, tls_command

SETTLE_SECONDS = 0.3
SLACK_SECONDS = 45.0
LOAD_MODES = {"wakeups": "idle", "upload": "echo", "download": "echo"}  # where the load has another word
IDLE_TIMES = 2.5  # an idle server is watched for that many windows
REQUESTS_A_SECOND = 60_000  # about what one connection after the other asks; makes a sample last as long as others


def load_command(row: Row, port: int, plan: Plan) -> list[str]:
    if row.tls:
        return tls_command(row, port, plan)
    asked = {
        "mode": LOAD_MODES.get(row.mode, row.mode),
        "port": port,
        "connections": row.connections,
        "size": row.size,
        "depth": row.depth,
        "base": row.base,
        "warmup": plan.warmup,
        "seconds": plan.seconds,
    }
    asked |= {name: value for name in ("reply", "rate", "stalled") if (value := getattr(row, name))}
    return [str(compile_program("load/load.c")), *options(asked), *(["--touch"] if row.touch else [])]


def measure(row: Row, peer: Peer, plan: Plan) -> Sample:
    """One sample, or the reason why there is none under `error`."""
    cores = plan.cores.all if row.threads else plan.cores.server
    try:
        if row.mode == "client":
            return measure_client(row, peer, plan)
        if row.mode == "alone":
            return measure_alone(row, peer, plan)
        with (
            upstream_of(row, plan) as upstream,
            Server(peer.name, peer.start_command(row.server_mode, row.threads, upstream), cores) as server,
        ):
            if row.mode == "resp":
                return measure_requests(row, server, plan)
            if row.mode == "http":
                return measure_http(row, server, plan)
            with Load("load", load_command(row, server.port, plan), cores if row.threads else plan.cores.load) as load:
                if row.mode == "wakeups":
                    return measure_wakeups(row, server, load, plan)
                if row.mode == "idle":
                    return measure_memory(row, server, load)
                return (measure_fixed if row.mode == "fixed" else measure_cpu)(row, server, load, plan)
    except (MeasurementError, OSError) as error:
        return {"error": str(error)}


@contextlib.contextmanager
def upstream_of(row: Row, plan: Plan) -> Iterator[int]:
    """The port of what is behind a proxy, on the load's core; 0 = nothing is."""
    if row.server_mode != "proxy":
        yield 0
        return
    command = [str(compile_program("servers/c_epoll.c")), "--mode", row.mode, "--host", "127.0.0.1", "--port", "0"]
    with Server("the server behind it", command, plan.cores.load) as upstream:
        yield upstream.port


def measure_cpu(row: Row, server: Server, load: Load, plan: Plan) -> Sample:
    ready = load.await_event("ready", plan.warmup + SLACK_SECONDS)
    before, load_before, threads_before = read_cpu(server.pid), read_cpu(load.pid), read_threads(server.pid)
    load.say("measure")
    done = load.await_event("done", plan.seconds + SLACK_SECONDS)
    used, load_used = read_cpu(server.pid).since(before), read_cpu(load.pid).since(load_before)
    waited = 0 if row.threads else max(used.waited_ns, load_used.waited_ns)  # threads share the load's cores
    sample = {
        **cpu_figures(used, done["messages"], done["seconds"]),
        "waited_share": waited / 1e9 / done["seconds"],
        **{k: done[k] for k in ("messages", "seconds", "rate", "p50_us", "p99_us", "p999_us", "max_us", "generator")},
    }
    if row.threads:
        sample["unevenness"] = unevenness(threads_before, read_threads(server.pid), row.threads)
    if row.tls:
        sample |= {k: ready[k] for k in ("openssl", "version", "suite")} | {k: done[k] for k in ("attempts", "resumed")}
    if row.resume and done["resumed"] != done["attempts"]:
        raise MeasurementError(f"{done['resumed']} of {done['attempts']} sessions were resumed")
    return sample


def measure_fixed(row: Row, server: Server, load: Load, plan: Plan) -> Sample:
    """Latency counts from when a message was due. With a flood, the server's CPU is not the messages'."""
    if not row.flood:
        return measure_latency(row, server, load, plan)
    with Load("flood", flood_command(row, server.port, plan), plan.cores.load) as flood:
        flood.await_event("ready", plan.warmup + SLACK_SECONDS)
        flood.say("measure")
        time.sleep(plan.warmup)
        sample = measure_latency(row, server, load, plan)
        done = flood.await_event("done", plan.seconds + SLACK_SECONDS)
    return sample | {"flood": done["rate"], "flood_generator": done["generator"]}


def measure_latency(row: Row, server: Server, load: Load, plan: Plan) -> Sample:
    """Of what is measured, what the rate does not decide."""
    sample = measure_cpu(row, server, load, plan)
    return {k: v for k, v in sample.items() if k not in ("cpu_us", "user_us", "system_us", "rate")}


def cpu_figures(used: Cpu, messages: int, seconds: float) -> Sample:
    cpu_us = used.total_ns / 1000 / messages
    return {
        "cpu_us": cpu_us,
        "user_us": cpu_us * used.user_share,
        "system_us": cpu_us * (1 - used.user_share),
        "ticks": used.user_ticks + used.system_ticks,
        "server_share": used.total_ns / 1e9 / seconds,
        "waited_share": used.waited_ns / 1e9 / seconds,
    }


def unevenness(before: dict[int, int], after: dict[int, int], threads: int) -> float:
    """How far the busiest of the working threads is above an even share of their CPU; 0 = even."""
    used = sorted((after[task] - before.get(task, 0) for task in after), reverse=True)[:threads]
    return used[0] / (sum(used) / threads) - 1


def measure_requests(row: Row, server: Server, plan: Plan) -> Sample:
    """The load is redis-benchmark: a number of requests, not a time."""
    requests = int(plan.seconds * REQUESTS_A_SECOND * max(1, row.depth // 2))
    redis_benchmark(row, server.port, requests // 10, plan.cores.load)
    before = read_cpu(server.pid)
    done = redis_benchmark(row, server.port, requests, plan.cores.load)
    used = read_cpu(server.pid).since(before)
    return cpu_figures(used, requests, done["seconds"]) | done


def measure_http(row: Row, server: Server, plan: Plan) -> Sample:
    """The load is wrk; what it has in flight when it stops is answered, and not counted: at most one request a connection."""
    wrk(row, server.port, plan.warmup, plan.cores.load)
    before = read_cpu(server.pid)
    done = wrk(row, server.port, plan.seconds, plan.cores.load)
    used = read_cpu(server.pid).since(before)
    return cpu_figures(used, done["messages"], done["seconds"]) | done


def measure_client(row: Row, peer: Peer, plan: Plan) -> Sample:
    """The program that asks is measured; the database that answers is the load."""
    behind = [sys.executable, str(HERE / "servers" / DATABASES[row.behind][1]), "--mode", row.behind]
    asked = {"connections": row.connections, "warmup": plan.warmup, "seconds": plan.seconds}
    with (
        Server(row.behind, [*behind, "--host", "127.0.0.1", "--port", "0"], plan.cores.load) as database,
        Load(
            peer.name, peer.start_command(row.server_mode, 0, database.port) + options(asked), plan.cores.server
        ) as it,
    ):
        it.await_event("ready", plan.warmup + SLACK_SECONDS)
        others_before = read_family(database.pid)
        sample = measure_program(it, plan)
        share = (read_family(database.pid) - others_before) / 1e9 / sample["seconds"]
    return sample | {"generator": {"share": share, "bottleneck": share > BUSY_ABOVE}}


def measure_alone(row: Row, peer: Peer, plan: Plan) -> Sample:
    """A program that talks to nobody."""
    asked = {"warmup": plan.warmup, "seconds": plan.seconds}
    with Load(peer.name, peer.start_command(row.server_mode) + options(asked), plan.cores.server) as it:
        it.await_event("ready", plan.warmup + SLACK_SECONDS)
        return measure_program(it, plan)


def measure_program(it: Load, plan: Plan) -> Sample:
    """A program that is ready and counts what it does itself; until it is told to begin, and when it is done, it rests."""
    before = read_cpu(it.pid)
    it.say("measure")
    done = it.await_event("done", plan.seconds + SLACK_SECONDS)
    used = read_cpu(it.pid).since(before)
    return cpu_figures(used, done["messages"], done["seconds"]) | done


def await_accepted(server: Server, connections: int) -> None:
    """The kernel completes connections before the server has seen them: wait until it has, then let it come to rest."""
    until = time.monotonic() + 15
    while count_descriptors(server.pid) < connections:
        if time.monotonic() > until:
            raise MeasurementError(f"{server.name} accepted fewer than {connections} connections in 15 s")
        time.sleep(0.02)
    time.sleep(SETTLE_SECONDS)


def measure_wakeups(row: Row, server: Server, load: Load, plan: Plan) -> Sample:
    """What the server does while its connections are open and silent."""
    load.await_event("ready", SLACK_SECONDS)
    load.say("open")
    load.await_event("open", SLACK_SECONDS)
    await_accepted(server, row.base + row.connections)
    cpu, wakeups, began = read_cpu(server.pid), read_wakeups(server.pid), time.monotonic()
    time.sleep(plan.seconds * IDLE_TIMES)
    used, seconds = read_cpu(server.pid).since(cpu), time.monotonic() - began
    return {"idle_cpu_ms": used.total_ns / 1e6, "wakeups": read_wakeups(server.pid) - wakeups, "seconds": seconds}


def measure_memory(row: Row, server: Server, load: Load) -> Sample:
    load.await_event("ready", SLACK_SECONDS)
    await_accepted(server, row.base)
    before = read_memory(server.pid)
    load.say("open")
    opened = load.await_event("open", SLACK_SECONDS)
    await_accepted(server, row.base + row.connections)
    after = read_memory(server.pid)
    return {
        **{f"{kind}_bytes": (after[kind] - before[kind]) / row.connections for kind in after},
        **{k: opened[k] for k in ("version", "suite") if k in opened},
        "before": before,
        "after": after,
    }
