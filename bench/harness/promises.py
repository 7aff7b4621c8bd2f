"""The figures to reach: what is promised of each part, in the mission's words and in ours, and the limits."""

from __future__ import annotations

from math import log
from typing import Final

from bench.harness.results import Promise
from bench.micro.statements import FEW, MANY

BREAKER: Final = Promise(
    "breaker check",
    "< 1 us",
    "<= {noops:g} x a no-op compiled call; >= {pybreaker:g} x pybreaker",
    {"noops": 2, "pybreaker": 10},
)
PRIMITIVES: Final = Promise(
    "token bucket, histogram record, counter, pick of 3",
    "-",
    "<= {noops:g} x a no-op compiled call; a pick of 1,000 <= {many:g} x one of 3, log-like ({tree:.2f} x) "
    "for the exact least-loaded",
    {"noops": 3, "many": 2, "tree": log(MANY) / log(FEW)},
)
BALANCER_SHARE: Final = Promise(
    "balancer's share of a call", "< 0.1 %", "< {percent:g} % of the sequential call", {"percent": 0.1}
)
UNARY: Final = Promise(
    "unary, sequential p50",
    "5-10 ms",
    "<= {pings:g} x a TCP ping-pong, on uvloop as well, of the same run",
    {"pings": 2},
)
STREAMING: Final = Promise(
    "streaming, a message",
    "1-5 ms",
    ">= {messages:,} messages/s one stream; >= {grpcio:g} x grpcio aio",
    {"messages": 300_000, "grpcio": 20},
)
SINGLE_CLIENT: Final = Promise(
    "single client", "10,000 req/s", ">= {calls:,} req/s, one process, resilience on", {"calls": 60_000}
)
TEN_CLIENTS: Final = Promise(
    "10 clients",
    "100,000 req/s",
    ">= {calls:,} req/s with 10 connections from our load engine to one server process with Python handlers; "
    ">= {grpcio:g} x grpcio aio; >= {pygrpc:g} x pygrpc-native; level with tonic ({level:g} x) or ahead",
    # The machine's figures vary by so much that 0.95 is level.
    {"calls": 120_000, "grpcio": 30, "pygrpc": 3, "level": 0.95},
)
CONNECTIONS: Final = Promise(
    "connections",
    "1,000+",
    "{connections:,} idle beside a working one, none refused, and its calls take <= {beside:g} x as long",
    # That idle connections cost a call nothing is not to be told from a fifth on a machine that others use.
    {"connections": 10_000, "beside": 1.2},
)
MEMORY: Final = Promise(
    "memory of an idle connection / request / breaker / metrics of a service",
    "64 KB / 16 KB / 256 B / 1 KB",
    "<= {connection:,} B / <= {call:,} B / <= {state:g} B in an arena, <= {breaker:g} B as an object / "
    "<= {metrics:,} B for counters (histograms stated apart)",
    {"connection": 16 * 1024, "call": 4 * 1024, "state": 64, "breaker": 256, "metrics": 1024},
)
RESILIENCE: Final = Promise(
    "whole resilience stack on a call",
    "-",
    "<= {us:g} us over the bare native call: of the client's CPU when busy, and of the latency when not",
    {"us": 3},
)
GENERATORS: Final = Promise(
    "load generators against one native server",
    "-",
    "ours >= {others:g} x ghz and >= {others:g} x any Python client, from one core; >= {h2load:g} x h2load",
    {"others": 2, "h2load": 0.75},
)
PROMISES: Final = (
    BREAKER,
    PRIMITIVES,
    BALANCER_SHARE,
    UNARY,
    STREAMING,
    SINGLE_CLIENT,
    TEN_CLIENTS,
    CONNECTIONS,
    MEMORY,
    RESILIENCE,
    GENERATORS,
)
"""In the order of the table."""
