"""The retry budget for code that runs without the GIL."""

from libc.stdint cimport int64_t

cdef struct BudgetState:
    # Thousandths of a token; only `tokens` changes.
    int64_t tokens
    int64_t max_tokens
    int64_t token_ratio


cdef void budget_init(BudgetState *budget, int64_t max_tokens, int64_t token_ratio) noexcept nogil
cdef bint budget_allows(BudgetState *budget) noexcept nogil
cdef void budget_success(BudgetState *budget) noexcept nogil
cdef void budget_failure(BudgetState *budget) noexcept nogil


cdef class RetryBudget:
    cdef BudgetState *state_
    # What keeps the state's memory.
    cdef object owner
