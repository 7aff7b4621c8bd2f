# cython: language_level=3, cdivision=True
"""The deadlines of thousands of calls on one timer of their event loop.

A binary heap of entries that know their place in it, so that an entry leaves the moment its call ends:
nothing dead is kept, and the heap is never longer than there are calls. The loop's timer is moved when
the earliest deadline becomes earlier; when it becomes later the timer fires in vain once and is set anew.
What is due is decided by the primitives' clock alone, whatever the loop's own clock says: a timer that fires
too early is set again.
"""

import weakref

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject

from tai_grpc._ext.primitives.clock cimport monotonic_ns

cdef extern from *:
    """
    #define tai_list_items(list) (((PyListObject *)(list))->ob_item)
    """
    PyObject **tai_list_items(list items) noexcept

MAX_EXPIRED = 256
"""How many entries expire in one turn of the loop; the others that are due follow in the next ones."""

cdef enum:
    _MAX_EXPIRED = 256

# How far ahead the loop's timer is set at most: an hour.
cdef int64_t _MAX_WAIT_NS = 3_600_000_000_000

# By loop, a weak reference to its Timers: entries mostly refer to their loop, which must not keep itself
# alive through them. While something is armed the loop's own timer keeps the Timers.
cdef object _by_loop = weakref.WeakKeyDictionary()


cpdef Timers timers_of(object loop):
    """The Timers of `loop`."""
    cdef Timers timers
    found = _by_loop.get(loop)
    if found is not None:
        timers = found()
        if timers is not None:
            return timers
    timers = Timers(loop)
    _by_loop[loop] = weakref.ref(timers)
    return timers


cdef class TimerEntry:
    """What has a deadline: `deadline_ns` is the one that it was last armed with, 0 when it never was."""

    cdef int expired(self) except -1:
        return 0

    @property
    def armed(self):
        return self.place != 0


@cython.final
cdef class Timer(TimerEntry):
    """An entry that calls `callback` when its deadline has passed."""

    def __cinit__(self, callback):
        self.callback = callback

    cdef int expired(self) except -1:
        self.callback()
        return 0


@cython.final
@cython.no_gc_clear  # an entry is disarmed when its owner goes, which may be with the Timers
cdef class Timers:
    """The deadlines of one event loop, used in that loop's thread alone: `timers_of(loop)` gives them.

    An entry expires at its deadline or up to some milliseconds later, never earlier.
    """

    def __cinit__(self, loop):
        self.loop_ref = weakref.ref(loop)
        self.heap = [None]  # places count from 1

    def __len__(self):
        return PyList_GET_SIZE(self.heap) - 1

    cpdef int arm(self, TimerEntry entry, int64_t deadline_ns) except -1:
        """Let `entry` expire at `deadline_ns` (of the primitives' clock); move it if it is armed.

        Raises:
            RuntimeError: the loop is closed or gone, or `entry` is armed in the Timers of another one.
        """
        if entry is None:
            raise TypeError("an entry is needed")
        if entry.place == 0:
            self.heap.append(entry)
            entry.place = PyList_GET_SIZE(self.heap) - 1
        elif not self._holds(entry):
            raise RuntimeError(f"{entry!r} is armed in the Timers of another loop")
        entry.deadline_ns = deadline_ns
        self._place(entry.place)
        if entry.place == 1:
            try:
                self._schedule()
            except BaseException:
                self._remove(entry)
                raise
        return 0

    cpdef void disarm(self, TimerEntry entry) noexcept:
        """Let `entry` not expire; nothing happens if it is not armed here."""
        if entry is not None and self._holds(entry):
            self._remove(entry)

    cpdef int close(self) except -1:
        """Disarm every entry and leave the loop alone, until something is armed again."""
        cdef TimerEntry entry
        cdef list heap = self.heap
        self.heap = [None]
        for entry in heap[1:]:
            entry.place = 0
        if self.handle is not None:
            handle, self.handle = self.handle, None
            handle.cancel()
        return 0

    def _wake(self):
        self._fire()

    cdef bint _holds(self, TimerEntry entry) noexcept:
        cdef Py_ssize_t place = entry.place
        if not 0 < place < PyList_GET_SIZE(self.heap):
            return False
        return tai_list_items(self.heap)[place] == <PyObject *>entry

    cdef void _remove(self, TimerEntry entry) noexcept:
        """Take out `entry`, which is armed here: the last one moves to its place."""
        cdef Py_ssize_t place = entry.place
        cdef TimerEntry last = self.heap.pop()
        entry.place = 0
        if last is not entry:
            self.heap[place] = last
            last.place = place
            self._place(place)

    cdef void _place(self, Py_ssize_t place) noexcept:
        """Move the entry at `place`, whose deadline is new there, up or down to where it belongs."""
        # The items are swapped as they are, so references are neither taken nor given up, and nothing of
        # Python runs in between.
        cdef PyObject **items = tai_list_items(self.heap)
        cdef Py_ssize_t size = PyList_GET_SIZE(self.heap)
        cdef Py_ssize_t other
        cdef PyObject *moved = items[place]
        cdef int64_t deadline_ns = (<TimerEntry>moved).deadline_ns
        while place > 1:
            other = place >> 1
            if (<TimerEntry>items[other]).deadline_ns <= deadline_ns:
                break
            items[place] = items[other]
            (<TimerEntry>items[place]).place = place
            place = other
        while True:
            other = place << 1
            if other >= size:
                break
            if other + 1 < size and (
                (<TimerEntry>items[other + 1]).deadline_ns < (<TimerEntry>items[other]).deadline_ns
            ):
                other += 1
            if deadline_ns <= (<TimerEntry>items[other]).deadline_ns:
                break
            items[place] = items[other]
            (<TimerEntry>items[place]).place = place
            place = other
        items[place] = moved
        (<TimerEntry>moved).place = place

    cdef int _schedule(self) except -1:
        """Set the loop's timer, unless it is set for the earliest deadline or before."""
        cdef int64_t earliest_ns, now_ns, wait_ns
        if self.firing or PyList_GET_SIZE(self.heap) == 1:
            return 0
        earliest_ns = (<TimerEntry>tai_list_items(self.heap)[1]).deadline_ns
        if self.handle is not None:
            if self.wake_ns <= earliest_ns:
                return 0
            handle, self.handle = self.handle, None
            handle.cancel()
        loop = self.loop_ref()
        if loop is None:
            raise RuntimeError("the event loop of these Timers is gone")
        now_ns = monotonic_ns()
        if earliest_ns <= now_ns:
            self.handle = loop.call_soon(self._wake)
            self.wake_ns = earliest_ns
        else:
            wait_ns = min(earliest_ns - now_ns, _MAX_WAIT_NS)
            # Up to whole milliseconds: a loop may count in these, and one that fires before the deadline
            # would be set again and again for the rest.
            self.handle = loop.call_later((wait_ns // 1_000_000 + 1) * 1e-3, self._wake)
            self.wake_ns = now_ns + wait_ns
        return 0

    cdef int _fire(self) except -1:
        cdef int64_t now_ns = monotonic_ns()
        cdef int left = _MAX_EXPIRED
        cdef TimerEntry entry
        self.handle = None
        self.firing = True
        try:
            while left > 0 and PyList_GET_SIZE(self.heap) > 1:
                entry = <TimerEntry>tai_list_items(self.heap)[1]
                if entry.deadline_ns > now_ns:
                    break
                left -= 1
                self._remove(entry)
                self._expire(entry)
        finally:
            self.firing = False
            self._schedule()
        return 0

    cdef int _expire(self, TimerEntry entry) except -1:
        try:
            entry.expired()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            loop = self.loop_ref()
            if loop is None:
                raise
            message = f"Exception at the deadline of {entry!r}"
            loop.call_exception_handler({"message": message, "exception": error})
        return 0
