"""Every setting of every config: its default, the ends of its range, and what is refused beyond them."""

from __future__ import annotations

import dataclasses
import math
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

import grpc
import pytest

from tai_grpc import config as configs
from tai_grpc.config import (
    AdaptiveLimiterConfig,
    CallOutcome,
    CircuitBreakerConfig,
    FailurePercentageEjection,
    GrpcClientConfig,
    GrpcServerConfig,
    HedgingPolicy,
    Jitter,
    LoadBalancingStrategy,
    OutlierConfig,
    RetryBudgetConfig,
    RetryConfig,
    SlowStartConfig,
    StoreLimits,
    SuccessRateEjection,
    TimeoutConfig,
    Window,
)
from tai_grpc.errors import ConfigError

WEEK = 604_800.0
TINY = 1e-9
HEDGING_DELAY = 0.5
"""It has no default: what the tests here give it when they are about another field."""
NOT_NUMBERS: tuple[Any, ...] = (True, False, "1", b"1", [1], object())


class Setting(NamedTuple):
    """What one field is by default, what it takes, what it refuses, and what the refusal must mention."""

    default: Any
    good: tuple[Any, ...]
    bad: tuple[Any, ...]
    mentions: tuple[str, ...]


TRANSPORT = Setting(
    None, ("native", "grpcio", None), ("", "NATIVE", "tcp", 1, True, ["native"]), ("'native'", "'grpcio'")
)


def whole(default: int | None, low: int, high: int, *, optional: bool = False) -> Setting:
    good: tuple[Any, ...] = (low, high)
    bad: tuple[Any, ...] = (low - 1, -1, high + 1, 10**400, float(low), math.nan, math.inf, *NOT_NUMBERS)
    good, bad = ((*good, None), bad) if optional else (good, (*bad, None))
    return Setting(default, good, bad, (str(low), str(high)))


def number(
    default: float | None, low: float, high: float, *, above: bool = False, optional: bool = False
) -> Setting:
    good: tuple[Any, ...] = (low + TINY if above else low, high, int(high))
    bad: tuple[Any, ...] = (
        -1,
        low - TINY,
        high * 1.001,
        10**400,
        math.nan,
        math.inf,
        -math.inf,
        *NOT_NUMBERS,
    )
    bad += (low,) if above else ()
    good, bad = ((*good, None), bad) if optional else (good, (*bad, None))
    return Setting(default, good, bad, (f"{low:g}", f"{high:g}"))


def member(default: Enum) -> Setting:
    kind = type(default)
    return Setting(default, tuple(kind), (default.value, default.name, 0, None), tuple(map(str, kind)))


def flag(*, default: bool) -> Setting:
    return Setting(default, (True, False), (0, 1, None, "True"), ("a bool",))


def nested(default: Any, *, optional: bool = False) -> Setting:
    kind = type(default)
    good: tuple[Any, ...] = (kind(),)
    bad: tuple[Any, ...] = (kind, 0, {}, object())
    good, bad = ((*good, None), bad) if optional else (good, (*bad, None))
    return Setting(default, good, bad, (kind.__name__,))


BAD_ADDRESSES: tuple[Any, ...] = (
    "",
    "localhost",
    "localhost:",
    ":50051",
    "localhost:65536",
    "localhost:-1",
    "localhost:http",
    "localhost:٨٠",
    "::1:50051",
    "[::1]",
    "http://localhost:50051",
    "local host:50051",
    "localhost:50051\n",
    "unix:",
    b"localhost:50051",
    50051,
    None,
)
ADDRESSES = ("localhost:0", "127.0.0.1:65535", "[::1]:50051", "unix:/run/tai.sock")
CODES = {
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
}

TRANSIENT_CODES = Setting(
    frozenset({"UNAVAILABLE"}),
    (frozenset(), frozenset(CODES), ["ABORTED"], {grpc.StatusCode.INTERNAL}),
    (
        "UNAVAILABLE",
        ["NOT_FOUND"],
        [grpc.StatusCode.CANCELLED],
        ["unavailable"],
        [14],
        [["ABORTED"]],
        14,
        None,
    ),
    tuple(CODES),
)

SETTINGS: dict[type[Any], dict[str, Setting]] = {
    SuccessRateEjection: {
        "stdev_factor": number(1.9, 0.0, 100.0),
        "minimum_hosts": whole(5, 1, 65_536),
        "request_volume": whole(100, 1, 1_000_000),
    },
    FailurePercentageEjection: {
        "threshold": number(85.0, 0.0, 100.0),
        "minimum_hosts": whole(5, 1, 65_536),
        "request_volume": whole(50, 1, 1_000_000),
    },
    OutlierConfig: {
        "interval": number(10.0, 0.1, WEEK),
        "base_ejection_time": number(30.0, 0.1, WEEK),
        "max_ejection_time": number(300.0, 0.1, WEEK),
        "max_ejection_percent": whole(10, 1, 100),
        "success_rate": nested(SuccessRateEjection(), optional=True),
        "failure_percentage": nested(FailurePercentageEjection(), optional=True),
    },
    SlowStartConfig: {
        "window": number(30.0, 0.1, WEEK),
        "min_weight_percent": number(10.0, 0.0, 100.0, above=True),
        "aggression": number(1.0, 0.1, 10.0),
    },
    CircuitBreakerConfig: {
        "failure_threshold": whole(5, 1, 65535),
        "open_timeout": number(30.0, 0.001, WEEK),
        "half_open_max_calls": whole(3, 1, 255),
        "window": member(Window.CONSECUTIVE),
        "window_size": whole(100, 1, 10_000),
        "minimum_calls": whole(None, 1, 10_000, optional=True),
        "failure_rate_threshold": number(0.5, 0.0, 1.0, above=True),
        "slow_call_duration": number(None, 1e-6, WEEK, optional=True),
        "slow_call_rate_threshold": number(1.0, 0.0, 1.0, above=True),
        "success_threshold": whole(None, 1, 255, optional=True),
        "outcome_of": Setting(None, (None, print), (5, "IGNORED", CallOutcome.IGNORED), ("a function",)),
    },
    RetryConfig: {
        "max_retries": whole(3, 0, 100),
        "initial_backoff": number(0.1, 0.0, WEEK, above=True),
        "max_backoff": number(10.0, 0.0, WEEK, above=True),
        "backoff_multiplier": number(2.0, 1.0, 100.0),
        "jitter": member(Jitter.A6),
        "retryable_codes": TRANSIENT_CODES,
        "idempotent_methods": Setting(
            frozenset(),
            (frozenset({"pkg.Service/Method"}), ["a.B/C", "a.B/D"]),
            ("pkg.Service/Method", ["/pkg.Service/Method"], ["Method"], ["a.B/"], [b"a.B/C"], [1], 1, None),
            ("pkg.Service/Method",),
        ),
    },
    RetryBudgetConfig: {
        "max_tokens": whole(10, 1, 1000),
        "token_ratio": number(0.1, 0.001, 1000.0),
    },
    HedgingPolicy: {
        "hedging_delay": number(HEDGING_DELAY, 0.0, WEEK),
        "max_attempts": whole(2, 2, 5),
        "non_fatal_codes": TRANSIENT_CODES,
    },
    AdaptiveLimiterConfig: {
        "initial_limit": whole(20, 1, 1_000_000),
        "min_limit": whole(20, 1, 1_000_000),
        "max_limit": whole(200, 1, 1_000_000),
        "smoothing": number(0.2, 0.0, 1.0, above=True),
        "queue_size": whole(4, 1, 10_000),
        "tolerance": number(1.5, 1.0, 10.0),
        "long_window": whole(600, 10, 1_000_000),
    },
    TimeoutConfig: {
        "default_timeout": number(30.0, 0.0, WEEK, above=True),
        "max_timeout": number(60.0, 0.0, WEEK, above=True),
    },
    GrpcClientConfig: {
        "server_addresses": Setting(
            ("localhost:50051",),
            (ADDRESSES, list(ADDRESSES)),
            ((), [], "localhost:50051", 5, None, ["a:1", "a:1"], *([address] for address in BAD_ADDRESSES)),
            (),
        ),
        "strategy": member(LoadBalancingStrategy.ROUND_ROBIN),
        "weights": Setting(
            {},
            ({"localhost:50051": 1}, {"localhost:50051": 1000}, MappingProxyType({"localhost:50051": 2})),
            (
                {"other:50051": 1},
                *({"localhost:50051": weight} for weight in (0, -1, 1001, 1.0, True, None, "1")),
                [("localhost:50051", 1)],
                5,
                None,
            ),
            ("server_addresses", "1 to 1000"),
        ),
        "outlier": Setting(None, (OutlierConfig(), None), (OutlierConfig, 5, {}), ("OutlierConfig",)),
        "slow_start": Setting(
            None, (SlowStartConfig(), None), (SlowStartConfig, 5, {}), ("SlowStartConfig",)
        ),
        "breaker": nested(CircuitBreakerConfig()),
        "retry": nested(RetryConfig()),
        "retry_budget": nested(RetryBudgetConfig()),
        "timeout": nested(TimeoutConfig()),
        "stream_timeout": number(None, 0.0, WEEK, above=True, optional=True),
        "connect_backoff_max": number(5.0, 0.1, 3600.0),
        "keepalive": number(330.0, 1.0, 7200.0),
        "max_message_bytes": whole(4 * 1024 * 1024, 1, 2**31 - 1),
        "transport": TRANSPORT,
    },
    StoreLimits: {
        "max_policies": whole(100_000, 1, 100_000_000),
        "max_actions": whole(1_000_000, 1, 100_000_000),
        "max_tasks": whole(1_000_000, 1, 100_000_000),
        "max_groups": whole(10_000, 1, 100_000_000),
        "history": whole(100_000, 1, 100_000_000),
    },
    GrpcServerConfig: {
        "listen": Setting(
            "127.0.0.1:50051", ADDRESSES, BAD_ADDRESSES, ("HOST:PORT", "[IPV6]:PORT", "unix:PATH")
        ),
        "max_timeout": number(60.0, 0.0, WEEK, above=True),
        "max_stream_timeout": number(None, 0.0, WEEK, above=True, optional=True),
        "grace": number(10.0, 0.0, 3600.0),
        "max_concurrent_calls": whole(10_000, 1, 1_000_000),
        "max_message_bytes": whole(4 * 1024 * 1024, 1, 2**31 - 1),
        "max_watch_backlog": whole(1_000, 1, 1_000_000),
        "handler_threads": whole(32, 1, 4096),
        "store_limits": nested(StoreLimits()),
        "transport": TRANSPORT,
        "control_plane": flag(default=True),
        "reuse_port": flag(default=False),
    },
}


EACH_SETTING = [
    pytest.param(config, name, setting, id=f"{config.__name__}.{name}")
    for config, fields in SETTINGS.items()
    for name, setting in fields.items()
]


PARTNERS: dict[type[Any], dict[str, dict[str, Any]]] = {
    CircuitBreakerConfig: {
        "window_size": {"window": Window.COUNT},
        "minimum_calls": {"window": Window.COUNT, "window_size": 10_000},
        "failure_rate_threshold": {"window": Window.COUNT},
        "slow_call_rate_threshold": {"window": Window.COUNT, "slow_call_duration": 1.0},
        "success_threshold": {"half_open_max_calls": 255},
    },
    OutlierConfig: {
        "base_ejection_time": {"max_ejection_time": WEEK},
        "max_ejection_time": {"base_ejection_time": 0.1},
    },
    HedgingPolicy: {
        "": {"hedging_delay": HEDGING_DELAY},
        "max_attempts": {"hedging_delay": HEDGING_DELAY},
        "non_fatal_codes": {"hedging_delay": HEDGING_DELAY},
    },
    AdaptiveLimiterConfig: {
        "initial_limit": {"min_limit": 1, "max_limit": 1_000_000},
        "min_limit": {"initial_limit": 1_000_000, "max_limit": 1_000_000},
        "max_limit": {"min_limit": 1, "initial_limit": 1},
    },
    TimeoutConfig: {"default_timeout": {"max_timeout": WEEK}, "max_timeout": {"default_timeout": TINY}},
}


def made(config: type[Any], name: str, value: Any) -> Any:
    """Make a config with one field set, and its partners such that only this field can be wrong."""
    return config(**{**PARTNERS.get(config, {}).get(name, {}), name: value})


def plain(config: type[Any]) -> Any:
    """Make a config with nothing set that need not be."""
    return config(**PARTNERS.get(config, {}).get("", {}))


def test_the_table_above_names_every_field_of_every_config() -> None:
    assert set(SETTINGS) == {kind for kind in vars(configs).values() if dataclasses.is_dataclass(kind)}
    for config, fields in SETTINGS.items():
        assert [field.name for field in dataclasses.fields(config)] == list(fields)


@pytest.mark.parametrize("config", SETTINGS)
def test_a_config_is_frozen(config: type[Any]) -> None:
    made = plain(config)
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, getattr(made, field.name))


@pytest.mark.parametrize(("config", "name", "setting"), EACH_SETTING)
def test_defaults(config: type[Any], name: str, setting: Setting) -> None:
    assert getattr(plain(config), name) == setting.default


@pytest.mark.parametrize(("config", "name", "setting"), EACH_SETTING)
def test_values_within_the_range_are_taken(config: type[Any], name: str, setting: Setting) -> None:
    for value in setting.good:
        kept = getattr(made(config, name, value), name)
        if isinstance(kept, frozenset):
            assert kept == {getattr(one, "name", one) for one in value}
        elif isinstance(kept, tuple):
            assert kept == tuple(value)
        else:
            assert kept == value


@pytest.mark.parametrize(("config", "name", "setting"), EACH_SETTING)
def test_other_values_are_refused_with_the_field_and_its_range(
    config: type[Any], name: str, setting: Setting
) -> None:
    for value in setting.bad:
        with pytest.raises(ConfigError) as caught:
            made(config, name, value)
        assert caught.value.field == name
        assert str(caught.value).startswith(f"{name}=")
        for mention in setting.mentions:
            assert mention in caught.value.accepted, f"{name}={value!r}"


def test_the_default_timeout_must_not_exceed_the_maximum() -> None:
    with pytest.raises(ConfigError, match=r"default_timeout=2\.5: expected at most max_timeout \(2\)"):
        TimeoutConfig(default_timeout=2.5, max_timeout=2.0)
    assert TimeoutConfig(default_timeout=2.0, max_timeout=2.0).default_timeout == 2.0


@pytest.mark.parametrize(
    ("settings", "field", "accepted"),
    [
        ({"window_size": 50}, "window_size", "100 (the default): it has an effect only with window="),
        ({"minimum_calls": 5}, "minimum_calls", "None (the default)"),
        ({"failure_rate_threshold": 0.6}, "failure_rate_threshold", "0.5 (the default)"),
        ({"window": Window.COUNT, "failure_threshold": 6}, "failure_threshold", "5 (the default)"),
        ({"window": Window.TIME, "failure_threshold": 6}, "failure_threshold", "window=Window.CONSECUTIVE"),
        (
            {"window": Window.COUNT, "slow_call_rate_threshold": 0.5},
            "slow_call_rate_threshold",
            "1.0 (the default): it has an effect only with a slow_call_duration",
        ),
        (
            {"slow_call_duration": 1.0, "slow_call_rate_threshold": 0.5},
            "slow_call_rate_threshold",
            "window=Window.COUNT or Window.TIME",
        ),
        ({"window": Window.COUNT, "window_size": 50, "minimum_calls": 51}, "minimum_calls", "from 1 to 50"),
        ({"window": Window.TIME, "window_size": 3601}, "window_size", "from 1 to 3600"),
        ({"window": Window.TIME, "minimum_calls": 1_000_001}, "minimum_calls", "from 1 to 1000000"),
        ({"half_open_max_calls": 2, "success_threshold": 3}, "success_threshold", "from 1 to 2"),
    ],
)
def test_settings_of_a_breaker_that_do_not_go_together(
    settings: dict[str, Any], field: str, accepted: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        CircuitBreakerConfig(**settings)
    assert caught.value.field == field
    assert accepted in caught.value.accepted


@pytest.mark.parametrize(
    "settings",
    [
        {"window": Window.COUNT, "window_size": 10},
        {"window": Window.TIME, "window_size": 3600, "minimum_calls": 1_000_000},
        {"slow_call_duration": 0.5, "success_threshold": 1},
    ],
)
def test_settings_of_a_breaker_that_go_together(settings: dict[str, Any]) -> None:
    config = CircuitBreakerConfig(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


def test_an_ejection_lasts_no_longer_than_its_maximum() -> None:
    with pytest.raises(
        ConfigError, match=r"max_ejection_time=2\.0: expected at least base_ejection_time \(3\)"
    ):
        OutlierConfig(base_ejection_time=3.0, max_ejection_time=2.0)


@pytest.mark.parametrize(
    ("settings", "field", "accepted"),
    [
        ({"min_limit": 201, "initial_limit": 201}, "min_limit", "an int from 1 to 200"),
        ({"initial_limit": 19}, "initial_limit", "an int from 20 to 200"),
        ({"initial_limit": 201}, "initial_limit", "an int from 20 to 200"),
    ],
)
def test_limits_that_do_not_go_together(settings: dict[str, Any], field: str, accepted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AdaptiveLimiterConfig(**settings)
    assert (caught.value.field, caught.value.accepted) == (field, accepted)


def test_an_address_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected each address once"):
        GrpcClientConfig(server_addresses=["localhost:1", "localhost:2", "localhost:1"])


def test_codes_may_be_given_as_grpc_status_codes() -> None:
    codes = RetryConfig(retryable_codes={grpc.StatusCode.ABORTED, "UNAVAILABLE"}).retryable_codes
    assert codes == {"ABORTED", "UNAVAILABLE"}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name not in CODES])
def test_codes_that_would_fail_again_are_never_retryable(code: grpc.StatusCode) -> None:
    with pytest.raises(ConfigError, match=f"retryable_codes=.*{code.name}"):
        RetryConfig(retryable_codes={code})
