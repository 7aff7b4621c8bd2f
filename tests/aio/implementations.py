"""The implementations of grpc.aio's names that tests/aio and tests/interop judge."""

# The module, and the module that makes its credentials.
IMPLEMENTATIONS = {
    "grpc.aio": "grpc",
    "tai_grpc.aio": "tai_grpc.aio",
}
