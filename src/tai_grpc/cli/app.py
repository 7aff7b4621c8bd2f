"""`tai-grpc`: finds the command, runs it, and turns what went wrong into one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Final, NoReturn

import click

from tai_grpc._version import __version__
from tai_grpc.cli.failure import exit_code_of
from tai_grpc.cli.help import epilog
from tai_grpc.errors import TaiGrpcError

COMMANDS: Final = ("serve", "call", "load", "bench", "demo")
INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as shells have it (128 + SIGINT)."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Why a file or a device takes no more of what is written."""


class _Commands(click.Group):
    """Imports tai_grpc.cli.NAME when NAME is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"tai_grpc.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            ctx.fail(f"no command {args[0]!r}; there are: {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.command(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=epilog(
        "tai-grpc serve --listen 127.0.0.1:50051",
        "tai-grpc call 127.0.0.1:50051 tai.v1.Governor/GetPolicies",
        "tai-grpc load 127.0.0.1:50051 --call tai.v1.Governor/HealthCheck -c 10 -n 1000",
        "tai-grpc bench --quick",
        "tai-grpc demo",
    ),
)
@click.version_option(__version__, prog_name="tai-grpc")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Resilient gRPC between services: a control plane to serve, to call, to load and to see at work."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """Run the command line of this process, and exit."""
    # grpcio's core writes to stderr too, and what it writes the one line of an error already says. It reads
    # this when grpc is imported, which therefore only the commands do.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if isinstance(sys.stdout, TextIOWrapper):  # it is None when the shell has closed it
        # What a stdout that is not UTF-8 cannot show is no reason to show nothing; stderr is so anyway.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(_flushed(_run()))


def _run() -> int:
    try:
        code = app.main(prog_name="tai-grpc", standalone_mode=False)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "tai-grpc"
        return _fail(f"{error.format_message().rstrip('.')} (see: {where} --help)", error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except TaiGrpcError as error:
        return _fail(str(error), exit_code_of(error))
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        return 1  # the reader has gone (`| head`): nothing is left to say
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        return _fail(_unwritten(error), 1)
    return code if isinstance(code, int) else 0


def _flushed(code: int) -> int:
    """Write what stdout still holds, which Python at exit would fail to do in its own words."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if code:  # then the reason is told already
            return code
        return 1 if isinstance(error, BrokenPipeError) else _fail(_unwritten(error), 1)
    return code


def _unwritten(error: OSError) -> str:
    return f"cannot write to stdout: {error.strerror}"


def _fail(message: str, code: int) -> int:
    click.echo(f"tai-grpc: {' '.join(message.split())}", err=True)
    return code
