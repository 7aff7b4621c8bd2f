"""The blobs that every HdrHistogram reads and writes."""

from libc.stdint cimport int64_t

from tai_grpc._ext.primitives.hdr cimport HistogramState

cdef bytes write_blob(const HistogramState *state, const int64_t *counts)
cdef tuple read_header(object blob)
cdef int read_counts(object inflate, int64_t size, int64_t *counts, int64_t counts_len) except -1
