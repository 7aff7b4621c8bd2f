# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, cdivision=True
"""The HDR histogram: counts of values in buckets so fine that every value keeps its first digits.

Layout, percentiles and encoding are those of HdrHistogram (Gil Tene, hdrhistogram.org): values below
`sub_bucket_count` units have a count each; from there each power of two is cut into `sub_bucket_count / 2`.

The counts are all that there is: number, extremes, mean and percentiles are read from them. So a record is
one atomic add, and there is nothing that could disagree with the counts, whoever stops half way.
"""

from tai_grpc._ext.primitives.atomics cimport add, load

cdef extern from *:
    """
    typedef unsigned __int128 tai_u128;
    """
    ctypedef unsigned long long u128 "tai_u128"

# What is counted in fewer at a time cannot reach MAX_COUNT within years, so nobody looks.
cdef int64_t MANY = <int64_t>1 << 16


cdef void layout(HistogramState *histogram, int64_t lowest, int64_t highest, int64_t digits) noexcept nogil:
    """Set up zeroed memory. `lowest` 1..2^40, `highest` 2 * lowest..2^61, `digits` 1..5."""
    cdef int64_t resolution = 2
    cdef uint64_t sub_bucket_count, covered
    cdef int64_t buckets = 1
    for _ in range(digits):
        resolution *= 10
    histogram.lowest = lowest
    histogram.highest = highest
    histogram.significant_digits = digits
    histogram.unit_magnitude = 63 - clz(<uint64_t>lowest)
    # The power of two that is at least `resolution` makes the sub-buckets; half of it, the later buckets.
    histogram.half_magnitude = 63 - clz(<uint64_t>resolution - 1)
    sub_bucket_count = <uint64_t>2 << histogram.half_magnitude
    histogram.sub_bucket_mask = (sub_bucket_count - 1) << histogram.unit_magnitude
    covered = sub_bucket_count << histogram.unit_magnitude
    while covered <= <uint64_t>highest:
        covered <<= 1
        buckets += 1
    histogram.counts_len = (buckets + 1) << histogram.half_magnitude


cdef void histogram_record(
    HistogramState *histogram, int64_t *counts, int64_t value, int64_t count
) noexcept nogil:
    """Count `value`, `count` times; what is over `highest`, or negative, as `highest`."""
    if <uint64_t>value > <uint64_t>histogram.highest:
        add(&histogram.clamped, count)
        value = histogram.highest
    add(&counts[index_of(histogram, value)], count)


cdef bint histogram_record_corrected(
    HistogramState *histogram, int64_t *counts, int64_t value, int64_t expected_interval
) noexcept nogil:
    """Count `value` and what a caller that it held up did not measure: see LatencyHistogram.record_corrected.

    False, and nothing is counted, when there would be more than MAX_COUNT values. Takes one step for each
    bucket, however short the interval is.
    """
    cdef int64_t left = 1
    cdef int64_t lowest, n
    if 0 < expected_interval < value:
        left = (value - 1) // expected_interval + 1
    if left > MANY and left > MAX_COUNT - histogram_count(histogram, counts):
        return False
    while True:
        # How many of the values that are left share a bucket.
        n = 1
        if left > 1:
            if value > histogram.highest:
                lowest = histogram.highest + 1
            else:
                lowest = lowest_at(histogram, index_of(histogram, value))
            n = min((value - lowest) // expected_interval + 1, left)
        histogram_record(histogram, counts, value, n)
        left -= n
        if left == 0:
            return True
        value -= n * expected_interval


cdef int64_t histogram_count(const HistogramState *histogram, const int64_t *counts) noexcept nogil:
    """How many values were recorded."""
    cdef int64_t total = 0
    cdef int64_t index
    for index in range(histogram.counts_len):
        total += load(&counts[index])
    return total


cdef int64_t histogram_percentile(
    const HistogramState *histogram, const int64_t *counts, double percentile
) noexcept nogil:
    """The value that `percentile` (0..100) of the recorded ones do not exceed, as fine as the buckets are."""
    cdef int64_t value
    histogram_percentiles(histogram, counts, &percentile, &value, 1)
    return value


cdef void histogram_percentiles(
    const HistogramState *histogram,
    const int64_t *counts,
    const double *percentiles,
    int64_t *values,
    Py_ssize_t n,
) noexcept nogil:
    """Set `values` to what belongs to the `n` rising `percentiles`, in one pass over the counts."""
    cdef double total = <double>histogram_count(histogram, counts)
    cdef int64_t seen = 0
    cdef int64_t last = -1
    cdef int64_t index = 0
    cdef int64_t wanted, count
    cdef Py_ssize_t i
    for i in range(n):
        wanted = max(<int64_t>(percentiles[i] * total / 100 + 0.5), <int64_t>1)
        while seen < wanted and index < histogram.counts_len:
            count = load(&counts[index])
            if count != 0:
                seen += count
                last = index
            index += 1
        if last < 0:
            values[i] = 0
        elif percentiles[i] == 0:
            values[i] = lowest_at(histogram, last)
        else:
            values[i] = highest_at(histogram, last)


cdef double histogram_mean(const HistogramState *histogram, const int64_t *counts) noexcept nogil:
    cdef u128 total = 0
    cdef int64_t n = 0
    cdef int64_t index, count
    for index in range(histogram.counts_len):
        count = load(&counts[index])
        if count != 0:
            n += count
            total += <u128>count * <u128>(lowest_at(histogram, index) + (width_at(histogram, index) >> 1))
    return <double>total / <double>n if n != 0 else 0.0


cdef int64_t first_index(const HistogramState *histogram, const int64_t *counts) noexcept nogil:
    """The lowest index with a count; -1 when there is none."""
    cdef int64_t index
    for index in range(histogram.counts_len):
        if load(&counts[index]) != 0:
            return index
    return -1


cdef int64_t last_index(const HistogramState *histogram, const int64_t *counts) noexcept nogil:
    """The highest index with a count; -1 when there is none."""
    cdef int64_t index = histogram.counts_len - 1
    while index >= 0 and load(&counts[index]) == 0:
        index -= 1
    return index
