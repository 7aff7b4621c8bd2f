"""What ghz has and this command has not, and what to take instead."""

from __future__ import annotations

from typing import Final

_OWN_CONCURRENCY: Final = "give -c; for load that changes over time give a rate: --load-schedule"

LEFT_OUT: Final = {
    "concurrency-schedule": _OWN_CONCURRENCY,
    "concurrency-start": _OWN_CONCURRENCY,
    "concurrency-end": _OWN_CONCURRENCY,
    "concurrency-step": _OWN_CONCURRENCY,
    "concurrency-step-duration": _OWN_CONCURRENCY,
    "concurrency-max-duration": _OWN_CONCURRENCY,
    "skipFirst": "give --warmup, in seconds",
    "count-errors": "latencies are of the calls that ended OK; failed ones are counted by status",
    "keepalive": "connections under load need no pings",
    "lb-strategy": "give several hosts: connections go to them in turn",
    "max-send-message-size": "requests are sent whatever their size",
    "debug": "there is no log of each call; -O json has the intervals of the run",
}
"""Options of ghz, and the sentence about each."""
