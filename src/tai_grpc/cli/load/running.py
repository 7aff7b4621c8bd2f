"""Runs a plan for `tai-grpc load`: Ctrl-C and SIGTERM, the report, the exit code."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Final

import click
from rich.console import Console

from tai_grpc.cli.failure import Failure
from tai_grpc.cli.files import check_writable, write
from tai_grpc.cli.load.options import Options
from tai_grpc.cli.load.planning import make_plan
from tai_grpc.cli.load.waiting import waiting
from tai_grpc.cli.unreachable import advice
from tai_grpc.load.errors import RequestError, UnreachableError
from tai_grpc.load.live import LiveView
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.processes import commands
from tai_grpc.load.report import FORMATS
from tai_grpc.load.result import EndReason, LoadResult
from tai_grpc.load.thresholds import Threshold, breaches, parse_threshold

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


class _Stop(threading.Event):
    """Ends the run. `number` is that of the signal which has set it."""

    number: int = signal.SIGINT


def run(ctx: click.Context, options: Options) -> None:
    """Make the load, write the report, and judge it.

    Raises:
        Failure: a call failed, a --fail-if condition holds, or the report cannot be written.
    """
    if find_spec("tai_grpc._ext.load.engine") is None:
        raise Failure(
            "this build of tai-grpc is without the load engine: install libnghttp2-dev and libssl-dev "
            "(Debian) or nghttp2-devel and openssl-devel (Fedora), and build it with TAI_GRPC_NATIVE=yes"
        )
    thresholds = [parse_threshold(each) for each in options.fail_if]
    _check_output(options.output)
    started_by = _started_by(options)
    plan = make_plan(ctx, options)
    stop = _Stop()
    result = _made(plan, started_by, stop)
    _write(options.output, FORMATS[options.form](result))
    if result.failure:
        raise RequestError(result.failure)
    if result.end_reason is EndReason.CANCEL:
        ctx.exit(128 + stop.number)
    _judge(result, thresholds)


def _started_by(options: Options) -> list[list[str]] | None:
    """Return what starts each process that makes the load; None: this one makes it."""
    if options.processes is None and not options.via:
        return None
    return commands(options.processes or 0, options.via)


def _made(plan: LoadPlan, started_by: list[list[str]] | None, stop: _Stop) -> LoadResult:
    """Make the load. Until all is connected Ctrl-C and SIGTERM end the process, and from then on the run."""
    from tai_grpc.load.coordinator import coordinate  # noqa: PLC0415 - not every build has them
    from tai_grpc.load.run import run_plan  # noqa: PLC0415

    view = LiveView(plan)
    with ExitStack() as stack:
        connecting = stack.enter_context(ExitStack())
        connecting.enter_context(waiting(f"connecting to {', '.join(plan.hosts)}"))

        def connected() -> None:
            connecting.close()
            stack.enter_context(_stopped_by_signals(stop))
            stack.enter_context(view)

        try:
            if started_by is None:
                return run_plan(plan, watch=view.show, stop=stop, connected=connected)
            return coordinate(plan, started_by, watch=view.show, stop=stop, connected=connected)
        except UnreachableError as error:
            raise UnreachableError(f"{error}; {advice(str(error), tls=plan.tls is not None)}") from None


def _judge(result: LoadResult, thresholds: Sequence[Threshold]) -> None:
    """Raise Failure for what is wrong with a run. Whoever gives a limit of errors decides about them."""
    said = [str(breach) for breach in breaches(thresholds, result)]
    if result.failed and not any(threshold.figure == "errors" for threshold in thresholds):
        failed = ", ".join(f"{count} {code}" for code, count in result.statuses.items() if code != "OK")
        said.append(f"{result.failed} of {result.count} calls failed: {failed}")
    if not result.count:
        said.append("no call ended")
    if said:
        raise Failure("; ".join(said))


@contextmanager
def _stopped_by_signals(stop: _Stop) -> Iterator[None]:
    """Let the first one of `_STOPPING` set `stop` and the second one end the process.

    One that is ignored stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            Console(stderr=True).show_cursor()  # which the view has hidden
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.number = number
        stop.set()

    before = {each: signal.getsignal(each) for each in _STOPPING}
    heard = {each: handler for each, handler in before.items() if handler is not signal.SIG_IGN}
    for each in heard:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each, handler in heard.items():
            signal.signal(each, handler)


def _check_output(name: str) -> None:
    """See that the report can be written, before the load is made for it."""
    if name != "-":
        try:
            check_writable(Path(name))
        except OSError as error:
            raise click.BadParameter(f"cannot write {name}: {error.strerror}", param_hint="output") from None


def _write(name: str, report: str) -> None:
    to = "stdout" if name == "-" else name
    try:
        if name != "-":
            write(Path(name), report)
        elif sys.stdout is None:
            raise Failure("cannot write the report to stdout: it is closed")
        else:
            sys.stdout.write(report)
            sys.stdout.flush()
    except BrokenPipeError:  # its reader has gone: see tai_grpc.cli.app
        raise
    except OSError as error:
        raise Failure(f"cannot write the report to {to}: {error.strerror}") from None
