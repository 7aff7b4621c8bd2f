from hdrh.histogram import HdrHistogram

from bench.peers.latencies import latencies
from bench.peers.subjects import Peer, call


def peer() -> Peer:
    recorded = HdrHistogram(1, 60_000_000, 3)
    for value in latencies().tolist():
        recorded.record_value(value)
    return Peer(
        "hdrhistogram",
        {
            "record": call("histogram.record_value(12345)", histogram=HdrHistogram(1, 60_000_000, 3)),
            "percentile": call("histogram.get_value_at_percentile(99.9)", histogram=recorded),
        },
    )
