import pickle
from typing import Any

import pytest

from tai_grpc.errors import ConfigError
from tai_grpc.load.methods import built_in_method
from tai_grpc.load.plan import LoadPlan, Schedule, Segment, Streaming
from tai_grpc.load.requests import Data, make_requests

UNARY = built_in_method("tai.v1.Governor", "HealthCheck")
REQUESTS = make_requests(UNARY, Data())


def _plan(**changes: Any) -> LoadPlan:
    return LoadPlan(**{"hosts": ("127.0.0.1:1",), "method": UNARY, "requests": REQUESTS, **changes})


def test_the_defaults_are_those_of_ghz() -> None:
    plan = _plan()
    assert (plan.concurrency, plan.total, plan.timeout, plan.connections) == (50, 200, 20.0, 1)
    assert (plan.connect_timeout, plan.schedule, plan.tls) == (10.0, None, None)


@pytest.mark.parametrize(
    ("changes", "field", "accepted"),
    [
        ({"hosts": ()}, "host", "at least one HOST:PORT"),
        ({"hosts": ("nowhere",)}, "host", "HOST:PORT"),
        ({"concurrency": 0}, "concurrency", "from 1 to 100000"),
        ({"total": 0}, "total", "from 1 to"),
        ({"total": None}, "total", "a number of calls, or a duration"),
        ({"duration": 0.0}, "duration", "above 0"),
        ({"warmup": -1.0}, "warmup", "from 0"),
        ({"timeout": 0.0}, "timeout", "above 0"),
        ({"connections": 0}, "connections", "from 1 to 10000"),
        ({"connections": 3, "concurrency": 2}, "connections", "at most concurrency .2."),
        ({"hosts": ("a:1", "b:1")}, "connections", "at least one a host .2."),
        ({"threads": 2}, "connections", "at least one a thread .2."),
        ({"threads": 0}, "threads", "from 1 to 256"),
        ({"threads": 1000, "connections": 1000}, "threads", "from 1 to 256"),
        ({"authority": "a b"}, "authority", "printable ASCII without spaces"),
        ({"authority": ""}, "authority", "printable ASCII without spaces"),
        ({"authority": "a.example\r\nx: y"}, "authority", "printable ASCII without spaces"),
        ({"connect_timeout": -1.0}, "connect-timeout", "above 0"),
        ({"max_message_bytes": 0}, "max-recv-message-size", "from 1"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(changes: dict[str, Any], field: str, accepted: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}=.*{accepted}"):
        _plan(**changes)


@pytest.mark.parametrize(
    ("segments", "field"),
    [
        ((), "load-schedule='0 parts': expected from 1 to 10000"),
        ((Segment(1.0, 1.0, 1.0),) * 10_001, "load-schedule='10001 parts'"),
        ((Segment(1.0, -1.0, 1.0),), "rate=-1.0"),
        ((Segment(1.0, 1.0, 1e8),), "rate=100000000.0"),
        ((Segment(0.0, 1.0, 1.0),), "load-step-duration=0.0"),
        ((Segment(None, 1.0, 2.0),), "one rate above 0 that the schedule ends with"),
        ((Segment(None, 0.0, 0.0),), "one rate above 0 that the schedule ends with"),
        ((Segment(None, 1.0, 1.0), Segment(1.0, 1.0, 1.0)), "a duration for all parts but the last"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(segments: tuple[Segment, ...], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        Schedule(segments=segments)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"interval": -1.0}, "stream-interval"),
        ({"messages": 0}, "stream-call-count"),
        ({"duration": 0.0}, "stream-call-duration"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}="):
        Streaming(**changes)


def test_the_tags_of_a_plan_do_not_change() -> None:
    tags = {"env": "test"}
    plan = _plan(tags=tags)
    tags["env"] = "changed"
    assert plan.tags == {"env": "test"}


def test_a_plan_goes_to_another_process() -> None:
    plan = _plan(tags={"a": "b"}, duration=3.0, hosts=("a:1", "unix:/tmp/x"), connections=2)
    there = pickle.loads(pickle.dumps(plan))
    assert (there.tags, there.duration, there.hosts, there.method.path) == (
        plan.tags,
        3.0,
        plan.hosts,
        plan.method.path,
    )
