"""What the command line of `tai-grpc load` comes to, without making a load."""

from __future__ import annotations

from pathlib import Path

import click
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from load.echo import POOL
from tai_grpc.cli.load import command
from tai_grpc.cli.load.options import Options
from tai_grpc.cli.load.planning import make_plan
from tai_grpc.load.plan import LoadPlan

HOST = "127.0.0.1:50051"


def write_protoset(folder: Path) -> Path:
    """Write what declares the echo service, so that no server has to be asked."""
    path = folder / "echo.protoset"
    found = FileDescriptorSet()
    POOL.FindFileByName("echo.proto").CopyToProto(found.file.add())
    path.write_bytes(found.SerializeToString())
    return path


def planned(*arguments: str) -> LoadPlan:
    """Return the plan of a command line."""
    ctx = command.make_context("load", list(arguments))
    with ctx:
        return make_plan(ctx, Options(**ctx.params))


def refused(*arguments: str) -> str:
    """Return what is said of a command line that is wrong."""
    try:
        planned(*arguments)
    except click.ClickException as error:
        return error.format_message()
    except ValueError as error:  # ConfigError, RequestError
        return str(error)
    raise AssertionError("the command line is taken")
