"""Counts in the HDR layout, for code that runs without the GIL: see histogram.pxd."""

from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #define tai_clz(value) __builtin_clzll(value)
    """
    int clz "tai_clz" (uint64_t value) noexcept nogil
    # Values up to 2^61, and up to 2^62 of them: their number fits 64 bits, their sum 128.
    int64_t MAX_VALUE "(INT64_C(1) << 61)"
    int64_t MAX_COUNT "(INT64_C(1) << 62)"


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
cdef void histogram_convert(
    const HistogramState *ours, const HistogramState *theirs, const int64_t *their_counts, int64_t *result
) noexcept nogil
cdef bint histogram_merge(
    HistogramState *histogram, int64_t *counts, const int64_t *converted
) noexcept nogil
cdef int64_t histogram_subtract(
    HistogramState *histogram, int64_t *counts, const int64_t *converted, int64_t *here
) noexcept nogil
cdef void histogram_take_all(
    HistogramState *histogram, int64_t *counts, HistogramState *into, int64_t *into_counts
) noexcept nogil
cdef void histogram_reset(HistogramState *histogram, int64_t *counts) noexcept nogil
cdef double histogram_mean(const HistogramState *histogram, const int64_t *counts) noexcept nogil
cdef int64_t first_index(const HistogramState *histogram, const int64_t *counts) noexcept nogil
cdef int64_t last_index(const HistogramState *histogram, const int64_t *counts) noexcept nogil


cdef inline int64_t index_of(const HistogramState *histogram, int64_t value) noexcept nogil:
    """The index of the count of `value`, 0..highest."""
    cdef int64_t highest_bit = 63 - clz(<uint64_t>value | histogram.sub_bucket_mask)
    cdef int64_t bucket = highest_bit - histogram.unit_magnitude - histogram.half_magnitude
    return (bucket << histogram.half_magnitude) + (value >> (bucket + histogram.unit_magnitude))


cdef inline int64_t bucket_at(const HistogramState *histogram, int64_t index) noexcept nogil:
    return max(<int64_t>0, (index >> histogram.half_magnitude) - 1)


cdef inline int64_t lowest_at(const HistogramState *histogram, int64_t index) noexcept nogil:
    """The lowest value counted at `index`."""
    cdef int64_t bucket = bucket_at(histogram, index)
    return (index - (bucket << histogram.half_magnitude)) << (bucket + histogram.unit_magnitude)


cdef inline int64_t width_at(const HistogramState *histogram, int64_t index) noexcept nogil:
    """How many values are counted at `index`."""
    return <int64_t>1 << (bucket_at(histogram, index) + histogram.unit_magnitude)


cdef inline int64_t highest_at(const HistogramState *histogram, int64_t index) noexcept nogil:
    return lowest_at(histogram, index) + width_at(histogram, index) - 1
