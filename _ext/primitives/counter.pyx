# cython: language_level=3, freethreading_compatible=True, boundscheck=False, cdivision=True
"""A counter in stripes: each thread adds to one of them, on a cache line that few other threads write.

So do processes that share it in an Arena. Each count is one atomic addition: none is lost, whoever is killed.
"""

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.arguments cimport natural
from tai_grpc._ext.primitives.atomics cimport add, load

from tai_grpc.checks import check_int

cdef extern from *:
    """
    #include <pthread.h>
    #include <unistd.h>
    /* 0 until this thread uses a counter; from then on its number. */
    static __thread int64_t tai_thread_number;
    static void tai_forked(void) { tai_thread_number = 0; }
    #define tai_watch_forks() pthread_atfork(NULL, NULL, tai_forked)
    """
    int64_t thread_number "tai_thread_number"
    int watch_forks "tai_watch_forks" ()
    int getpid() noexcept nogil

cdef int64_t LIMIT = <int64_t>1 << 62
cdef int64_t MAX_ADD = <int64_t>1 << 56
# How many threads have used a counter.
cdef int64_t _threads = 0


if watch_forks() != 0:
    raise MemoryError("cannot watch for forks")


cdef inline int64_t _stripe() noexcept nogil:
    global thread_number
    if thread_number == 0:
        # The process counts too: else the first threads of all processes would share a stripe.
        thread_number = getpid() + add(&_threads, 1)
    return thread_number % STRIPES


cdef bint counter_add(CounterState *counter, int64_t n) noexcept nogil:
    """Add `n` (0..2^56); False, and nothing is added, when the stripe would hold 2^62 or more."""
    cdef int64_t *value = &counter.stripes[_stripe()].value
    if add(value, n) >= LIMIT - n:
        add(value, -n)
        return False
    return True


cdef int64_t counter_value(CounterState *counter) noexcept nogil:
    """How many were counted, or 2^62 when they are more."""
    cdef int64_t total = 0
    cdef int stripe
    for stripe in range(STRIPES):
        total = min(total + load(&counter.stripes[stripe].value), LIMIT)
    return total


cdef class Counter:
    """Counter()\n--\n
    Counts events, exactly, from any number of threads (and processes, in an Arena). It only goes up."""

    def __cinit__(self):
        cdef Memory memory = Memory(sizeof(CounterState))
        self.owner = memory
        self.state_ = <CounterState *>memory.data

    def __init__(self):
        """Refuse arguments, which a `__cinit__` without any would ignore."""

    @staticmethod
    def together(count):
        """Return a list of `count` (1..8) counters that take the memory of one.

        A thread's counts of all of them lie on one cache line, which is best for what is counted together.

        Raises:
            ConfigError: `count` is outside its range.
        """
        cdef int64_t number = check_int("count", count, 1, IN_A_STRIPE)
        cdef Memory memory = Memory(sizeof(CounterState))
        return [_counter_at(memory, place) for place in range(number)]

    def __repr__(self):
        return f"<Counter {self.value}>"

    def add(self, n=1):
        """Count `n` (0..2^56) more.

        Raises:
            ConfigError: `n` is outside its range.
            OverflowError: the count of this thread's stripe would reach 2^62; nothing is added.
        """
        cdef int64_t count = natural(n)
        if not 0 <= count <= MAX_ADD:
            count = check_int("n", n, 0, MAX_ADD)
        if not counter_add(self.state_, count):
            raise OverflowError(f"the counter is full: {self.value}")

    @property
    def value(self):
        """How many were counted. What others add meanwhile may or may not be in it."""
        cdef int stripe
        total = 0
        # As Python adds, since the stripes together may hold more than 64 bits.
        for stripe in range(STRIPES):
            total += load(&self.state_.stripes[stripe].value)
        return total


cdef Counter _counter_at(Memory memory, int64_t place):
    """The counter that has the `place`-th number of every stripe."""
    cdef Counter counter = Counter.__new__(Counter)
    counter.owner = memory
    counter.state_ = <CounterState *>(<int64_t *>memory.data + place)
    return counter
