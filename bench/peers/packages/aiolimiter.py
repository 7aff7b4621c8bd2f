import aiolimiter

from bench.peers.subjects import RATE, Peer, call


def peer() -> Peer:
    limiter = aiolimiter.AsyncLimiter(RATE, 1.0)
    return Peer("aiolimiter", {"take_async": call("await limiter.acquire()", limiter=limiter)})
