# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, cdivision=True
"""The HDR histogram: counts of values in buckets so fine that every value keeps its first digits.

Layout, percentiles and encoding are those of HdrHistogram (Gil Tene, hdrhistogram.org): values below
`sub_bucket_count` units have a count each; from there each power of two is cut into `sub_bucket_count / 2`.

The counts are all that there is: number, extremes, mean and percentiles are read from them. So a record is
one atomic add, and there is nothing that could disagree with the counts, whoever stops half way.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from struct import Struct
from struct import error as StructError
from zlib import compress, decompressobj
from zlib import error as ZlibError

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free, malloc

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.arguments cimport natural
from tai_grpc._ext.primitives.atomics cimport add, cas, exchange, load, store

from tai_grpc.config import check_float, check_int
from tai_grpc.errors import ConfigError

cdef extern from *:
    """
    typedef unsigned __int128 tai_u128;
    #define tai_clz(value) __builtin_clzll(value)
    """
    ctypedef unsigned long long u128 "tai_u128"
    int clz "tai_clz" (uint64_t value) noexcept nogil

# Values up to 2^61, and up to 2^62 of them: their number fits 64 bits, their sum 128.
cdef int64_t MAX_VALUE = <int64_t>1 << 61
cdef int64_t MAX_COUNT = <int64_t>1 << 62
# What is counted in fewer at a time cannot reach MAX_COUNT within years, so nobody looks.
cdef int64_t MANY = <int64_t>1 << 16
cdef int64_t MAX_LOWEST = <int64_t>1 << 40

cdef char *_FORMAT = b"q"
cdef object _OUTER = Struct(">II")
cdef object _INNER = Struct(">IIIIqqd")
cdef uint64_t COMPRESSED_COOKIE = 0x1C849314
cdef uint64_t ENCODING_COOKIE = 0x1C849313


# --- Without the GIL ------------------------------------------------------------------------------------


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


cdef inline int64_t _index(const HistogramState *histogram, int64_t value) noexcept nogil:
    """The index of the count of `value`, 0..highest."""
    cdef int64_t highest_bit = 63 - clz(<uint64_t>value | histogram.sub_bucket_mask)
    cdef int64_t bucket = highest_bit - histogram.unit_magnitude - histogram.half_magnitude
    return (bucket << histogram.half_magnitude) + (value >> (bucket + histogram.unit_magnitude))


cdef inline int64_t _bucket(const HistogramState *histogram, int64_t index) noexcept nogil:
    return max(<int64_t>0, (index >> histogram.half_magnitude) - 1)


cdef inline int64_t _lowest_at(const HistogramState *histogram, int64_t index) noexcept nogil:
    """The lowest value counted at `index`."""
    cdef int64_t bucket = _bucket(histogram, index)
    return (index - (bucket << histogram.half_magnitude)) << (bucket + histogram.unit_magnitude)


cdef inline int64_t _width_at(const HistogramState *histogram, int64_t index) noexcept nogil:
    """How many values are counted at `index`."""
    return <int64_t>1 << (_bucket(histogram, index) + histogram.unit_magnitude)


cdef inline int64_t _highest_at(const HistogramState *histogram, int64_t index) noexcept nogil:
    return _lowest_at(histogram, index) + _width_at(histogram, index) - 1


cdef void histogram_record(
    HistogramState *histogram, int64_t *counts, int64_t value, int64_t count
) noexcept nogil:
    """Count `value`, `count` times; what is over `highest`, or negative, as `highest`."""
    if <uint64_t>value > <uint64_t>histogram.highest:
        add(&histogram.clamped, count)
        value = histogram.highest
    add(&counts[_index(histogram, value)], count)


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
                lowest = _lowest_at(histogram, _index(histogram, value))
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
            values[i] = _lowest_at(histogram, last)
        else:
            values[i] = _highest_at(histogram, last)


cdef double _mean(const HistogramState *histogram, const int64_t *counts) noexcept nogil:
    cdef u128 total = 0
    cdef int64_t n = 0
    cdef int64_t index, count
    for index in range(histogram.counts_len):
        count = load(&counts[index])
        if count != 0:
            n += count
            total += <u128>count * <u128>(_lowest_at(histogram, index) + (_width_at(histogram, index) >> 1))
    return <double>total / <double>n if n != 0 else 0.0


cdef int64_t _first(const HistogramState *histogram, const int64_t *counts) noexcept nogil:
    """The lowest index with a count; -1 when there is none."""
    cdef int64_t index
    for index in range(histogram.counts_len):
        if load(&counts[index]) != 0:
            return index
    return -1


cdef int64_t _last(const HistogramState *histogram, const int64_t *counts) noexcept nogil:
    """The highest index with a count; -1 when there is none."""
    cdef int64_t index = histogram.counts_len - 1
    while index >= 0 and load(&counts[index]) == 0:
        index -= 1
    return index


# --- Counts as bytes: ZigZag, then LEB128 in at most 9 bytes; a negative number is a run of zeros --------


cdef inline uint8_t *_put(uint8_t *out, int64_t number) noexcept nogil:
    cdef uint64_t rest = (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)
    for _ in range(8):
        if rest < 0x80:
            break
        out[0] = <uint8_t>(rest & 0x7F) | 0x80
        out += 1
        rest >>= 7
    out[0] = <uint8_t>rest
    return out + 1


cdef Py_ssize_t _encode(const int64_t *counts, int64_t counts_len, uint8_t *out) noexcept nogil:
    """Write the counts to `out`, which has 9 bytes for each; return how many bytes they took."""
    cdef uint8_t *start = out
    cdef int64_t index = 0
    cdef int64_t count, zeros
    while index < counts_len:
        count = load(&counts[index])
        index += 1
        if count == 0:
            zeros = 1
            while index < counts_len and load(&counts[index]) == 0:
                zeros += 1
                index += 1
            count = -zeros
        out = _put(out, count)
    return out - start


cdef bint _decode(const uint8_t *data, Py_ssize_t size, int64_t *counts, int64_t counts_len) noexcept nogil:
    """Read counts from `data`; False when it is no sequence of at most `counts_len`, or they are too many."""
    cdef Py_ssize_t at = 0
    cdef int64_t room = MAX_COUNT
    cdef int64_t index = 0
    cdef int64_t number
    cdef uint64_t raw
    cdef int shift
    while at < size:
        raw = 0
        shift = 0
        while True:
            if at == size:
                return False
            if shift == 56:
                raw |= <uint64_t>data[at] << 56
                at += 1
                break
            raw |= <uint64_t>(data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if data[at - 1] < 0x80:
                break
        number = <int64_t>(raw >> 1) ^ -<int64_t>(raw & 1)
        if number < 0:
            # Not `-number > ...`: the least of all numbers has no opposite.
            if number < index - counts_len:
                return False
            index -= number
        else:
            if index == counts_len or number > room:
                return False
            room -= number
            counts[index] = number
            index += 1
    return True


# --- The Python object ----------------------------------------------------------------------------------


cdef class LatencyHistogram:
    """How often each latency occurred, in microseconds or any other unit, at a fixed size in memory.

    Values are ints from 0 to `highest`, kept to `significant_digits` (1..5) digits; `lowest` (1..2^40) is
    the smallest difference that matters, `highest` (2 * lowest..2^61). The default takes 139 KB. What is
    over `highest` counts as `highest` and in `clamped`.

    Safe from any number of threads: no record is lost. What is read while others record is a moment ago.

    Raises:
        ConfigError: naming the argument and its range.
    """

    def __cinit__(self, lowest=1, highest=60_000_000, significant_digits=3):
        cdef HistogramState wanted
        check_int("lowest", lowest, 1, MAX_LOWEST)
        check_int("highest", highest, 2 * lowest, MAX_VALUE)
        check_int("significant_digits", significant_digits, 1, 5)
        wanted.clamped = 0
        layout(&wanted, lowest, highest, significant_digits)
        cdef Memory memory = Memory(sizeof(HistogramState) + <size_t>wanted.counts_len * sizeof(int64_t))
        self.owner = memory
        self.state_ = <HistogramState *>memory.data
        self.state_[0] = wanted
        self.counts_ = <int64_t *>(self.state_ + 1)
        self.shape[0] = wanted.counts_len
        self.strides[0] = sizeof(int64_t)

    def __repr__(self):
        return f"<LatencyHistogram of {self.count} from {self.min} to {self.max}>"

    @property
    def lowest(self):
        return self.state_.lowest

    @property
    def highest(self):
        return self.state_.highest

    @property
    def significant_digits(self):
        return self.state_.significant_digits

    def record(self, us):
        """Count one value.

        Raises:
            ConfigError: it is no int, or negative.
        """
        cdef int64_t value = natural(us)
        if value < 0:
            raise ConfigError("us", us, "an int from 0")
        histogram_record(self.state_, self.counts_, value, 1)

    def record_many(self, values):
        """Count every value of a numpy array, or of whatever numpy makes a one-dimensional array of ints.

        Other threads run meanwhile.

        Raises:
            ConfigError: it is none, or a value is negative: then nothing is counted.
        """
        import numpy

        array = numpy.asarray(values)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size != 0):
            given = f"array of {array.dtype} with shape {array.shape}"
            raise ConfigError("values", given, "a one-dimensional array of ints")
        if array.dtype == numpy.uint64:
            array = numpy.minimum(array, numpy.uint64(MAX_VALUE))
        cdef const int64_t[:] numbers = array.astype(numpy.int64, copy=False)
        cdef Py_ssize_t n = numbers.shape[0]
        cdef Py_ssize_t negative = -1
        cdef Py_ssize_t i
        with nogil:
            for i in range(n):
                if numbers[i] < 0:
                    negative = i
                    break
            else:
                for i in range(n):
                    histogram_record(self.state_, self.counts_, numbers[i], 1)
        if negative >= 0:
            raise ConfigError(f"values[{negative}]", numbers[negative], "an int from 0")

    def record_corrected(self, us, expected_interval):
        """Count one value, and what its caller could not measure while it waited ("coordinated omission").

        Who measures every `expected_interval` (0: no correction) misses the measurements that fall into a
        longer wait; they would have been `us` less one interval, less two, and so on: those above 0 are
        counted too, as by `record_corrected_value` of the hdrhistogram package. (HdrHistogram's
        `recordValueWithExpectedInterval`, in Java and C, stops at those of at least one interval.)

        Raises:
            ConfigError: an argument is no int, or negative.
            OverflowError: there would be more than 2^62 values; nothing is counted.
        """
        cdef int64_t value = natural(us)
        cdef int64_t interval = natural(expected_interval)
        if value < 0:
            raise ConfigError("us", us, "an int from 0")
        if interval < 0:
            raise ConfigError("expected_interval", expected_interval, "an int from 0")
        if not histogram_record_corrected(self.state_, self.counts_, value, interval):
            raise OverflowError("the histogram is full: it counts at most 2^62 values")

    def percentile(self, percentile):
        """The value that `percentile` (0..100) per cent of the recorded ones do not exceed; 0: none was.

        Raises:
            ConfigError: `percentile` is outside its range.
        """
        cdef double per_cent = check_float("percentile", percentile, 0.0, 100.0)
        return histogram_percentile(self.state_, self.counts_, per_cent)

    def percentiles(self, percentiles):
        """`percentile` of each, in a list of the same order, in one pass over the counts.

        Raises:
            ConfigError: one of them is outside its range.
        """
        checked = [
            check_float(f"percentiles[{i}]", value, 0.0, 100.0) for i, value in enumerate(percentiles)
        ]
        cdef Py_ssize_t n = len(checked)
        cdef double *rising = <double *>malloc((n + 1) * sizeof(double))
        cdef int64_t *values = <int64_t *>malloc((n + 1) * sizeof(int64_t))
        cdef Py_ssize_t i
        try:
            if rising is NULL or values is NULL:
                raise MemoryError(f"cannot set aside room for {n} percentiles")
            order = sorted(range(n), key=checked.__getitem__)
            for i in range(n):
                rising[i] = checked[order[i]]
            with nogil:
                histogram_percentiles(self.state_, self.counts_, rising, values, n)
            result = [0] * n
            for i in range(n):
                result[order[i]] = values[i]
            return result
        finally:
            free(rising)
            free(values)

    @property
    def count(self):
        """How many values were recorded."""
        return histogram_count(self.state_, self.counts_)

    @property
    def clamped(self):
        """How many of them were over `highest`."""
        return load(&self.state_.clamped)

    @property
    def mean(self):
        """The mean, each value taken as the middle of its bucket; 0.0: none was recorded."""
        return _mean(self.state_, self.counts_)

    @property
    def min(self):
        """The lowest value, to the lower end of its bucket; 0: none was recorded."""
        cdef int64_t index = _first(self.state_, self.counts_)
        return 0 if index < 0 else _lowest_at(self.state_, index)

    @property
    def max(self):
        """The highest value, to the upper end of its bucket; 0: none was recorded."""
        cdef int64_t index = _last(self.state_, self.counts_)
        return 0 if index < 0 else _highest_at(self.state_, index)

    @property
    def counts(self):
        """The counts, bucket by bucket: a read-only numpy array of int64, which is no copy but changes."""
        import numpy

        return numpy.frombuffer(self, dtype=numpy.int64)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("the counts of a LatencyHistogram are read-only")
        buffer.buf = self.counts_
        buffer.obj = self
        buffer.len = self.shape[0] * <Py_ssize_t>sizeof(int64_t)
        buffer.itemsize = sizeof(int64_t)
        buffer.readonly = 1
        buffer.ndim = 1
        buffer.format = _FORMAT if flags & PyBUF_FORMAT else NULL
        buffer.shape = self.shape if flags & PyBUF_ND else NULL
        buffer.strides = self.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL

    cdef int64_t *counts_in(self, LatencyHistogram other) except NULL:
        """The counts of `other` in this layout, and after them its `clamped`; to be freed.

        Of another layout, each bucket goes where its lowest value goes.
        """
        cdef const HistogramState *theirs = other.state_
        cdef const HistogramState *ours = self.state_
        cdef bint same = (
            theirs.unit_magnitude == ours.unit_magnitude
            and theirs.half_magnitude == ours.half_magnitude
            and theirs.highest <= ours.highest
        )
        cdef int64_t clamped_at = ours.counts_len
        cdef int64_t index, count, value
        cdef int64_t *result = <int64_t *>calloc(<size_t>clamped_at + 1, sizeof(int64_t))
        if result is NULL:
            raise MemoryError(f"cannot set aside {(clamped_at + 1) * sizeof(int64_t)} bytes")
        with nogil:
            for index in range(theirs.counts_len):
                count = load(&other.counts_[index])
                if count == 0:
                    continue
                if same:
                    result[index] = count
                    continue
                value = _lowest_at(theirs, index)
                if value > ours.highest:
                    result[clamped_at] += count
                    value = ours.highest
                result[_index(ours, value)] += count
            result[clamped_at] += load(&theirs.clamped)
        return result

    def merge(self, LatencyHistogram other not None):
        """Add the counts of `other`, which may have another layout: then each bucket by its lowest value.

        Raises:
            OverflowError: there would be more than 2^62 values; nothing is added.
        """
        cdef int64_t index
        cdef int64_t *counts = self.counts_in(other)
        cdef bint full
        with nogil:
            full = (
                histogram_count(other.state_, other.counts_)
                > MAX_COUNT - histogram_count(self.state_, self.counts_)
            )
            if not full:
                for index in range(self.state_.counts_len):
                    if counts[index] != 0:
                        add(&self.counts_[index], counts[index])
                add(&self.state_.clamped, counts[self.state_.counts_len])
        free(counts)
        if full:
            raise OverflowError("the histogram would be full: it counts at most 2^62 values")

    def subtract(self, LatencyHistogram other not None):
        """Take away the counts of `other`, such as one that was merged; layouts may differ as there.

        Others may record, merge and subtract meanwhile, and see it half done; a process that is killed
        half way, in an Arena, leaves it so.

        Raises:
            ConfigError: `other` counts more of some value than this one, which keeps its counts then.
        """
        cdef int64_t *counts = self.counts_in(other)
        cdef int64_t clamped_at = self.state_.counts_len
        cdef int64_t lacking = -1
        cdef int64_t here = 0
        cdef int64_t there = 0
        cdef int64_t index
        cdef int64_t *word
        with nogil:
            for index in range(clamped_at + 1):
                word = &self.counts_[index] if index < clamped_at else &self.state_.clamped
                here = load(word)
                while here >= counts[index] and not cas(word, &here, here - counts[index]):
                    pass
                if here < counts[index]:
                    lacking = index
                    there = counts[index]
                    break
            for index in range(lacking):
                add(&self.counts_[index], counts[index])
        free(counts)
        if lacking >= 0:
            which = "clamped" if lacking == clamped_at else f"of {_lowest_at(self.state_, lacking)}"
            raise ConfigError("other", other, f"no counts above this one's: {which} {here}, not {there}")

    def interval_histogram(self):
        """What was recorded since the last call, as a new histogram; this one counts on from 0.

        Every value is in exactly one interval, whoever records meanwhile: each count is exchanged with 0.
        """
        cdef LatencyHistogram interval = LatencyHistogram(
            self.state_.lowest, self.state_.highest, self.state_.significant_digits
        )
        cdef int64_t index
        with nogil:
            for index in range(self.state_.counts_len):
                if load(&self.counts_[index]) != 0:
                    interval.counts_[index] = exchange(&self.counts_[index], 0)
            interval.state_.clamped = exchange(&self.state_.clamped, 0)
        return interval

    def reset(self):
        """Forget everything. Values recorded meanwhile may or may not be forgotten."""
        cdef int64_t index
        with nogil:
            for index in range(self.state_.counts_len):
                store(&self.counts_[index], 0)
            store(&self.state_.clamped, 0)

    def encode(self):
        """The counts as an HdrHistogram V2 compressed blob in base64, which every HdrHistogram reads.

        `clamped` is not in it.
        """
        cdef const HistogramState *state = self.state_
        cdef int64_t counts_len = _last(state, self.counts_) + 1
        cdef Py_ssize_t size
        cdef bytes payload
        cdef uint8_t *out = <uint8_t *>malloc(<size_t>counts_len * 9 + 1)
        if out is NULL:
            raise MemoryError(f"cannot set aside {counts_len * 9} bytes")
        try:
            with nogil:
                size = _encode(self.counts_, counts_len, out)
            payload = PyBytes_FromStringAndSize(<char *>out, size)
        finally:
            free(out)
        header = _INNER.pack(
            ENCODING_COOKIE, size, 0, state.significant_digits, state.lowest, state.highest, 1.0
        )
        compressed = compress(header + payload)
        return b64encode(_OUTER.pack(COMPRESSED_COOKIE, len(compressed)) + compressed)

    @staticmethod
    def decode(blob):
        """The histogram that `encode`, or another HdrHistogram, made this blob (bytes or str) of.

        Raises:
            ValueError: it is no V2 blob, or of a histogram that no LatencyHistogram can be.
        """
        cdef LatencyHistogram histogram
        cdef bytes payload
        try:
            data = b64decode(blob, validate=True)
            cookie, size = _OUTER.unpack_from(data)
            if cookie != COMPRESSED_COOKIE or size != len(data) - _OUTER.size:
                raise ValueError("its outer header is wrong")
            inflate = decompressobj()
            header = inflate.decompress(data[_OUTER.size:], _INNER.size)
            cookie, size, offset, digits, lowest, highest, ratio = _INNER.unpack(header)
            if cookie != ENCODING_COOKIE or offset != 0 or ratio != 1.0:
                raise ValueError("its inner header is wrong")
            histogram = LatencyHistogram(lowest, highest, digits)
            if size > 9 * histogram.state_.counts_len:
                raise ValueError(f"{size} bytes are too many")
            payload = inflate.decompress(inflate.unconsumed_tail, size + 1)
            if len(payload) != size or not inflate.eof:
                raise ValueError(f"it is not followed by {size} bytes")
        except (Base64Error, StructError, ZlibError, ValueError, TypeError) as error:
            raise ValueError(f"not an HdrHistogram V2 blob: {error}") from error
        cdef const uint8_t *encoded = <const uint8_t *>PyBytes_AS_STRING(payload)
        if not _decode(encoded, len(payload), histogram.counts_, histogram.state_.counts_len):
            raise ValueError("not an HdrHistogram V2 blob: its counts are wrong")
        return histogram
