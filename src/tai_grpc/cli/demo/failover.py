"""Three endpoints under load; one is killed and comes back. No call of the client fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from tai_grpc import (
    CallError,
    CircuitBreakerConfig,
    CircuitState,
    GrpcClient,
    RetryBudgetConfig,
    RetryConfig,
    TimeoutConfig,
)
from tai_grpc.cli.demo.checks import News, Receipts, StepFailedError, expect
from tai_grpc.cli.demo.display import Display
from tai_grpc.cli.demo.stage import Stage, StepResult, Transition
from tai_grpc.tai import GetPoliciesRequest, Policy

_WORKERS: Final = 12
_WARM_CALLS: Final = 1_000
"""Calls to each endpoint before one is killed."""
_MOVED_CALLS: Final = 2_000
"""Calls that must succeed while it is down."""
_BACK_CALLS: Final = 500
"""Calls to it once it is back."""
_BREAKER: Final = CircuitBreakerConfig(failure_threshold=5, open_timeout=1.0, half_open_max_calls=3)


class _Traffic:
    """Workers that call without pause, and count."""

    def __init__(self, client: GrpcClient, display: Display) -> None:
        self._client = client
        self._display = display
        self._next = 0
        self._stopped = False
        self.receipts = Receipts()
        self.news = News()
        self.completed = 0
        self.failures: list[str] = []

    async def work(self) -> None:
        """Call until `stop`: reads, and each fifth time a proposal."""
        while not self._stopped:
            number, self._next = self._next, self._next + 1
            try:
                await self._call(number)
            except CallError as error:
                self.failures.append(str(error))
            self.completed += 1
            if self.completed % 50 == 0:
                self._display.progress(self.completed, None, "calls")
            self.news.tell()

    def stop(self) -> None:
        """Let each worker finish its call."""
        self._stopped = True

    async def _call(self, number: int) -> None:
        if number % 5:
            await self._client.governor.get_policies(GetPoliciesRequest(page_size=1))
            return
        name = f"demo-load-{number}"
        receipt = await self._client.governor.propose_policy(Policy(id=name, policy_type="load"))
        self.receipts.take(receipt, "Governor/ProposePolicy", name)


class _Breakers:
    """Every transition of the client's breakers, by address."""

    def __init__(self, client: GrpcClient, addresses: Sequence[str], display: Display, news: News) -> None:
        self._display = display
        self._news = news
        self._begun = time.monotonic()
        self.transitions: dict[str, list[Transition]] = {address: [] for address in addresses}
        for address in addresses:
            client.breaker(address).on_transition(partial(self._note, address))

    def _note(self, address: str, old: CircuitState, new: CircuitState) -> None:
        at = time.monotonic() - self._begun
        self.transitions[address].append(Transition(at, old, new))
        self._display.say(f"  {at:6.2f} s  breaker of {address}: {state_name(old)} -> {state_name(new)}")
        self._news.tell()

    def reached(self, address: str, state: CircuitState) -> bool:
        """Whether the last transition led to `state`."""
        seen = self.transitions[address]
        return bool(seen) and seen[-1].new is state

    def told(self, address: str) -> list[str]:
        """The states that a breaker went through."""
        return ["closed", *(state_name(transition.new) for transition in self.transitions[address])]


def state_name(state: CircuitState) -> str:
    """As in "half-open"."""
    return state.name.lower().replace("_", "-")


async def run(stage: Stage) -> StepResult:
    addresses = tuple(server.address for server in stage.servers)
    client = stage.client(
        server_addresses=addresses,
        breaker=_BREAKER,
        retry=RetryConfig(max_retries=5, initial_backoff=0.02, max_backoff=0.5),
        # A killed server fails all calls that are in flight there at once: that is no retry storm.
        retry_budget=RetryBudgetConfig(max_tokens=10 * _WORKERS),
        timeout=TimeoutConfig(default_timeout=10.0, max_timeout=10.0),
        connect_backoff_max=0.5,
    )
    async with client:
        traffic = _Traffic(client, stage.display)
        breakers = _Breakers(client, addresses, stage.display, traffic.news)
        async with asyncio.TaskGroup() as group:
            for _ in range(_WORKERS):
                group.create_task(traffic.work())
            await _kill_and_restart(stage, client, traffic, breakers)
            traffic.stop()
        expect("calls that failed", [], traffic.failures)
        stats = client.stats()
        expect(
            "the client's own counts, made and failed", (traffic.completed, 0), (stats.calls, stats.failed)
        )
        stage.display.say(f"  {stats.calls} calls, none failed, {stats.retries} were retried")
        return StepResult("failover", stats, traffic.receipts.count, transitions=breakers.transitions)


async def _kill_and_restart(stage: Stage, client: GrpcClient, traffic: _Traffic, breakers: _Breakers) -> None:
    victim = stage.servers[1]
    until, display = traffic.news.until, stage.display

    def requests() -> dict[str, int]:
        return {entry.address: entry.total_requests for entry in client.endpoint_stats()}

    await until(
        lambda: min(requests().values()) >= _WARM_CALLS, f"{_WARM_CALLS} calls to each endpoint", requests
    )
    display.say(f"  kill -9 of the server on {victim.address}, process {victim.pid}")
    await victim.kill()
    await until(
        lambda: breakers.reached(victim.address, CircuitState.OPEN),
        f"an open breaker of {victim.address}",
        lambda: breakers.told(victim.address),
    )

    before, done = requests(), traffic.completed
    await until(
        lambda: traffic.completed >= done + _MOVED_CALLS,
        f"{_MOVED_CALLS} calls past the dead endpoint",
        lambda: traffic.completed - done,
    )
    _check_moved(before, requests(), victim.address, breakers)
    display.say(f"  {traffic.completed - done} calls went past it")

    await victim.start()
    display.say(f"  restarted as process {victim.pid}")
    await until(
        lambda: breakers.reached(victim.address, CircuitState.CLOSED),
        f"a closed breaker of {victim.address}",
        lambda: breakers.told(victim.address),
    )
    expect("how the breaker closed", ["half-open", "closed"], breakers.told(victim.address)[-2:])
    back = requests()[victim.address]
    await until(
        lambda: requests()[victim.address] >= back + _BACK_CALLS,
        f"{_BACK_CALLS} calls to the endpoint that is back",
        lambda: requests()[victim.address] - back,
    )
    for address in breakers.transitions:
        if address != victim.address:
            expect(f"the breaker of {address}", ["closed"], breakers.told(address))


def _check_moved(before: dict[str, int], after: dict[str, int], dead: str, breakers: _Breakers) -> None:
    probes = breakers.told(dead).count("half-open") * _BREAKER.half_open_max_calls
    for address, count in after.items():
        grown = count - before[address]
        if address == dead:
            # What was in flight or between pick and refusal when it opened, and the probes since.
            if grown > probes + _WORKERS:
                raise StepFailedError(f"calls to {dead}: expected probes only, saw {grown}")
        elif grown < _MOVED_CALLS // 4:
            raise StepFailedError(
                f"calls moved to {address}: expected {_MOVED_CALLS // 4} at least, saw {grown}"
            )
