"""`tai-grpc load`: many calls of one method, and how long they took."""

from tai_grpc.cli.load.command import command

__all__ = ["command"]
