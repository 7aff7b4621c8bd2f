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
from libc.stdlib cimport free, malloc

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.arguments cimport natural
from tai_grpc._ext.primitives.atomics cimport add, load, store

from tai_grpc.config import check_float, check_int
from tai_grpc.errors import ConfigError

cdef extern from *:
    """
    typedef unsigned __int128 tai_u128;
    #define tai_clz(value) __builtin_clzll(value)
    """
    ctypedef unsigned long long u128 "tai_u128"
    int clz "tai_clz" (uint64_t value) noexcept nogil

# Values up to 2^61 and 2^62 counts of each: no sum of theirs overflows 128 bits.
cdef int64_t MAX_VALUE = <int64_t>1 << 61
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
    cdef int64_t total = histogram_count(histogram, counts)
    cdef int64_t wanted = max(<int64_t>(percentile * <double>total / 100 + 0.5), <int64_t>1)
    cdef int64_t seen = 0
    cdef int64_t last = -1
    cdef int64_t index, count
    for index in range(histogram.counts_len):
        count = load(&counts[index])
        if count == 0:
            continue
        seen += count
        last = index
        if seen >= wanted:
            break
    if last < 0:
        return 0
    return _lowest_at(histogram, last) if percentile == 0 else _highest_at(histogram, last)


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
    """Read counts from `data`; False when it is no sequence of at most `counts_len` of them."""
    cdef Py_ssize_t at = 0
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
            if index == counts_len or number > <int64_t>1 << 62:
                return False
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

        Raises:
            ConfigError: it is none, or a value is negative: then nothing is counted.
        """
        import numpy

        array = numpy.asarray(values)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size != 0):
            raise ConfigError("values", array.dtype, "a one-dimensional array of ints")
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

    def percentile(self, percentile):
        """The value that `percentile` (0..100) per cent of the recorded ones do not exceed; 0: none was."""
        cdef double per_cent = check_float("percentile", percentile, 0.0, 100.0)
        return histogram_percentile(self.state_, self.counts_, per_cent)

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

    def merge(self, LatencyHistogram other not None):
        """Add the counts of `other`, which may have another layout: then each bucket by its lowest value."""
        cdef const HistogramState *theirs = other.state_
        cdef bint same = (
            theirs.unit_magnitude == self.state_.unit_magnitude
            and theirs.half_magnitude == self.state_.half_magnitude
            and theirs.highest <= self.state_.highest
        )
        cdef int64_t index, count
        with nogil:
            for index in range(theirs.counts_len):
                count = load(&other.counts_[index])
                if count == 0:
                    continue
                if same:
                    add(&self.counts_[index], count)
                else:
                    histogram_record(self.state_, self.counts_, _lowest_at(theirs, index), count)
            add(&self.state_.clamped, load(&theirs.clamped))

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
