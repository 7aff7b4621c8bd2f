from typing import Any

import pytest

from tai_grpc.errors import ConfigError
from tai_grpc.load.methods import built_in_method
from tai_grpc.load.plan import LoadPlan

UNARY = built_in_method("tai.v1.Governor", "HealthCheck")
STREAM = built_in_method("tai.v1.Governor", "StreamPolicies")


def _plan(**changes: Any) -> LoadPlan:
    return LoadPlan(**{"host": "127.0.0.1:1", "method": UNARY, "requests": (b"",), **changes})


def test_the_defaults_are_those_of_ghz() -> None:
    plan = _plan()
    assert (plan.concurrency, plan.total, plan.timeout, plan.connections) == (50, 200, 20.0, 1)


@pytest.mark.parametrize(
    ("changes", "field", "accepted"),
    [
        ({"host": "nowhere"}, "host", "HOST:PORT"),
        ({"method": STREAM}, "call", "a unary method .this one is server streaming"),
        ({"requests": ()}, "data", "at least one request"),
        ({"concurrency": 0}, "concurrency", "from 1 to 10000"),
        ({"total": 0}, "total", "from 1 to"),
        ({"duration": 0.0}, "duration", "above 0"),
        ({"timeout": 0.0}, "timeout", "above 0"),
        ({"connections": 0}, "connections", "from 1 to 1000"),
        ({"connections": 3, "concurrency": 2}, "connections", "at most concurrency .2."),
        ({"connect_timeout": -1.0}, "connect_timeout", "above 0"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(changes: dict[str, Any], field: str, accepted: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}=.*{accepted}"):
        _plan(**changes)


def test_the_tags_of_a_plan_do_not_change() -> None:
    tags = {"env": "test"}
    plan = _plan(tags=tags)
    tags["env"] = "changed"
    assert plan.tags == {"env": "test"}
