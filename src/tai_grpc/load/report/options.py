"""What a run was asked to do, by ghz's names where ghz has one."""

from __future__ import annotations

from typing import Any

from tai_grpc.load.durations import to_ns
from tai_grpc.load.plan import LoadPlan, Schedule


def options(plan: LoadPlan) -> dict[str, Any]:
    """Return the plan for a JSON report. Durations are nanoseconds; data, metadata and keys are left out."""
    found: dict[str, Any] = {
        "call": plan.method.full_name,
        "host": ",".join(plan.hosts),
        "insecure": plan.tls is None,
    }
    if plan.tls is not None:
        found["skipTLS"] = not plan.tls.verify
        if plan.tls.server_name is not None:
            found["cname"] = plan.tls.server_name
    if plan.authority is not None:
        found["authority"] = plan.authority
    if plan.gzip:
        found["enable-compression"] = True
    found |= {"loop": "closed" if plan.schedule is None else "open"}
    if plan.schedule is not None:
        found |= _schedule(plan.schedule)
        found["latency-from"] = "sent" if plan.closed else "due"
    found |= {"concurrency": plan.concurrency, "connections": plan.connections}
    if plan.total is not None:
        found["total"] = plan.total
    if plan.duration is not None:
        found |= {"duration": to_ns(plan.duration), "duration-stop": plan.at_end.value}
    found |= {
        "warmup": to_ns(plan.warmup),
        "timeout": to_ns(plan.timeout),
        "dial-timeout": to_ns(plan.connect_timeout),
        "threads": plan.threads,
        "max-recv-message-size": plan.max_message_bytes,
    }
    if plan.method.client_streaming or plan.method.server_streaming:
        found["stream-interval"] = to_ns(plan.streaming.interval)
        if plan.streaming.messages is not None:
            found["stream-call-count"] = plan.streaming.messages
        if plan.streaming.duration is not None:
            found["stream-call-duration"] = to_ns(plan.streaming.duration)
    return found


def _schedule(schedule: Schedule) -> dict[str, Any]:
    """A constant rate as `rps`; any other schedule by its segments."""
    first = schedule.segments[0]
    found: dict[str, Any] = {}
    if len(schedule.segments) == 1 and first.start == first.end:
        found["rps"] = first.start
    else:
        found["schedule"] = [
            {
                "duration": None if segment.duration is None else to_ns(segment.duration),
                "start": segment.start,
                "end": segment.end,
            }
            for segment in schedule.segments
        ]
    return found | {"arrivals": schedule.arrivals.value}
