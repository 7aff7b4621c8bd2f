# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""A circuit breaker: consecutive failures open it, and a bounded number of probes closes it again.

Everything that decides a transition is one 64-bit word, so each transition is one compare-and-swap:
nothing can be torn by a thread, or a process, that stops half way.

    state: 3 bits | era: 45 bits | body: 16 bits
    body while CLOSED: consecutive failures; while HALF_OPEN: admitted (8 bits), succeeded (8 bits)

An era is the time between two transitions. Its name is the time at which it began, in ticks of 65.536 us
since the clock's start, at least one more than the last: so names are not used twice, 45 bits last 73
years, and one field tells both when OPEN ends and to which era a permit belongs. The result of a call that
an earlier era admitted is dropped; counting it in whatever era is current is the known flaw of resilience4j.

Permits of a HALF_OPEN era are a total. One whose call says nothing of its target is given back; so are
those never reported, once the newest of them is `open_timeout` old: then a new HALF_OPEN era begins, with
the successes of the last. `last_admission`, beside the word, only delays that: it is raised before the
admission that it belongs to, so a permit is never given back early, and no value of it over-admits.
"""

from contextvars import ContextVar
from enum import IntEnum
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from math import inf

cimport cython
from cpython.contextvars cimport PyContextVar_Set, get_value
from cpython.exc cimport PyErr_SetObject, PyErr_WriteUnraisable
from libc.math cimport ceil

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.arguments cimport natural
from tai_grpc._ext.primitives.atomics cimport cas_u64, load, raise_to
from tai_grpc._ext.primitives.clock cimport monotonic_ns

from tai_grpc.config import CircuitBreakerConfig, check_int
from tai_grpc.errors import CircuitOpenError, ConfigError


class CircuitState(IntEnum):
    """What a breaker does with calls. One that was forced open is OPEN, a disabled one CLOSED."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


class Outcome(IntEnum):
    """What a call says of its target. IGNORED: nothing, as when the caller gave it up."""

    SUCCESS = 0
    FAILURE = 1
    IGNORED = 2


MAX_CALLBACKS = 32
"""How many callbacks `CircuitBreaker.on_transition` keeps."""

cdef enum:
    TICK_SHIFT = 16

cdef tuple _STATES = (
    CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.OPEN, CircuitState.CLOSED
)
# Makes CircuitBreaker.__cinit__ leave the state to breaker_view.
cdef object _VIEW = object()
# Of this context: the `with` blocks that it is in, as (breaker, permit, the outer ones), innermost first.
cdef object _entered = ContextVar("tai_grpc.CircuitBreaker.entered", default=None)


# --- The state machine, without the GIL -----------------------------------------------------------------


cdef inline uint64_t _word(uint64_t state, int64_t era, uint64_t body) noexcept nogil:
    return (state << STATE_SHIFT) | ((<uint64_t>era & ERA_MASK) << ERA_SHIFT) | body


cdef inline int64_t _ticks() noexcept nogil:
    return monotonic_ns() >> TICK_SHIFT


cdef inline int64_t _next_era(uint64_t word, int64_t now) noexcept nogil:
    return max(now, era_of(word) + 1)


cdef inline int _change(uint64_t word, uint64_t next_word) noexcept nogil:
    """Old and new state in one int; 0 when they are the same."""
    cdef int old = <int>(word >> STATE_SHIFT)
    cdef int new = <int>(next_word >> STATE_SHIFT)
    return 0 if old == new else old << 3 | new


cdef void breaker_init(
    BreakerState *breaker, int64_t failure_threshold, double open_timeout, int64_t half_open_max_calls
) noexcept nogil:
    """Set up zeroed memory as a CLOSED breaker. The ranges are those of CircuitBreakerConfig."""
    # One tick more, for the part of the era's first tick that was over before it began.
    breaker.open_ticks = <int64_t>ceil(open_timeout * 1e9 / (1 << TICK_SHIFT)) + 1
    breaker.failure_threshold = failure_threshold
    breaker.half_open_max_calls = half_open_max_calls
    breaker.word = _word(CLOSED, _ticks(), 0)


cdef inline int64_t _give_back_at(BreakerState *breaker, uint64_t word) noexcept nogil:
    """The tick at which the permits that a HALF_OPEN era is still waiting for are given back."""
    return max(era_of(word), load(&breaker.last_admission)) + breaker.open_ticks


cdef int64_t acquire_slow(BreakerState *breaker, int *change) noexcept nogil:
    cdef uint64_t word = load_u64(&breaker.word)
    cdef uint64_t state, next_word, succeeded
    cdef int64_t now
    change[0] = 0
    while True:
        state = word >> STATE_SHIFT
        if state == CLOSED or state == DISABLED:
            return era_of(word)
        if state == FORCED_OPEN:
            return REFUSED
        now = _ticks()
        if state == OPEN:
            if now < era_of(word) + breaker.open_ticks:
                return REFUSED
            next_word = _word(HALF_OPEN, _next_era(word, now), 1 << 8)
        elif <int64_t>((word & BODY_MASK) >> 8) < breaker.half_open_max_calls:
            raise_to(&breaker.last_admission, now)
            next_word = word + (1 << 8)
        elif now < _give_back_at(breaker, word):
            return REFUSED
        else:
            succeeded = word & 0xFF
            next_word = _word(HALF_OPEN, _next_era(word, now), (succeeded + 1) << 8 | succeeded)
        if cas_u64(&breaker.word, &word, next_word):
            change[0] = _change(word, next_word)
            return era_of(next_word)


cdef int settle_slow(BreakerState *breaker, int64_t permit, int outcome) noexcept nogil:
    cdef uint64_t word = load_u64(&breaker.word)
    cdef uint64_t state, next_word, admitted, succeeded
    while True:
        if permit != CURRENT_ERA and permit != era_of(word):
            return 0
        state = word >> STATE_SHIFT
        if state == CLOSED:
            if outcome == IGNORED or (outcome == SUCCESS and word & BODY_MASK == 0):
                return 0
            if outcome == SUCCESS:
                next_word = word & ~<uint64_t>BODY_MASK
            elif <int64_t>(word & BODY_MASK) + 1 < breaker.failure_threshold:
                next_word = word + 1
            else:
                next_word = _word(OPEN, _next_era(word, _ticks()), 0)
        elif state == HALF_OPEN:
            admitted = (word & BODY_MASK) >> 8
            succeeded = word & 0xFF
            if admitted == succeeded:
                return 0  # no permit is out: a result without one, or reported twice
            if outcome == IGNORED:
                next_word = word - (1 << 8)
            elif outcome == FAILURE:
                next_word = _word(OPEN, _next_era(word, _ticks()), 0)
            elif <int64_t>succeeded + 1 < breaker.half_open_max_calls:
                next_word = word + 1
            else:
                next_word = _word(CLOSED, _next_era(word, _ticks()), 0)
        else:
            return 0
        if cas_u64(&breaker.word, &word, next_word):
            return _change(word, next_word)


cdef int _force(BreakerState *breaker, uint64_t state) noexcept nogil:
    """Begin an era of `state` whatever the current one is; return the transition."""
    cdef uint64_t word = load_u64(&breaker.word)
    cdef uint64_t next_word
    while True:
        next_word = _word(state, _next_era(word, _ticks()), 0)
        if cas_u64(&breaker.word, &word, next_word):
            return _change(word, next_word)


cdef int64_t retry_after_ns(BreakerState *breaker) noexcept nogil:
    """0 when a call would be admitted now, -1 when no time is set, else the wait in nanoseconds."""
    cdef uint64_t word = load_u64(&breaker.word)
    cdef uint64_t state = word >> STATE_SHIFT
    cdef int64_t at
    if state == CLOSED or state == DISABLED:
        return 0
    if state == FORCED_OPEN:
        return -1
    if state == OPEN:
        at = era_of(word) + breaker.open_ticks
    elif <int64_t>((word & BODY_MASK) >> 8) < breaker.half_open_max_calls:
        return 0
    else:
        at = _give_back_at(breaker, word)
    return max(<int64_t>0, at - _ticks()) << TICK_SHIFT


cdef bint would_admit(BreakerState *breaker) noexcept nogil:
    """Whether `acquire` would give a permit now; takes none."""
    return load_u64(&breaker.word) >> STATE_SHIFT == CLOSED or retry_after_ns(breaker) == 0


cdef int state_of(BreakerState *breaker) noexcept nogil:
    return <int>(load_u64(&breaker.word) >> STATE_SHIFT)


# --- The Python object ----------------------------------------------------------------------------------


cdef CircuitBreaker breaker_view(BreakerState *state, object owner, str name):
    """A CircuitBreaker on a state set up by breaker_init, in memory that lives as long as `owner`."""
    cdef CircuitBreaker breaker = CircuitBreaker.__new__(CircuitBreaker, _VIEW)
    breaker.state_ = state
    breaker.owner = owner
    breaker.name = name
    return breaker


cdef class CircuitBreaker:
    """Stops calls to a target that fails, so that it can recover and its callers do not wait for nothing.

    CLOSED admits every call; `failure_threshold` failures in a row open it. OPEN refuses every call for
    `open_timeout` seconds (never less, at most 0.2 ms more). Then HALF_OPEN admits `half_open_max_calls`
    probes in all: when all succeed it is CLOSED again, when one fails OPEN.

    Three ways to use it, all safe from any number of threads and tasks:

    - `with breaker:`, `async with breaker:` and `@breaker`, on plain and coroutine functions. An exception
      counts as a failure; a BaseException that is no Exception (asyncio.CancelledError, KeyboardInterrupt)
      says nothing of the target.
    - `permit = acquire()`, then `settle(permit, outcome)`: the result of an earlier era is dropped.
    - `is_call_allowed()` or `check()`, then `record_success()` or `record_failure()`, which count in the
      era in which they are called.

    `name` appears in the messages of errors.
    """

    def __cinit__(self, config=None, *, name=""):
        self.callbacks = ()
        if config is _VIEW:
            return
        if config is None:
            config = CircuitBreakerConfig()
        if not isinstance(config, CircuitBreakerConfig):
            raise ConfigError("config", config, "a CircuitBreakerConfig")
        if not isinstance(name, str):
            raise ConfigError("name", name, "a str")
        cdef Memory memory = Memory(sizeof(BreakerState))
        self.owner = memory
        self.state_ = <BreakerState *>memory.data
        self.name = name
        breaker_init(self.state_, config.failure_threshold, config.open_timeout, config.half_open_max_calls)

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
                PyErr_SetObject(type(error), error)
                PyErr_WriteUnraisable(callback)
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

    cdef int finish(self, int64_t permit, int outcome) except -1:
        return self.announce(settle(self.state_, permit, outcome))

    def _refusal(self):
        cdef int64_t wait_ns = retry_after_ns(self.state_)
        breaker = f"circuit breaker {self.name!r}" if self.name else "circuit breaker"
        if wait_ns < 0:
            return CircuitOpenError(f"{breaker} was forced open", inf)
        wait = wait_ns * 1e-9
        return CircuitOpenError(f"{breaker} is {self.state.name}: try again in {wait:.3f} s", wait)

    def acquire(self):
        """Return a permit (>= 0) for one call, to be given to `settle`, or -1 when the call is refused."""
        cdef int change
        cdef int64_t permit = acquire(self.state_, &change)
        if change != 0:
            self.announce(change)
        return permit

    def settle(self, permit, outcome):
        """Report, once, the `Outcome` of the call that `permit` admitted.

        It is dropped when the breaker has changed its state since. A permit that is never settled is given
        back `open_timeout` after the newest one.

        Raises:
            ConfigError: `permit` is none that `acquire` gave, or `outcome` no Outcome.
        """
        cdef int64_t era = natural(permit)
        if not 0 <= era <= <int64_t>ERA_MASK:
            era = check_int("permit", permit, 0, ERA_MASK)
        if type(outcome) is not Outcome:
            raise ConfigError("outcome", outcome, "an Outcome")
        self.finish(era, outcome)

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

    def record_success(self):
        """A call succeeded: count it in the current era."""
        self.finish(CURRENT_ERA, SUCCESS)

    def record_failure(self):
        """A call failed: count it in the current era."""
        self.finish(CURRENT_ERA, FAILURE)

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

    def reset(self):
        """Begin anew: CLOSED, without failures; results of calls in flight are dropped."""
        self.announce(_force(self.state_, CLOSED))

    def force_open(self):
        """Refuse every call until `reset` or `disable`."""
        self.announce(_force(self.state_, FORCED_OPEN))

    def disable(self):
        """Admit every call and count nothing until `reset` or `force_open`."""
        self.announce(_force(self.state_, DISABLED))

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

    # Every entry into a `with` block keeps its own permit, in the context that threads and tasks have each
    # for themselves; within one context, the innermost block on this breaker ends first.

    def __enter__(self):
        cdef int64_t permit = self.take()
        PyContextVar_Set(_entered, (self, permit, get_value(_entered)))
        return self

    def __exit__(self, kind, error, traceback):
        self.finish(self._leave(), _outcome(kind))

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, kind, error, traceback):
        self.__exit__(kind, error, traceback)

    cdef int64_t _leave(self) except -2:
        """Take the innermost entry into this breaker off the context; return its permit."""
        cdef object entry = get_value(_entered)
        cdef list inner = []
        while entry is not None and entry[0] is not self:
            inner.append(entry)
            entry = entry[2]
        if entry is None:
            # Left in another context than it was entered in, as a generator may be: the permit is unknown.
            return CURRENT_ERA
        cdef object rest = entry[2]
        for breaker, permit, _ in reversed(inner):
            rest = (breaker, permit, rest)
        PyContextVar_Set(_entered, rest)
        return entry[1]

    def __call__(self, function):
        """Decorate a plain or a coroutine function: each call of it goes through this breaker."""
        if not callable(function) or isgeneratorfunction(function) or isasyncgenfunction(function):
            raise ConfigError("function", function, "a plain or coroutine function (in a generator: with)")

        if iscoroutinefunction(function):

            @wraps(function)
            async def guarded(*args, **kwargs):
                cdef int64_t permit = self.take()
                try:
                    result = await function(*args, **kwargs)
                except BaseException as error:
                    self.finish(permit, _outcome(type(error)))
                    raise
                self.finish(permit, SUCCESS)
                return result

        else:

            @wraps(function)
            def guarded(*args, **kwargs):
                cdef int64_t permit = self.take()
                try:
                    result = function(*args, **kwargs)
                except BaseException as error:
                    self.finish(permit, _outcome(type(error)))
                    raise
                self.finish(permit, SUCCESS)
                return result

        return guarded


cdef int _outcome(object kind) except -1:
    """What a call that ended with an exception of this type (None: with none) says of its target."""
    if kind is None:
        return SUCCESS
    return FAILURE if issubclass(kind, Exception) else IGNORED
