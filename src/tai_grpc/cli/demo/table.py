"""The table at the end."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from tai_grpc import CircuitState, EndpointStats
from tai_grpc.cli.demo.failover import state_name
from tai_grpc.cli.demo.stage import StepResult, Transition

_NUMBERS = ("calls", "failed", "retried", "receipts", "p50", "p99", "p99.9", "average")


def make_table(results: Sequence[StepResult]) -> Table:
    """A row a step, then a row an endpoint of the steps that had several."""
    refused = sum(result.refused for result in results)
    caption = (
        f"Latencies in ms, an endpoint's is a moving average. {refused} calls had to be refused, and were."
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column("", no_wrap=True)
    for head in _NUMBERS:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("breaker", no_wrap=True)
    for result in results:
        table.add_row(*_step_row(result))
    for result in results:
        if len(result.stats.endpoints) > 1:
            table.add_section()
            for endpoint in result.stats.endpoints:
                table.add_row(*_endpoint_row(endpoint, result.transitions.get(endpoint.address, ())))
    return table


def _step_row(result: StepResult) -> list[str]:
    stats = result.stats
    counts = (stats.calls, stats.failed - result.refused, stats.retries, result.receipts)
    percentiles = (stats.p50_us, stats.p99_us, stats.p999_us)
    return [result.name, *map(str, counts), *map(_ms, percentiles), "", ""]


def _endpoint_row(endpoint: EndpointStats, transitions: Sequence[Transition]) -> list[str]:
    story = [state_name(CircuitState.CLOSED), *(f"{state_name(t.new)} {t.at:.2f} s" for t in transitions)]
    counts = [str(endpoint.total_requests), str(endpoint.failures), "", ""]
    return [endpoint.address, *counts, "", "", "", _ms(endpoint.latency_ewma_us), "\n".join(story)]


def _ms(us: float) -> str:
    return f"{us / 1000:.2f}"
