"""What may be sent as metadata: see entries.pyx."""

cdef bint is_binary(const char *name, size_t size) noexcept nogil  # a key's values are bytes
# A caller's metadata, of any iterable, as a tuple; None: none. Raises TypeError.
cdef tuple entries_of(object metadata)
# Raises TypeError and ValueError that name the first key which cannot be sent, or whose value cannot.
cdef int check_entries(tuple entries) except -1
# An entry's key, and its value, as they are sent; that of a -bin key before base64. Raise as `check_entries`.
cdef bytes entry_name(object entry)
cdef bytes entry_value(object entry, bytes name)
