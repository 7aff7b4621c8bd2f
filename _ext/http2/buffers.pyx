# cython: language_level=3, freethreading_compatible=True
"""Bytes that grow, and the cursor that all reads go through."""

from libc.stdint cimport UINT32_MAX, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy


cdef int buffer_reserve(Buffer *buffer, size_t more) noexcept nogil:
    cdef size_t wanted
    if more <= buffer.capacity - buffer.size:
        return 0
    wanted = buffer.size + more
    if wanted < more:
        return -1
    return buffer_resize(buffer, max(wanted, 2 * buffer.capacity, <size_t>64))


cdef int buffer_resize(Buffer *buffer, size_t capacity) noexcept nogil:
    cdef char *data = <char *>realloc(buffer.data, capacity)
    if data is NULL:
        return -1
    buffer.data = data
    buffer.capacity = capacity
    return 0


cdef int buffer_append(Buffer *buffer, const char *data, size_t size) noexcept nogil:
    if buffer_reserve(buffer, size) != 0:
        return -1
    if size != 0:
        memcpy(buffer.data + buffer.size, data, size)
        buffer.size += size
    return 0


cdef int buffer_append_field(
    Buffer *buffer, const char *name, size_t name_size, const char *value, size_t value_size
) noexcept nogil:
    cdef uint32_t[2] sizes
    if name_size > <size_t>UINT32_MAX or value_size > <size_t>UINT32_MAX:
        return -1
    sizes[0] = <uint32_t>name_size
    sizes[1] = <uint32_t>value_size
    if buffer_reserve(buffer, 2 * sizeof(uint32_t) + name_size + value_size) != 0:
        return -1
    buffer_append(buffer, <const char *>&sizes[0], 2 * sizeof(uint32_t))
    buffer_append(buffer, name, name_size)
    return buffer_append(buffer, value, value_size)


cdef void buffer_free(Buffer *buffer) noexcept nogil:
    free(buffer.data)
    buffer.data = NULL
    buffer.size = buffer.capacity = 0


cdef int read_bytes(Cursor *cursor, size_t size, const char **data) noexcept nogil:
    if size > cursor_left(cursor):
        return -1
    data[0] = cursor.at
    cursor.at += size
    return 0


cdef int read_u8(Cursor *cursor, unsigned char *value) noexcept nogil:
    if cursor.at == cursor.end:
        return -1
    value[0] = <unsigned char>cursor.at[0]
    cursor.at += 1
    return 0


cdef int read_u32(Cursor *cursor, uint32_t *value) noexcept nogil:
    cdef const char *data
    if read_bytes(cursor, sizeof(uint32_t), &data) != 0:
        return -1
    memcpy(value, data, sizeof(uint32_t))
    return 0


cdef int read_u32_big_endian(Cursor *cursor, uint32_t *value) noexcept nogil:
    cdef const char *data
    cdef const unsigned char *octets
    if read_bytes(cursor, 4, &data) != 0:
        return -1
    octets = <const unsigned char *>data
    value[0] = (
        (<uint32_t>octets[0] << 24) | (<uint32_t>octets[1] << 16) | (<uint32_t>octets[2] << 8) | octets[3]
    )
    return 0


cdef int read_field(Cursor *cursor, Field *field) noexcept nogil:
    cdef uint32_t name_size, value_size
    if read_u32(cursor, &name_size) != 0 or read_u32(cursor, &value_size) != 0:
        return -1
    if read_bytes(cursor, name_size, &field.name) != 0 or read_bytes(cursor, value_size, &field.value) != 0:
        return -1
    field.name_size = name_size
    field.value_size = value_size
    return 0
