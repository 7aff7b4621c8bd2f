# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""The values of gRPC's own header fields, as PROTOCOL-HTTP2.md has them.

What a peer sends may be anything: every parser says whether it understood, none reads beyond its end.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcmp

from tai_grpc._ext.http2.buffers cimport Buffer, Cursor, buffer_reserve, cursor_on, read_u8
from tai_grpc._ext.http2.nghttp2 cimport (
    NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_HTTP_1_1_REQUIRED, NGHTTP2_INADEQUATE_SECURITY,
    NGHTTP2_REFUSED_STREAM, NGHTTP2_STREAM_CLOSED,
)
from tai_grpc._ext.http2.state cimport DEFLATE, GZIP, IDENTITY, OTHER

cdef extern from *:
    """
    static const char tai_hex[] = "0123456789ABCDEF";
    static const char tai_base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char tai_units[] = "numSMH";
    static const long long tai_unit_ns[] = {
        1LL, 1000LL, 1000000LL, 1000000000LL, 60000000000LL, 3600000000000LL};
    """
    const char *HEX "tai_hex"
    const char *BASE64 "tai_base64"
    const char *UNITS "tai_units"
    const long long *UNIT_NS "tai_unit_ns"

cdef int64_t LONGEST_NS = 4_611_686_018_427_387_904  # 146 years; what is longer is cut to it


cdef int64_t decimal_of(const char *value, size_t size, size_t digits) noexcept nogil:
    cdef Cursor cursor = cursor_on(value, size)
    cdef unsigned char octet
    cdef int64_t number = 0
    if not 0 < size <= digits:
        return -1
    while read_u8(&cursor, &octet) == 0:
        if not c'0' <= octet <= c'9':
            return -1
        number = 10 * number + (octet - c'0')
    return number


cdef size_t decimal_text(int64_t number, char *text) noexcept nogil:
    cdef char[20] reverse
    cdef size_t size = 0, i
    while True:
        reverse[size] = <char>(c'0' + number % 10)
        size += 1
        number //= 10
        if number == 0:
            break
    for i in range(size):
        text[i] = reverse[size - 1 - i]
    return size


cdef int64_t timeout_of(const char *value, size_t size) noexcept nogil:
    cdef int64_t number
    cdef int unit
    if size < 2:
        return -1
    number = decimal_of(value, size - 1, 8)
    if number < 0:
        return -1
    for unit in range(6):
        if value[size - 1] == UNITS[unit]:
            return min(number, LONGEST_NS // UNIT_NS[unit]) * UNIT_NS[unit]
    return -1


cdef size_t timeout_text(int64_t timeout_ns, char *text) noexcept nogil:
    cdef int64_t amount
    cdef size_t size
    cdef int unit
    if timeout_ns < 0:
        timeout_ns = 0
    for unit in range(6):
        amount = timeout_ns // UNIT_NS[unit] + (timeout_ns % UNIT_NS[unit] != 0)
        if amount <= 99_999_999:
            break
    size = decimal_text(min(amount, <int64_t>99_999_999), text)
    text[size] = UNITS[unit]
    return size + 1


cdef inline bint _same(const char *value, size_t size, const char *name, size_t name_size) noexcept nogil:
    return size == name_size and memcmp(value, name, size) == 0


cdef int encoding_of(const char *value, size_t size) noexcept nogil:
    if _same(value, size, b"identity", 8):
        return IDENTITY
    if _same(value, size, b"gzip", 4):
        return GZIP
    if _same(value, size, b"deflate", 7):
        return DEFLATE
    return OTHER


cdef int accepted_of(const char *value, size_t size) noexcept nogil:
    cdef int accepted = 1 << IDENTITY
    cdef size_t begin = 0, end, stop
    while begin < size:
        end = begin
        while end < size and value[end] != c',':
            end += 1
        stop = end
        while begin < stop and value[begin] == c' ':
            begin += 1
        while begin < stop and value[stop - 1] == c' ':
            stop -= 1
        accepted |= 1 << encoding_of(value + begin, stop - begin)
        begin = end + 1
    return accepted


cdef bint is_grpc(const char *content_type, size_t size) noexcept nogil:
    if size < 16 or memcmp(content_type, <const char *>b"application/grpc", 16) != 0:
        return False
    return size == 16 or content_type[16] == c'+' or content_type[16] == c';'


cdef int percent_append(Buffer *buffer, const char *text, size_t size) noexcept nogil:
    cdef Cursor cursor = cursor_on(text, size)
    cdef unsigned char octet
    if size > (<size_t>-1) // 3 or buffer_reserve(buffer, 3 * size) != 0:
        return -1
    while read_u8(&cursor, &octet) == 0:
        if 0x20 <= octet <= 0x7E and octet != c'%':
            buffer.data[buffer.size] = <char>octet
            buffer.size += 1
        else:
            buffer.data[buffer.size] = c'%'
            buffer.data[buffer.size + 1] = HEX[octet >> 4]
            buffer.data[buffer.size + 2] = HEX[octet & 15]
            buffer.size += 3
    return 0


cdef inline int _hex(unsigned char digit) noexcept nogil:
    if c'0' <= digit <= c'9':
        return digit - c'0'
    if c'A' <= digit <= c'F':
        return digit - c'A' + 10
    if c'a' <= digit <= c'f':
        return digit - c'a' + 10
    return -1


cdef int percent_decode(Buffer *buffer, const char *text, size_t size) noexcept nogil:
    cdef size_t i = 0
    cdef int high, low
    if buffer_reserve(buffer, size) != 0:
        return -1
    while i < size:
        if text[i] == c'%' and size - i >= 3:
            high = _hex(<unsigned char>text[i + 1])
            low = _hex(<unsigned char>text[i + 2])
            if high >= 0 and low >= 0:
                buffer.data[buffer.size] = <char>(high << 4 | low)
                buffer.size += 1
                i += 3
                continue
        buffer.data[buffer.size] = text[i]
        buffer.size += 1
        i += 1
    return 0


cdef int base64_append(Buffer *buffer, const char *data, size_t size) noexcept nogil:
    cdef Cursor cursor = cursor_on(data, size)
    cdef unsigned char octet
    cdef unsigned int bits = 0
    cdef int held = 0
    if size > (<size_t>-1) // 2 or buffer_reserve(buffer, size + size // 3 + 2) != 0:
        return -1
    while read_u8(&cursor, &octet) == 0:
        bits = ((bits << 8) | octet) & 0xFFFF
        held += 8
        while held >= 6:
            held -= 6
            buffer.data[buffer.size] = BASE64[(bits >> held) & 63]
            buffer.size += 1
    if held != 0:
        buffer.data[buffer.size] = BASE64[(bits << (6 - held)) & 63]
        buffer.size += 1
    return 0


cdef inline int _sextet(unsigned char digit) noexcept nogil:
    if c'A' <= digit <= c'Z':
        return digit - c'A'
    if c'a' <= digit <= c'z':
        return digit - c'a' + 26
    if c'0' <= digit <= c'9':
        return digit - c'0' + 52
    if digit == c'+':
        return 62
    if digit == c'/':
        return 63
    return -1


cdef int base64_decode(Buffer *buffer, const char *text, size_t size) noexcept nogil:
    cdef size_t padding = 0
    cdef unsigned int bits = 0
    cdef int held = 0, sextet
    cdef Cursor cursor
    cdef unsigned char octet
    while size > 0 and padding < 2 and text[size - 1] == c'=':
        size -= 1
        padding += 1
    if size % 4 == 1 or (padding != 0 and (size + padding) % 4 != 0):
        return -1
    if buffer_reserve(buffer, size // 4 * 3 + 3) != 0:
        return -1
    cursor = cursor_on(text, size)
    while read_u8(&cursor, &octet) == 0:
        sextet = _sextet(octet)
        if sextet < 0:
            return -1
        bits = ((bits << 6) | <unsigned int>sextet) & 0xFFFF
        held += 6
        if held >= 8:
            held -= 8
            buffer.data[buffer.size] = <char>((bits >> held) & 0xFF)
            buffer.size += 1
    return 0


cdef int status_of_http(int http_status) noexcept nogil:
    if http_status == 400 or http_status == 431:
        return 13  # INTERNAL
    if http_status == 401:
        return 16  # UNAUTHENTICATED
    if http_status == 403:
        return 7  # PERMISSION_DENIED
    if http_status == 404:
        return 12  # UNIMPLEMENTED
    if http_status == 429 or 502 <= http_status <= 504:
        return 14  # UNAVAILABLE
    return 2  # UNKNOWN


cdef int status_of_reset(unsigned int error_code) noexcept nogil:
    if error_code == NGHTTP2_REFUSED_STREAM:
        return 14  # UNAVAILABLE
    if error_code == NGHTTP2_CANCEL:
        return 1  # CANCELLED
    if error_code == NGHTTP2_ENHANCE_YOUR_CALM:
        return 8  # RESOURCE_EXHAUSTED
    if error_code == NGHTTP2_INADEQUATE_SECURITY:
        return 7  # PERMISSION_DENIED
    if error_code == NGHTTP2_STREAM_CLOSED or error_code >= NGHTTP2_HTTP_1_1_REQUIRED:
        return 2  # UNKNOWN
    return 13  # INTERNAL
