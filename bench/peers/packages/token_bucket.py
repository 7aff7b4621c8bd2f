import token_bucket

from bench.peers.subjects import RATE, Peer, call


def peer() -> Peer:
    limiter = token_bucket.Limiter(RATE, RATE, token_bucket.MemoryStorage())
    return Peer(
        "token-bucket",
        {
            "take": call("limiter.consume('all')", limiter=limiter),
            "take_keyed": call("limiter.consume('client-7')", limiter=limiter),
        },
    )
