import tenacity

from bench.peers.subjects import Peer, call


def peer() -> Peer:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    wait = tenacity.wait_random_exponential(multiplier=0.1, max=10.0)
    return Peer("tenacity", {"backoff": call("wait(state)", wait=wait, state=state)})
