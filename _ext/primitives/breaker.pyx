# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""The circuit breaker as a Python object, on the state machine of circuit.pyx."""

from enum import Enum, IntEnum
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from math import inf
from typing import NamedTuple

cimport cython
from cpython.exc cimport PyErr_SetObject, PyErr_WriteUnraisable
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from libc.math cimport llround

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.arguments cimport natural
from tai_grpc._ext.primitives.blocks cimport Block, block_end, block_enter, block_leave
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.window cimport WindowCounts, WindowState

from tai_grpc.checks import check_float, check_int, check_type
from tai_grpc.config import CODE_OUTCOMES, CircuitBreakerConfig, CallOutcome
from tai_grpc.errors import CircuitOpenError, ConfigError

cdef extern from "Python.h":
    bint PyCoro_CheckExact(object) noexcept


class CircuitState(IntEnum):
    """What a breaker does with calls. One that was forced open is OPEN, a disabled one CLOSED."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2

    __str__ = Enum.__str__


class CircuitMetrics(NamedTuple):
    """What a breaker knows of the recent calls of its era: see `CircuitBreaker.metrics`."""

    calls: int
    failures: int
    slow_calls: int
    failure_rate: float
    slow_call_rate: float


MAX_CALLBACKS = 32
"""How many callbacks `CircuitBreaker.on_transition` keeps."""

# The longest duration that a call may be said to have taken, in seconds: 31 years.
cdef double _LONGEST = 1e9

cdef tuple _STATES = (
    CircuitState.CLOSED,
    CircuitState.OPEN,
    CircuitState.HALF_OPEN,
    CircuitState.OPEN,  # forced open
    CircuitState.CLOSED,  # disabled
    CircuitState.CLOSED,  # metrics only
)
cdef tuple _NAMES = tuple([state.name for state in _STATES])
cdef dict _CODE_OUTCOMES = dict(CODE_OUTCOMES)
# Makes CircuitBreaker.__cinit__ leave the state to breaker_view.
cdef object _VIEW = object()


cdef CircuitBreaker breaker_view(BreakerState *state, object owner, str name, object outcome_of=None):
    """A CircuitBreaker on a state that is set up, in memory that lives as long as `owner`."""
    cdef CircuitBreaker breaker = CircuitBreaker.__new__(CircuitBreaker, _VIEW)
    breaker.state_ = state
    breaker.owner = owner
    breaker.name = name
    breaker.outcome_of = outcome_of
    return breaker


cdef class CircuitBreaker:
    """CircuitBreaker(config=None, *, name="")\n--\n
    Stops calls to a target that fails, so that it can recover and its callers do not wait for nothing.

    CLOSED admits every call, until failures open it: `failure_threshold` of them in a row, or a rate of the
    last calls or seconds (see `CircuitBreakerConfig`). OPEN refuses every call for `open_timeout` seconds
    (never less, at most 0.2 ms more). Then HALF_OPEN admits `half_open_max_calls` probes in all: when
    `success_threshold` succeed it is CLOSED again, when one fails OPEN.

    Three ways to use it, all safe from any number of threads and tasks:

    - `with breaker:`, `async with breaker:` and `@breaker`, on plain and coroutine functions. They judge an
      exception as below, and measure how long the call took when there is a `slow_call_duration`.
    - `permit = acquire()`, then `settle(permit, outcome, duration)`: the result of an earlier era is dropped.
    - `is_call_allowed()` or `check()`, then `record_success(duration)` or `record_failure(duration)`, which
      count in the era in which they are called.

    An exception is what `outcome_of` of the config returns for it. Without that: an error with the `code()`
    of a gRPC status (as every `grpc.RpcError` of a call has) is a failure when the code is UNAVAILABLE,
    DEADLINE_EXCEEDED, INTERNAL, UNKNOWN, RESOURCE_EXHAUSTED or DATA_LOSS, says nothing when it is CANCELLED,
    and is a success, an answer of a healthy server, when it is another. Any other Exception is a failure. A
    BaseException that is not an Exception (asyncio.CancelledError, KeyboardInterrupt) says nothing of the
    target. Should `outcome_of` raise, or not return a CallOutcome, `sys.unraisablehook` hears of it and this
    rule holds.

    `name` appears in the messages of errors.
    """

    def __cinit__(self, config=None, *, name=""):
        self.callbacks = ()
        if config is _VIEW:
            return
        if config is None:
            config = CircuitBreakerConfig()
        check_type("config", config, CircuitBreakerConfig)
        check_type("name", name, str)
        cdef BreakerSettings settings = breaker_settings(config)
        cdef Memory memory = Memory(breaker_bytes(&settings))
        self.owner = memory
        self.state_ = <BreakerState *>memory.data
        self.name = name
        self.outcome_of = config.outcome_of
        breaker_setup(self.state_, <WindowState *>(self.state_ + 1), &settings)

    def __repr__(self):
        return f"<CircuitBreaker {self.name!r} {self.state.name}>"

    cdef int announce(self, int change) except -1:
        """Call the callbacks for a transition made by `acquire` or `settle`."""
        cdef object old, new, callback
        cdef tuple callbacks
        if change == 0:
            return 0
        old = _STATES[change >> 3]
        new = _STATES[change & 7]
        if old is new:
            return 0
        with cython.critical_section(self):
            callbacks = self.callbacks
        for callback in callbacks:
            try:
                callback(old, new)
            except BaseException as error:
                _tell(error, callback)
        return 0

    cdef int64_t take(self) except -2:
        """A permit, or CircuitOpenError."""
        cdef int change
        cdef int64_t permit = acquire(self.state_, &change)
        if permit == REFUSED:
            raise self._refusal()
        if change != 0:
            self.announce(change)
        return permit

    cdef int64_t started(self) noexcept:
        """The time in nanoseconds at which a call starts that is to be measured; 0: it is not."""
        return monotonic_ns() if self.state_.slow_ns != 0 else 0

    cdef int finish(self, int64_t permit, int outcome, int64_t started_ns) except -1:
        cdef int64_t duration_ns = monotonic_ns() - started_ns if started_ns != 0 else -1
        return self.announce(settle_timed(self.state_, permit, outcome, duration_ns))

    cdef int judge(self, object error) except -1:
        """What a call that ended with `error` (None: with none) says of its target."""
        if error is None:
            return SUCCESS
        if self.outcome_of is not None:
            try:
                outcome = self.outcome_of(error)
                if type(outcome) is CallOutcome:
                    return outcome
                raise ConfigError("outcome_of", outcome, "a function that returns a CallOutcome")
            except BaseException as mistake:
                _tell(mistake, self.outcome_of)
        return _default_outcome(error)

    def _refusal(self):
        cdef int64_t wait_ns = retry_after_ns(self.state_)
        cdef int64_t wait_ms
        breaker = f"circuit breaker {self.name!r}" if self.name else "circuit breaker"
        if wait_ns < 0:
            return _error(f"{breaker} was forced open", inf)
        wait_ms = (wait_ns + 500_000) // 1_000_000
        state = _NAMES[state_of(self.state_)]
        wait = f"{wait_ms // 1000}.{wait_ms % 1000:03}"
        return _error(f"{breaker} is {state}: try again in {wait} s", wait_ns * 1e-9)

    def acquire(self):
        """Return a permit (>= 0) for one call, to be given to `settle`, or -1 when the call is refused."""
        cdef int change
        cdef int64_t permit = acquire(self.state_, &change)
        if change != 0:
            self.announce(change)
        return permit

    def settle(self, permit, outcome, duration=None):
        """Report, once, the `CallOutcome` of the call that `permit` admitted, and the seconds that it took.

        It is dropped when the breaker has changed its state since, and when the permit is none of this
        breaker's. A permit that is never settled is given back `open_timeout` after the newest one. Without
        a `duration` the call is not slow.

        Raises:
            ConfigError: `permit` is not an int from 0 to 2^45 - 1, `outcome` is not a CallOutcome, or
                `duration` is not a number from 0 to 1e9.
        """
        cdef int64_t era = natural(permit)
        if not 0 <= era <= <int64_t>ERA_MASK:
            era = check_int("permit", permit, 0, ERA_MASK)
        if type(outcome) is not CallOutcome:
            raise ConfigError("outcome", outcome, "a CallOutcome")
        self.announce(settle_timed(self.state_, era, outcome, _nanoseconds(duration)))

    def is_call_allowed(self):
        """Whether one call may be made now. While HALF_OPEN, a yes takes one of the permits."""
        cdef int change
        cdef int64_t permit = acquire(self.state_, &change)
        if change != 0:
            self.announce(change)
        return permit != REFUSED

    def check(self):
        """As `is_call_allowed`, but a refusal is an error.

        Raises:
            CircuitOpenError: with `retry_after` in seconds.
        """
        self.take()

    def record_success(self, duration=None):
        """A call succeeded, in `duration` seconds: count it in the current era.

        Raises:
            ConfigError: `duration` is not a number from 0 to 1e9.
        """
        self.announce(settle_timed(self.state_, CURRENT_ERA, SUCCESS, _nanoseconds(duration)))

    def record_failure(self, duration=None):
        """A call failed, after `duration` seconds: count it in the current era.

        Raises:
            ConfigError: `duration` is not a number from 0 to 1e9.
        """
        self.announce(settle_timed(self.state_, CURRENT_ERA, FAILURE, _nanoseconds(duration)))

    def retry_after(self):
        """Seconds until a call may be admitted: 0.0 when one would be now, inf when it was forced open."""
        cdef int64_t wait_ns = retry_after_ns(self.state_)
        return inf if wait_ns < 0 else wait_ns * 1e-9

    @property
    def state(self):
        """The current state. OPEN lasts until the first call after `open_timeout` is admitted."""
        return _STATES[state_of(self.state_)]

    @property
    def forced_open(self):
        """Whether it is OPEN because of `force_open`."""
        return state_of(self.state_) == FORCED_OPEN

    @property
    def disabled(self):
        """Whether it admits every call because of `disable`."""
        return state_of(self.state_) == DISABLED

    @property
    def is_metrics_only(self):
        """Whether it admits every call because of `metrics_only`."""
        return state_of(self.state_) == METRICS_ONLY

    def metrics(self):
        """What is known of the recent calls of the current era.

        CLOSED: the calls in the window; in CONSECUTIVE mode the failures since the last success, or up to
        65535. HALF_OPEN: the probes that succeeded. Else nothing: 0 calls, and rates of 0.0.
        """
        cdef WindowCounts counts = counts_of(self.state_)
        cdef double calls = max(<int64_t>1, counts.calls)
        return CircuitMetrics(
            counts.calls, counts.failures, counts.slow, counts.failures / calls, counts.slow / calls
        )

    def reset(self):
        """Begin anew: CLOSED, without failures; results of calls in flight are dropped."""
        self.announce(force(self.state_, CLOSED))

    def force_open(self):
        """Refuse every call until `reset`, `disable` or `metrics_only`."""
        self.announce(force(self.state_, FORCED_OPEN))

    def disable(self):
        """Admit every call and count nothing until `reset`, `force_open` or `metrics_only`."""
        self.announce(force(self.state_, DISABLED))

    def metrics_only(self):
        """Admit and count every call, and never open, until `reset`, `force_open` or `disable`."""
        self.announce(force(self.state_, METRICS_ONLY))

    def on_transition(self, callback):
        """Call `callback(old, new)` after each change of `state`, in the thread that made it.

        What it raises goes to `sys.unraisablehook`: it never breaks a call.

        Raises:
            ConfigError: it is not callable, or there are MAX_CALLBACKS already.
        """
        if not callable(callback):
            raise ConfigError("callback", callback, "a function of (old, new)")
        with cython.critical_section(self):
            if len(self.callbacks) >= MAX_CALLBACKS:
                raise ConfigError("callback", callback, f"at most {MAX_CALLBACKS} callbacks")
            self.callbacks += (callback,)

    # A `with` block needs its permit when it ends, whoever ends it. While all that are open have the same
    # one, which is the era's, their number is enough, and costs a tenth of the context. Else each keeps its
    # own in its context (see blocks.pyx); within one context, the innermost block on this breaker ends first.
    # While there is one of those, each new one is one of those, so what is found in a context is always
    # further in than what is not.

    def __enter__(self):
        self._enter(self.take())
        return self

    cdef int _enter(self, int64_t permit) except -1:
        with cython.critical_section(self):
            if (
                self.apart == 0
                and self.state_.slow_ns == 0
                and (self.alike == 0 or self.alike_permit == permit)
            ):
                self.alike += 1
                self.alike_permit = permit
                return 0
            self.apart += 1
        block_enter(self, permit, self.started())
        return 0

    def __exit__(self, kind, error, traceback):
        cdef int64_t started_ns
        cdef int64_t permit = self._leave(&started_ns)
        self.finish(permit, self.judge(error), started_ns)

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, kind, error, traceback):
        self.__exit__(kind, error, traceback)

    cdef int64_t _leave(self, int64_t *started_ns) except -2:
        """End the innermost block on this breaker; return its permit and its start."""
        cdef Block block
        started_ns[0] = 0
        with cython.critical_section(self):
            if self.apart == 0 and self.alike != 0:
                self.alike -= 1
                return self.alike_permit
        block = block_leave(self)
        with cython.critical_section(self):
            if block is None and self.alike != 0:
                self.alike -= 1
                return self.alike_permit
            self.apart -= self.apart != 0
            if block is not None:
                block_end(block)
        if block is None:
            # Left in another context than it was entered in, as a generator may be: the permit is unknown.
            return CURRENT_ERA
        started_ns[0] = block.started_ns
        return block.permit

    def __call__(self, function):
        """Decorate a plain or a coroutine function: each call of it goes through this breaker.

        Of a plain function that returns a coroutine, as other decorators make them, that is the call.
        """
        if not callable(function) or isgeneratorfunction(function) or isasyncgenfunction(function):
            raise ConfigError("function", function, "a plain or coroutine function (in a generator: with)")

        if iscoroutinefunction(function):

            @wraps(function)
            async def guarded(*args, **kwargs):
                cdef int64_t permit = self.take()
                cdef int64_t started_ns = self.started()
                try:
                    result = await function(*args, **kwargs)
                except BaseException as error:
                    self.finish(permit, self.judge(error), started_ns)
                    raise
                self.finish(permit, SUCCESS, started_ns)
                return result

        else:

            @wraps(function)
            def guarded(*args, **kwargs):
                cdef int64_t permit = self.take()
                cdef int64_t started_ns = self.started()
                try:
                    result = function(*args, **kwargs)
                except BaseException as error:
                    self.finish(permit, self.judge(error), started_ns)
                    raise
                if PyCoro_CheckExact(result):
                    # It has not begun, and takes a permit when it does: one that is never awaited keeps none.
                    self.finish(permit, IGNORED, started_ns)
                    return self._await(result)
                self.finish(permit, SUCCESS, started_ns)
                return result

        return guarded

    async def _await(self, coroutine):
        """A call that is a coroutine, through this breaker."""
        try:
            async with self:
                return await coroutine
        finally:
            # One that was refused would be missed by Python: "was never awaited".
            coroutine.close()


cdef object _error(str message, double retry_after):
    """A CircuitOpenError, made without its __init__: that takes as long as the rest of a refusal."""
    cdef object error = CircuitOpenError.__new__(CircuitOpenError, message)
    error.retry_after = retry_after
    return error


cdef int _default_outcome(object error) except -1:
    """What an exception says of the target when no `outcome_of` does."""
    if not isinstance(error, Exception):
        return IGNORED
    try:
        code = getattr(error, "code", None)
        name = getattr(code(), "name", None) if callable(code) else None
    except BaseException as mistake:
        _tell(mistake, error)
        return FAILURE
    return _CODE_OUTCOMES.get(name, FAILURE) if isinstance(name, str) else FAILURE


cdef int _tell(object error, object source) except -1:
    """Give an error of a callback, which must not break the call, to sys.unraisablehook."""
    PyErr_SetObject(type(error), error)
    PyErr_WriteUnraisable(source)
    return 0


cdef inline int64_t _nanoseconds(object duration) except -2:
    """Seconds as nanoseconds; -1 for None."""
    cdef double seconds
    if duration is None:
        return -1
    if PyFloat_CheckExact(duration):
        seconds = PyFloat_AS_DOUBLE(duration)
        if 0.0 <= seconds <= _LONGEST:
            return llround(seconds * 1e9)
    return llround(<double>check_float("duration", duration, 0.0, _LONGEST) * 1e9)
