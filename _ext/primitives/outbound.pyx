# cython: language_level=3
"""What every call of a client passes on its way out, and the one place that states the order:

    trace -> metrics -> deadline -> retry -> pick endpoint -> its breaker -> transport

It is a state machine and awaits nothing. Whoever makes the call, its driver (an asyncio task, a thread, a
compiled call object), asks for the next step, does it, and asks again:

    ended = None                                   # how the attempt ended, if the step was one
    while (step := next_step(call, ended)) != END:
        if step == WAIT:
            ended = None
            ... wait for `call.wait` seconds ...
        else:
            ended = ... one attempt at `call.endpoint` ...
    return call.reply                              # how the call ended

So a call that is refused is still measured; one deadline spans all attempts and the waits between them; a
retry picks anew; a breaker sees attempts, not calls.

The retry budget is the client's, not an endpoint's: the addresses are replicas of one service, and a retry's
load goes to another of them. A client is one event loop's or one lock's, so nothing here is atomic but what
the primitives are.
"""

from os import urandom

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.contextvars cimport get_value
from cpython.float cimport PyFloat_AsDouble
from libc.stdint cimport int64_t
from libc.string cimport memcpy, strlen

from tai_grpc._ext.primitives.balancer cimport Endpoint, LoadBalancer
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.entries cimport check_entries, entries_of
from tai_grpc._ext.primitives.histogram cimport LatencyHistogram
from tai_grpc._ext.primitives.retry cimport RetryBudget, budget_success

from tai_grpc.errors import CircuitOpenError, ConfigError, DeadlineError

cdef extern from *:
    """
    static const char tai_digits[] = "0123456789abcdef";
    """
    const char *DIGITS "tai_digits"

# Random bytes that are asked for at a time: 170 spans, each a fresh trace.
cdef Py_ssize_t ENTROPY_BYTES = 4096
cdef int64_t NO_LIMIT = -1
cdef int64_t MAX_US = <int64_t>604_800_000_000
# A timeout above it counts as this: ten years, as the transports have it.
cdef double MAX_TIMEOUT = 315_360_000.0
cdef frozenset NOWHERE = frozenset()


cdef int64_t timeout_ns(object timeout) except -1:
    cdef double seconds
    if isinstance(timeout, (bool, str)):
        raise ConfigError("timeout", timeout, "a number of seconds, or None")
    try:
        seconds = PyFloat_AsDouble(timeout)
    except TypeError:
        raise ConfigError("timeout", timeout, "a number of seconds, or None") from None
    if seconds != seconds:
        raise ConfigError("timeout", timeout, "a number of seconds, or None")
    return <int64_t>(min(max(seconds, 0.0), MAX_TIMEOUT) * 1e9)


cdef class OutboundCall:
    """One call. `method` is "/pkg.Service/Method"; `timeout` what its caller asked for, in seconds.

    `long_lived`: its responses are a stream, maybe a watch without an end. `metadata` are the caller's.
    `committed`: it is bound to its attempt, there is no other one after it. `failed_at`: where its attempts
    have failed. `endpoint` is where the last attempt went, "" before the first; `reply` how it ended, and in
    the end the call.

    Raises:
        ConfigError: the timeout is not a number.
        TypeError, ValueError: the metadata cannot be sent.
    """

    def __cinit__(self):
        self.asked_ns = NO_LIMIT
        self.deadline_ns = NO_LIMIT
        self.endpoint = ""
        self.metadata = ()
        self.failed_at = NOWHERE

    def __init__(self, str method not None, timeout, metadata, *, bint long_lived):
        self.ask(method, timeout, metadata)
        self.long_lived = long_lived
        check_entries(self.metadata)

    cdef int ask(self, str method, object timeout, object metadata) except -1:
        """All but the check of each entry, which a transport may make when it writes them."""
        self.method = method
        self.metadata = entries_of(metadata)
        if timeout is not None:
            self.asked_ns = timeout_ns(timeout)
        return 0

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

    cdef int own_fields(self, Emit emit, void *to) except -1:
        """Tell what an attempt carries beside the caller's metadata: its span, and which attempt it is."""
        cdef bytes made
        if self.traced:
            emit(to, b"traceparent", self.traceparent, TRACEPARENT_SIZE)
            if self.alias is None:
                emit(to, b"x-trace-id", self.traceparent + 3, TRACE_DIGITS)
            else:
                emit(to, b"x-trace-id", PyBytes_AS_STRING(self.alias), PyBytes_GET_SIZE(self.alias))
        if self.retries is not None and self.retries.made:
            made = str(self.retries.made).encode()
            emit(to, b"grpc-previous-rpc-attempts", PyBytes_AS_STRING(made), PyBytes_GET_SIZE(made))
        return 0

    def sent_metadata(self):
        """What an attempt carries: the caller's metadata and its own."""
        cdef list own = []
        self.own_fields(_to_list, <void *>own)
        return self.metadata + tuple(own)


cdef int _to_list(void *to, const char *name, const char *value, size_t size) except -1:
    (<list>to).append((name[:strlen(name)].decode("ascii"), value[:size].decode("latin-1")))
    return 0


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

    cpdef int next_step(self, OutboundCall call, object ended) except -1:
        """Say what the driver of a call is to do: ATTEMPT one at `call.endpoint`; WAIT `call.wait` seconds,
        and ask again; or END with `call.reply`.

        `ended` is how the attempt ended that was the last step, or what the call is to end with, since its
        driver makes no attempt; None: the call is new, or has waited.
        """
        cdef bint ok
        if ended is not None:
            call.reply = ended
            ok = ended.ok
            if ok:
                return self.succeeded(call)
            if call.picked is None or not self._goes_on(call, ended):
                return self._end(call, False)
            if call.wait > 0.0:
                return WAIT
        try:
            if call.started_ns == 0:
                self._trace(call)
                call.started_ns = monotonic_ns()
                call.deadline_ns = self._deadline(call)
            self._attempt(call)
        except (DeadlineError, CircuitOpenError) as error:
            call.reply = self.refused(call, error)
            return self._end(call, False)
        return ATTEMPT

    cdef bint _goes_on(self, OutboundCall call, object ended) except -1:
        """Take note of an attempt that has failed: whether there is another, after `call.wait` seconds."""
        cdef object wait
        self._release(call, self.verdict(call, ended))
        wait = self.wait_after(call, ended)
        if wait is None:
            return False
        call.wait = wait
        self.retries += 1
        call.failed_at |= {call.endpoint}
        return True

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

        Raises:
            DeadlineError: it has passed.
        """
        cdef int64_t timeout_ns = self.stream_ns if call.long_lived else self.default_ns
        cdef int64_t deadline_ns, outer_ns
        cdef object outer = get_value(self.current_deadline)
        if call.asked_ns == 0:
            raise DeadlineError("the deadline had passed before the call was made")
        if call.asked_ns != NO_LIMIT:
            timeout_ns = call.asked_ns
        if not call.long_lived:
            timeout_ns = min(timeout_ns, self.max_ns)
        deadline_ns = NO_LIMIT if timeout_ns == NO_LIMIT else call.started_ns + timeout_ns
        if outer is not None:
            outer_ns = <int64_t>(<double>outer * 1e9)
            if outer_ns <= call.started_ns:
                raise DeadlineError("the deadline of the handler that makes this call has passed")
            deadline_ns = outer_ns if deadline_ns == NO_LIMIT else min(deadline_ns, outer_ns)
        return deadline_ns

    cdef int _attempt(self, OutboundCall call) except -1:
        """Pick an endpoint whose breaker admits the next attempt, one where none has failed if it can be.

        Raises:
            CircuitOpenError: every breaker refuses.
        """
        cdef Endpoint endpoint
        endpoint = self.balancer.pick() if not call.failed_at else self.pick_elsewhere(call.failed_at)
        call.picked = endpoint
        call.endpoint = endpoint.address
        call.attempts += 1
        self.attempts += 1
        call.answered_ns = 0
        call.attempt_ns = monotonic_ns()
        return 0

    # --- For a subclass to say ---

    def pick_elsewhere(self, avoid):
        """Pick an endpoint, one whose address is not in `avoid` if it can be."""
        return self.balancer.pick()

    def verdict(self, call, ended):
        """What a failed attempt says of its endpoint: True is a success, False a failure, None nothing."""
        return False

    def wait_after(self, call, ended):
        """The seconds after which a failed attempt is followed by another; None: it was the last."""
        return None

    def refused(self, call, error):
        """What a call ends with that may not make an attempt, with this DeadlineError or CircuitOpenError."""
        raise error

    # --- What the driver tells ---

    cpdef int proven(self, OutboundCall call) except -1:
        """The endpoint has answered, and the attempt goes on."""
        if call.answered_ns == 0:
            call.answered_ns = monotonic_ns()
            self.balancer.breaker(call.endpoint).record_success()
        return 0

    cdef int succeeded(self, OutboundCall call) except -1:
        """The attempt ended with OK."""
        self._release(call, None if call.answered_ns != 0 else True)
        budget_success(self.budget.state_)
        return self._end(call, True)

    cpdef int give_up(self, OutboundCall call) except -1:
        """The caller has given the call up. Nothing happens to one that is over."""
        if not call.over:
            call.over = True
            self._release(call, None)
            self.calls += 1
            self.cancelled += 1
        return 0

    cpdef int fail(self, OutboundCall call) except -1:
        """The call ends with an exception, which says nothing of its endpoint; as `give_up` else."""
        if not call.over:
            self._release(call, None)
            self._end(call, False)
        return 0

    cdef int _release(self, OutboundCall call, object success) except -1:
        """The attempt is over. `success` is what it says of its endpoint; None: nothing."""
        cdef Endpoint endpoint = call.picked
        cdef int64_t latency_us
        if endpoint is None:
            return 0
        latency_us = ((call.answered_ns or monotonic_ns()) - call.attempt_ns) // 1000
        call.picked = None
        self.balancer.release(endpoint, success, min(latency_us, MAX_US))
        return 0

    cdef int _end(self, OutboundCall call, bint ok) except -1:
        """The call is over, with OK or otherwise."""
        call.over = True
        self.calls += 1
        if not ok:
            self.failed += 1
        elif not call.long_lived:
            self.latency.record((monotonic_ns() - call.started_ns) // 1000)
        return END
