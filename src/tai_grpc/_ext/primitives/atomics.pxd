"""Atomic operations on fixed-width integers: the only way in which the state of a primitive changes.

They are free of locks, so a thread or process that stops between any two of them blocks nobody, and they
hold between processes that map the same memory. Loads acquire, stores release, a compare-and-swap does
both; `add` is relaxed: it orders nothing but itself.

A word that is changed by nobody but who holds the GIL needs no read-modify-write, which costs half as much as
a compiled call: `add_held` and `exchange_held` load it and store it. Anybody may read such a word. Without a
GIL (Py_GIL_DISABLED) they are what `add_seq` and `exchange` are.
"""

from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #if !defined(__GNUC__) && !defined(__clang__)
    #error "tai-grpc's primitives are written for the __atomic built-ins of GCC and Clang"
    #endif
    #ifndef TAI_GRPC_ATOMICS
    #define TAI_GRPC_ATOMICS
    _Static_assert(__atomic_always_lock_free(8, 0), "64-bit atomics must be free of locks");
    #define tai_load(word) __atomic_load_n((word), __ATOMIC_ACQUIRE)
    #define tai_store(word, value) __atomic_store_n((word), (value), __ATOMIC_RELEASE)
    #define tai_add(word, value) __atomic_fetch_add((word), (value), __ATOMIC_RELAXED)
    #define tai_load_seq(word) __atomic_load_n((word), __ATOMIC_SEQ_CST)
    #define tai_add_seq(word, value) __atomic_fetch_add((word), (value), __ATOMIC_SEQ_CST)
    #define tai_set_bits(word, bits) __atomic_fetch_or((word), (bits), __ATOMIC_SEQ_CST)
    #define tai_clear_bits(word, bits) __atomic_fetch_and((word), ~(bits), __ATOMIC_SEQ_CST)
    #define tai_cas_seq(word, expected, desired) \
        __atomic_compare_exchange_n((word), (expected), (desired), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
    #define tai_exchange(word, value) __atomic_exchange_n((word), (value), __ATOMIC_ACQ_REL)
    #define tai_cas(word, expected, desired) \
        __atomic_compare_exchange_n((word), (expected), (desired), 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
    #define tai_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #ifdef Py_GIL_DISABLED
    #define tai_add_held(word, value) tai_add_seq(word, value)
    #define tai_exchange_held(word, value) tai_exchange(word, value)
    #else
    static inline int64_t tai_exchange_held(int64_t *word, int64_t value) {
        int64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
        __atomic_store_n(word, value, __ATOMIC_RELEASE);
        return old;
    }
    static inline int64_t tai_add_held(int64_t *word, int64_t value) {
        int64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
        __atomic_store_n(word, (int64_t)((uint64_t)old + (uint64_t)value), __ATOMIC_RELEASE);
        return old;
    }
    #endif
    #endif
    """
    int64_t load "tai_load" (const int64_t *word) noexcept nogil
    void store "tai_store" (int64_t *word, int64_t value) noexcept nogil
    # `add` and `exchange` return what was there before; `cas` whether it swapped, and what is there instead
    # in `expected`.
    int64_t add "tai_add" (int64_t *word, int64_t value) noexcept nogil
    int64_t exchange "tai_exchange" (int64_t *word, int64_t value) noexcept nogil
    bint cas "tai_cas" (int64_t *word, int64_t *expected, int64_t desired) noexcept nogil
    uint64_t load_u64 "tai_load" (const uint64_t *word) noexcept nogil
    uint64_t add_u64 "tai_add" (uint64_t *word, uint64_t value) noexcept nogil
    bint cas_u64 "tai_cas" (uint64_t *word, uint64_t *expected, uint64_t desired) noexcept nogil
    # What comes before it is seen by all before what comes after it. Where two write one word each and then
    # read the other's, a fence between lets at least one of them see the other.
    void fence "tai_fence" () noexcept nogil

    # All threads see these in one order, as they need who write one word and then read another's.
    int64_t load_seq "tai_load_seq" (const int64_t *word) noexcept nogil
    int64_t add_seq "tai_add_seq" (int64_t *word, int64_t value) noexcept nogil
    bint cas_seq "tai_cas_seq" (int64_t *word, int64_t *expected, int64_t desired) noexcept nogil
    # These return what was there before.
    int64_t set_bits "tai_set_bits" (int64_t *word, int64_t bits) noexcept nogil
    int64_t clear_bits "tai_clear_bits" (int64_t *word, int64_t bits) noexcept nogil

    # For who holds the GIL (which Cython cannot check here), on words that nobody changes without it. These
    # return what was there before.
    int64_t add_held "tai_add_held" (int64_t *word, int64_t value) noexcept nogil
    int64_t exchange_held "tai_exchange_held" (int64_t *word, int64_t value) noexcept nogil


cdef inline void raise_to(int64_t *word, int64_t value) noexcept nogil:
    """Store `value` unless more is there already."""
    cdef int64_t seen = load(word)
    while seen < value:
        if cas(word, &seen, value):
            return
