"""The resilient client: see `GrpcClient`, `BlockingGrpcClient` and `Worker`."""
