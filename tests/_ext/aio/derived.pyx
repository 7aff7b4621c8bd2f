# cython: language_level=3
"""Calls as a server makes them: a task and its deadline in one object, heard of by C calls."""

from libc.stdint cimport int64_t

from tai_grpc._ext.aio.task cimport CANCELLED, PENDING, CallTask
from tai_grpc._ext.aio.timers cimport Timers, timers_of


cdef class Call(CallTask):
    """Tells `told` how it ended: the state, the outcome and the error; raises `mistake` then, if there is one."""

    cdef object told
    cdef public object mistake
    cdef public bint dealt_with

    cdef int finished(self) except -1:
        assert self.state != PENDING
        self.told("cancelled" if self.state == CANCELLED else "finished", self.outcome, self.error)
        if self.dealt_with:
            self.log_error = False
        if self.mistake is not None:
            raise self.mistake
        return 0


def call(coro, loop, told, *, mistake=None, dealt_with=False, context=None):
    cdef Call task = Call.__new__(Call)
    task.told = told
    task.mistake = mistake
    task.dealt_with = dealt_with
    task.begin(coro, loop, context)
    return task


def begin_again(Call task, coro):
    task.begin(coro, task._loop, None)


def never_begun():
    return Call.__new__(Call)


def cancel(CallTask task, message):
    return task.request_cancel(message)


def arm_and_disarm(loop, tasks, int64_t deadline_ns, int64_t times):
    """Each of `tasks` in turn, `times` times in all; how many are armed in the end."""
    cdef Timers timers = timers_of(loop)
    cdef CallTask task
    cdef int64_t left = times
    while left > 0:
        for task in tasks:
            timers.arm(task, deadline_ns)
            timers.disarm(task)
            left -= 1
    return len(timers)
