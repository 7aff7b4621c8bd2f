"""That a call which is measured as refused is refused."""

from __future__ import annotations

from bench.peers.breakers import breaker_calls
from bench.peers.ours import breaker
from bench.peers.subjects import Call, Function


def run(call: Call, times: int) -> None:
    for _ in range(times):
        exec(call.statement, dict(call.names))


def test_an_open_breaker_that_lets_no_call_in_is_measured() -> None:
    refuse = breaker_calls(breaker)["refuse"]
    run(refuse, 3)
    assert refuse.holds()


def test_one_that_lets_a_call_in_is_found_out() -> None:
    def none(recovery: float) -> object:
        def guard(function: Function) -> Function:
            return function

        return guard

    refuse = breaker_calls(none)["refuse"]  # type: ignore[arg-type]
    run(refuse, 1)
    assert not refuse.holds()
