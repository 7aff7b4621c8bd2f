"""What is seen of a run while it goes on, on a terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from tai_grpc.load.durations import format_duration
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.report.text import plural, printable
from tai_grpc.load.result import Interval, rate
from tai_grpc.load.series import merged

_WINDOW_NS: Final = 1_000_000_000
_SPARKS: Final = "▁▂▃▄▅▆▇█"
_MOST_SPARKS: Final = 120
_BAR: Final = 40
_INDENT: Final = "  "


class LiveView:
    """Shows a run's progress, rate, percentiles and errors on stderr, and nothing when that is no terminal.

    Each `show` draws once, on the caller's thread; there is no other. Leaving the view wipes it away.
    """

    def __init__(self, plan: LoadPlan, console: Console | None = None) -> None:
        self._plan = plan
        self._console = Console(stderr=True) if console is None else console
        self._live: Live | None = None
        self._recent: deque[Interval] = deque()
        self._rates: deque[float] = deque(maxlen=_MOST_SPARKS)
        self._calls = self._failed = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, interval: Interval) -> None:
        """Draw what there is to see after one more interval, about a quarter of a second; in their order."""
        if self._live is None:
            return
        end_ns = interval.start_ns + interval.length_ns
        count = interval.statuses.total()
        self._calls += count
        self._failed += count - interval.statuses["OK"]
        if end_ns > 0:
            self._recent.append(interval)
            while sum(each.length_ns for each in self._recent) - self._recent[0].length_ns >= _WINDOW_NS:
                self._recent.popleft()
            self._rates.append(rate(count, interval.length_ns))
        self._live.update(Group(*self._lines(end_ns)), refresh=True)

    def _lines(self, end_ns: int) -> Iterator[Text]:
        plan = self._plan
        about = printable(f"{plan.method.full_name} at {', '.join(plan.hosts)}")
        yield _line(f"{about}: warming up" if end_ns <= 0 else about)
        if end_ns <= 0:
            yield _line(f"{_INDENT}{-end_ns / 1e9:.0f} s until measuring begins")
            return
        length_ns = sum(each.length_ns for each in self._recent)
        now = rate(sum(each.statuses.total() for each in self._recent), length_ns)
        done, left = self._progress(end_ns, now)
        times = f"{_clock(end_ns / 1e9)}{'' if left is None else f', {_clock(left)} left'}"
        filled = round(_BAR * done)
        yield _line(f"{_INDENT}{'━' * filled}{'╌' * (_BAR - filled)}  {times}")
        yield _line(_INDENT + "   ".join(self._figures(now, length_ns)), bad=self._failed > 0)
        yield _line(_INDENT + sparkline(list(self._rates)[-(self._console.width - len(_INDENT)) :]))

    def _progress(self, end_ns: int, now: float) -> tuple[float, float | None]:
        """How much is done, 0 to 1, and how many seconds are left, if that can be told."""
        plan, seconds = self._plan, end_ns / 1e9
        parts, waits = [], []
        if plan.duration is not None:
            parts.append(seconds / plan.duration)
            waits.append(plan.duration - seconds)
        if plan.total is not None:
            parts.append(self._calls / plan.total)
            if now:
                waits.append((plan.total - self._calls) / now)
        return min(max(parts), 1.0), max(min(waits), 0.0) if waits else None

    def _figures(self, now: float, length_ns: int) -> Iterator[str]:
        yield f"{now:,.0f} calls/s"
        latencies = merged(each.latencies for each in self._recent)
        if latencies.count:
            for name, ns in zip(("p50", "p99"), latencies.percentiles((50, 99)), strict=True):
                yield f"{name} {format_duration(ns)}"
        if self._plan.method.client_streaming or self._plan.method.server_streaming:
            messages = sum(each.messages_sent + each.messages_received for each in self._recent)
            yield f"{rate(messages, length_ns):,.0f} messages/s"
        yield plural(self._calls, "call")
        yield f"{self._failed:,} failed"


def sparkline(values: Sequence[float]) -> str:
    """Return a bar a value, the highest as high as a line is."""
    most = max(values, default=0.0)
    if not most:
        return _SPARKS[0] * len(values)
    return "".join(_SPARKS[min(int(value / most * len(_SPARKS)), len(_SPARKS) - 1)] for value in values)


def _line(text: str, *, bad: bool = False) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis", style="red" if bad else "")


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
