# cython: language_level=3, freethreading_compatible=True
"""The retry budget of gRFC A6 ("throttling retry attempts"): one word, in thousandths of a token."""

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.atomics cimport cas, load, store

from tai_grpc.config import RetryBudgetConfig


cdef void budget_init(BudgetState *budget, int64_t max_tokens, int64_t token_ratio) noexcept nogil:
    """Set up zeroed memory as a full budget; both in thousandths, in the ranges of RetryBudgetConfig."""
    budget.max_tokens = max_tokens
    budget.token_ratio = token_ratio
    store(&budget.tokens, max_tokens)


cdef bint budget_allows(BudgetState *budget) noexcept nogil:
    return load(&budget.tokens) * 2 > budget.max_tokens


cdef void budget_success(BudgetState *budget) noexcept nogil:
    cdef int64_t tokens = load(&budget.tokens)
    while tokens < budget.max_tokens:
        if cas(&budget.tokens, &tokens, min(tokens + budget.token_ratio, budget.max_tokens)):
            return


cdef void budget_failure(BudgetState *budget) noexcept nogil:
    cdef int64_t tokens = load(&budget.tokens)
    while tokens > 0:
        if cas(&budget.tokens, &tokens, max(tokens - 1000, <int64_t>0)):
            return


cdef class RetryBudget:
    """RetryBudget(max_tokens=10, token_ratio=0.1)\n--\n
    Keeps retries from multiplying the load on a target that is failing already.

    Each failure that could be retried takes one of `max_tokens` (1..1000), each success gives back
    `token_ratio` (0.001..1000; three decimals count), and retries are allowed while more than half of the
    tokens are there. One budget serves all calls to one target; it never blocks.

    Source: gRFC A6, "Throttling Retry Attempts and Hedged RPCs".

    Raises:
        ConfigError: naming the field and its range.
    """

    def __cinit__(self, max_tokens=10, token_ratio=0.1):
        config = RetryBudgetConfig(max_tokens, token_ratio)
        cdef Memory memory = Memory(sizeof(BudgetState))
        self.owner = memory
        self.state_ = <BudgetState *>memory.data
        # Further decimals are cut off, as A6 has it; the half millionth is for 0.57 * 1000 = 569.99...
        budget_init(self.state_, config.max_tokens * 1000, <int64_t>(config.token_ratio * 1000 + 5e-7))

    def __repr__(self):
        return f"<RetryBudget {self.tokens:g} of {self.max_tokens} tokens>"

    def try_retry(self):
        """Whether a retry may be made now. Takes nothing: the failure before it did."""
        return budget_allows(self.state_)

    def record_success(self):
        """A call succeeded: give back `token_ratio`."""
        budget_success(self.state_)

    def record_failure(self):
        """An attempt failed in a way that could be retried, or the server asked for no more: take a token."""
        budget_failure(self.state_)

    @property
    def tokens(self):
        """The tokens that are there: 0.0 to `max_tokens`."""
        return load(&self.state_.tokens) / 1000.0

    @property
    def max_tokens(self):
        return self.state_.max_tokens // 1000
