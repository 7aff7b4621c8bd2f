# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""How long to wait before the next attempt. Nothing here sleeps or reads a clock."""

import random

cimport cython
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from libc.math cimport pow

from tai_grpc._ext.primitives.arguments cimport natural

from tai_grpc.checks import check_float
from tai_grpc.config import Jitter, RetryConfig
from tai_grpc.errors import ConfigError

cdef double LONGEST = 1e9
# In the order of backoff.pxd's Spread.
cdef tuple _JITTERS = (Jitter.NONE, Jitter.A6, Jitter.FULL, Jitter.EQUAL, Jitter.DECORRELATED)
cdef object _uniform = random.uniform
# What `random.uniform` draws with.
cdef object _random = random.random


# --- Without the GIL ------------------------------------------------------------------------------------


cdef void backoff_range(
    const BackoffState *backoff, int64_t retry, double previous, double *low, double *high
) noexcept nogil:
    """Between what a number is to be drawn for `backoff_wait`."""
    cdef double wait
    if backoff.jitter == DECORRELATED:
        low[0] = min(backoff.initial, backoff.longest)
        high[0] = max(low[0], 3 * previous)
        return
    # At an overflow this is infinite, and so beyond the maximum.
    wait = min(backoff.initial * pow(backoff.multiplier, <double>(retry - 1)), backoff.longest)
    low[0] = 0.0
    high[0] = wait
    if backoff.jitter == NONE:
        low[0] = wait
    elif backoff.jitter == A6:
        low[0] = 0.8
        high[0] = 1.2
    elif backoff.jitter == EQUAL:
        high[0] = wait / 2


cdef double backoff_wait(const BackoffState *backoff, int64_t retry, double drawn) noexcept nogil:
    """The wait before the `retry`-th retry (1 and up) in seconds, by what was drawn."""
    cdef double wait
    if backoff.jitter == DECORRELATED:
        return min(backoff.longest, drawn)
    if backoff.jitter == FULL or backoff.jitter == NONE:
        return drawn
    wait = min(backoff.initial * pow(backoff.multiplier, <double>(retry - 1)), backoff.longest)
    return wait * drawn if backoff.jitter == A6 else wait / 2 + drawn


# --- The Python objects ---------------------------------------------------------------------------------


cdef BackoffState backoff_state(object config) except *:
    """What a RetryConfig says of waits, in plain numbers."""
    cdef BackoffState state
    cdef object jitter
    if type(config) is not RetryConfig and not isinstance(config, RetryConfig):
        raise ConfigError("config", config, "a RetryConfig")
    state.initial = config.initial_backoff
    state.longest = config.max_backoff
    state.multiplier = config.backoff_multiplier
    jitter = config.jitter
    state.jitter = 0
    while _JITTERS[state.jitter] is not jitter:
        state.jitter += 1
    return state


cdef double _drawn(const BackoffState *state, int64_t retry, double previous, object uniform) except? -1:
    cdef double low, high, drawn
    backoff_range(state, retry, previous, &low, &high)
    if state.jitter == NONE:
        drawn = low
    elif uniform is _uniform:
        drawn = low + (high - low) * <double>_random()
    else:
        drawn = uniform(low, high)
    return backoff_wait(state, retry, drawn)


cdef int _check_uniform(object uniform) except -1:
    if not callable(uniform):
        raise ConfigError("uniform", uniform, "a function of (low, high)")
    return 0


def backoff(config, retry, previous, uniform=random.uniform):
    """Return the seconds to wait before the `retry`-th retry, counted from 1.

    `previous` is the wait before the last one (0 for none, to 1e9); only DECORRELATED depends on it. The
    waits grow as v = min(initial_backoff * backoff_multiplier ** (retry - 1), max_backoff) (gRFC A6) and are
    spread as `Jitter` says; A6's spread is applied after the maximum, so it may exceed it by a fifth.

    Raises:
        ConfigError: naming the argument and what it accepts.
    """
    cdef BackoffState state = backoff_state(config)
    cdef int64_t number = natural(retry)
    cdef double last = -1.0
    if PyFloat_CheckExact(previous):
        last = PyFloat_AS_DOUBLE(previous)
    if not 0.0 <= last <= LONGEST:
        last = check_float("previous", previous, 0.0, LONGEST)
    if number < 1:
        raise ConfigError("retry", retry, "an int of at least 1")
    _check_uniform(uniform)
    return _drawn(&state, number, last, uniform)


cdef class Backoff:
    """Backoff(config=None, *, uniform=...)\n--\n
    The waits between the attempts of one thing that keeps failing, in seconds, without an end.

        for wait in Backoff(RetryConfig(initial_backoff=0.05, jitter=Jitter.FULL)):
            if attempt():
                break
            time.sleep(wait)

    Only the backoff of `config` counts here, neither its codes nor `max_retries`. `uniform(low, high)` draws
    the random numbers, random.uniform unless another is given. For one user at a time.

    Raises:
        ConfigError: naming the argument and what it accepts.
    """

    def __cinit__(self, config=None, *, uniform=random.uniform):
        self.state = backoff_state(RetryConfig() if config is None else config)
        _check_uniform(uniform)
        self.uniform = uniform

    def __repr__(self):
        return f"<Backoff after {self.retries} retries>"

    def __iter__(self):
        return self

    def __next__(self):
        cdef double wait
        with cython.critical_section(self):
            wait = _drawn(&self.state, self.made + 1, self.previous, self.uniform)
            self.made += 1
            self.previous = wait
        return wait

    @property
    def retries(self):
        """How many waits there were since the start or the last `reset`."""
        cdef int64_t made
        with cython.critical_section(self):
            made = self.made
        return made

    def reset(self):
        """Begin anew, with the shortest wait: after a success."""
        with cython.critical_section(self):
            self.previous = 0.0
            self.made = 0
