"""The task that a call's handler runs in, for compiled code.

Derive from CallTask, override `finished`, make one with `Derived.__new__(Derived)`, fill in its own
fields and call `begin`. It is a TimerEntry too: armed in its loop's Timers, it is cancelled at its deadline
unless the derived class overrides `expired`.
"""

from tai_grpc._ext.aio.timers cimport TimerEntry

cdef enum:
    PENDING = 0
    FINISHED = 1
    CANCELLED = 2


cdef class CallTask(TimerEntry):
    cdef readonly object _loop
    cdef readonly object _coro
    cdef object context
    # How it ended, valid once `state` is not PENDING.
    cdef int state
    cdef object outcome  # what was returned; None otherwise
    cdef object error  # what was raised when FINISHED; None otherwise
    # Set while an error has not been retrieved; whoever deals with it in `finished` clears it.
    cdef bint log_error

    cdef bint suspended  # once at least, so all_tasks() knows it
    cdef public bint _log_destroy_pending
    cdef readonly bint _must_cancel
    cdef public bint _asyncio_future_blocking
    cdef int cancels
    cdef readonly object _fut_waiter
    cdef readonly object _cancel_message
    cdef object cancel_error
    cdef object error_traceback
    cdef list callbacks
    cdef object name
    cdef readonly object _source_traceback
    cdef object __weakref__

    # Run the first step of `coro` now, in `context`, None for a copy of the current one; once, and only while
    # `loop` runs, in its thread. If the coroutine ends in it, `finished` has been called when this returns.
    # Errors: TypeError, no coroutine; RuntimeError, `context` is entered already; KeyboardInterrupt and
    # SystemExit, as the coroutine raised them.
    cdef int begin(self, object coro, object loop, object context) except -1

    # Called once, at once, when the coroutine has ended, no longer as the current task. An error goes to the
    # loop's exception handler. Done-callbacks run a turn later.
    cdef int finished(self) except -1

    # What `cancel` does, 0 when it is done already.
    cdef int request_cancel(self, object message) except -1

    cdef int _take(self, object coro, object loop, object context) except -1
    cdef int _step(self, object error) except -1
    cdef int _advance(self, object error, bint enter) except -1
    cdef int _raised(self, object error) except -1
    cdef int _end(self, int state, object outcome, object error) except -1
    cdef int _call_back(self) except -1
    cdef int _wait_for(self, object awaited) except -1
    cdef int _suspend(self) except -1
    cdef int _step_soon(self, object error) except -1
    cdef int _report(self, dict report) except -1
    cdef int _check_ended(self, str pending) except -1
