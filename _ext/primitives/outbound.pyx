# cython: language_level=3
"""What every call of a client passes on its way out, and the one place that states the order:

    trace -> metrics -> deadline -> retry -> pick endpoint -> its breaker -> transport

It is a state machine and awaits nothing: whoever makes the call (an asyncio task, a thread, a compiled call
object) asks it what to do, does it, and tells it how that went.

    begin(call)                                  # trace, metrics, deadline
    while True:
        endpoint = attempt(call)                 # picked, admitted by its breaker
        ... one attempt there ...
        succeeded(call) | release(call, success) # tells balancer, breaker and budget; or the attempt failed:
                                                 # whether there is another one is for client/layers.py to say
    end(call, ok) | give_up(call)                # metrics

So a call that is refused is still measured; one deadline spans all attempts and the waits between them; a
retry picks anew; a breaker sees attempts, not calls.

The retry budget is the client's, not an endpoint's: the addresses are replicas of one service, and a retry's
load goes to another of them. A client is one event loop's or one lock's, so nothing here is atomic but what
the primitives are.
"""

from os import urandom

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.contextvars cimport get_value
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from tai_grpc._ext.primitives.balancer cimport Endpoint, LoadBalancer
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.histogram cimport LatencyHistogram
from tai_grpc._ext.primitives.retry cimport RetryBudget, budget_success

from tai_grpc.checks import MAX_SECONDS, check_float
from tai_grpc.errors import DeadlineError

cdef extern from *:
    """
    static const char tai_digits[] = "0123456789abcdef";
    """
    const char *DIGITS "tai_digits"

# Random bytes that are asked for at a time: 170 spans, each a fresh trace.
cdef Py_ssize_t ENTROPY_BYTES = 4096
cdef int64_t NO_LIMIT = -1
cdef int64_t MAX_US = <int64_t>604_800_000_000
cdef double _LONGEST = MAX_SECONDS


cdef class OutboundCall:
    """One call. `method` is "/pkg.Service/Method"; `timeout` what its caller asked for, in seconds.

    `long_lived`: its responses are a stream, maybe a watch without an end. `metadata` are the caller's.
    `committed`: it is bound to its attempt, there is no other one after it. `failed_at`: where its attempts
    have failed. `endpoint` is where the last attempt went; "" when every breaker refused it.
    """

    def __init__(self, str method not None, timeout, tuple metadata not None, *, bint long_lived):
        self.method = method
        self.timeout = timeout
        self.metadata = metadata
        self.long_lived = long_lived
        self.deadline_ns = NO_LIMIT
        self.endpoint = ""
        self.failed_at = frozenset()

    @property
    def answered(self):
        """Whether its attempt has proven that its endpoint answers."""
        return self.answered_ns != 0

    @property
    def deadline(self):
        """A reading of `time.monotonic()`; None: no limit."""
        return None if self.deadline_ns == NO_LIMIT else self.deadline_ns * 1e-9

    def time_left(self):
        """The seconds until the deadline, 0.0 when it has passed; None: no limit."""
        if self.deadline_ns == NO_LIMIT:
            return None
        return max(self.deadline_ns - monotonic_ns(), <int64_t>0) * 1e-9

    def sent_metadata(self):
        """What an attempt carries: the caller's metadata, the call's span, and which attempt it is."""
        sent = self.metadata
        if self.traced:
            traceparent = self.traceparent[:TRACEPARENT_SIZE].decode("ascii")
            alias = traceparent[3:3 + TRACE_DIGITS] if self.alias is None else self.alias.decode("latin-1")
            sent += (("traceparent", traceparent), ("x-trace-id", alias))
        made = 0 if self.retries is None else self.retries.made
        if made:
            sent += (("grpc-previous-rpc-attempts", str(made)),)
        return sent


cdef class Outbound:
    """The state of one client's layers. Its counts are of calls that have ended, `latency` of microseconds.

    `current_trace` and `current_deadline` are the context variables of the handler that makes a call: a span
    with `trace_id`, `flags` and `alias`, and a reading of `time.monotonic()`.
    """

    def __init__(self, config, LoadBalancer balancer not None, current_trace, current_deadline):
        self.balancer = balancer
        self.budget = RetryBudget(config.retry_budget.max_tokens, config.retry_budget.token_ratio)
        self.latency = LatencyHistogram()
        self.default_ns = round(config.timeout.default_timeout * 1e9)
        self.max_ns = round(config.timeout.max_timeout * 1e9)
        self.stream_ns = NO_LIMIT if config.stream_timeout is None else round(config.stream_timeout * 1e9)
        self.current_trace = current_trace
        self.current_deadline = current_deadline
        self.entropy = b""

    cpdef int begin(self, OutboundCall call) except -1:
        """Let a call in.

        Raises:
            ConfigError: its timeout is outside its range.
            DeadlineError: the handler that makes it has no time left.
        """
        self._trace(call)
        call.started_ns = monotonic_ns()
        call.deadline_ns = self._deadline(call)
        return 0

    cdef int _trace(self, OutboundCall call) except -1:
        """Give the call a span: below that of the handler that makes it, or of a new trace.

        What the caller sends by itself stays.
        """
        cdef bytes digits
        cdef int flags = 1
        cdef object outer
        for key, _ in call.metadata:
            if key == "traceparent" or key == "x-trace-id":
                return 0
        memcpy(call.traceparent, b"00-", 3)
        outer = get_value(self.current_trace)
        if outer is None:
            self._random_digits(call.traceparent + 3, TRACE_DIGITS)
        else:
            digits = (<str>outer.trace_id).encode("ascii")
            if PyBytes_GET_SIZE(digits) != TRACE_DIGITS:
                raise ValueError(f"trace_id {outer.trace_id!r}: it has {TRACE_DIGITS} hex digits")
            memcpy(call.traceparent + 3, PyBytes_AS_STRING(digits), TRACE_DIGITS)
            flags = outer.flags
            if outer.alias:
                call.alias = (<str>outer.alias).encode("latin-1")
        call.traceparent[35] = c"-"
        self._random_digits(call.traceparent + 36, SPAN_DIGITS)
        call.traceparent[52] = c"-"
        call.traceparent[53] = DIGITS[(flags >> 4) & 15]
        call.traceparent[54] = DIGITS[flags & 15]
        call.traced = True
        return 0

    cdef int _random_digits(self, char *digits, Py_ssize_t size) except -1:
        """`size` hex digits, at random, not all of them 0."""
        cdef const unsigned char *octets
        cdef Py_ssize_t i
        if self.entropy_used + size // 2 > PyBytes_GET_SIZE(self.entropy):
            self.entropy = urandom(ENTROPY_BYTES)
            self.entropy_used = 0
        octets = <const unsigned char *>PyBytes_AS_STRING(self.entropy) + self.entropy_used
        self.entropy_used += size // 2
        for i in range(size // 2):
            digits[2 * i] = DIGITS[octets[i] >> 4]
            digits[2 * i + 1] = DIGITS[octets[i] & 15]
        # An id is not 0; this one is in 2^-64 of all cases.
        digits[size - 1] = digits[size - 1] if octets[size // 2 - 1] else c"1"
        return 0

    cdef int64_t _deadline(self, OutboundCall call) except -2:
        """The one deadline of the call and all its attempts, within that of the handler which makes it.

        A call with one response has the default timeout and at most the maximum. A stream of responses may be
        a watch that is meant to last: it has `stream_timeout`, or a longer one when its caller says so.
        """
        cdef int64_t timeout_ns = self.stream_ns if call.long_lived else self.default_ns
        cdef int64_t deadline_ns, outer_ns
        cdef object outer = get_value(self.current_deadline)
        if call.timeout is not None:
            timeout_ns = <int64_t>(<double>check_float("timeout", call.timeout, 0.0, MAX_SECONDS) * 1e9)
        if not call.long_lived:
            timeout_ns = min(timeout_ns, self.max_ns)
        deadline_ns = NO_LIMIT if timeout_ns == NO_LIMIT else call.started_ns + timeout_ns
        if outer is not None:
            outer_ns = <int64_t>(<double>outer * 1e9)
            if outer_ns <= call.started_ns:
                raise DeadlineError("the deadline of the handler that makes this call has passed")
            deadline_ns = outer_ns if deadline_ns == NO_LIMIT else min(deadline_ns, outer_ns)
        return deadline_ns

    cpdef Endpoint attempt(self, OutboundCall call):
        """Pick an endpoint whose breaker admits the next attempt, one where none has failed if it can be.

        Raises:
            CircuitOpenError: every breaker refuses.
        """
        cdef Endpoint endpoint
        call.endpoint = ""
        endpoint = self.balancer.pick() if not call.failed_at else self.pick_elsewhere(call.failed_at)
        call.picked = endpoint
        call.endpoint = endpoint.address
        call.attempts += 1
        self.attempts += 1
        call.answered_ns = 0
        call.attempt_ns = monotonic_ns()
        return endpoint

    def pick_elsewhere(self, avoid):
        """Pick an endpoint that is not in `avoid`: for a subclass to do better."""
        return self.balancer.pick()

    cpdef int proven(self, OutboundCall call) except -1:
        """The endpoint has answered, and the attempt goes on."""
        if call.answered_ns == 0:
            call.answered_ns = monotonic_ns()
            self.balancer.breaker(call.endpoint).record_success()
        return 0

    cpdef int release(self, OutboundCall call, object success) except -1:
        """The attempt is over. `success` is what it says of its endpoint; None: nothing."""
        cdef Endpoint endpoint = call.picked
        cdef int64_t latency_us
        if endpoint is None:
            return 0
        latency_us = ((call.answered_ns or monotonic_ns()) - call.attempt_ns) // 1000
        call.picked = None
        self.balancer.release(endpoint, success, min(latency_us, MAX_US))
        return 0

    cpdef int succeeded(self, OutboundCall call) except -1:
        """The attempt ended with OK."""
        self.release(call, None if call.answered_ns != 0 else True)
        budget_success(self.budget.state_)
        return 0

    cpdef int end(self, OutboundCall call, bint ok) except -1:
        """The call is over, with OK or otherwise."""
        self.calls += 1
        if not ok:
            self.failed += 1
        elif not call.long_lived:
            self.latency.record((monotonic_ns() - call.started_ns) // 1000)
        return 0

    cpdef int give_up(self, OutboundCall call) except -1:
        """The caller has given the call up."""
        self.release(call, None)
        self.calls += 1
        self.cancelled += 1
        return 0
