# pyright: strict
from typing import assert_type, reveal_type

import numpy as np
import numpy.typing as npt

from tai_grpc import Counter, LatencyHistogram

counter = Counter()
reveal_type(counter)  # reveals: Counter
reveal_type(counter.value)  # reveals: int
reveal_type(counter.add())  # reveals: None
reveal_type(counter.add(n=2))  # reveals: None
reveal_type(Counter.together(3))  # reveals: list[Counter]

histogram = LatencyHistogram(lowest=1, highest=60_000_000, significant_digits=3)
reveal_type(histogram)  # reveals: LatencyHistogram
reveal_type(histogram.lowest)  # reveals: int
reveal_type(histogram.highest)  # reveals: int
reveal_type(histogram.significant_digits)  # reveals: int
reveal_type(histogram.count)  # reveals: int
reveal_type(histogram.clamped)  # reveals: int
reveal_type(histogram.mean)  # reveals: float
reveal_type(histogram.min)  # reveals: int
reveal_type(histogram.max)  # reveals: int
assert_type(histogram.counts, npt.NDArray[np.int64])
reveal_type(memoryview(histogram).nbytes)  # reveals: int
reveal_type(histogram.record(250))  # reveals: None
reveal_type(histogram.record_many([250, 300]))  # reveals: None
reveal_type(histogram.record_many(np.arange(3)))  # reveals: None
reveal_type(histogram.record_corrected(250, expected_interval=100))  # reveals: None
reveal_type(histogram.percentile(99.9))  # reveals: int
reveal_type(histogram.percentiles([50, 99.9]))  # reveals: list[int]
reveal_type(histogram.merge(LatencyHistogram()))  # reveals: None
reveal_type(histogram.subtract(LatencyHistogram()))  # reveals: None
reveal_type(histogram.interval_histogram())  # reveals: LatencyHistogram
reveal_type(histogram.reset())  # reveals: None
reveal_type(histogram.encode())  # reveals: bytes
reveal_type(LatencyHistogram.decode(b""))  # reveals: LatencyHistogram
reveal_type(LatencyHistogram.decode(""))  # reveals: LatencyHistogram

counter.add("1")  # error
counter.value = 3  # error: read only
histogram.record(2.5)  # error: whole microseconds
histogram.percentile("99")  # error
histogram.merge(counter)  # error
