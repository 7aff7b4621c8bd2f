"""How calls failed, and how often. See failures.pyx."""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.load.linux cimport pthread_mutex_t

cdef enum:
    MAX_KINDS = 100
    MAX_TEXT = 512  # bytes kept of what is said of a failure
    STATUSES = 17
    # Beside state.pxd's Why: what is said here, not by the peer.
    HERE = 100


cdef struct Failure:
    int code
    int why
    int64_t number
    uint64_t hash
    size_t size
    char text[MAX_TEXT]
    int64_t count


cdef struct Failures:
    pthread_mutex_t lock  # around all that follows
    Failure *kinds
    size_t count
    int64_t others[STATUSES]


cdef int failures_init(Failures *failures) noexcept nogil  # -1: no memory
cdef void failures_free(Failures *failures) noexcept nogil
cdef void failures_add(
    Failures *failures, int code, int why, int64_t number, const char *text, size_t size
) noexcept nogil
cdef list failures_list(Failures *failures)  # of (code, details or None: of any other kind, count)
