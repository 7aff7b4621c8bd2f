"""The engines of a run: each a thread's, with its share of the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from tai_grpc._ext.load.engine import Engine, Target
from tai_grpc._ext.load.source import Source
from tai_grpc._ext.load.tls import TlsContext
from tai_grpc._version import __version__
from tai_grpc.errors import ConfigError
from tai_grpc.load.addresses import Address, default_authority, find, host_name
from tai_grpc.load.durations import to_ns
from tai_grpc.load.plan import Arrivals, AtEnd, LoadPlan, TlsPlan

_LONG_WAIT: Final = 4 * 3600.0
"""Seconds that a call of an open loop may have waited in a run that its duration does not end."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of several processes that share a plan: number `index`, from 0, of `count`."""

    index: int = 0
    count: int = 1


WHOLE: Final = Part()


@dataclass(frozen=True, slots=True)
class Engines:
    """What makes the load of one process. `targets`: the plan's hosts, once for each engine that has it."""

    source: Source
    engines: tuple[Engine, ...]
    targets: tuple[Target, ...]


def shares(whole: int, parts: int) -> list[int]:
    """Return `whole` in parts that differ by at most 1, the larger ones first."""
    return [whole // parts + (index < whole % parts) for index in range(parts)]


@contextmanager
def open_engines(plan: LoadPlan, part: Part) -> Iterator[Engines]:
    """Make the engines of a process. They are not connected yet.

    Raises:
        UnreachableError: a host's name is unknown.
        ConfigError: the plan's TLS texts cannot be used, or no descriptors are left for so many threads.
    """
    with ExitStack() as stack:
        source = _source(plan, part)
        stack.callback(source.close)
        places = [find(host) for host in plan.hosts]
        tls = None if plan.tls is None else _tls(plan.tls)
        engines, targets = [], []
        for index in range(part.index * plan.threads, (part.index + 1) * plan.threads):
            used = _targets(plan, index, part.count * plan.threads, places, tls)
            try:
                engine = _engine(plan, index, part.count * plan.threads, used, source)
            except OSError:
                accepted = "no more than there are descriptors for: see ulimit -n"
                raise ConfigError("threads", plan.threads, accepted) from None
            stack.callback(engine.close)
            engines.append(engine)
            targets += used
        yield Engines(source, tuple(engines), tuple(targets))


def _source(plan: LoadPlan, part: Part) -> Source:
    fixed = plan.requests.fixed
    return Source(
        total=None if plan.total is None else shares(plan.total, part.count)[part.index],
        fixed=None if fixed is None else [(each.messages, each.metadata) for each in fixed],
        first=part.index,
        step=part.count,
        gzip=plan.gzip,
    )


def _tls(plan: TlsPlan) -> TlsContext:
    return TlsContext(ca=plan.ca, certificate=plan.certificate, key=plan.key, verify=plan.verify)


def _targets(
    plan: LoadPlan, index: int, engines: int, places: Sequence[Sequence[Address]], tls: TlsContext | None
) -> list[Target]:
    """Return the hosts of one engine's connections: over all engines they take turns."""
    connections = shares(plan.connections, engines)
    first = sum(connections[:index])
    return [
        _target(plan, plan.hosts[each % len(places)], places[each % len(places)], tls)
        for each in range(first, first + min(len(places), connections[index]))
    ]


def _target(plan: LoadPlan, host: str, addresses: Sequence[Address], tls: TlsContext | None) -> Target:
    return Target(
        host,
        addresses=addresses,
        authority=plan.authority or default_authority(host),
        tls=tls,
        server_name=(plan.tls.server_name if plan.tls else None) or host_name(host),
        highest_ns=to_ns(_longest(plan)),
    )


def _longest(plan: LoadPlan) -> float:
    """Return how many seconds a call may take, from when it was due.

    Twice the timeout: one that ends late by the machine's fault is still inside. In an open loop it may have
    waited since measuring began.
    """
    waited = 0.0 if plan.schedule is None else _LONG_WAIT if plan.duration is None else plan.duration
    return max(waited + 2 * plan.timeout, 60.0)


def _engine(plan: LoadPlan, index: int, engines: int, targets: Sequence[Target], source: Source) -> Engine:
    schedule, streaming = plan.schedule, plan.streaming
    return Engine(
        targets,
        source,
        path=plan.method.path,
        client_streaming=plan.method.client_streaming,
        server_streaming=plan.method.server_streaming,
        connections=shares(plan.connections, engines)[index],
        concurrency=shares(plan.concurrency, engines)[index],
        timeout_ns=to_ns(plan.timeout),
        user_agent=f"tai-grpc-load/{__version__}",
        stream_interval_ns=to_ns(streaming.interval),
        stream_messages=-1 if streaming.messages is None else streaming.messages,
        stream_duration_ns=-1 if streaming.duration is None else to_ns(streaming.duration),
        segments=None
        if schedule is None
        else [(each.duration, each.start, each.end) for each in schedule.segments],
        poisson=schedule is not None and schedule.arrivals is Arrivals.POISSON,
        seed=index,  # the same arrivals in every run, so that runs can be compared
        first_arrival=float(index),
        arrival_step=float(engines),
        closed=plan.closed,
        end_waits=plan.at_end is AtEnd.WAIT,
        max_message_bytes=plan.max_message_bytes,
    )
