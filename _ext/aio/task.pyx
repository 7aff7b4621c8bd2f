# cython: language_level=3
"""The task of a call: asyncio's Task as seen by the code in it, but begun at once.

The first step runs inside its maker's call, as with `eager_start` of Python 3.12, and most handlers end in
it: no turn of the loop passes, nothing is registered, and whoever derives from CallTask hears of the end by a
C call. From the first suspension on it is a task like any other.

Behaviour is that of asyncio.Task, message by message, except that:
- all_tasks() does not show a task in its first step;
- it is no instance of asyncio.Task, whose memory belongs to asyncio alone;
- the names count up by themselves: CallTask-1, CallTask-2...
"""

import asyncio
import inspect
import sys
from asyncio import CancelledError, InvalidStateError, base_tasks, format_helpers, tasks
from types import GenericAlias

from cpython.dict cimport PyDict_DelItem, PyDict_GetItemWithError, PyDict_SetItem
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

    cdef enum:
        METH_NOARGS
        METH_O

    ctypedef object (*PyCFunction)(object, object)

    ctypedef struct PyMethodDef:
        const char *ml_name
        PyCFunction ml_meth
        int ml_flags
        const char *ml_doc

    # Without an exception clause, what these set is taken by take_error.
    PySendResult PyIter_Send(PyObject *coroutine, PyObject *value, PyObject **sent) noexcept
    int PyContext_Enter(PyObject *context) noexcept
    int PyContext_Exit(object context) except -1
    object PyContext_CopyCurrent()
    bint PyCoro_CheckExact(object value) noexcept
    bint PyGen_CheckExact(object value) noexcept
    PyObject *PyObject_CallMethodNoArgs(PyObject *value, PyObject *name) noexcept
    object PyCFunction_New(PyMethodDef *method, object self)
    PyObject *Py_None

cdef extern from *:
    """
    /* The error that is set, which then is not: a new reference, with its traceback. */
    static PyObject *tai_take_error(void) {
    #if PY_VERSION_HEX >= 0x030C0000
        return PyErr_GetRaisedException();
    #else
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        if (traceback != NULL) {
            PyException_SetTraceback(value, traceback);
        }
        Py_XDECREF(type);
        Py_XDECREF(traceback);
        return value;
    #endif
    }

    /* What PyIter_Send is for a value, for an error. */
    static PySendResult tai_throw(PyObject *coroutine, PyObject *throw_, PyObject *error, PyObject **sent) {
        *sent = PyObject_CallMethodOneArg(coroutine, throw_, error);
        if (*sent != NULL) {
            return PYGEN_NEXT;
        }
        if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
            PyObject *stop = tai_take_error();
            *sent = Py_NewRef(((PyStopIterationObject *)stop)->value);
            Py_DECREF(stop);
            return PYGEN_RETURN;
        }
        return PYGEN_ERROR;
    }
    """
    PyObject *tai_take_error() noexcept
    PySendResult tai_throw(PyObject *coroutine, PyObject *name, PyObject *error, PyObject **sent) noexcept

cdef object _iscoroutine = asyncio.iscoroutine
cdef object _register_task = tasks._register_task

# Who is the current task of a loop: since Python 3.12 a function changes it, before that a dict holds it.
cdef object _swap_current_task = getattr(tasks, "_swap_current_task", None)
cdef dict _current_tasks = None if _swap_current_task is not None else tasks._current_tasks

# Since Python 3.13 a request to cancel that was taken back before it was delivered is not delivered.
cdef bint _UNCANCEL_TAKES_BACK = sys.version_info >= (3, 13)

cdef str _THROW = sys.intern("throw")
cdef str _RESULT = sys.intern("result")
cdef tuple _STATES = ("PENDING", "FINISHED", "CANCELLED")

# The number of the last task that was asked for its name without having been given one.
cdef long long _named = 0


cdef inline object _make_current(object loop, object task):
    """Make `task` the current one of `loop`, None for no task; return which one was."""
    cdef PyObject *found
    if _current_tasks is None:
        return _swap_current_task(loop, task)
    found = PyDict_GetItemWithError(_current_tasks, loop)
    previous = <object>found if found != NULL else None
    if task is not None:
        PyDict_SetItem(_current_tasks, loop, task)
    elif found != NULL:
        PyDict_DelItem(_current_tasks, loop)
    return previous


cdef object _loop_of(object future):
    """As asyncio has it: futures older than get_loop() are waited for too."""
    get_loop = getattr(future, "get_loop", None)
    return future._loop if get_loop is None else get_loop()


cdef object _resume(object task, object _):
    (<CallTask>task)._step(None)


cdef object _fail(object task, object error):
    (<CallTask>task)._step(error)


cdef object _wake(object task, object future):
    (<CallTask>task)._step(_error_of(future))


cdef object _error_of(object future):
    """What the future, which is done, raises; None for a result. No line of ours joins the traceback."""
    cdef PyObject *result = PyObject_CallMethodNoArgs(<PyObject *>future, <PyObject *>_RESULT)
    if result == NULL:
        return _taken(tai_take_error())
    Py_DECREF(<object>result)
    return None


cdef inline object _taken(PyObject *reference):
    """The object of a reference that is given up."""
    value = <object>reference
    Py_DECREF(value)
    return value


# What a task gives to its loop and to futures: functions bound to it, made without a lookup.
cdef PyMethodDef _RESUME = PyMethodDef("resume", <PyCFunction>_resume, METH_NOARGS, NULL)
cdef PyMethodDef _FAIL = PyMethodDef("fail", <PyCFunction>_fail, METH_O, NULL)
cdef PyMethodDef _WAKE = PyMethodDef("wake", <PyCFunction>_wake, METH_O, NULL)


cdef class CallTask(TimerEntry):
    """A task that runs `coro` in `context` (a copy of the current one), and its first step at once.

    Everything else is as with asyncio.Task. While `loop` (the running one) does not run, the first step
    follows once it does.

    Raises:
        TypeError: `coro` is no coroutine.
        RuntimeError: there is no loop; `context` is entered already.
        KeyboardInterrupt, SystemExit: the first step raised it.
    """

    def __init__(self, coro, loop=None, *, name=None, context=None):
        if loop is None:
            loop = asyncio.get_running_loop()
        if name is not None:
            self.name = str(name)
        if loop.get_debug():
            self._source_traceback = format_helpers.extract_stack(sys._getframe())
        if loop.is_running():
            self.begin(coro, loop, context)
        else:
            self._take(coro, loop, context)
            self._suspend()
            self._step_soon(None)

    def __del__(self):
        if self.state == PENDING:
            if self.suspended and self._log_destroy_pending:
                self._report({"task": self, "message": "Task was destroyed but it is pending!"})
        elif self.log_error:
            message = f"{type(self).__name__} exception was never retrieved"
            self._report({"message": message, "exception": self.error, "future": self})

    cdef int _report(self, dict report) except -1:
        if self._source_traceback is not None:
            report["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(report)
        return 0

    __class_getitem__ = classmethod(GenericAlias)

    def __repr__(self):
        return base_tasks._task_repr(self)

    # ---- what runs it

    cdef int begin(self, object coro, object loop, object context) except -1:
        self._take(coro, loop, context)
        return self._advance(None, True)

    cdef int finished(self) except -1:
        return 0

    cdef int expired(self) except -1:
        return self.request_cancel(None)

    cdef int _take(self, object coro, object loop, object context) except -1:
        if self._loop is not None:
            raise RuntimeError("a task begins once")
        if not PyCoro_CheckExact(coro) and not PyGen_CheckExact(coro) and not _iscoroutine(coro):
            raise TypeError(f"a coroutine was expected, got {coro!r}")
        self._loop = loop
        self._coro = coro
        self._log_destroy_pending = True
        self.context = PyContext_CopyCurrent() if context is None else context
        return 0

    cdef int _step(self, object error) except -1:
        """A later step, in the task's context."""
        if self.state != PENDING:
            raise InvalidStateError(f"_step(): already done: {self!r}, {error!r}")
        if self._must_cancel:
            if not isinstance(error, CancelledError):
                error = self._make_cancelled_error()
            self._must_cancel = False
        self._fut_waiter = None
        return self._advance(error, False)

    cdef int _advance(self, object error, bint enter) except -1:
        """Send None or throw `error` into the coroutine, and do with what comes back what is to be done."""
        cdef PyObject *sent = NULL
        cdef PySendResult how = PYGEN_ERROR
        previous = _make_current(self._loop, self)
        if enter and PyContext_Enter(<PyObject *>self.context) < 0:
            refusal = _taken(tai_take_error())
            _make_current(self._loop, previous)
            raise refusal
        if error is None:
            how = PyIter_Send(<PyObject *>self._coro, Py_None, &sent)
        else:
            how = tai_throw(<PyObject *>self._coro, <PyObject *>_THROW, <PyObject *>error, &sent)
        if how == PYGEN_ERROR:
            sent = tai_take_error()
        value = _taken(sent)
        if enter:
            PyContext_Exit(self.context)
        _make_current(self._loop, previous)
        if how == PYGEN_NEXT:
            return self._wait_for(value)
        if how == PYGEN_ERROR:
            return self._raised(value)
        if self._must_cancel:
            # Cancelled by itself right before it returned.
            self._must_cancel = False
            return self._end(CANCELLED, None, None)
        return self._end(FINISHED, value, None)

    cdef int _raised(self, object error) except -1:
        if isinstance(error, CancelledError):
            self.cancel_error = error
            return self._end(CANCELLED, None, None)
        self.error_traceback = error.__traceback__
        self.log_error = True
        self._end(FINISHED, None, error)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error
        return 0

    cdef int _end(self, int state, object outcome, object error) except -1:
        self.state = state
        self.outcome = outcome
        self.error = error
        try:
            self.finished()
        except (KeyboardInterrupt, SystemExit):
            self._call_back()
            raise
        except BaseException as mistake:
            # Without "task", in whose context, which may be entered already, the loop would run its handler.
            self._report({"message": f"Exception at the end of {self!r}", "exception": mistake})
        if self.callbacks is not None:
            self._call_back()
        return 0

    cdef int _call_back(self) except -1:
        callbacks, self.callbacks = self.callbacks, None
        for callback, context in callbacks or ():
            self._loop.call_soon(callback, self, context=context)
        return 0

    cdef int _wait_for(self, object awaited) except -1:
        self._suspend()
        if awaited is None:  # a bare yield: the next turn
            return self._step_soon(None)
        blocking = getattr(awaited, "_asyncio_future_blocking", None)
        if blocking is None:
            if inspect.isgenerator(awaited):
                return self._step_soon(RuntimeError(
                    f"yield was used instead of yield from for generator in task {self!r} with {awaited!r}"
                ))
            return self._step_soon(RuntimeError(f"Task got bad yield: {awaited!r}"))
        if _loop_of(awaited) is not self._loop:
            return self._step_soon(
                RuntimeError(f"Task {self!r} got Future {awaited!r} attached to a different loop")
            )
        if not blocking:
            return self._step_soon(
                RuntimeError(f"yield was used instead of yield from in task {self!r} with {awaited!r}")
            )
        if awaited is self:
            return self._step_soon(RuntimeError(f"Task cannot await on itself: {self!r}"))
        awaited._asyncio_future_blocking = False
        awaited.add_done_callback(PyCFunction_New(&_WAKE, self), context=self.context)
        self._fut_waiter = awaited
        if self._must_cancel and awaited.cancel(msg=self._cancel_message):
            self._must_cancel = False
        return 0

    cdef int _suspend(self) except -1:
        """From the first suspension on, the task is seen by all_tasks() and missed if it is dropped."""
        if not self.suspended:
            self.suspended = True
            _register_task(self)
        return 0

    cdef int _step_soon(self, object error) except -1:
        if error is None:
            self._loop.call_soon(PyCFunction_New(&_RESUME, self), context=self.context)
        else:
            self._loop.call_soon(PyCFunction_New(&_FAIL, self), error, context=self.context)
        return 0

    # ---- what others ask of it

    cdef int request_cancel(self, object message) except -1:
        self.log_error = False
        if self.state != PENDING:
            return 0
        self.cancels += 1
        if self._fut_waiter is not None and self._fut_waiter.cancel(msg=message):
            # It may be a task that ignores the request: it is kept, to be asked again.
            return 1
        self._must_cancel = True
        self._cancel_message = message
        return 1

    def cancel(self, msg=None):
        return self.request_cancel(msg) != 0

    def cancelling(self):
        return self.cancels

    def uncancel(self):
        if self.cancels > 0:
            self.cancels -= 1
            if self.cancels == 0 and _UNCANCEL_TAKES_BACK:
                self._must_cancel = False
        return self.cancels

    def cancelled(self):
        return self.state == CANCELLED

    def done(self):
        return self.state != PENDING

    def result(self):
        self._check_ended("Result is not set.")
        if self.error is not None:
            raise self.error.with_traceback(self.error_traceback)
        return self.outcome

    def exception(self):
        self._check_ended("Exception is not set.")
        return self.error

    cdef int _check_ended(self, str pending) except -1:
        if self.state == PENDING:
            raise InvalidStateError(pending)
        if self.state == CANCELLED:
            raise self._make_cancelled_error()
        self.log_error = False
        return 0

    def set_result(self, result):
        raise RuntimeError("Task does not support set_result operation")

    def set_exception(self, exception):
        raise RuntimeError("Task does not support set_exception operation")

    def add_done_callback(self, fn, *, context=None):
        if context is None:
            context = PyContext_CopyCurrent()
        if self.state != PENDING:
            self._loop.call_soon(fn, self, context=context)
        elif self.callbacks is None:
            self.callbacks = [(fn, context)]
        else:
            self.callbacks.append((fn, context))

    def remove_done_callback(self, fn):
        """Remove every occurrence of a callback; how many there were."""
        if self.callbacks is None:
            return 0
        kept = [entry for entry in self.callbacks if entry[0] != fn]
        removed = len(self.callbacks) - len(kept)
        if removed:
            self.callbacks = kept
        return removed

    def __await__(self):
        if self.state == PENDING:
            self._asyncio_future_blocking = True
            yield self
        if self.state == PENDING:
            raise RuntimeError("await wasn't used with future")
        return self.result()

    def __iter__(self):
        return self.__await__()

    def get_loop(self):
        return self._loop

    def get_coro(self):
        return self._coro

    def get_context(self):
        return self.context

    def get_name(self):
        global _named
        if self.name is None:
            _named += 1
            self.name = f"CallTask-{_named}"
        return self.name

    def set_name(self, value):
        self.name = str(value)

    def get_stack(self, *, limit=None):
        """The frame where it is suspended, or the ones of the error that ended it, the oldest first."""
        return base_tasks._task_get_stack(self, limit)

    def print_stack(self, *, limit=None, file=None):
        """Print what `get_stack` returns as a traceback, to `file` (stderr)."""
        base_tasks._task_print_stack(self, limit, file)

    # ---- what asyncio's own functions read of a future or a task

    @property
    def _state(self):
        return _STATES[self.state]

    @property
    def _result(self):
        return self.outcome

    @property
    def _exception(self):
        return self.error

    @property
    def _callbacks(self):
        return self.callbacks

    def _make_cancelled_error(self):
        """The error that ended the coroutine, once, or one like it."""
        error, self.cancel_error = self.cancel_error, None
        if error is not None:
            return error
        return CancelledError() if self._cancel_message is None else CancelledError(self._cancel_message)
