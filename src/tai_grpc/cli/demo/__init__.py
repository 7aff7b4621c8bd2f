"""`tai-grpc demo`: drives every part of real servers, checks each answer, and shows what happened."""

from tai_grpc.cli.demo.command import command

__all__ = ["command"]
