import throttled

from bench.peers.subjects import RATE, Peer, call


def peer() -> Peer:
    throttle = throttled.Throttled(using="token_bucket", quota=throttled.per_sec(RATE, burst=RATE))
    return Peer(
        "throttled-py",
        {
            "take": call("throttle.limit('all')", throttle=throttle),
            "take_keyed": call("throttle.limit('client-7')", throttle=throttle),
        },
    )
