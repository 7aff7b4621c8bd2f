"""The deadlines of one loop against a model that sorts them, and on the clocks of real loops."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from tai_grpc._ext.aio.timers import MAX_EXPIRED, Timer, Timers, timers_of
from tai_grpc._ext.primitives.clock import FrozenClock

Run = Callable[[Coroutine[Any, Any, Any]], Any]
SECOND = 10**9
MILLISECOND = 10**6


def monotonic_ns() -> int:
    """What the primitives' clock says."""
    with FrozenClock() as clock:
        return clock.now_ns


def nothing() -> None:
    pass


async def emptied(timers: Timers) -> None:
    """Return once nothing is armed: turn by turn, for that is what is looked at."""
    while len(timers):  # noqa: ASYNC110
        await asyncio.sleep(0)


class Loop(asyncio.SelectorEventLoop):
    """A real loop that counts the timers that are set in it and have neither run nor been cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.handles: list[asyncio.Handle] = []
        self.most = 0

    def call_later(self, delay: float, *callback: Any, **context: Any) -> Any:  # type: ignore[override]
        return self.note(super().call_later(delay, *callback, **context))

    def call_soon(self, *callback: Any, **context: Any) -> Any:  # type: ignore[override]
        handle = super().call_soon(*callback, **context)
        return self.note(handle) if self.of_timers(handle) else handle

    def note(self, handle: Any) -> Any:
        self.handles.append(handle)
        self.most = max(self.most, sum(not handle.cancelled() for handle in self.handles))
        return handle

    def of_timers(self, handle: asyncio.Handle) -> bool:
        return "Timers" in repr(handle)

    def fire(self) -> None:
        """Let what is set happen now, whatever the time."""
        waiting = [handle for handle in self.handles if not handle.cancelled()]
        assert len(waiting) == 1
        self.handles.clear()
        waiting[0]._run()
        waiting[0].cancel()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), st.integers(0, 11), st.integers(-5, 50)),
        st.tuples(st.just("disarm"), st.integers(0, 11), st.just(0)),
        st.tuples(st.just("pass"), st.just(0), st.integers(0, 20)),
        st.tuples(st.just("close"), st.just(0), st.just(0)),
    ),
    max_size=80,
)


@given(STEPS)
def test_it_does_what_a_sorted_list_does(steps: list[tuple[str, int, int]]) -> None:
    """Entries are armed, moved, disarmed and expire in the order of deadlines, with one timer at most."""
    expired: list[int] = []
    entries = [Timer(partial(expired.append, number)) for number in range(12)]
    model: dict[int, int] = {}
    loop = Loop()
    with FrozenClock() as clock:
        timers = Timers(loop)
        for step, number, amount in steps:
            if step == "arm":
                model[number] = clock.now_ns + amount * MILLISECOND
                timers.arm(entries[number], model[number])
                assert entries[number].deadline_ns == model[number]
            elif step == "disarm":
                timers.disarm(entries[number])
                model.pop(number, None)
            elif step == "close":
                timers.close()
                loop.handles = [handle for handle in loop.handles if not handle.cancelled()]
                assert loop.handles == []
                model.clear()
            else:
                clock.advance(amount / 1000)
                if any(not handle.cancelled() for handle in loop.handles):
                    loop.fire()
                due = sorted(model[which] for which in model if model[which] <= clock.now_ns)
                assert [model[which] for which in expired] == due
                for which in expired:
                    del model[which]
                expired.clear()
            assert len(timers) == len(model)
            assert {which for which in range(12) if entries[which].armed} == set(model)
            assert expired == []
            # Whatever is armed, the loop will wake for it.
            assert not model or any(not handle.cancelled() for handle in loop.handles)
        assert loop.most <= 1
        timers.close()
    loop.close()


def test_a_thousand_on_a_real_loop(run: Run) -> None:
    """Each at its time or later, never earlier, and in order."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        timers = timers_of(loop)
        start = monotonic_ns()
        fired: list[tuple[int, int]] = []
        entries = []

        def note(deadline: int) -> None:
            fired.append((deadline, monotonic_ns()))

        for number in range(1000):
            deadline = start + (number * 7919 % 1000) * 20_000
            entry = Timer(partial(note, deadline))
            timers.arm(entry, deadline)
            entries.append(entry)
        for entry in entries[::10]:
            timers.disarm(entry)
        ended = loop.create_future()
        last = Timer(lambda: ended.set_result(None))
        timers.arm(last, start + 21 * MILLISECOND)
        await ended
        assert len(timers) == 0
        assert len(fired) == 900
        assert all(now >= deadline for deadline, now in fired)
        assert fired == sorted(fired)

    run(main())


@pytest.mark.parametrize("delay_ns", [1, 400_000, 1_000_000, 1_600_000, 3_000_000])
def test_never_early(run: Run, delay_ns: int) -> None:
    """A loop may count in milliseconds, rounded either way, from when its turn began."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        timers = timers_of(loop)

        def note(fired: asyncio.Future[int]) -> None:
            fired.set_result(monotonic_ns())

        for _ in range(5):
            fired = loop.create_future()
            entry = Timer(partial(note, fired))
            timers.arm(entry, monotonic_ns() + delay_ns)
            assert await fired >= entry.deadline_ns

    run(main())


def test_a_loop_whose_clock_runs_otherwise() -> None:
    """Its timer fires when the deadline is far off still: it is set again, and nothing expires."""

    class Fast(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return super().time() * 50

    with asyncio.Runner(loop_factory=Fast) as runner:
        expired: list[int] = []

        async def main() -> None:
            timers = timers_of(asyncio.get_running_loop())
            entry = Timer(lambda: expired.append(monotonic_ns()))
            timers.arm(entry, monotonic_ns() + 20 * MILLISECOND)
            await emptied(timers)
            assert expired[0] >= entry.deadline_ns

        runner.run(main())


def test_many_that_are_due_at_once_leave_the_loop_its_turns(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        timers = timers_of(loop)
        fired: list[int] = []
        entries = [Timer(lambda: fired.append(1)) for _ in range(4 * MAX_EXPIRED)]
        for entry in entries:
            timers.arm(entry, 0)
        before, most = 0, 0
        while len(timers):
            await asyncio.sleep(0)
            most, before = max(most, len(fired) - before), len(fired)
        assert len(fired) == len(entries)
        assert most == MAX_EXPIRED

    run(main())


def test_what_expires_may_arm_disarm_and_close(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        timers = timers_of(loop)
        trace: list[str] = []
        now = monotonic_ns()
        again = Timer(lambda: trace.append("again"))
        unwanted = Timer(lambda: trace.append("unwanted"))

        def first() -> None:
            trace.append("first")
            timers.disarm(unwanted)
            timers.arm(again, now)

        def last() -> None:
            trace.append("last")
            timers.close()

        entries = [Timer(first), Timer(last), Timer(lambda: trace.append("never"))]
        timers.arm(unwanted, now - 1)
        for place, entry in enumerate(entries):
            timers.arm(entry, now - 2 if place == 0 else now + place)
        await emptied(timers)
        assert trace == ["first", "again", "last"]
        assert not any(entry.armed for entry in (*entries, unwanted, again))

    run(main())


def test_an_error_is_reported_and_the_others_expire(run: Run, reports: list[dict[str, Any]]) -> None:
    error = ValueError("late")
    fired: list[str] = []

    def fails() -> None:
        raise error

    async def main() -> None:
        timers = timers_of(asyncio.get_running_loop())
        entries = [Timer(fails), Timer(lambda: fired.append("other"))]
        for place, entry in enumerate(entries):
            timers.arm(entry, place)
        await emptied(timers)

    run(main())
    assert [report["exception"] for report in reports] == [error]
    assert fired == ["other"]


def test_an_interrupt_ends_the_loop_and_the_others_still_expire(runner: asyncio.Runner) -> None:
    fired: list[str] = []

    def interrupts() -> None:
        raise KeyboardInterrupt

    loop = runner.get_loop()
    timers = timers_of(loop)
    entries = [Timer(interrupts), Timer(lambda: fired.append("other"))]
    for place, entry in enumerate(entries):
        timers.arm(entry, place)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()

    async def main() -> None:
        await emptied(timers)

    loop.run_until_complete(main())
    assert fired == ["other"]


def test_a_closed_loop_arms_nothing(run: Run) -> None:
    loop = asyncio.new_event_loop()
    timers = timers_of(loop)
    loop.close()
    entry = Timer(nothing)
    with pytest.raises(RuntimeError, match="closed"):
        timers.arm(entry, monotonic_ns() + SECOND)
    assert not entry.armed
    assert len(timers) == 0


def test_one_loop_has_one_and_another_loop_another() -> None:
    one, other = asyncio.new_event_loop(), uvloop.new_event_loop()
    timers = timers_of(one)
    assert timers_of(one) is timers
    assert timers_of(other) is not timers
    entry = Timer(nothing)
    timers.arm(entry, monotonic_ns() + SECOND)
    with pytest.raises(RuntimeError, match="armed in the Timers of another loop"):
        timers_of(other).arm(entry, 0)
    timers_of(other).disarm(entry)
    assert entry.armed
    one.close()
    other.close()


def test_while_something_is_armed_the_loop_keeps_them() -> None:
    loop = asyncio.new_event_loop()
    timers_of(loop).arm(Timer(nothing), monotonic_ns() + SECOND)
    gc.collect()
    assert len(timers_of(loop)) == 1
    loop.close()


def test_no_loop_is_kept_by_what_is_armed_in_it() -> None:
    """Though the entries refer to the loop, as calls do."""

    def armed() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        loop = asyncio.new_event_loop()
        entry = Timer(loop.stop)
        timers = timers_of(loop)
        timers.arm(entry, monotonic_ns() + 3600 * SECOND)
        loop.close()
        return weakref.ref(loop), weakref.ref(timers)

    gone = armed()
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_a_loop_that_is_gone() -> None:
    loop = asyncio.new_event_loop()
    timers = timers_of(loop)
    loop.close()
    del loop
    gc.collect()
    with pytest.raises(RuntimeError, match="the event loop of these Timers is gone"):
        timers.arm(Timer(nothing), 0)


@pytest.mark.parametrize("deadline", [-(2**63), -1, 2**63 - 1])
def test_any_deadline(run: Run, deadline: int) -> None:
    async def main() -> None:
        timers = timers_of(asyncio.get_running_loop())
        entry = Timer(nothing)
        timers.arm(entry, deadline)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert entry.armed == (deadline > 0)
        timers.close()

    run(main())


def test_what_is_no_entry() -> None:
    loop = asyncio.new_event_loop()
    with pytest.raises(TypeError):
        timers_of(loop).arm(None, 0)  # type: ignore[arg-type]
    loop.close()
