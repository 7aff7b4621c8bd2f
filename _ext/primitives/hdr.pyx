# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, cdivision=True
"""The HDR histogram: counts of values in buckets so fine that every value keeps its first digits.

Layout, percentiles and encoding are those of HdrHistogram (Gil Tene, hdrhistogram.org): values below
`sub_bucket_count` units have a count each; from there each power of two is cut into `sub_bucket_count / 2`.

The counts are all that there is: number, extremes, mean and percentiles are read from them. So a record is
one atomic add, and there is nothing that could disagree with the counts, whoever stops half way.
"""

from tai_grpc._ext.primitives.atomics cimport add, cas, exchange, load, store

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


# --- Whole histograms -----------------------------------------------------------------------------------


cdef void histogram_convert(
    const HistogramState *ours, const HistogramState *theirs, const int64_t *their_counts, int64_t *result
) noexcept nogil:
    """Add their counts to `result`: `counts_len` + 1 zeros, for the counts in our layout and for `clamped`.

    Of another layout, each bucket goes where its lowest value goes.
    """
    cdef bint same = (
        theirs.unit_magnitude == ours.unit_magnitude
        and theirs.half_magnitude == ours.half_magnitude
        and theirs.highest <= ours.highest
    )
    cdef int64_t clamped_at = ours.counts_len
    cdef int64_t index, count, value
    for index in range(theirs.counts_len):
        count = load(&their_counts[index])
        if count == 0:
            continue
        if same:
            result[index] = count
            continue
        value = lowest_at(theirs, index)
        if value > ours.highest:
            result[clamped_at] += count
            value = ours.highest
        result[index_of(ours, value)] += count
    result[clamped_at] += load(&theirs.clamped)


cdef bint histogram_merge(
    HistogramState *histogram, int64_t *counts, const int64_t *converted
) noexcept nogil:
    """Add what `histogram_convert` made; False, and nothing is added, when there would be over MAX_COUNT."""
    cdef int64_t clamped_at = histogram.counts_len
    cdef int64_t room = MAX_COUNT - histogram_count(histogram, counts)
    cdef int64_t index
    for index in range(clamped_at):
        room -= converted[index]
    if room < 0:
        return False
    for index in range(clamped_at):
        if converted[index] != 0:
            add(&counts[index], converted[index])
    add(&histogram.clamped, converted[clamped_at])
    return True


cdef int64_t histogram_subtract(
    HistogramState *histogram, int64_t *counts, const int64_t *converted, int64_t *here
) noexcept nogil:
    """Take away what `histogram_convert` made and return -1.

    Or nothing, and return the index of a count that is less, and in `here` that count; `counts_len`: of
    `clamped`.
    """
    cdef int64_t clamped_at = histogram.counts_len
    cdef int64_t index, taken
    cdef int64_t *word
    for index in range(clamped_at + 1):
        word = &counts[index] if index < clamped_at else &histogram.clamped
        here[0] = load(word)
        while here[0] >= converted[index] and not cas(word, here, here[0] - converted[index]):
            pass
        if here[0] < converted[index]:
            for taken in range(index):
                add(&counts[taken], converted[taken])
            return index
    return -1


cdef void histogram_take_all(
    HistogramState *histogram, int64_t *counts, HistogramState *into, int64_t *into_counts
) noexcept nogil:
    """Move everything to an empty histogram of the same layout: each count is exchanged with 0."""
    cdef int64_t index
    for index in range(histogram.counts_len):
        if load(&counts[index]) != 0:
            into_counts[index] = exchange(&counts[index], 0)
    into.clamped = exchange(&histogram.clamped, 0)


cdef void histogram_reset(HistogramState *histogram, int64_t *counts) noexcept nogil:
    """Forget everything."""
    cdef int64_t index
    for index in range(histogram.counts_len):
        store(&counts[index], 0)
    store(&histogram.clamped, 0)
