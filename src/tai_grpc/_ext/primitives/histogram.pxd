"""The latency histogram for code that runs without the GIL: `histogram_record` is one atomic add."""

from libc.stdint cimport int64_t, uint64_t

cdef struct HistogramState:
    # Values over `highest`, which were counted as `highest`: all that changes beside the counts.
    int64_t clamped
    # The layout: written before the histogram is shared, then only read.
    int64_t lowest
    int64_t highest
    int64_t significant_digits
    int64_t unit_magnitude
    int64_t half_magnitude
    uint64_t sub_bucket_mask
    int64_t counts_len


cdef void layout(HistogramState *histogram, int64_t lowest, int64_t highest, int64_t digits) noexcept nogil
cdef void histogram_record(
    HistogramState *histogram, int64_t *counts, int64_t value, int64_t count
) noexcept nogil
cdef bint histogram_record_corrected(
    HistogramState *histogram, int64_t *counts, int64_t value, int64_t expected_interval
) noexcept nogil
cdef int64_t histogram_count(const HistogramState *histogram, const int64_t *counts) noexcept nogil
cdef int64_t histogram_percentile(
    const HistogramState *histogram, const int64_t *counts, double percentile
) noexcept nogil
cdef void histogram_percentiles(
    const HistogramState *histogram,
    const int64_t *counts,
    const double *percentiles,
    int64_t *values,
    Py_ssize_t n,
) noexcept nogil


cdef class LatencyHistogram:
    cdef HistogramState *state_
    cdef int64_t *counts_
    # What keeps the state's memory, in which the counts follow.
    cdef object owner
    # For the buffer protocol.
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]

    cdef int64_t *counts_in(self, LatencyHistogram other) except NULL
