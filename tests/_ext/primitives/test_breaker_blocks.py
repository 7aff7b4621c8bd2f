"""`with breaker:` against the same calls with their permits in hand, entered and left in any order."""

from __future__ import annotations

from contextvars import Context, copy_context

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tai_grpc._ext.primitives.breaker import CircuitBreaker
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import CallOutcome, CircuitBreakerConfig
from tai_grpc.errors import CircuitOpenError

CONTEXTS = 3


def enter(breaker: CircuitBreaker) -> bool:
    try:
        breaker.__enter__()
    except CircuitOpenError:
        return False
    return True


def leave(breaker: CircuitBreaker, failed: bool) -> None:
    error = ConnectionError() if failed else None
    breaker.__exit__(type(error) if error else None, error, None)


class Blocks(RuleBasedStateMachine):
    """Tasks, as contexts, that are in blocks of two breakers, and plain breakers that know each permit."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FrozenClock()
        self.clock.__enter__()

    def teardown(self) -> None:
        self.clock.__exit__(None, None, None)

    @initialize(slow=st.booleans())
    def begin(self, slow: bool) -> None:
        config = CircuitBreakerConfig(2, 1.0, 3, slow_call_duration=0.5 if slow else None)
        self.breakers = [CircuitBreaker(config) for _ in range(2)]
        self.models = [CircuitBreaker(config) for _ in range(2)]
        self.contexts: list[Context] = [copy_context() for _ in range(CONTEXTS)]
        # By context, the blocks from the outermost in: which breaker, its permit, and when it was entered.
        self.blocks: list[list[tuple[int, int, int]]] = [[] for _ in range(CONTEXTS)]

    @rule(task=st.integers(0, CONTEXTS - 1), which=st.integers(0, 1))
    def enter(self, task: int, which: int) -> None:
        permit = self.models[which].acquire()
        assert self.contexts[task].run(enter, self.breakers[which]) == (permit >= 0)
        if permit >= 0:
            self.blocks[task].append((which, permit, self.clock.now_ns))

    @precondition(lambda self: any(self.blocks))
    @rule(data=st.data(), failed=st.booleans())
    def leave(self, data: st.DataObject, failed: bool) -> None:
        task = data.draw(st.sampled_from([task for task in range(CONTEXTS) if self.blocks[task]]))
        which, permit, since_ns = self.blocks[task].pop()
        self.contexts[task].run(leave, self.breakers[which], failed)
        outcome = CallOutcome.FAILURE if failed else CallOutcome.SUCCESS
        self.models[which].settle(permit, outcome, (self.clock.now_ns - since_ns) * 1e-9)

    @precondition(lambda self: not all(self.blocks))
    @rule(data=st.data(), parent=st.integers(0, CONTEXTS - 1))
    def starts(self, data: st.DataObject, parent: int) -> None:
        """One of the tasks starts another: that has its context, but is in none of its blocks."""
        child = data.draw(st.sampled_from([task for task in range(CONTEXTS) if not self.blocks[task]]))
        self.contexts[child] = self.contexts[parent].run(copy_context)

    @rule(seconds=st.sampled_from([0.0, 0.4, 1.1]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 1))
    def is_reset(self, which: int) -> None:
        self.breakers[which].reset()
        self.models[which].reset()

    @invariant()
    def both_know_the_same(self) -> None:
        for breaker, model in zip(self.breakers, self.models, strict=True):
            assert breaker.state is model.state
            assert breaker.metrics() == model.metrics()
            assert breaker.retry_after() == model.retry_after()


TestBlocks = Blocks.TestCase
TestBlocks.settings = settings(max_examples=300, stateful_step_count=40)
