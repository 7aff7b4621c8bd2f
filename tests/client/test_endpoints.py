"""Several endpoints: how calls are spread, and what a client does when one is lost and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from grpc import StatusCode

from client.kinds import Context, Item, Kinds, KindsStub, Process, failing, serve, until, unused_address
from tai_grpc.client.endpoints import Endpoints
from tai_grpc.client.grpc_client import GrpcClient
from tai_grpc.config import (
    CircuitBreakerConfig,
    FailurePercentageEjection,
    GrpcClientConfig,
    Jitter,
    LoadBalancingStrategy,
    OutlierConfig,
    RetryBudgetConfig,
    RetryConfig,
    SlowStartConfig,
)
from tai_grpc.errors import ConfigError
from tai_grpc.resilience import CircuitState
from tai_grpc.status import CallError
from tai_grpc.transport.grpcio import GrpcioTransport

NO_RETRIES = RetryConfig(max_retries=0)
QUICK = RetryConfig(initial_backoff=0.001, max_backoff=0.002, jitter=Jitter.NONE)


@asynccontextmanager
async def serving(count: int) -> AsyncIterator[tuple[list[Kinds], list[str]]]:
    async with AsyncExitStack() as stack:
        all_kinds = [Kinds() for _ in range(count)]
        yield all_kinds, [await stack.enter_async_context(serve(kinds)) for kinds in all_kinds]


async def test_calls_are_spread_evenly() -> None:
    async with serving(3) as (all_kinds, addresses):
        async with GrpcClient(GrpcClientConfig(server_addresses=addresses)) as client:
            for _ in range(30):
                await client.stub(KindsStub).One(Item())
            assert [stats.total_requests for stats in client.endpoint_stats()] == [10, 10, 10]
        assert [len(kinds.calls) for kinds in all_kinds] == [10, 10, 10]


async def test_weights_say_how_calls_are_shared() -> None:
    async with serving(2) as (all_kinds, addresses):
        config = GrpcClientConfig(server_addresses=addresses, weights={addresses[1]: 3})
        async with GrpcClient(config) as client:
            for _ in range(40):
                await client.stub(KindsStub).One(Item())
            assert [stats.weight for stats in client.endpoint_stats()] == [1, 3]
        assert [len(kinds.calls) for kinds in all_kinds] == [10, 30]


async def test_an_endpoint_that_does_worse_than_the_others_is_ejected_and_begins_anew_slowly() -> None:
    """Its calls fail now and then, never often enough in a row for its breaker. Once it is well, and back, it
    begins with a hundredth of its weight.
    """
    async with serving(3) as (all_kinds, addresses):
        bad = all_kinds[1]
        bad.one = failing(*[StatusCode.INTERNAL, StatusCode.OK] * 1_000)
        config = GrpcClientConfig(
            server_addresses=addresses,
            retry=NO_RETRIES,
            outlier=OutlierConfig(
                interval=0.1,
                base_ejection_time=0.1,
                max_ejection_percent=34,
                success_rate=None,
                failure_percentage=FailurePercentageEjection(
                    threshold=40, minimum_hosts=3, request_volume=10
                ),
            ),
            slow_start=SlowStartConfig(window=3600.0, min_weight_percent=1.0),
        )
        async with GrpcClient(config) as client:
            stub = client.stub(KindsStub)

            async def calls(count: int) -> None:
                for _ in range(count):
                    await stub.One(Item()).code()

            async with asyncio.timeout(20):
                while not client.endpoint_stats()[1].ejected:
                    await calls(1)
            assert client.endpoint_stats()[1].breaker_state is CircuitState.CLOSED
            taken_before = len(bad.calls)
            bad.one = None
            async with asyncio.timeout(20):
                while client.endpoint_stats()[1].ejected:
                    await calls(1)
            assert len(bad.calls) <= taken_before + 1
            before = [len(kinds.calls) for kinds in all_kinds]
            await calls(200)
            taken = [len(kinds.calls) - earlier for kinds, earlier in zip(all_kinds, before, strict=True)]
        assert taken[1] <= 10
        assert abs(taken[0] - taken[2]) <= 2


@pytest.mark.parametrize("strategy", LoadBalancingStrategy)
async def test_a_retry_goes_to_another_endpoint(strategy: LoadBalancingStrategy) -> None:
    """Also when the one that failed is the least loaded."""
    async with serving(3) as (all_kinds, addresses):
        all_kinds[0].one = failing(StatusCode.UNAVAILABLE)
        config = GrpcClientConfig(
            server_addresses=addresses,
            strategy=strategy,
            retry=RetryConfig(max_retries=1, initial_backoff=0.001),
            retry_budget=RetryBudgetConfig(max_tokens=1000),
            breaker=CircuitBreakerConfig(failure_threshold=65_535),
        )
        async with GrpcClient(config) as client:
            for _ in range(30):
                await client.stub(KindsStub).One(Item())
        assert len(all_kinds[0].calls) > 0


@pytest.mark.parametrize("strategy", LoadBalancingStrategy)
async def test_an_endpoint_that_cannot_be_reached_costs_no_retry(strategy: LoadBalancingStrategy) -> None:
    """What never left the client goes elsewhere, even where nothing may be retried, for each kind of call."""
    async with serving(2) as (_, addresses):
        config = GrpcClientConfig(
            server_addresses=[unused_address(), *addresses],
            strategy=strategy,
            retry=NO_RETRIES,
            breaker=CircuitBreakerConfig(failure_threshold=65_535),
        )
        async with GrpcClient(config) as client:
            stub = client.stub(KindsStub)
            for _ in range(6):
                assert (await stub.One(Item(text="a"))).text == "a"
                assert [item.text async for item in stub.Split(Item(text="a"))] == ["a"]
                assert (await stub.Collect([Item(text="a")])).text == "a"
                assert [item.text async for item in stub.Chat([Item(text="a")])] == ["A"]
            assert client.endpoint_stats()[0].failures > 0
            assert client.stats().failed == 0


async def test_when_none_can_be_reached_the_error_says_where_and_why() -> None:
    addresses = [unused_address(), unused_address()]
    async with GrpcClient(GrpcClientConfig(server_addresses=addresses, retry=NO_RETRIES)) as client:
        with pytest.raises(CallError, match="Connection refused") as caught:
            await client.stub(KindsStub).One(Item())
    assert caught.value.code() is StatusCode.UNAVAILABLE
    assert (caught.value.endpoint in addresses, caught.value.attempts) == (True, 2)


async def test_an_endpoint_whose_breaker_is_open_gets_no_calls() -> None:
    async with serving(2) as (all_kinds, addresses):
        async with GrpcClient(GrpcClientConfig(server_addresses=addresses)) as client:
            client.breaker(addresses[0]).force_open()
            for _ in range(10):
                await client.stub(KindsStub).One(Item())
        assert [len(kinds.calls) for kinds in all_kinds] == [0, 10]


async def test_a_retry_stays_where_it_is_when_the_others_breakers_refuse() -> None:
    """Looking for another endpoint gives back what it took: a half-open breaker keeps its permit."""
    config = GrpcClientConfig(
        server_addresses=("a:1", "b:1"),
        breaker=CircuitBreakerConfig(failure_threshold=1, open_timeout=0.001, half_open_max_calls=1),
    )
    endpoints = Endpoints(config, GrpcioTransport)
    endpoints.breaker("b:1").force_open()
    endpoints.release(endpoints.pick(()), False, 0)
    await asyncio.sleep(endpoints.breaker("a:1").retry_after())
    picked = endpoints.pick({"a:1"})
    assert picked.address == "a:1"
    endpoints.release(picked, True, 0)
    assert endpoints.breaker("a:1").state is CircuitState.CLOSED


async def test_an_address_that_is_not_the_clients_is_named() -> None:
    async with GrpcClient(GrpcClientConfig(server_addresses=("a:1",))) as client:
        with pytest.raises(ConfigError, match="b:1"):
            client.breaker("b:1")


async def test_a_killed_server_costs_no_call_and_is_used_again_when_it_is_back() -> None:
    """kill -9 under load: its breaker opens, traffic moves, and after a restart it half-opens and closes."""
    processes = [Process() for _ in range(3)]
    await asyncio.gather(*(process.start() for process in processes))
    lost = processes[1]
    config = GrpcClientConfig(
        server_addresses=[process.address for process in processes],
        breaker=CircuitBreakerConfig(failure_threshold=3, open_timeout=0.3, half_open_max_calls=2),
        retry_budget=RetryBudgetConfig(max_tokens=100),
    )
    transitions: list[CircuitState] = []
    try:
        async with GrpcClient(config) as client:
            breaker = client.breaker(lost.address)
            breaker.on_transition(lambda _old, new: transitions.append(new))
            stopping = False

            async def load() -> None:
                stub = client.stub(KindsStub)
                while not stopping:
                    await stub.One(Item(text="a"))

            workers = [asyncio.create_task(load()) for _ in range(8)]
            index = processes.index(lost)
            await until(lambda: client.endpoint_stats()[index].total_requests > 50)
            await lost.kill()
            await until(lambda: CircuitState.OPEN in transitions)
            # While it is away: probed again and again, and open in between.
            await until(lambda: transitions.count(CircuitState.OPEN) >= 3)
            await lost.start()
            await until(lambda: CircuitState.CLOSED in transitions)
            before = client.endpoint_stats()[index].total_requests
            await until(lambda: client.endpoint_stats()[index].total_requests > before + 50)
            stopping = True
            await asyncio.gather(*workers)
            stats = client.stats()
    finally:
        await asyncio.gather(*(process.kill() for process in processes))
    assert stats.failed == 0
    assert transitions[:2] == [CircuitState.OPEN, CircuitState.HALF_OPEN]
    assert transitions[-2:] == [CircuitState.HALF_OPEN, CircuitState.CLOSED]
    assert all(endpoint.active_connections == 0 for endpoint in stats.endpoints)


async def test_a_server_that_comes_back_is_found_by_the_first_probe() -> None:
    """However long the connection's own backoff has grown meanwhile: a breaker probes what is there now."""
    kinds = Kinds()
    async with serve(kinds) as address:
        pass
    config = GrpcClientConfig(
        server_addresses=(address,),
        retry=NO_RETRIES,
        breaker=CircuitBreakerConfig(failure_threshold=1, open_timeout=0.05, half_open_max_calls=1),
        connect_backoff_max=3600.0,
    )
    async with GrpcClient(config) as client:
        stub = client.stub(KindsStub)
        breaker = client.breaker(address)
        for _ in range(5):
            await asyncio.sleep(breaker.retry_after())
            with pytest.raises(CallError, match="Connection refused"):
                await stub.One(Item())
        async with serve(kinds, int(address.rpartition(":")[2])):
            await asyncio.sleep(breaker.retry_after())
            await stub.One(Item())
            assert breaker.state is CircuitState.CLOSED


async def test_a_breaker_may_be_asked_in_another_thread() -> None:
    """Its half-opening there still has the next attempt connect anew, in the client's own event loop."""
    kinds = Kinds()
    async with serve(kinds) as address:
        pass
    config = GrpcClientConfig(
        server_addresses=(address,),
        retry=NO_RETRIES,
        breaker=CircuitBreakerConfig(failure_threshold=1, open_timeout=0.05, half_open_max_calls=2),
        connect_backoff_max=3600.0,
    )
    async with GrpcClient(config) as client:
        breaker = client.breaker(address)
        with pytest.raises(CallError, match="Connection refused"):
            await client.stub(KindsStub).One(Item())
        async with serve(kinds, int(address.rpartition(":")[2])):
            await asyncio.sleep(breaker.retry_after())
            assert await asyncio.to_thread(breaker.is_call_allowed)
            assert breaker.state is CircuitState.HALF_OPEN
            await client.stub(KindsStub).One(Item())


async def test_a_stream_of_requests_is_not_touched_before_there_is_a_connection() -> None:
    async with serving(1) as (all_kinds, addresses):
        taken = 0

        async def words() -> AsyncIterator[Any]:
            nonlocal taken
            taken += 1
            yield Item(text="once")

        config = GrpcClientConfig(server_addresses=[unused_address(), *addresses], retry=QUICK)
        async with GrpcClient(config) as client:
            assert (await client.stub(KindsStub).Collect(words())).text == "once"
            assert client.stats().attempts == 2
        assert (taken, len(all_kinds[0].calls)) == (1, 1)


async def test_calls_that_run_are_told_from_calls_that_ended() -> None:
    began = asyncio.Event()
    kinds = Kinds()

    async def split(request: Any, _context: Context) -> AsyncIterator[Any]:
        yield request
        began.set()
        await asyncio.Event().wait()

    kinds.split = split
    async with (
        serve(kinds) as address,
        GrpcClient(GrpcClientConfig(server_addresses=(address,))) as client,
    ):
        watch = client.stub(KindsStub).Split(Item())
        await anext(watch)
        await began.wait()
        assert client.endpoint_stats()[0].active_connections == 1
        assert client.stats().calls == 0
        watch.cancel()
        await watch.code()
        assert client.endpoint_stats()[0].active_connections == 0
