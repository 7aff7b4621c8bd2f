"""Retries, deadlines, traces and breakers, as the servers at the other end see them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from client.kinds import Context, Item, Kinds, KindsStub, failing, serve
from tai_grpc.client.grpc_client import GrpcClient
from tai_grpc.config import (
    CODE_OUTCOMES,
    CallOutcome,
    CircuitBreakerConfig,
    GrpcClientConfig,
    Jitter,
    RetryBudgetConfig,
    RetryConfig,
    TimeoutConfig,
)
from tai_grpc.errors import ConfigError, DeadlineError
from tai_grpc.observability.tracing import TraceContext, current_trace, trace_scope
from tai_grpc.resilience import CircuitState
from tai_grpc.resilience.timeout import current_deadline, deadline_scope
from tai_grpc.status import CallError

ONE = "kinds.v1.Kinds/One"
QUICK = RetryConfig(initial_backoff=0.001, max_backoff=0.002, jitter=Jitter.NONE)
PATIENT = CircuitBreakerConfig(failure_threshold=65_535)


def config(*addresses: str, **settings: Any) -> GrpcClientConfig:
    return GrpcClientConfig(**{"server_addresses": addresses, "retry": QUICK, "breaker": PATIENT, **settings})


async def status(call: Any) -> CallError:
    """Return the error that the call must end with."""
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


class TestRetry:
    async def test_a_transient_failure_is_retried_and_says_so_to_the_server(self) -> None:
        kinds = Kinds()
        kinds.one = failing(StatusCode.UNAVAILABLE, StatusCode.UNAVAILABLE, StatusCode.OK)
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            assert (await client.stub(KindsStub).One(Item(text="hello"))).text == "hello"
            assert [call.get("grpc-previous-rpc-attempts") for call in kinds.calls] == [None, "1", "2"]
            stats = client.stats()
        assert (stats.calls, stats.failed, stats.attempts, stats.retries) == (1, 0, 3, 2)

    @pytest.mark.parametrize("code", set(StatusCode) - {StatusCode.OK, StatusCode.UNAVAILABLE})
    async def test_any_other_code_is_final(self, code: StatusCode) -> None:
        kinds = Kinds()
        kinds.one = failing(code)
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            error = await status(client.stub(KindsStub).One(Item()))
        assert (error.code(), error.details(), len(kinds.calls)) == (code, "as the test wants it", 1)

    async def test_an_error_names_method_endpoint_and_attempts_and_keeps_the_trailers(self) -> None:
        kinds = Kinds()
        kinds.one = failing(StatusCode.UNAVAILABLE, trailers=(("why", "maintenance"),))
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            error = await status(client.stub(KindsStub).One(Item()))
        assert (error.method, error.endpoint, error.attempts) == (ONE, address, 4)
        assert ("why", "maintenance") in error.trailing_metadata()
        assert str(error) == f"{ONE} at {address}: UNAVAILABLE: as the test wants it (4 attempts)"

    async def test_headers_commit_the_call(self) -> None:
        kinds = Kinds()
        kinds.one = failing(StatusCode.UNAVAILABLE, headers=(("seen", "yes"),))
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            error = await status(client.stub(KindsStub).One(Item()))
        assert (error.attempts, len(kinds.calls)) == (1, 1)
        assert ("seen", "yes") in error.initial_metadata()

    @pytest.mark.parametrize("headers", [(), (("seen", "yes"),)])
    async def test_headers_commit_a_stream_even_when_they_are_empty(
        self, headers: tuple[tuple[str, str], ...]
    ) -> None:
        kinds = Kinds()
        go_on = asyncio.Event()

        async def split(_request: Any, context: Context) -> AsyncIterator[Any]:
            await context.send_initial_metadata(headers)
            await go_on.wait()
            await context.abort(StatusCode.UNAVAILABLE, "after the headers")
            yield

        kinds.split = split
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            call = client.stub(KindsStub).Split(Item())
            assert tuple(await call.initial_metadata()) == headers
            go_on.set()
            with pytest.raises(CallError, match="after the headers") as caught:
                await anext(call)
        assert (caught.value.attempts, len(kinds.calls)) == (1, 1)

    async def test_a_stream_is_retried_until_its_headers_come(self) -> None:
        kinds = Kinds()

        async def split(request: Any, context: Context) -> AsyncIterator[Any]:
            if len(kinds.calls) < 3:
                await context.abort(StatusCode.UNAVAILABLE, "not yet")
            yield request

        kinds.split = split
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            assert [item.text async for item in client.stub(KindsStub).Split(Item(text="a"))] == ["a"]
        assert len(kinds.calls) == 3

    async def test_a_message_commits_a_stream(self) -> None:
        """What was read is never delivered twice."""
        kinds = Kinds()

        async def split(request: Any, context: Context) -> AsyncIterator[Any]:
            yield request
            await context.abort(StatusCode.UNAVAILABLE, "half way")

        kinds.split = split
        read = []
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            with pytest.raises(CallError, match="half way"):
                async for item in client.stub(KindsStub).Split(Item(text="a")):
                    read.append(item.text)  # noqa: PERF401 - what was read before the error counts
        assert (read, len(kinds.calls)) == (["a"], 1)

    @pytest.mark.parametrize("value", ["-1", "soon"])
    async def test_the_server_can_forbid_a_retry(self, value: str) -> None:
        kinds = Kinds()
        kinds.one = failing(StatusCode.UNAVAILABLE, trailers=(("grpc-retry-pushback-ms", value),))
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            error = await status(client.stub(KindsStub).One(Item()))
        assert (error.attempts, len(kinds.calls)) == (1, 1)

    async def test_the_server_can_name_the_wait(self) -> None:
        """200 ms, where the client alone would wait for 2 at most."""
        kinds = Kinds()
        times: list[float] = []
        fail = failing(StatusCode.UNAVAILABLE, StatusCode.OK, trailers=(("grpc-retry-pushback-ms", "200"),))

        async def one(request: Any, context: Context) -> Any:
            times.append(time.monotonic())
            return await fail(request, context)

        kinds.one = one
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            await client.stub(KindsStub).One(Item())
        assert times[1] - times[0] >= 0.2

    async def test_the_budget_stops_a_storm_of_retries(self) -> None:
        """When every call fails, 1,000 of them make at most 1,100 attempts."""
        kinds = Kinds()
        kinds.one = failing(StatusCode.UNAVAILABLE)
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            stub = client.stub(KindsStub)
            for _ in range(10):
                calls = [stub.One(Item()) for _ in range(100)]
                assert {await call.code() for call in calls} == {StatusCode.UNAVAILABLE}
        assert 1_000 < len(kinds.calls) <= 1_100

    async def test_a_late_attempt_is_retried_for_an_idempotent_method(self) -> None:
        kinds = Kinds()
        kinds.one = failing(StatusCode.DEADLINE_EXCEEDED, StatusCode.OK)
        rules = RetryConfig(initial_backoff=0.001, idempotent_methods=frozenset({ONE}))
        async with serve(kinds) as address, GrpcClient(config(address, retry=rules)) as client:
            await client.stub(KindsStub).One(Item())
        assert len(kinds.calls) == 2

    async def test_requests_that_stream_are_not_sent_again(self) -> None:
        kinds = Kinds()

        async def words() -> AsyncIterator[Any]:
            yield Item(text="a")

        rules = RetryConfig(retryable_codes=frozenset({"RESOURCE_EXHAUSTED"}))
        async with (
            serve(kinds, options=(("grpc.max_receive_message_length", 0),)) as address,
            GrpcClient(config(address, retry=rules)) as client,
        ):
            error = await status(client.stub(KindsStub).Collect(words()))
        assert (error.code(), error.attempts, len(kinds.calls)) == (StatusCode.RESOURCE_EXHAUSTED, 1, 1)


class TestDeadline:
    async def test_it_spans_all_attempts(self) -> None:
        """Each attempt gets what the ones before it have left; a wait that is too long is not begun."""
        kinds = Kinds()
        left: list[float] = []
        fail = failing(StatusCode.UNAVAILABLE)

        async def one(request: Any, context: Context) -> Any:
            left.append(context.time_remaining())
            return await fail(request, context)

        kinds.one = one
        rules = RetryConfig(max_retries=100, initial_backoff=1.0, backoff_multiplier=1.0, jitter=Jitter.NONE)
        budget = RetryBudgetConfig(max_tokens=1000)
        async with (
            serve(kinds) as address,
            GrpcClient(config(address, retry=rules, retry_budget=budget)) as client,
        ):
            error = await status(client.stub(KindsStub).One(Item(), timeout=1.9))
        assert error.code() is StatusCode.UNAVAILABLE
        assert len(left) == 2
        assert left[0] - left[1] >= 0.95

    async def test_the_default_holds_and_the_maximum_cuts(self) -> None:
        kinds = Kinds()
        left: list[float] = []

        async def one(request: Any, context: Context) -> Any:
            left.append(context.time_remaining())
            return request

        kinds.one = one
        settings = TimeoutConfig(default_timeout=20.0, max_timeout=40.0)
        async with serve(kinds) as address, GrpcClient(config(address, timeout=settings)) as client:
            stub = client.stub(KindsStub)
            for timeout in (None, 3000.0, 10.0):
                await stub.One(Item(), timeout=timeout)
        # On the wire a timeout has four digits at most, rounded up.
        assert 10 < left[0] < 21
        assert 30 < left[1] < 41
        assert 5 < left[2] < 11

    async def test_it_ends_a_call_that_hangs(self) -> None:
        kinds = Kinds()

        async def one(_request: Any, _context: Context) -> Any:
            await asyncio.Event().wait()

        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            stub = client.stub(KindsStub)
            await stub.One(Item())  # connects
            kinds.one = one
            error = await status(stub.One(Item(), timeout=0.2))
            assert (error.code(), error.endpoint, error.attempts) == (
                StatusCode.DEADLINE_EXCEEDED,
                address,
                1,
            )
            assert client.endpoint_stats()[0].failures == 1

    async def test_a_handlers_calls_inherit_the_time_left_and_the_trace(self) -> None:
        """A handler with 5 s left calls on with a timeout of 20 s: the second server sees at most 5 s."""
        inner, outer = Kinds(), Kinds()
        left: list[float] = []
        seen: list[TraceContext | None] = []

        async def last(request: Any, context: Context) -> Any:
            left.append(context.time_remaining())
            seen.append(TraceContext.from_metadata(context.invocation_metadata() or ()))
            return request

        inner.one = last
        async with serve(inner) as inner_address, GrpcClient(config(inner_address)) as onward:

            async def calls_on(request: Any, context: Context) -> Any:
                deadline = time.monotonic() + context.time_remaining()
                trace = TraceContext.from_metadata(context.invocation_metadata() or ())
                seen.append(trace)
                with deadline_scope(deadline), trace_scope(trace):
                    return await onward.stub(KindsStub).One(request, timeout=20.0)

            outer.one = calls_on
            async with serve(outer) as address, GrpcClient(config(address)) as client:
                await client.stub(KindsStub).One(Item(), timeout=5.0)
                await client.stub(KindsStub).One(Item(), timeout=5.0)
        assert all(0 < time_left < 6 for time_left in left)
        first, below, other, _ = seen
        assert first is not None
        assert below is not None
        assert other is not None
        assert first.trace_id == below.trace_id
        assert first.span_id != below.span_id
        assert first.trace_id != other.trace_id
        assert (current_deadline(), current_trace()) == (None, None)

    async def test_no_call_leaves_a_handler_without_time(self) -> None:
        kinds = Kinds()
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            with deadline_scope(time.monotonic() - 1.0):
                error = await status(client.stub(KindsStub).One(Item()))
                with pytest.raises(CallError, match="deadline of the handler"):
                    await anext(client.stub(KindsStub).Split(Item()))
            assert client.stats().failed == 2
        assert (error.code(), error.attempts, error.endpoint) == (StatusCode.DEADLINE_EXCEEDED, 0, "")
        assert kinds.calls == []

    async def test_a_stream_lasts_unless_somebody_limits_it(self) -> None:
        """Not by default; by its own timeout, even past the maximum; by the handler it was opened in."""
        kinds = Kinds()
        left: list[float | None] = []

        async def split(request: Any, context: Context) -> AsyncIterator[Any]:
            remaining = context.time_remaining()
            left.append(remaining if remaining is not None and remaining < 1e6 else None)
            yield request

        kinds.split = split
        async with serve(kinds) as address:
            async with GrpcClient(config(address)) as client:
                stub = client.stub(KindsStub)
                await anext(stub.Split(Item()))
                await anext(stub.Split(Item(), timeout=600.0))
                with deadline_scope(time.monotonic() + 5.0):
                    await anext(stub.Split(Item()))
            async with GrpcClient(config(address, stream_timeout=100.0)) as client:
                await anext(client.stub(KindsStub).Split(Item()))
        assert left[0] is None
        assert [round((seconds or 0) / 100) for seconds in left[1:]] == [6, 0, 1]

    async def test_a_timeout_that_has_passed_is_a_deadline_that_has_passed(self) -> None:
        """Callers work out `deadline - now`: an attempt is not made, and no endpoint blamed."""
        kinds = Kinds()
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            stub = client.stub(KindsStub)
            for call in (stub.One, stub.Split, stub.Collect, stub.Chat):
                request = Item() if call in (stub.One, stub.Split) else [Item()]
                assert await call(request, timeout=-1.0).code() is StatusCode.DEADLINE_EXCEEDED
            error = await status(stub.One(Item(), timeout=-1e-9))
            assert (client.stats().failed, client.stats().attempts) == (5, 0)
        assert (error.code(), error.attempts, error.endpoint) == (StatusCode.DEADLINE_EXCEEDED, 0, "")
        assert kinds.calls == []

    async def test_a_timeout_may_be_as_long_as_its_caller_likes(self) -> None:
        async with serve(Kinds()) as address, GrpcClient(config(address)) as client:
            stub = client.stub(KindsStub)
            for timeout in (1e9, float("inf")):
                assert (await stub.One(Item(text="a"), timeout=timeout)).text == "a"
                assert (await anext(stub.Split(Item(text="a"), timeout=timeout))).text == "a"

    async def test_a_timeout_that_is_no_number_is_the_callers_mistake(self) -> None:
        async with serve(Kinds()) as address, GrpcClient(config(address)) as client:
            stub = client.stub(KindsStub)
            for call in (stub.One, stub.Split):
                with pytest.raises(ConfigError, match="timeout='5': expected a number of seconds"):
                    call(Item(), timeout="5")
            assert client.stats().calls == 0

    async def test_a_deadline_that_has_passed_is_an_error_of_both_families(self) -> None:
        kinds = Kinds()
        kinds.one = failing(StatusCode.DEADLINE_EXCEEDED)
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            for timeout in (-1.0, 20.0):  # here it was the client who noticed, there the server
                with pytest.raises(DeadlineError) as caught:
                    await client.stub(KindsStub).One(Item(), timeout=timeout)
                error: Any = caught.value
                assert isinstance(error, CallError)
                assert isinstance(error, grpc.RpcError)
                assert isinstance(error, TimeoutError)
                assert error.code() is StatusCode.DEADLINE_EXCEEDED
                assert f"{ONE} at " in str(error)


class TestMetadata:
    @pytest.mark.parametrize(
        ("metadata", "said"),
        [
            ({"key": "value"}, "expected .key, value. pairs, as a dict's items.. are: got str"),
            ((("Upper", "value"),), "key 'Upper' is not of lower-case letters"),
            ((("key", 5),), "metadata 'key': a value is a str"),
        ],
    )
    async def test_what_cannot_be_sent_is_refused_alike_on_each_transport(
        self, metadata: Any, said: str
    ) -> None:
        kinds = Kinds()
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            stub = client.stub(KindsStub)
            for call in (stub.One, stub.Split, stub.Collect, stub.Chat):
                with pytest.raises((TypeError, ValueError), match=said):
                    call(Item(), metadata=metadata)
            await stub.One(Item(), metadata={"key": "value"}.items())
        assert [call["key"] for call in kinds.calls] == ["value"]


class TestTrace:
    async def test_every_attempt_of_a_call_carries_one_span(self) -> None:
        kinds = Kinds()
        kinds.one = failing(StatusCode.UNAVAILABLE, StatusCode.OK)
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            await client.stub(KindsStub).One(Item())
            await client.stub(KindsStub).One(Item())
        spans = [call["traceparent"] for call in kinds.calls]
        assert spans[0] == spans[1] != spans[2]
        assert [str(call["x-trace-id"]) in str(call["traceparent"]) for call in kinds.calls] == [True] * 3

    async def test_the_callers_own_trace_is_kept(self) -> None:
        kinds = Kinds()
        own = TraceContext.new().to_metadata()
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            await client.stub(KindsStub).One(Item(), metadata=own)
            await client.stub(KindsStub).One(Item(), metadata=(("x-trace-id", "order-17"),))
        assert own[0] in kinds.calls[0].items()
        assert kinds.calls[1]["x-trace-id"] == "order-17"
        assert "traceparent" not in kinds.calls[1]


class TestBreaker:
    @pytest.mark.parametrize("code", set(StatusCode) - {StatusCode.OK})
    async def test_it_counts_what_speaks_against_the_endpoint_and_nothing_else(
        self, code: StatusCode
    ) -> None:
        kinds = Kinds()
        kinds.one = failing(code)
        rules = CircuitBreakerConfig(failure_threshold=1, open_timeout=60.0)
        async with serve(kinds) as address, GrpcClient(config(address, breaker=rules)) as client:
            await status(client.stub(KindsStub).One(Item()))
            failed = CODE_OUTCOMES[code.name] is CallOutcome.FAILURE
            assert client.breaker(address).state is (CircuitState.OPEN if failed else CircuitState.CLOSED)

    async def test_it_sees_attempts_not_calls(self) -> None:
        """One call of three attempts opens a breaker with the threshold 3."""
        kinds = Kinds()
        kinds.one = failing(StatusCode.UNAVAILABLE)
        rules = CircuitBreakerConfig(failure_threshold=3, open_timeout=60.0)
        async with serve(kinds) as address, GrpcClient(config(address, breaker=rules)) as client:
            await status(client.stub(KindsStub).One(Item()))
            assert client.breaker(address).state is CircuitState.OPEN
        assert len(kinds.calls) == 3

    async def test_when_all_are_open_the_call_fails_at_once_and_says_when_they_admit_one(self) -> None:
        kinds = Kinds()
        async with (
            serve(kinds) as first,
            serve(kinds) as second,
            GrpcClient(config(first, second)) as client,
        ):
            client.breaker(first).force_open()
            client.breaker(second).force_open()
            error = await status(client.stub(KindsStub).One(Item()))
            with pytest.raises(CallError, match="refuses calls"):
                await anext(client.stub(KindsStub).Split(Item()))
            assert (client.stats().failed, client.stats().retries) == (2, 0)
        assert (error.code(), error.endpoint, error.attempts) == (StatusCode.UNAVAILABLE, "", 0)
        assert f"{first} until it is reset, {second} until it is reset" in error.details()
        assert kinds.calls == []

    async def test_a_refusal_names_the_wait(self) -> None:
        kinds = Kinds()
        kinds.one = failing(StatusCode.INTERNAL)
        rules = CircuitBreakerConfig(failure_threshold=1, open_timeout=60.0)
        async with serve(kinds) as address, GrpcClient(config(address, breaker=rules)) as client:
            await status(client.stub(KindsStub).One(Item()))
            error = await status(client.stub(KindsStub).One(Item()))
        assert re.search(rf"{address} for (59|60)\.\d\d\d s", error.details())
        assert error.attempts == 0

    async def test_when_all_open_during_a_call_it_says_what_its_attempts_met(self) -> None:
        kinds = Kinds()
        kinds.one = failing(StatusCode.UNAVAILABLE, trailers=(("why", "maintenance"),))
        rules = CircuitBreakerConfig(failure_threshold=2, open_timeout=60.0)
        async with serve(kinds) as address, GrpcClient(config(address, breaker=rules)) as client:
            stub = client.stub(KindsStub)
            error = await status(stub.One(Item()))
        assert (error.code(), error.endpoint, error.attempts) == (StatusCode.UNAVAILABLE, address, 2)
        assert error.details().startswith(
            "as the test wants it; it is not tried again: every endpoint's circuit"
        )
        assert ("why", "maintenance") in error.trailing_metadata()

    async def test_a_call_object_has_the_trailers_of_the_attempt_that_was_the_last(self) -> None:
        """Of each: one that succeeds after a retry, and one that a breaker's refusal makes the last."""
        kinds = Kinds()
        kinds.one = failing(StatusCode.UNAVAILABLE, StatusCode.OK, trailers=(("why", "maintenance"),))
        rules = CircuitBreakerConfig(failure_threshold=2, open_timeout=60.0)
        async with serve(kinds) as address, GrpcClient(config(address, breaker=rules)) as client:
            call = client.stub(KindsStub).One(Item())
            await call
            assert "why" not in dict(await call.trailing_metadata())
            kinds.one = failing(StatusCode.UNAVAILABLE, trailers=(("why", "maintenance"),))
            call = client.stub(KindsStub).One(Item())
            assert await call.code() is StatusCode.UNAVAILABLE
            assert dict(await call.trailing_metadata())["why"] == "maintenance"

    async def test_a_status_that_is_the_callers_own_doing_says_nothing_of_the_endpoint(self) -> None:
        """Not even that it is well: a probe that ends so leaves the breaker half open."""
        kinds = Kinds()
        kinds.one = failing(StatusCode.INTERNAL, StatusCode.CANCELLED)
        rules = CircuitBreakerConfig(failure_threshold=1, open_timeout=0.01, half_open_max_calls=1)
        async with serve(kinds) as address, GrpcClient(config(address, breaker=rules)) as client:
            await status(client.stub(KindsStub).One(Item()))
            await asyncio.sleep(client.breaker(address).retry_after())
            await status(client.stub(KindsStub).One(Item()))
            assert client.breaker(address).state is CircuitState.HALF_OPEN

    @pytest.mark.parametrize("kind", ["Split", "Chat"])
    async def test_a_stream_that_runs_closes_a_half_open_breaker(self, kind: str) -> None:
        """The probe need not end to show that the endpoint is back."""
        kinds = Kinds()
        kinds.one = failing(StatusCode.INTERNAL)

        async def split(request: Any, _context: Context) -> AsyncIterator[Any]:
            yield request
            await asyncio.Event().wait()

        kinds.split = split
        rules = CircuitBreakerConfig(failure_threshold=1, open_timeout=0.01, half_open_max_calls=1)
        async with serve(kinds) as address, GrpcClient(config(address, breaker=rules)) as client:
            stub = client.stub(KindsStub)
            await status(stub.One(Item()))
            breaker = client.breaker(address)
            await asyncio.sleep(breaker.retry_after())
            if kind == "Split":
                stream = stub.Split(Item())
            else:
                stream = stub.Chat()
                await stream.write(Item())
            await stream.read()
            assert breaker.state is CircuitState.CLOSED
            assert client.endpoint_stats()[0].active_connections == 1
            stream.cancel()

    async def test_a_watch_that_ends_at_its_own_deadline_says_nothing_of_the_endpoint(self) -> None:
        kinds = Kinds()

        async def split(request: Any, _context: Context) -> AsyncIterator[Any]:
            yield request
            await asyncio.Event().wait()

        kinds.split = split
        async with serve(kinds) as address, GrpcClient(config(address)) as client:
            watch = client.stub(KindsStub).Split(Item(), timeout=2.0)
            await anext(watch)
            assert await watch.code() is StatusCode.DEADLINE_EXCEEDED
            stats = client.endpoint_stats()[0]
        assert (stats.failures, stats.active_connections) == (0, 0)
