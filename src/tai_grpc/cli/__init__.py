"""The command line. Each command is one module, imported only when it is used."""

from tai_grpc.cli.app import main

__all__ = ["main"]
