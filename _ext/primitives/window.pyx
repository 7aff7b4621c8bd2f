# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""The recent calls of a circuit breaker: the last so many, or those of the last so many seconds.

Both kinds are words of 64 bits, each changed by one compare-and-swap and each saying itself to what it
belongs: a tag (40 bits) above what is counted (24 bits). A word with another tag is empty, so nothing is
ever cleared, and there are no sums beside the words that could drift from them: a thread, or a process, that
stops half way leaves out what it was about to count, and no more.

COUNT is a ring of one slot for each of the last `size` calls: 2 bits (failed, slow), 12 slots to a word,
whose tag is the era of the breaker. `head` counts the calls of the era, which gives each its slot; beyond
`size` it goes round from `size` to twice that, so that it tells a full ring from one that is filling.

TIME is a ring of 10 buckets of a tenth of the window each, counted from the era's start; so it knows the
calls of the last nine tenths to ten tenths of its length. A bucket is three words: calls, failures, slow
calls. Its tag is the era plus the number of the bucket, which no two share, as each is longer than the
tick by which eras are named. A bucket that is full (16.7 million calls) counts nothing more, and so keeps its
rates.

Who finds another tag than its own must know that it is an older one. For that the breaker's word is read
after the tag: when the breaker is still in the caller's era, nobody can have written for a later one. In a
TIME window the clock is read after the tag likewise. What is too late for its place is dropped.

Two things would be misread. A tag comes again after 2.28 years: so would a word that nobody had written in
exactly that time, to 65 us. And who resets a TIME window in the very tick in which its era began, and stops
for a tenth of it between reading the clock and the swap, may let a bucket of the old era into the new one.
"""

from libc.stdint cimport uint32_t

from tai_grpc._ext.primitives.atomics cimport cas_u64, load_u64

cdef enum:
    COUNT_BITS = 24
    COUNT_MASK = (1 << 24) - 1
    SLOTS = 12
    BUCKETS = 10

cdef extern from *:
    uint64_t TAG_MASK "((UINT64_C(1) << 40) - 1)"
    # For counting the set bits of 12 slots: masks of every second bit, pair, nibble, byte and half.
    uint64_t BITS "UINT64_C(0x5555555555555555)"
    uint64_t PAIRS "UINT64_C(0x3333333333333333)"
    uint64_t NIBBLES "UINT64_C(0x0F0F0F0F0F0F0F0F)"
    uint64_t BYTES "UINT64_C(0x00FF00FF00FF00FF)"
    uint64_t HALVES "UINT64_C(0x0000FFFF0000FFFF)"


cdef inline uint64_t *_words(WindowState *window) noexcept nogil:
    return <uint64_t *>(window + 1)


cdef inline uint64_t _tag(int64_t number) noexcept nogil:
    return <uint64_t>number & TAG_MASK


cdef inline int64_t _word_count(int64_t kind, int64_t size) noexcept nogil:
    return (size + SLOTS - 1) // SLOTS if kind == COUNT else 3 * BUCKETS


cdef int64_t window_bytes(int64_t kind, int64_t size) noexcept nogil:
    """The memory that a window needs, in bytes; 0 for CONSECUTIVE, which has none."""
    if kind == CONSECUTIVE:
        return 0
    return <int64_t>(sizeof(WindowState) + sizeof(uint64_t) * _word_count(kind, size))


cdef void window_init(
    WindowState *window, int64_t kind, int64_t size, int64_t minimum_calls, double failure_rate,
    double slow_rate
) noexcept nogil:
    """Set up zeroed memory as an empty window of `size` calls or seconds, as in CircuitBreakerConfig."""
    cdef int64_t tenth = size * 1_000_000_000 // BUCKETS
    window.kind = kind
    window.size = size if kind == COUNT else (tenth + (1 << TICK_SHIFT) - 1) >> TICK_SHIFT
    window.minimum_calls = minimum_calls
    window.failure_rate = failure_rate
    window.slow_rate = slow_rate
    window.words = _word_count(kind, size)


cdef bint window_record(
    WindowState *window, int64_t era, int bits, const uint64_t *word, uint64_t current
) noexcept nogil:
    """Count a call (`bits`: FAILED, SLOW) in `era`, which lasts while `word` holds `current`.

    Return whether it is time to open: enough calls are known, and too many of them failed or were slow. It is
    dropped when the era is over.
    """
    if window.kind == COUNT:
        return _record_call(window, era, bits, word, current)
    return _record_now(window, era, bits, word, current)


cdef WindowCounts window_counts(WindowState *window, int64_t era) noexcept nogil:
    """What is known of the recent calls of `era`."""
    if window.kind == COUNT:
        return _count_slots(window, era)
    return _count_buckets(window, era, _bucket(window, era))


cdef inline bint _exceeded(WindowState *window, WindowCounts seen) noexcept nogil:
    if seen.calls < window.minimum_calls:
        return False
    # Divided, not multiplied: 7 of 100 then equals a threshold of 0.07, to the last bit.
    return (
        <double>seen.failures / <double>seen.calls >= window.failure_rate
        or <double>seen.slow / <double>seen.calls >= window.slow_rate
    )


# --- COUNT ----------------------------------------------------------------------------------------------


cdef bint _record_call(
    WindowState *window, int64_t era, int bits, const uint64_t *word, uint64_t current
) noexcept nogil:
    cdef uint64_t tag = _tag(era) << COUNT_BITS
    cdef uint64_t size = <uint64_t>window.size
    cdef uint64_t head = load_u64(&window.head)
    cdef uint64_t before, after, place, seen, next_word
    cdef uint64_t *slots
    while True:
        before = head & COUNT_MASK
        if head - before != tag:
            if load_u64(word) != current:
                return False
            before = 0
        after = before + 1 if before + 1 < 2 * size else size
        if cas_u64(&window.head, &head, tag | after):
            break
    # Within the ring whatever `head` holds: it may be memory that another program wrote to.
    place = <uint32_t>before % <uint32_t>size
    slots = _words(window) + place // SLOTS
    place = 2 * (place % SLOTS)
    seen = load_u64(slots)
    while True:
        if seen & ~<uint64_t>COUNT_MASK == tag:
            next_word = (seen & ~(<uint64_t>3 << place)) | <uint64_t>bits << place
            if next_word == seen:
                break
        elif load_u64(word) != current:
            return False
        else:
            next_word = tag | <uint64_t>bits << place
        if cas_u64(slots, &seen, next_word):
            break
    # A good call takes no rate over its threshold, unless now there are enough calls to judge at all.
    if bits == 0 and after != <uint64_t>window.minimum_calls:
        return False
    return _exceeded(window, _count_slots(window, era))


cdef WindowCounts _count_slots(WindowState *window, int64_t era) noexcept nogil:
    cdef WindowCounts counts
    cdef uint64_t *words = _words(window)
    cdef uint64_t sums = 0
    cdef uint64_t word, head
    cdef int64_t i
    for i in range(window.words):
        word = load_u64(&words[i])
        if word >> COUNT_BITS == _tag(era):
            word &= COUNT_MASK
            # The failed bits in the lower half, the slow ones in the upper: summed side by side.
            word = (word & BITS & COUNT_MASK) | ((word >> 1) & BITS) << 32
            word = (word & PAIRS) + ((word >> 2) & PAIRS)
            word = (word + (word >> 4)) & NIBBLES
            word = (word & BYTES) + ((word >> 8) & BYTES)
            sums += (word + (word >> 16)) & HALVES
    # After the slots: a call is counted before it is marked.
    head = load_u64(&window.head)
    counts.calls = 0
    if head >> COUNT_BITS == _tag(era):
        counts.calls = min(<int64_t>(head & COUNT_MASK), window.size)
    counts.failures = <int64_t>(sums & 0xFFFFFFFFU)
    counts.slow = <int64_t>(sums >> 32)
    return counts


# --- TIME -----------------------------------------------------------------------------------------------


cdef inline int64_t _bucket(WindowState *window, int64_t era) noexcept nogil:
    """The number of the bucket that this moment belongs to. (An era may be named ahead of the clock.)"""
    return max(<int64_t>0, ticks() - era) // window.size


cdef bint _add(
    WindowState *window, int64_t era, int64_t bucket, int which, const uint64_t *word, uint64_t current
) noexcept nogil:
    """Add one to a word of a bucket; False when that is over, or full."""
    cdef uint64_t tag = _tag(era + bucket) << COUNT_BITS
    cdef uint64_t *cell = _words(window) + 3 * (bucket % BUCKETS) + which
    cdef uint64_t seen = load_u64(cell)
    cdef uint64_t next_word
    while True:
        if seen & ~<uint64_t>COUNT_MASK == tag:
            if seen & COUNT_MASK == COUNT_MASK:
                return False
            next_word = seen + 1
        elif load_u64(word) != current or _bucket(window, era) >= bucket + BUCKETS:
            return False
        else:
            next_word = tag | 1
        if cas_u64(cell, &seen, next_word):
            return True


cdef bint _record_now(
    WindowState *window, int64_t era, int bits, const uint64_t *word, uint64_t current
) noexcept nogil:
    cdef int64_t bucket = _bucket(window, era)
    if not _add(window, era, bucket, 0, word, current):
        return False
    if bits & FAILED:
        _add(window, era, bucket, 1, word, current)
    if bits & SLOW:
        _add(window, era, bucket, 2, word, current)
    # After a good call too: it may be that better ones have gone out of the window since the last.
    return _exceeded(window, _count_buckets(window, era, bucket))


cdef inline int64_t _sum(WindowState *window, int which, uint64_t newest, uint64_t buckets) noexcept nogil:
    """One of the words of each bucket, summed: those of `buckets` buckets up to the one tagged `newest`."""
    cdef uint64_t *words = _words(window) + which
    cdef uint64_t word
    cdef int64_t total = 0
    cdef int i
    for i in range(BUCKETS):
        word = load_u64(&words[3 * i])
        if _tag(newest - (word >> COUNT_BITS)) < buckets:
            total += word & COUNT_MASK
    return total


cdef WindowCounts _count_buckets(WindowState *window, int64_t era, int64_t bucket) noexcept nogil:
    cdef WindowCounts counts
    cdef uint64_t newest = _tag(era + bucket)
    cdef uint64_t buckets = <uint64_t>min(bucket + 1, <int64_t>BUCKETS)
    # Calls last: each is counted before it is counted as failed or slow.
    counts.slow = _sum(window, 2, newest, buckets)
    counts.failures = _sum(window, 1, newest, buckets)
    counts.calls = _sum(window, 0, newest, buckets)
    return counts
