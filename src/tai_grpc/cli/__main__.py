"""`python -m tai_grpc.cli`: the same as `tai-grpc`."""

from tai_grpc.cli.app import main

main()
