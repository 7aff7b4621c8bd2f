"""What the demo shows while it runs: bars on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Display:
    """Shows one step at a time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bars.add_task("", total=None, count="")

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Be there for the block."""
        with self._bars:
            yield

    @contextmanager
    def step(self, number: int, of: int, name: str, what: str) -> Iterator[None]:
        """Show a step while the block runs, and how long it took when it held."""
        head = f"[{number}/{of}] {name}"
        self._bars.reset(self._task, description=head, total=None, count="")
        self.say(f"{head}: {what}")
        begun = time.monotonic()
        yield
        self.say(f"{head} held, {time.monotonic() - begun:.1f} s")

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._bars.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def progress(self, done: int, total: int | None, what: str) -> None:
        """Move the present step's bar; `total` is None when it is not known."""
        count = f"{done:,} {what}" if total is None else f"{done:,}/{total:,} {what}"
        self._bars.update(self._task, completed=done, total=total, count=count)
