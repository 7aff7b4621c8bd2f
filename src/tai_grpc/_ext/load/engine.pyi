from collections.abc import Iterable, Sequence
from typing import Self

from typing_extensions import disjoint_base

from tai_grpc._ext.load.source import Source
from tai_grpc._ext.load.tls import TlsContext
from tai_grpc._ext.primitives.histogram import LatencyHistogram

ERROR_KINDS: int

@disjoint_base
class Target:
    def __new__(
        cls,
        name: str,
        *,
        addresses: Iterable[tuple[int, str, int]],
        authority: str,
        tls: TlsContext | None = None,
        server_name: str = "",
        highest_ns: int = 60_000_000_000,
    ) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def latencies(self) -> LatencyHistogram: ...
    def statuses(self) -> list[int]: ...

@disjoint_base
class Engine:
    def __new__(
        cls,
        targets: Sequence[Target],
        source: Source,
        *,
        path: str,
        client_streaming: bool = False,
        server_streaming: bool = False,
        connections: int = 1,
        concurrency: int = 50,
        timeout_ns: int = 20_000_000_000,
        user_agent: str = "",
        stream_interval_ns: int = 0,
        stream_messages: int = -1,
        stream_duration_ns: int = -1,
        segments: Sequence[tuple[float | None, float, float]] | None = None,
        poisson: bool = False,
        seed: int = 0,
        first_arrival: float = 0.0,
        arrival_step: float = 1.0,
        closed: bool = False,
        end_waits: bool = True,
        max_message_bytes: int = 67_108_864,
    ) -> Self: ...
    def connect(self, timeout: float) -> None: ...
    def run(self, *, begin_ns: int, measure_ns: int, end_ns: int | None) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def errors(self) -> list[tuple[int, str | None, int]]: ...
    @property
    def send_lag(self) -> LatencyHistogram: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def abandoned(self) -> int: ...
    @property
    def missed(self) -> int: ...
    @property
    def reconnects(self) -> int: ...
    @property
    def sent_again(self) -> int: ...
    @property
    def stream_limit(self) -> int | None: ...
    @property
    def messages_sent(self) -> int: ...
    @property
    def messages_received(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def last_end_ns(self) -> int: ...
    @property
    def cpu_ns(self) -> int: ...
    @property
    def timed_out(self) -> bool: ...
