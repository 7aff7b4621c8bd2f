"""What a reader must know to understand a run's figures rightly."""

from __future__ import annotations

from typing import Final

from tai_grpc.load.durations import format_duration
from tai_grpc.load.report.figures import LATE_NS, late
from tai_grpc.load.report.text import plural
from tai_grpc.load.result import LoadResult

CLOSED_LOOP_NOTE: Final = (
    "Closed loop: a worker sends its next request only after the last response, so the time that requests "
    "would have queued while the server was slow is left out of these latencies."
)
FROM_SENT_NOTE: Final = (
    "Latencies count from when each call was sent, not from when it was due: the time that calls waited to "
    "be sent is left out of them."
)
BUSY: Final = 0.9
"""From this part of a core on, the engine is called the limit."""
LATE_SHARE: Final = 0.01
"""From this part of the calls on, late sends are told."""


def notes(result: LoadResult) -> tuple[str, ...]:
    """Return a sentence or two for each thing that shapes the figures, what casts doubt on them first."""
    found = []
    if result.failure:
        found.append(f"Cut short: {result.failure}.")
    if result.engine_cpu >= BUSY:
        found.append(
            f"The load generator was the limit: its busiest thread took {result.engine_cpu:.0%} of a core. "
            "Rates and latencies are its own as much as the server's; give it more threads or processes."
        )
    if result.missed:
        found.append(
            f"{plural(result.missed, 'call')} due before the run ended {_were(result.missed)} not sent: the "
            "rate was not reached, and the latencies are of those that were sent."
        )
    if (behind := late(result.send_lag)) > LATE_SHARE * result.send_lag.count:
        found.append(
            f"{plural(behind, 'call')} {_were(behind)} sent over {format_duration(LATE_NS)} after being due: "
            f"{_held_up_by(result)} held them up"
            f"{'.' if result.plan.closed else ', and the latencies count from when they were due.'}"
        )
    if (limit := result.stream_limit) is not None:
        found.append(
            f"The server allows {plural(limit, 'stream')} a connection, and calls waited for one: give more "
            f"than {plural(result.plan.connections, 'connection')}, or less concurrency."
        )
    if result.starved:
        found.append(
            f"{plural(result.starved, 'send')} waited for the request to be rendered from its template: the "
            "rate is that of the templates."
        )
    for histogram, what in ((result.latencies, "took longer"), (result.send_lag, "waited longer to be sent")):
        if clamped := histogram.clamped:
            found.append(
                f"{plural(clamped, 'call')} {what} than {format_duration(histogram.highest)} and "
                f"{_were(clamped)} counted as that."
            )
    if result.reconnects:
        found.append(
            f"{plural(result.reconnects, 'connection')} {_were(result.reconnects)} lost or closed by the "
            "server, and made again."
        )
    if result.sent_again:
        found.append(
            f"{plural(result.sent_again, 'call')} {_were(result.sent_again)} refused by the server "
            "unprocessed and sent once more, each counted once: it had so many more requests than that."
        )
    if result.failed:
        found.append("Failed calls are counted by status and left out of the latencies.")
    if result.abandoned:
        found.append(
            f"Stopped with {plural(result.abandoned, 'call')} in flight, which {_are(result.abandoned)} not "
            "counted."
        )
    if result.plan.schedule is None:
        found.append(CLOSED_LOOP_NOTE)
    elif result.plan.closed:
        found.append(FROM_SENT_NOTE)
    return tuple(found)


def _held_up_by(result: LoadResult) -> str:
    if result.stream_limit is not None:
        return "the server's limit of streams"
    return f"the load generator, or the concurrency of {result.plan.concurrency},"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
