from collections.abc import Callable

import numpy as np

from tai_grpc.resilience import LatencyHistogram


def test_record(per_call: Callable[..., None]) -> None:
    per_call("histogram.record(12345)", "noop.one(12345)", at_most=3, histogram=LatencyHistogram())


def test_record_many(per_call: Callable[..., None]) -> None:
    data = np.random.default_rng(1).integers(0, 1_000_000, 100)
    per_call("histogram.record_many(of_100)", "noop.one(None)", histogram=LatencyHistogram(), of_100=data)
