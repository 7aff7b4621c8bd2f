# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, cdivision=True
"""The latency histogram as a Python object, on the counts of hdr.pyx."""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from libc.stdlib cimport calloc, free, malloc

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.arguments cimport natural
from tai_grpc._ext.primitives.atomics cimport load
from tai_grpc._ext.primitives.hdr cimport MAX_VALUE
from tai_grpc._ext.primitives.hdr_blob cimport read_counts, read_header, write_blob

from tai_grpc._ext.primitives.hdr_blob import BLOB_ERRORS as _BLOB_ERRORS
from tai_grpc.checks import check_float, check_int, check_type
from tai_grpc.errors import ConfigError

cdef int64_t MAX_LOWEST = <int64_t>1 << 40
cdef char *_FORMAT = b"q"


cdef class LatencyHistogram:
    """LatencyHistogram(lowest=1, highest=60_000_000, significant_digits=3)\n--\n
    How often each latency occurred, in microseconds or any other unit, at a fixed size in memory.

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

    def __reduce__(self):
        return _restored, (self.encode(), self.clamped)

    def __repr__(self):
        return f"<LatencyHistogram count={self.count} min={self.min} max={self.max}>"

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
            ConfigError: it is not an int, or negative.
        """
        cdef int64_t value = natural(us)
        if value < 0:
            raise ConfigError("us", us, "an int of at least 0")
        histogram_record(self.state_, self.counts_, value, 1)

    def record_many(self, values):
        """Count every value of a numpy array, or of whatever numpy makes a one-dimensional array of ints.

        Other threads run meanwhile.

        Raises:
            ConfigError: it is not such an array, or a value is negative: then nothing is counted.
        """
        import numpy

        try:
            array = numpy.asarray(values)
        except (ValueError, TypeError, OverflowError) as error:
            raise ConfigError("values", type(values), "a one-dimensional array of ints") from error
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
            raise ConfigError(f"values[{negative}]", numbers[negative], "an int of at least 0")

    def record_corrected(self, us, expected_interval):
        """Count one value, and what its caller could not measure while it waited ("coordinated omission").

        Who measures every `expected_interval` (0: no correction) misses the measurements that fall into a
        longer wait; they would have been `us` less one interval, less two, and so on: those above 0 are
        counted too, as by `record_corrected_value` of the hdrhistogram package. (HdrHistogram's
        `recordValueWithExpectedInterval`, in Java and C, stops at those of at least one interval.)

        Raises:
            ConfigError: an argument is not an int, or negative.
            OverflowError: there would be more than 2^62 values; nothing is counted.
        """
        cdef int64_t value = natural(us)
        cdef int64_t interval = natural(expected_interval)
        if value < 0:
            raise ConfigError("us", us, "an int of at least 0")
        if interval < 0:
            raise ConfigError("expected_interval", expected_interval, "an int of at least 0")
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
            ConfigError: it is not a sequence, or one of them is outside its range.
        """
        try:
            # Asked, as some that are no sequence say that they are: numpy's arrays without a dimension.
            numbers = None if isinstance(percentiles, (str, bytes)) else iter(percentiles)
        except TypeError:
            numbers = None
        if numbers is None:
            raise ConfigError("percentiles", percentiles, "a sequence of numbers from 0 to 100")
        checked = [check_float(f"percentiles[{i}]", value, 0.0, 100.0) for i, value in enumerate(numbers)]
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
        return histogram_mean(self.state_, self.counts_)

    @property
    def min(self):
        """The lowest value, to the lower end of its bucket; 0: none was recorded."""
        cdef int64_t index = first_index(self.state_, self.counts_)
        return 0 if index < 0 else lowest_at(self.state_, index)

    @property
    def max(self):
        """The highest value, to the upper end of its bucket; 0: none was recorded."""
        cdef int64_t index = last_index(self.state_, self.counts_)
        return 0 if index < 0 else highest_at(self.state_, index)

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

    cdef int64_t *counts_of(self, object other) except NULL:
        """The counts of `other` in this layout, and after them its `clamped`; to be freed."""
        cdef LatencyHistogram theirs
        cdef size_t size = <size_t>self.state_.counts_len + 1
        cdef int64_t *converted
        check_type("other", other, LatencyHistogram)
        theirs = <LatencyHistogram>other
        converted = <int64_t *>calloc(size, sizeof(int64_t))
        if converted is NULL:
            raise MemoryError(f"cannot set aside {size * sizeof(int64_t)} bytes")
        with nogil:
            histogram_convert(self.state_, theirs.state_, theirs.counts_, converted)
        return converted

    def merge(self, other):
        """Add the counts of `other`, which may have another layout: then each bucket by its lowest value.

        Raises:
            ConfigError: `other` is not a LatencyHistogram.
            OverflowError: there would be more than 2^62 values; nothing is added.
        """
        cdef int64_t *converted = self.counts_of(other)
        cdef bint merged
        with nogil:
            merged = histogram_merge(self.state_, self.counts_, converted)
        free(converted)
        if not merged:
            raise OverflowError("the histogram would be full: it counts at most 2^62 values")

    def subtract(self, other):
        """Take away the counts of `other`, such as one that was merged; layouts may differ as there.

        Others may record, merge and subtract meanwhile, and see it half done; a process that is killed
        half way, in an Arena, leaves it so.

        Raises:
            ConfigError: `other` is not a LatencyHistogram, or counts more of some value than this one, which
                keeps its counts then.
        """
        cdef int64_t *converted = self.counts_of(other)
        cdef int64_t here = 0
        cdef int64_t there = 0
        cdef int64_t lacking
        with nogil:
            lacking = histogram_subtract(self.state_, self.counts_, converted, &here)
            if lacking >= 0:
                there = converted[lacking]
        free(converted)
        if lacking >= 0:
            clamped = lacking == self.state_.counts_len
            of = "above `highest`" if clamped else f"of the value {lowest_at(self.state_, lacking)}"
            raise ConfigError("other", other, f"at most what this one counts: {here} {of}, not {there}")

    def interval_histogram(self):
        """What was recorded since the last call, as a new histogram; this one counts on from 0.

        Every value is in exactly one interval, whoever records meanwhile: each count is exchanged with 0.
        """
        cdef LatencyHistogram interval = LatencyHistogram(
            self.state_.lowest, self.state_.highest, self.state_.significant_digits
        )
        with nogil:
            histogram_take_all(self.state_, self.counts_, interval.state_, interval.counts_)
        return interval

    def reset(self):
        """Forget everything. Values recorded meanwhile may or may not be forgotten."""
        with nogil:
            histogram_reset(self.state_, self.counts_)

    def encode(self):
        """The counts as an HdrHistogram V2 compressed blob in base64, which every HdrHistogram reads.

        `clamped` is not in it.
        """
        return write_blob(self.state_, self.counts_)

    @staticmethod
    def decode(blob):
        """The histogram that `encode`, or another HdrHistogram, made this blob (bytes or str) of.

        Raises:
            ValueError: it is not a V2 blob, or one that no LatencyHistogram can be made of.
        """
        cdef LatencyHistogram histogram
        try:
            lowest, highest, digits, size, inflate = read_header(blob)
            histogram = LatencyHistogram(lowest, highest, digits)
            read_counts(inflate, size, histogram.counts_, histogram.state_.counts_len)
        except _BLOB_ERRORS as error:
            raise ValueError(f"not an HdrHistogram V2 blob: {error}") from error
        return histogram


def _restored(blob, int64_t clamped):
    """A histogram of a pickle."""
    cdef LatencyHistogram histogram = LatencyHistogram.decode(blob)
    histogram.state_.clamped = clamped
    return histogram
