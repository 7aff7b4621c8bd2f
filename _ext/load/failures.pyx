# cython: language_level=3, freethreading_compatible=True
"""How calls failed, and how often: up to 100 kinds by status and text, all others by status.

What the peer said is kept as it came, and made readable when it is read.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from tai_grpc._ext.http2.metadata cimport ended_text
from tai_grpc._ext.load.linux cimport (
    pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock,
)


cdef int failures_init(Failures *failures) noexcept nogil:
    failures.kinds = <Failure *>calloc(MAX_KINDS, sizeof(Failure))
    if failures.kinds is NULL:
        return -1
    if pthread_mutex_init(&failures.lock, NULL) != 0:
        free(failures.kinds)
        failures.kinds = NULL
        return -1
    return 0


cdef void failures_free(Failures *failures) noexcept nogil:
    if failures.kinds is not NULL:
        pthread_mutex_destroy(&failures.lock)
        free(failures.kinds)
        failures.kinds = NULL


cdef void failures_add(
    Failures *failures, int code, int why, int64_t number, const char *text, size_t size
) noexcept nogil:
    cdef size_t kept = min(size, <size_t>MAX_TEXT)
    cdef uint64_t hash = _hash(text, kept) + <uint64_t>(32 * why + code) + <uint64_t>number
    cdef Failure *failure
    cdef size_t i
    pthread_mutex_lock(&failures.lock)
    for i in range(failures.count):
        failure = &failures.kinds[i]
        if (
            failure.hash == hash and failure.code == code and failure.why == why and failure.number == number
            and failure.size == kept and (kept == 0 or memcmp(failure.text, text, kept) == 0)
        ):
            failure.count += 1
            break
    else:
        if failures.count < MAX_KINDS:
            failure = &failures.kinds[failures.count]
            failures.count += 1
            failure.code = code
            failure.why = why
            failure.number = number
            failure.hash = hash
            failure.size = kept
            if kept != 0:
                memcpy(failure.text, text, kept)
            failure.count = 1
        else:
            failures.others[code] += 1
    pthread_mutex_unlock(&failures.lock)


cdef uint64_t _hash(const char *text, size_t size) noexcept nogil:
    """FNV-1a."""
    cdef uint64_t hash = <uint64_t>0xCBF29CE484222325
    cdef size_t i
    for i in range(size):
        hash = (hash ^ <unsigned char>text[i]) * <uint64_t>0x100000001B3
    return hash


cdef list failures_list(Failures *failures):
    cdef Failure *copies = <Failure *>calloc(MAX_KINDS, sizeof(Failure))
    cdef int64_t others[STATUSES]
    cdef size_t count, i
    cdef list found = []
    if copies is NULL:
        raise MemoryError
    try:
        pthread_mutex_lock(&failures.lock)
        count = failures.count
        memcpy(copies, failures.kinds, count * sizeof(Failure))
        memcpy(others, failures.others, sizeof(others))
        pthread_mutex_unlock(&failures.lock)
        for i in range(count):
            details = ended_text(copies[i].why, copies[i].number, copies[i].text, copies[i].size)
            found.append((copies[i].code, details, copies[i].count))
        for i in range(STATUSES):
            if others[i] != 0:
                found.append((i, None, others[i]))
    finally:
        free(copies)
    return found
