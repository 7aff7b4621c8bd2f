"""What a failure is on the command line: one sentence, and an exit code."""

from __future__ import annotations

import click

from tai_grpc.errors import ConfigError, TaiGrpcError
from tai_grpc.load.errors import EngineProcessError, RequestError, UnreachableError


class Failure(click.ClickException):
    """The command was right and could not be done: exit code 1."""

    exit_code = 1


class Unreachable(Failure):
    """The host does not answer, so that nothing was begun: exit code 2."""

    exit_code = 2


def exit_code_of(error: TaiGrpcError) -> int:
    """2 when what was asked for is wrong or cannot begin, 1 when it could not be done."""
    return 2 if isinstance(error, (ConfigError, RequestError, UnreachableError, EngineProcessError)) else 1
