"""The latency histogram for code that runs without the GIL: `histogram_record` is one atomic add."""

from libc.stdint cimport int64_t

from tai_grpc._ext.primitives.hdr cimport (
    HistogramState,
    first_index, highest_at, histogram_convert, histogram_count, histogram_mean, histogram_merge,
    histogram_percentile, histogram_percentiles, histogram_record, histogram_record_corrected,
    histogram_reset, histogram_subtract, histogram_take_all, last_index, layout, lowest_at,
)


cdef class LatencyHistogram:
    cdef HistogramState *state_
    cdef int64_t *counts_
    # What keeps the state's memory, in which the counts follow.
    cdef object owner
    # For the buffer protocol.
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]

    cdef int64_t *counts_of(self, object other) except NULL
