# cython: language_level=3, freethreading_compatible=True
"""The `with` blocks that a thread or a task is in: each is kept in its context, of which these have one each.

A task begins with a copy of the context in which it was started, so it finds the blocks around that, too.
They may have ended since: a block says so itself, and one that has ended is passed over.
"""

from contextvars import ContextVar

cimport cython
from cpython.contextvars cimport PyContextVar_Set, get_value

from tai_grpc._ext.primitives.atomics cimport load, store

# (a Block, the outer ones in the same form), from the innermost on.
cdef object _blocks = ContextVar("tai_grpc.blocks", default=None)


@cython.final
cdef class Block:
    pass


cdef Block block_enter(object owner, int64_t permit, int64_t started_ns):
    """Add a block to this context."""
    cdef object outer = get_value(_blocks)
    cdef Block block = Block.__new__(Block)
    block.owner = owner
    block.permit = permit
    block.started_ns = started_ns
    while outer is not None and load(&(<Block>outer[0]).ended) != 0:
        outer = outer[1]
    PyContextVar_Set(_blocks, (block, outer))
    return block


cdef Block block_leave(object owner):
    """Take the innermost block on `owner` out of this context, and return it, to be given to `block_end`.

    None when there is none: it is left in another context than it was entered in, as a generator may be.
    """
    cdef object rest = get_value(_blocks)
    cdef Block block
    cdef list inner = []
    while rest is not None:
        block = <Block>rest[0]
        rest = rest[1]
        if load(&block.ended) != 0:
            continue
        if block.owner is owner:
            for each in reversed(inner):
                rest = (each, rest)
            PyContextVar_Set(_blocks, rest)
            return block
        inner.append(block)
    return None


cdef void block_end(Block block) noexcept:
    """From here on, nobody who has it in a copied context takes it for a block of his own."""
    store(&block.ended, 1)
