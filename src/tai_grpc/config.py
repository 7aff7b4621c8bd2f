"""Every setting, in frozen dataclasses that are checked when they are made. Durations are float seconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from tai_grpc.errors import ConfigError

if TYPE_CHECKING:
    from grpc import StatusCode

# All but those that say the same call would fail again, and CANCELLED, which the caller asked for.
_TRANSIENT_CODES: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_METHOD: Final = re.compile(r"[^\s/]+/[^\s/]+")


def check_int(name: str, value: object, low: int, high: int) -> int:
    """Return `value` when it is an int within `low`..`high`.

    Raises:
        ConfigError: naming the field and the range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(name, value, f"an int from {low} to {high}")
    return value


def check_float(name: str, value: object, low: float, high: float, *, above: bool = False) -> float:
    """Return `value` as a float when it is a finite number within `low`..`high` (`above`: not `low` itself).

    Raises:
        ConfigError: naming the field and the range.
    """
    accepted = f"a number {'above' if above else 'from'} {low:g} {'and up ' if above else ''}to {high:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(name, value, accepted)
    if not low <= value <= high or (above and value == low):
        raise ConfigError(name, value, accepted)
    return float(value)


def check_member(name: str, value: object, members: type[Enum]) -> None:
    """Let `value` pass when it is one of `members`.

    Raises:
        ConfigError: naming the field and the members.
    """
    if not isinstance(value, members):
        raise ConfigError(name, value, f"one of {', '.join(map(str, members))}")


def check_type(name: str, value: object, kind: type) -> None:
    """Let `value` pass when it is a `kind`.

    Raises:
        ConfigError: naming the field and the type.
    """
    if not isinstance(value, kind):
        raise ConfigError(name, value, f"a {kind.__name__}")


def check_address(name: str, value: object) -> str:
    """Return `value` when it is HOST:PORT, [IPV6]:PORT or unix:PATH.

    Raises:
        ConfigError: naming the field and the accepted forms.
    """
    accepted = "HOST:PORT (port 0 to 65535), [IPV6]:PORT or unix:PATH"
    if not isinstance(value, str):
        raise ConfigError(name, value, accepted)
    if value.startswith("unix:") and len(value) > len("unix:"):
        return value
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match[1]) > 65535:
        raise ConfigError(name, value, accepted)
    return value


Transport = Literal["native", "grpcio"]


def check_transport(value: object) -> None:
    """Let `value` pass when it is the name of a transport, or None.

    Raises:
        ConfigError: naming the field and the names.
    """
    if value not in ("native", "grpcio", None):
        raise ConfigError("transport", value, "'native', 'grpcio' or None")


MAX_SECONDS: Final = 86_400.0 * 7
"""The longest duration that any setting accepts: a week."""

MAX_CONCURRENCY: Final = 100_000
"""The most calls of a load that are under way at a time."""
MAX_CONNECTIONS: Final = 10_000
"""The most connections of a load."""
MAX_RATE: Final = 10_000_000.0
"""The most calls a second of a load."""

MAX_CONCURRENT: Final = 1_000_000
"""The most calls that a limit of concurrency may let run at once."""

MAX_WAITERS: Final = 1_000_000
"""The most tasks and threads that a limit may let wait for their turn."""


class LoadBalancingStrategy(Enum):
    """How the next endpoint is picked; each honours the endpoints' weights.

    ROUND_ROBIN: in turn. LEAST_LOADED: who has the fewest calls in flight for its weight, equals in turn.
    RANDOM. POWER_OF_TWO: the less loaded of two at random (Mitzenmacher 2001). PEAK_EWMA: of two at random,
    the one with the lower product of latency and calls in flight; the latency goes up at once and comes down
    slowly (Finagle).
    """

    ROUND_ROBIN = "round_robin"
    LEAST_LOADED = "least_loaded"
    RANDOM = "random"
    POWER_OF_TWO = "power_of_two"
    PEAK_EWMA = "peak_ewma"


@dataclass(frozen=True, slots=True)
class SuccessRateEjection:
    """Eject who succeeds less often than the others: below mean - `stdev_factor` (0 to 100) * deviation.

    Judged are endpoints with at least `request_volume` calls (1..1,000,000) in the interval, when there are
    at least `minimum_hosts` (1..65,536) of them.
    """

    stdev_factor: float = 1.9
    minimum_hosts: int = 5
    request_volume: int = 100

    def __post_init__(self) -> None:
        check_float("stdev_factor", self.stdev_factor, 0.0, 100.0)
        check_int("minimum_hosts", self.minimum_hosts, 1, 65_536)
        check_int("request_volume", self.request_volume, 1, 1_000_000)


@dataclass(frozen=True, slots=True)
class FailurePercentageEjection:
    """Eject who fails more than `threshold` percent (0 to 100) of its calls.

    Judged are endpoints with at least `request_volume` calls (1..1,000,000) in the interval, when there are
    at least `minimum_hosts` (1..65,536) of them.
    """

    threshold: float = 85.0
    minimum_hosts: int = 5
    request_volume: int = 50

    def __post_init__(self) -> None:
        check_float("threshold", self.threshold, 0.0, 100.0)
        check_int("minimum_hosts", self.minimum_hosts, 1, 65_536)
        check_int("request_volume", self.request_volume, 1, 1_000_000)


@dataclass(frozen=True, slots=True)
class OutlierConfig:
    """When a balancer ejects endpoints that do worse than the others, and for how long (gRFC A50).

    Every `interval` seconds (0.1 to a week) both algorithms judge the calls of that interval; None turns one
    off. At most `max_ejection_percent` (1..100) of the endpoints are ejected, but one always may be. An
    ejection lasts `base_ejection_time` times how often the endpoint was ejected, less one for each interval
    in which it was not, and at most `max_ejection_time` (seconds, 0.1 to a week).
    """

    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejection_percent: int = 10
    success_rate: SuccessRateEjection | None = field(default_factory=SuccessRateEjection)
    failure_percentage: FailurePercentageEjection | None = field(default_factory=FailurePercentageEjection)

    def __post_init__(self) -> None:
        check_float("interval", self.interval, 0.1, MAX_SECONDS)
        check_float("base_ejection_time", self.base_ejection_time, 0.1, MAX_SECONDS)
        check_float("max_ejection_time", self.max_ejection_time, 0.1, MAX_SECONDS)
        if self.max_ejection_time < self.base_ejection_time:
            accepted = f"at least base_ejection_time ({self.base_ejection_time:g})"
            raise ConfigError("max_ejection_time", self.max_ejection_time, accepted)
        check_int("max_ejection_percent", self.max_ejection_percent, 1, 100)
        if self.success_rate is not None:
            check_type("success_rate", self.success_rate, SuccessRateEjection)
        if self.failure_percentage is not None:
            check_type("failure_percentage", self.failure_percentage, FailurePercentageEjection)


@dataclass(frozen=True, slots=True)
class SlowStartConfig:
    """How the weight of a new or readmitted endpoint grows over `window` seconds (0.1 to a week).

    It is weight * max(`min_weight_percent` / 100, (age / window) ^ (1 / `aggression`)): `aggression` (0.1 to
    10) above 1 grows fast at first. `min_weight_percent` is above 0, to 100. (Envoy's formula and defaults.)
    """

    window: float = 30.0
    min_weight_percent: float = 10.0
    aggression: float = 1.0

    def __post_init__(self) -> None:
        check_float("window", self.window, 0.1, MAX_SECONDS)
        check_float("min_weight_percent", self.min_weight_percent, 0.0, 100.0, above=True)
        check_float("aggression", self.aggression, 0.1, 10.0)


class Jitter(Enum):
    """How a backoff is spread, so that clients that failed together do not retry together.

    Sources: gRFC A6 (A6: times 0.8 to 1.2); "Exponential Backoff And Jitter", AWS Architecture Blog
    (FULL: 0 to v; EQUAL: v/2 to v; DECORRELATED: min(cap, base to 3 times the previous)).
    """

    NONE = "none"
    A6 = "a6"
    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"


class Outcome(IntEnum):
    """What a call says of its target. IGNORED: nothing, as when the caller gave it up."""

    SUCCESS = 0
    FAILURE = 1
    IGNORED = 2


CODE_OUTCOMES: Final[Mapping[str, Outcome]] = MappingProxyType(
    {
        "OK": Outcome.SUCCESS,
        "CANCELLED": Outcome.IGNORED,
        "UNKNOWN": Outcome.FAILURE,
        "INVALID_ARGUMENT": Outcome.SUCCESS,
        "DEADLINE_EXCEEDED": Outcome.FAILURE,
        "NOT_FOUND": Outcome.SUCCESS,
        "ALREADY_EXISTS": Outcome.SUCCESS,
        "PERMISSION_DENIED": Outcome.SUCCESS,
        "RESOURCE_EXHAUSTED": Outcome.FAILURE,
        "FAILED_PRECONDITION": Outcome.SUCCESS,
        "ABORTED": Outcome.SUCCESS,
        "OUT_OF_RANGE": Outcome.SUCCESS,
        "UNIMPLEMENTED": Outcome.SUCCESS,
        "INTERNAL": Outcome.FAILURE,
        "UNAVAILABLE": Outcome.FAILURE,
        "DATA_LOSS": Outcome.FAILURE,
        "UNAUTHENTICATED": Outcome.SUCCESS,
    }
)
"""What each gRPC code says of the endpoint: many are answers of a healthy server, and CANCELLED is the
caller's own doing."""


class Window(Enum):
    """Which calls a circuit breaker judges: the failures in a row, or a rate of the last calls or seconds."""

    CONSECUTIVE = "consecutive"
    COUNT = "count"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class CircuitBreakerConfig:
    """When a breaker opens, and how it closes again.

    It opens for `open_timeout` seconds (0.001 to a week); then at most `half_open_max_calls` calls (1..255)
    probe: when `success_threshold` of them (None: all) succeed it closes, when one fails it opens again.

    What opens it depends on the `window`:

    - CONSECUTIVE: `failure_threshold` failures in a row (1..65535).
    - COUNT: of the last `window_size` calls (1..10,000), at least `failure_rate_threshold` (above 0, to 1)
      failed or at least `slow_call_rate_threshold` (likewise) were slow; judged once `minimum_calls` are
      known (1..`window_size`; None: 100 or, when that is less, `window_size`).
    - TIME: the same of the calls of the last `window_size` seconds (1..3600), which are known to a tenth;
      `minimum_calls` may be up to 1,000,000 (None: 100).

    A call is slow when it takes longer than `slow_call_duration` seconds (1e-6 to a week; None: none is).
    Without a rate, so in CONSECUTIVE mode and among the probes, a slow call counts as a failure.

    `outcome_of` says what an exception tells of the target (None: see `CircuitBreaker`).
    """

    failure_threshold: int = 5
    open_timeout: float = 30.0
    half_open_max_calls: int = 3
    window: Window = Window.CONSECUTIVE
    window_size: int = 100
    minimum_calls: int | None = None
    failure_rate_threshold: float = 0.5
    slow_call_duration: float | None = None
    slow_call_rate_threshold: float = 1.0
    success_threshold: int | None = None
    outcome_of: Callable[[BaseException], Outcome] | None = None

    def __post_init__(self) -> None:
        check_int("failure_threshold", self.failure_threshold, 1, 65535)
        check_float("open_timeout", self.open_timeout, 0.001, MAX_SECONDS)
        check_int("half_open_max_calls", self.half_open_max_calls, 1, 255)
        check_member("window", self.window, Window)
        timed = self.window is Window.TIME
        check_int("window_size", self.window_size, 1, 3600 if timed else 10_000)
        if self.minimum_calls is not None:
            check_int("minimum_calls", self.minimum_calls, 1, 1_000_000 if timed else self.window_size)
        check_float("failure_rate_threshold", self.failure_rate_threshold, 0.0, 1.0, above=True)
        if self.slow_call_duration is not None:
            check_float("slow_call_duration", self.slow_call_duration, 1e-6, MAX_SECONDS)
        check_float("slow_call_rate_threshold", self.slow_call_rate_threshold, 0.0, 1.0, above=True)
        if self.success_threshold is not None:
            check_int("success_threshold", self.success_threshold, 1, self.half_open_max_calls)
        if self.outcome_of is not None and not callable(self.outcome_of):
            raise ConfigError("outcome_of", self.outcome_of, "a function of an exception, or None")
        self._check_combinations()

    def _check_combinations(self) -> None:
        """Refuse what would have no effect beside the other settings."""
        if self.window is Window.CONSECUTIVE:
            rates = ("window_size", "minimum_calls", "failure_rate_threshold", "slow_call_rate_threshold")
            self._check_default(rates, "with window=Window.COUNT or Window.TIME")
        else:
            self._check_default(("failure_threshold",), "with window=Window.CONSECUTIVE")
        if self.slow_call_duration is None:
            self._check_default(("slow_call_rate_threshold",), "with a slow_call_duration")

    def _check_default(self, names: Collection[str], otherwise: str) -> None:
        for name in names:
            value, default = getattr(self, name), self.__dataclass_fields__[name].default
            if value != default:
                raise ConfigError(name, value, f"{default} (the default): it has an effect only {otherwise}")


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """How often and when a failed call is tried again.

    At most `max_retries` (0..100) after the first attempt, on `retryable_codes` only (names as in a gRPC
    service config, or `grpc.StatusCode` members), each after
    `initial_backoff * backoff_multiplier ** (n - 1)` seconds, at most `max_backoff`, spread by `jitter`.
    DEADLINE_EXCEEDED is retried only for methods in `idempotent_methods` ("pkg.Service/Method").
    """

    max_retries: int = 3
    initial_backoff: float = 0.1
    max_backoff: float = 10.0
    backoff_multiplier: float = 2.0
    jitter: Jitter = Jitter.A6
    retryable_codes: AbstractSet[str | StatusCode] = frozenset({"UNAVAILABLE"})
    idempotent_methods: AbstractSet[str] = frozenset()

    def __post_init__(self) -> None:
        check_int("max_retries", self.max_retries, 0, 100)
        check_float("initial_backoff", self.initial_backoff, 0.0, MAX_SECONDS, above=True)
        check_float("max_backoff", self.max_backoff, 0.0, MAX_SECONDS, above=True)
        check_float("backoff_multiplier", self.backoff_multiplier, 1.0, 100.0)
        check_member("jitter", self.jitter, Jitter)
        object.__setattr__(self, "retryable_codes", _code_names("retryable_codes", self.retryable_codes))
        object.__setattr__(self, "idempotent_methods", _methods(self.idempotent_methods))


def _code_names(field_name: str, codes: object) -> frozenset[str]:
    accepted = f"a set of codes that may be transient: {', '.join(sorted(_TRANSIENT_CODES))}"
    if isinstance(codes, str) or not isinstance(codes, Collection):
        raise ConfigError(field_name, codes, accepted)
    names: set[str] = set()
    for code in codes:
        name = getattr(code, "name", code)
        if not isinstance(name, str) or name not in _TRANSIENT_CODES:
            raise ConfigError(field_name, name, accepted)
        names.add(name)
    return frozenset(names)


def _methods(methods: object) -> frozenset[str]:
    accepted = 'a set of methods, each "pkg.Service/Method"'
    if isinstance(methods, str) or not isinstance(methods, Collection):
        raise ConfigError("idempotent_methods", methods, accepted)
    for method in methods:
        if not isinstance(method, str) or not _METHOD.fullmatch(method):
            raise ConfigError("idempotent_methods", method, accepted)
    return frozenset(methods)


@dataclass(frozen=True, slots=True)
class RetryBudgetConfig:
    """gRFC A6 throttling, so that retries cannot multiply the load of a failing server.

    A retryable failure takes one of `max_tokens` (1..1000), a success gives back `token_ratio` (0.001 to
    1000; three decimals count); there are no retries while the bucket is half empty or less.
    """

    max_tokens: int = 10
    token_ratio: float = 0.1

    def __post_init__(self) -> None:
        check_int("max_tokens", self.max_tokens, 1, 1000)
        check_float("token_ratio", self.token_ratio, 0.001, 1000.0)


@dataclass(frozen=True, slots=True)
class HedgingPolicy:
    """Copies of a call that are sent before it is known whether the first one fails (gRFC A6).

    A call that is not answered after `hedging_delay` seconds (0 to a week; 0: all at once) is sent again, and
    so on, up to `max_attempts` in all (2..5). The first good answer wins and the other copies are cancelled.
    One that fails with a code in `non_fatal_codes` (names, or `grpc.StatusCode` members) has the next one
    sent at once; any other code is the call's answer.

    For methods that may be executed more than once. A delay near the 95th percentile of the latency costs
    5 % more calls.
    """

    hedging_delay: float
    max_attempts: int = 2
    non_fatal_codes: AbstractSet[str | StatusCode] = frozenset({"UNAVAILABLE"})

    def __post_init__(self) -> None:
        check_float("hedging_delay", self.hedging_delay, 0.0, MAX_SECONDS)
        check_int("max_attempts", self.max_attempts, 2, 5)
        object.__setattr__(self, "non_fatal_codes", _code_names("non_fatal_codes", self.non_fatal_codes))


@dataclass(frozen=True, slots=True)
class AdaptiveLimiterConfig:
    """How a limit of concurrency follows the latency; the defaults are those of Netflix's Gradient2.

    It begins at `initial_limit` and stays within `min_limit`..`max_limit` (1..1,000,000). `smoothing` (above
    0, to 1) is the share of each new limit; `queue_size` (1..10,000) is by how much it tries to grow, so the
    calls that may queue at the target; a latency up to `tolerance` (1..10) times the long-term one is no
    sign of load; the long-term one is the exponential mean of `long_window` calls (10..1,000,000).
    """

    initial_limit: int = 20
    min_limit: int = 20
    max_limit: int = 200
    smoothing: float = 0.2
    queue_size: int = 4
    tolerance: float = 1.5
    long_window: int = 600

    def __post_init__(self) -> None:
        check_int("max_limit", self.max_limit, 1, MAX_CONCURRENT)
        check_int("min_limit", self.min_limit, 1, self.max_limit)
        check_int("initial_limit", self.initial_limit, self.min_limit, self.max_limit)
        check_float("smoothing", self.smoothing, 0.0, 1.0, above=True)
        check_int("queue_size", self.queue_size, 1, 10_000)
        check_float("tolerance", self.tolerance, 1.0, 10.0)
        check_int("long_window", self.long_window, 10, 1_000_000)


@dataclass(frozen=True, slots=True)
class TimeoutConfig:
    """Seconds a call may take: `default_timeout` if its caller names none, at most `max_timeout`."""

    default_timeout: float = 30.0
    max_timeout: float = 60.0

    def __post_init__(self) -> None:
        check_float("default_timeout", self.default_timeout, 0.0, MAX_SECONDS, above=True)
        check_float("max_timeout", self.max_timeout, 0.0, MAX_SECONDS, above=True)
        if self.default_timeout > self.max_timeout:
            accepted = f"at most max_timeout ({self.max_timeout:g})"
            raise ConfigError("default_timeout", self.default_timeout, accepted)


@dataclass(frozen=True, slots=True)
class GrpcClientConfig:
    """A client's endpoints and policies.

    `stream_timeout` is the default timeout of a server-streaming or bidirectional call: None (the default)
    lets a watch run for as long as it is wanted. `connect_backoff_max` bounds the wait, in seconds, between
    two attempts to reach an endpoint that is down. Messages up to `max_message_bytes` are received. While
    calls are in flight, an endpoint is pinged every `keepalive` seconds (1..7200) and is given up when it
    does not answer; a server that forbids this on a quiet stream (most allow a ping every 300 s) ends it.
    `transport` is "native" or "grpcio", None: the native one where it was built.
    """

    server_addresses: Sequence[str] = ("localhost:50051",)
    strategy: LoadBalancingStrategy = LoadBalancingStrategy.ROUND_ROBIN
    breaker: CircuitBreakerConfig = field(default_factory=CircuitBreakerConfig)
    retry: RetryConfig = field(default_factory=RetryConfig)
    retry_budget: RetryBudgetConfig = field(default_factory=RetryBudgetConfig)
    timeout: TimeoutConfig = field(default_factory=TimeoutConfig)
    stream_timeout: float | None = None
    connect_backoff_max: float = 5.0
    keepalive: float = 330.0
    max_message_bytes: int = 4 * 1024 * 1024
    transport: Transport | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "server_addresses", _addresses(self.server_addresses))
        check_member("strategy", self.strategy, LoadBalancingStrategy)
        check_type("breaker", self.breaker, CircuitBreakerConfig)
        check_type("retry", self.retry, RetryConfig)
        check_type("retry_budget", self.retry_budget, RetryBudgetConfig)
        check_type("timeout", self.timeout, TimeoutConfig)
        if self.stream_timeout is not None:
            check_float("stream_timeout", self.stream_timeout, 0.0, MAX_SECONDS, above=True)
        check_float("connect_backoff_max", self.connect_backoff_max, 0.1, 3600.0)
        check_float("keepalive", self.keepalive, 1.0, 7200.0)
        check_int("max_message_bytes", self.max_message_bytes, 1, 2**31 - 1)
        check_transport(self.transport)


def _addresses(addresses: object) -> tuple[str, ...]:
    if isinstance(addresses, str) or not isinstance(addresses, Collection) or not addresses:
        raise ConfigError("server_addresses", addresses, "a list of at least one address")
    checked = tuple(check_address("server_addresses", address) for address in addresses)
    if len(set(checked)) != len(checked):
        raise ConfigError("server_addresses", addresses, "each address once")
    return checked


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What a store keeps at most. Finished records make room for new ones; unfinished ones never do."""

    max_policies: int = 100_000
    max_actions: int = 1_000_000
    max_tasks: int = 1_000_000
    max_groups: int = 10_000
    history: int = 100_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            check_int(name, getattr(self, name), 1, 100_000_000)


@dataclass(frozen=True, slots=True)
class GrpcServerConfig:
    """A server's address and limits.

    Every call ends within `max_timeout` seconds (streams of a watch excepted: see `max_stream_timeout`).
    Calls in flight when the server is asked to stop have `grace` seconds to finish. At most
    `max_concurrent_calls` run at once; one more is refused with RESOURCE_EXHAUSTED. A watcher with more than
    `max_watch_backlog` updates unread is cut off. `transport` is "native" or "grpcio", None: the native one
    where it was built. Without `control_plane` only the servicers that were added are served, with
    grpc.health.v1 and reflection. With `reuse_port` other processes of this user may listen on the same port
    (SO_REUSEPORT), and the system deals out the connections; see `run_workers`, which needs no such setting.
    """

    listen: str = "127.0.0.1:50051"
    max_timeout: float = 60.0
    max_stream_timeout: float | None = None
    grace: float = 10.0
    max_concurrent_calls: int = 10_000
    max_message_bytes: int = 4 * 1024 * 1024
    max_watch_backlog: int = 1_000
    limits: StoreLimits = field(default_factory=StoreLimits)
    transport: Transport | None = None
    control_plane: bool = True
    reuse_port: bool = False

    def __post_init__(self) -> None:
        check_transport(self.transport)
        check_address("listen", self.listen)
        check_type("control_plane", self.control_plane, bool)
        check_type("reuse_port", self.reuse_port, bool)
        check_float("max_timeout", self.max_timeout, 0.0, MAX_SECONDS, above=True)
        if self.max_stream_timeout is not None:
            check_float("max_stream_timeout", self.max_stream_timeout, 0.0, MAX_SECONDS, above=True)
        check_float("grace", self.grace, 0.0, 3600.0)
        check_int("max_concurrent_calls", self.max_concurrent_calls, 1, 1_000_000)
        check_int("max_message_bytes", self.max_message_bytes, 1, 2**31 - 1)
        check_int("max_watch_backlog", self.max_watch_backlog, 1, 1_000_000)
        check_type("limits", self.limits, StoreLimits)
