"""Trace context: which headers are read, what is passed on, and how far the current trace reaches."""

import asyncio
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from tai_grpc.observability.tracing import ServedTrace, TraceContext, current_trace, trace_scope

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{SPAN}-01"

WELL_FORMED = {
    HEADER: 1,
    f"00-{TRACE}-{SPAN}-00": 0,
    f"00-{TRACE}-{SPAN}-03": 3,
    # Reserved flags are not passed on.
    f"00-{TRACE}-{SPAN}-ff": 3,
    # A later version may append fields; what is known of it is read.
    f"cc-{TRACE}-{SPAN}-01": 1,
    f"cc-{TRACE}-{SPAN}-01-what-the-future-brings": 1,
}
MALFORMED = [
    "",
    "00",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE}-{SPAN}-",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE}-{SPAN}-001",
    f"00-{TRACE}-{SPAN}-0g",
    f"00-{TRACE}-{SPAN}-01-",
    f"00-{TRACE}-{SPAN}-01-more",
    f"cc-{TRACE}-{SPAN}-01.more",
    f"ff-{TRACE}-{SPAN}-01",
    f"0-{TRACE}-{SPAN}-01",
    f"0x-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE}-{SPAN.upper()}-01",
    f"00-{TRACE[:-1]}-{SPAN}-01",
    f"00-{TRACE}f-{SPAN}-01",
    f"00_{TRACE}_{SPAN}_01",
    f" {HEADER}",
    f"{HEADER} ",
    f"{HEADER}\n",
]


def read(**headers: str | bytes) -> TraceContext | None:
    return TraceContext.from_metadata((name.replace("_", "-"), value) for name, value in headers.items())


@pytest.mark.parametrize("header", WELL_FORMED)
def test_a_well_formed_traceparent_is_taken_up(header: str) -> None:
    assert read(traceparent=header) == TraceContext(TRACE, SPAN, WELL_FORMED[header])


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_traceparent_is_ignored(header: str) -> None:
    assert read(traceparent=header) is None


def test_a_header_given_twice_is_ignored() -> None:
    other = f"00-{'1' * 32}-{SPAN}-01"
    assert TraceContext.from_metadata([("traceparent", HEADER), ("traceparent", other)]) is None
    assert TraceContext.from_metadata([("x-trace-id", "a"), ("x-trace-id", "b")]) is None


def test_no_header_means_no_trace() -> None:
    assert TraceContext.from_metadata([]) is None
    assert read(user_agent="grpc", x_request_id=TRACE) is None


def test_a_binary_value_is_ignored() -> None:
    assert read(traceparent=HEADER.encode(), x_trace_id=TRACE.encode()) is None


def test_an_alias_in_the_form_of_a_trace_id_is_the_trace_id() -> None:
    trace = read(x_trace_id=TRACE)
    assert trace is not None
    assert (trace.trace_id, trace.alias) == (TRACE, "")
    assert re.fullmatch("[0-9a-f]{16}", trace.span_id)


@pytest.mark.parametrize("alias", ["order-4711", "~", "x" * 128, "0" * 32, TRACE.upper(), TRACE[:-1]])
def test_any_other_alias_gives_every_service_the_same_trace_id(alias: str) -> None:
    trace = read(x_trace_id=alias)
    assert trace is not None
    assert trace.trace_id == sha256(alias.encode()).hexdigest()[:32]
    assert trace.alias == alias
    assert dict(trace.to_metadata())["x-trace-id"] == alias


@pytest.mark.parametrize("alias", ["", "x" * 129, "two words", "tab\t", "line\n", "é", "\x7f"])
def test_an_alias_that_is_not_short_printable_text_is_ignored(alias: str) -> None:
    assert read(x_trace_id=alias) is None
    assert read(traceparent=HEADER, x_trace_id=alias) == TraceContext(TRACE, SPAN)


def test_beside_a_traceparent_the_alias_is_a_second_name() -> None:
    assert read(traceparent=HEADER, x_trace_id="order-4711") == TraceContext(TRACE, SPAN, alias="order-4711")
    assert read(traceparent=HEADER, x_trace_id=TRACE) == TraceContext(TRACE, SPAN)


def test_beside_a_malformed_traceparent_the_alias_stands() -> None:
    trace = read(traceparent=f"{HEADER}-more", x_trace_id=TRACE)
    assert trace is not None
    assert trace.trace_id == TRACE


def test_what_is_sent_is_what_the_next_service_reads() -> None:
    for sent in (
        TraceContext.new(),
        TraceContext(TRACE, SPAN, 0),
        TraceContext(TRACE, SPAN, alias="order-4711"),
    ):
        assert TraceContext.from_metadata(sent.to_metadata()) == sent


def test_headers_have_the_w3c_form() -> None:
    assert TraceContext(TRACE, SPAN).to_metadata() == (("traceparent", HEADER), ("x-trace-id", TRACE))


def test_a_child_has_its_own_span_and_keeps_everything_else() -> None:
    parent = TraceContext(TRACE, SPAN, 0, "order-4711")
    child = parent.child()
    assert child.span_id != SPAN
    assert (child.trace_id, child.flags, child.alias) == (TRACE, 0, "order-4711")


def test_new_traces_differ() -> None:
    assert TraceContext.new().trace_id != TraceContext.new().trace_id


def test_a_scope_holds_within_itself_and_gives_the_outer_one_back() -> None:
    outer, inner = TraceContext.new(), TraceContext.new()
    assert current_trace() is None
    with trace_scope(outer):
        with trace_scope(inner):
            assert current_trace() is inner
        assert current_trace() is outer
        with trace_scope(None):
            assert current_trace() is None
        with pytest.raises(LookupError), trace_scope(inner):
            raise LookupError
        assert current_trace() is outer
    assert current_trace() is None


async def test_a_task_has_the_trace_of_where_it_was_started_and_its_own_do_not_leak() -> None:
    seen: list[TraceContext | None] = []

    async def work(trace: TraceContext) -> None:
        seen.append(current_trace())
        with trace_scope(trace):
            await asyncio.sleep(0)
            assert current_trace() is trace

    outer = TraceContext.new()
    with trace_scope(outer):
        await asyncio.gather(work(TraceContext.new()), work(TraceContext.new()))
        assert current_trace() is outer
    assert seen == [outer, outer]


class Served:
    """A call that is being served, as far as its trace goes."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self.metadata = metadata
        self.asked = 0

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        self.asked += 1
        return self.metadata


def test_a_served_trace_is_taken_up_when_somebody_asks_and_stays_the_same() -> None:
    call = Served(("traceparent", HEADER), ("x-trace-id", "order-4711"))
    served = ServedTrace(call)
    assert call.asked == 0
    trace = served.resolve()
    assert (trace.trace_id, trace.flags, trace.alias) == (TRACE, 1, "order-4711")
    assert trace.span_id != SPAN
    assert (served.trace_id, served.flags, served.alias) == (TRACE, 1, "order-4711")
    assert served.resolve() is trace
    assert call.asked == 1


def test_a_served_trace_without_a_caller_is_started() -> None:
    served = ServedTrace(Served())
    assert re.fullmatch("[0-9a-f]{32}", served.trace_id)
    assert served.trace_id == served.trace_id


def test_threads_that_ask_at_the_same_time_get_the_same_trace() -> None:
    for _ in range(50):
        served, ready = ServedTrace(Served()), threading.Barrier(4)

        def ask(served: ServedTrace = served, ready: threading.Barrier = ready) -> str:
            ready.wait()
            return served.trace_id

        with ThreadPoolExecutor(4) as pool:
            assert len({future.result() for future in [pool.submit(ask) for _ in range(4)]}) == 1


def test_a_forked_process_does_not_repeat_the_ids_of_its_parent() -> None:
    program = """
import os
from tai_grpc.observability.tracing import TraceContext

TraceContext.new()
if child := os.fork():
    os.waitpid(child, 0)
print(TraceContext.new().trace_id, flush=True)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second = ran.stdout.split()
    assert first != second
