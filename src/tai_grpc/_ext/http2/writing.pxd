"""What is sent on a stream: requests, messages, statuses. The functions of session.pxd that shells call."""

from libc.stdint cimport int64_t, uint8_t

from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.http2.nghttp2 cimport nghttp2_data_source, nghttp2_frame, nghttp2_session
from tai_grpc._ext.http2.state cimport SessionState, StreamState

cdef StreamState *write_request(
    SessionState *session, const char *path, size_t path_size, const char *authority, size_t authority_size,
    bint secure, int64_t timeout_ns, int encoding, const char *user_agent, size_t user_agent_size,
    const Buffer *metadata,
) noexcept nogil
# Client: a request would be sent and not wait.
cdef bint write_has_room(SessionState *session) noexcept nogil
# Client: send requests that wait, as many as the peer allows. False: there were none.
cdef bint write_waiting(SessionState *session) noexcept nogil
cdef int write_headers(StreamState *stream, const Buffer *metadata, int encoding) noexcept nogil
cdef int write_message(StreamState *stream, const char *data, size_t size, bint compressed) noexcept nogil
cdef int write_end(StreamState *stream) noexcept nogil
cdef int write_status(
    StreamState *stream, int status, const char *message, size_t message_size, const Buffer *trailers
) noexcept nogil
# Server: a Trailers-Only answer with an HTTP status of its own.
cdef int write_refusal(StreamState *stream, int http_status, int status, const char *text) noexcept nogil
# nghttp2's callback, which sends what `write_message` queued.
cdef int send_chunks(
    nghttp2_session *_http2, nghttp2_frame *frame, const uint8_t *head, size_t length,
    nghttp2_data_source *source, void *user_data,
) noexcept nogil
