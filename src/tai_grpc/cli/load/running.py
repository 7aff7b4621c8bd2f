"""Runs a plan for `tai-grpc load`: Ctrl-C, the report, the exit code."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from tai_grpc.cli.app import INTERRUPTED
from tai_grpc.cli.failure import Failure
from tai_grpc.cli.load.options import Options
from tai_grpc.cli.load.planning import make_plan
from tai_grpc.load.errors import RequestError
from tai_grpc.load.live import LiveView
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.processes import commands
from tai_grpc.load.report import FORMATS
from tai_grpc.load.result import EndReason, LoadResult
from tai_grpc.load.thresholds import Threshold, breaches, parse_threshold


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
    result = _made(plan, started_by)
    _write(options.output, FORMATS[options.form](result))
    if result.failure:
        raise RequestError(result.failure)
    if result.end_reason is EndReason.CANCEL:
        ctx.exit(INTERRUPTED)
    _judge(result, thresholds)


def _started_by(options: Options) -> list[list[str]] | None:
    """Return what starts each process that makes the load; None: this one makes it."""
    if options.processes is None and not options.via:
        return None
    return commands(options.processes or 0, options.via)


def _made(plan: LoadPlan, started_by: list[list[str]] | None) -> LoadResult:
    """Make the load. Until all is connected Ctrl-C ends the process, and from then on the run."""
    from tai_grpc.load.coordinator import coordinate  # noqa: PLC0415 - not every build has them
    from tai_grpc.load.run import run_plan  # noqa: PLC0415

    stop, view = threading.Event(), LiveView(plan)
    with ExitStack() as stack:

        def connected() -> None:
            stack.enter_context(_stopped_by_ctrl_c(stop))
            stack.enter_context(view)

        if started_by is None:
            return run_plan(plan, watch=view.show, stop=stop, connected=connected)
        return coordinate(plan, started_by, watch=view.show, stop=stop, connected=connected)


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
def _stopped_by_ctrl_c(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C set `stop` and the second one end the process.

    A SIGINT that is ignored stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            Console(stderr=True).show_cursor()  # which the view has hidden
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        stop.set()

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _check_output(name: str) -> None:
    """See that the report can be written, before the load is made for it."""
    if name != "-":
        path = Path(name)
        try:
            try:
                path.open("x").close()
            except FileExistsError:
                path.open("a").close()
            else:
                path.unlink()  # nothing may come of the run
        except OSError as error:
            raise click.BadParameter(f"cannot write {name}: {error.strerror}", param_hint="output") from None


def _write(name: str, report: str) -> None:
    to = "stdout" if name == "-" else name
    try:
        if name != "-":
            Path(name).write_text(report, encoding="utf-8")
        elif sys.stdout is None:
            raise Failure("cannot write the report to stdout: it is closed")
        else:
            sys.stdout.write(report)
            sys.stdout.flush()
    except BrokenPipeError:  # its reader has gone: see tai_grpc.cli.app
        raise
    except OSError as error:
        raise Failure(f"cannot write the report to {to}: {error.strerror}") from None
