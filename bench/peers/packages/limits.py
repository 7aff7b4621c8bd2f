import limits

from bench.peers.subjects import RATE, Peer, call


def peer() -> Peer:
    limiter = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    item = limits.RateLimitItemPerSecond(RATE)
    return Peer(
        "limits",
        {
            "take": call("limiter.hit(item)", limiter=limiter, item=item),
            "take_keyed": call("limiter.hit(item, 'client-7')", limiter=limiter, item=item),
        },
        note="limits has no token bucket: it counts hits of a fixed window, the least that it does",
    )
