import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from tai_grpc import CallError
from tai_grpc.cli.demo.checks import News, Receipts, StepFailedError, Watch, expect, refused
from tai_grpc.tai import Receipt


def test_what_is_as_expected_passes_and_anything_else_says_both() -> None:
    expect("the answer", 42, 42)
    with pytest.raises(StepFailedError, match=r"^the answer: expected 42, saw 41$"):
        expect("the answer", 42, 41)


async def test_waiting_ends_when_it_is_true() -> None:
    news, seen = News(), list[int]()
    waiting = asyncio.create_task(news.until(lambda: len(seen) == 2, "two", lambda: seen))
    for number in (1, 2):
        assert not waiting.done()
        seen.append(number)
        news.tell()
        await asyncio.sleep(0)
    await waiting


async def test_waiting_in_vain_says_what_was_seen_instead() -> None:
    with pytest.raises(StepFailedError, match=r"^two: expected within 0\.01 s, saw \[1\]$"):
        await News().until(lambda: False, "two", lambda: [1], seconds=0.01)


async def _numbers(failure: Exception | None = None) -> AsyncIterator[int]:
    yield 1
    yield 2
    if failure is not None:
        raise failure


async def test_a_watch_keeps_what_its_stream_brings() -> None:
    async with Watch(_numbers()) as watch:
        await watch.until(lambda: len(watch.items) == 2, "two", lambda: watch.items)
    assert watch.items == [1, 2]


async def test_a_watch_raises_the_failure_of_its_stream() -> None:
    failure = CallError(grpc.StatusCode.UNAVAILABLE, "gone", method="m", endpoint="e", attempts=1)
    with pytest.raises(CallError, match="gone"):
        async with Watch(_numbers(failure)) as watch:
            await watch.until(lambda: False, "three", lambda: watch.items)


async def test_a_stream_that_ends_too_early_is_a_failed_step() -> None:
    async with Watch(_numbers()) as watch:
        with pytest.raises(StepFailedError, match=r"three: expected from a stream that ended, saw \[1, 2\]"):
            await watch.until(lambda: len(watch.items) == 3, "three", lambda: watch.items)


def _receipt(**changes: object) -> Receipt:
    fields = {"id": "r", "operation": "tai.v1.A/B", "subject_id": "s", "revision": 1, "digest": "0" * 64}
    return Receipt(**{**fields, **changes})  # type: ignore[arg-type]  # the fields' types differ


def test_good_receipts_are_counted() -> None:
    receipts = Receipts()
    receipts.take(_receipt(), "A/B", "s")
    assert receipts.count == 1


@pytest.mark.parametrize(
    "changes",
    [{"operation": "tai.v1.A/C"}, {"subject_id": "t"}, {"id": ""}, {"revision": 0}, {"digest": "0"}],
)
def test_a_receipt_of_something_else_is_a_failed_step(changes: dict[str, object]) -> None:
    receipts = Receipts()
    with pytest.raises(StepFailedError, match="receipt"):
        receipts.take(_receipt(**changes), "A/B", "s")
    assert receipts.count == 0


async def _call(code: grpc.StatusCode | None) -> str:
    if code is not None:
        raise CallError(code, "no", method="m", endpoint="e", attempts=1)
    return "yes"


async def test_a_call_that_must_fail_must_fail_in_that_way() -> None:
    await refused("it", grpc.StatusCode.ABORTED, _call(grpc.StatusCode.ABORTED))
    with pytest.raises(StepFailedError, match=r"^it: expected ABORTED, saw NOT_FOUND$"):
        await refused("it", grpc.StatusCode.ABORTED, _call(grpc.StatusCode.NOT_FOUND))
    with pytest.raises(StepFailedError, match=r"^it: expected ABORTED, saw the answer yes$"):
        await refused("it", grpc.StatusCode.ABORTED, _call(None))
