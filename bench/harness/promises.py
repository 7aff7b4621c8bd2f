"""The figures to reach: what is promised of each part, in the mission's words and in ours."""

from __future__ import annotations

from typing import Final

from bench.harness.results import Promise

BREAKER: Final = Promise("breaker check", "< 1 us", "<= 2 x a no-op compiled call; >= 10 x pybreaker")
PRIMITIVES: Final = Promise(
    "token bucket, histogram record, counter, pick of 3",
    "-",
    "<= 3 x a no-op compiled call; a pick of 1,000 <= 2 x one of 3, log-like for the exact least-loaded",
)
BALANCER_SHARE: Final = Promise("balancer's share of a call", "< 0.1 %", "< 0.1 % of the sequential call")
UNARY: Final = Promise("unary, sequential p50", "5-10 ms", "<= 2 x the raw TCP ping-pong of the same run")
STREAMING: Final = Promise(
    "streaming, a message", "1-5 ms", ">= 300k messages/s one stream; >= 20 x grpcio aio"
)
SINGLE_CLIENT: Final = Promise("single client", "10,000 req/s", ">= 60k req/s, one process, resilience on")
TEN_CLIENTS: Final = Promise(
    "10 clients",
    "100,000 req/s",
    ">= 120k req/s with 10 connections from our load engine to one server process with Python handlers; "
    ">= 30 x grpcio aio; >= 3 x pygrpc-native; level with tonic or ahead",
)
CONNECTIONS: Final = Promise("connections", "1,000+", "10,000 idle beside a working one, none refused")
MEMORY: Final = Promise(
    "memory of an idle connection / request / breaker / metrics of a service",
    "64 KB / 16 KB / 256 B / 1 KB",
    "<= 16 KB / <= 4 KB / <= 64 B / <= 1 KB for counters (histograms stated apart)",
)
RESILIENCE: Final = Promise("whole resilience stack on a call", "-", "<= 3 us over the bare native call")
GENERATORS: Final = Promise(
    "load generators against one native server",
    "-",
    "ours >= 2 x ghz and >= 2 x any other Python client, from one core; >= 0.75 x h2load",
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
