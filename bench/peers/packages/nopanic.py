import nopanic

from bench.peers.breakers import breaker_calls
from bench.peers.subjects import FAILURES, HALF_OPEN_CALLS, RATE, Peer, call


def breaker(recovery: float) -> nopanic.CircuitBreaker:
    return nopanic.CircuitBreaker(
        failure_threshold=1.0,
        min_calls=FAILURES,
        reset_timeout=recovery,
        half_open_max_calls=HALF_OPEN_CALLS,
    )


def peer() -> Peer:
    keyed = nopanic.keyed(lambda key: nopanic.rate_limit(RATE), key=lambda key: key)
    return Peer(
        "nopanic",
        {
            **breaker_calls(breaker),
            "take": call("with limit.guard(): pass", limit=nopanic.rate_limit(RATE)),
            "take_keyed": call("with limits.get('client-7').guard(): pass", limits=keyed),
            "take_async": call("async with limit.guard(): pass", limit=nopanic.rate_limit(RATE)),
            "enter": call("with bulkhead.guard(): pass", bulkhead=nopanic.bulkhead(10)),
            "count": call("budget.deposit()", budget=nopanic.RetryBudget()),
            "backoff": call("next(waits)", waits=iter(nopanic.backoff.full_jitter())),
        },
        breaker,
    )
