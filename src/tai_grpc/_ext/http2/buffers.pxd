"""Bytes that grow, and the one way to read them: through a cursor that never leaves them."""

from libc.stdint cimport uint32_t

cdef struct Buffer:
    char *data
    size_t size
    size_t capacity


# Where a read stands. Each read moves it, or leaves it and returns -1 where less is left than is asked for.
cdef struct Cursor:
    const char *at
    const char *end


# Fields of a header block, one behind the other: two uint32 sizes, then name and value.
cdef struct Field:
    const char *name
    size_t name_size
    const char *value
    size_t value_size


cdef int buffer_reserve(Buffer *buffer, size_t more) noexcept nogil  # -1: no memory
cdef int buffer_resize(Buffer *buffer, size_t capacity) noexcept nogil  # -1: no memory
cdef int buffer_append(Buffer *buffer, const char *data, size_t size) noexcept nogil  # -1: no memory
cdef int buffer_append_field(
    Buffer *buffer, const char *name, size_t name_size, const char *value, size_t value_size
) noexcept nogil  # -1: no memory
cdef void buffer_free(Buffer *buffer) noexcept nogil


cdef inline Cursor cursor_on(const char *data, size_t size) noexcept nogil:
    cdef Cursor cursor
    cursor.at = data
    cursor.end = data + size
    return cursor


cdef inline size_t cursor_left(const Cursor *cursor) noexcept nogil:
    return <size_t>(cursor.end - cursor.at)


cdef int read_bytes(Cursor *cursor, size_t size, const char **data) noexcept nogil
cdef int read_u8(Cursor *cursor, unsigned char *value) noexcept nogil
cdef int read_u32(Cursor *cursor, uint32_t *value) noexcept nogil  # as it lies in memory
cdef int read_u32_big_endian(Cursor *cursor, uint32_t *value) noexcept nogil
cdef int read_field(Cursor *cursor, Field *field) noexcept nogil
