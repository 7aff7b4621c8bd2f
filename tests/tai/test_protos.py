"""The protos are the contract: the calls are the design's, and every part of them is explained."""

import re
from pathlib import Path

from tai_grpc import tai
from tai_grpc.tai.v1 import coordinator_pb2, governor_pb2, scheduler_pb2, types_pb2

PROTOS = Path(__file__).parents[2] / "protos" / "tai" / "v1"
PART = re.compile(r"(message|enum|service|\s+rpc) \w|\s+[\w<>, .]+ = \d+;")


def test_every_message_call_field_and_value_has_a_comment() -> None:
    bare = []
    for path in sorted(PROTOS.glob("*.proto")):
        lines = path.read_text().splitlines()
        for above, (number, line) in zip(lines, enumerate(lines[1:], start=2), strict=False):
            if PART.match(line) and not above.strip().startswith("//"):
                bare.append(f"{path.name}:{number}: {line.strip()}")
    assert bare == []


def test_the_services_have_exactly_their_calls() -> None:
    services = {
        name: [method.name for method in service.methods]
        for file in (governor_pb2, coordinator_pb2, scheduler_pb2)
        for name, service in file.DESCRIPTOR.services_by_name.items()
    }
    assert services == {
        "Governor": [
            "ProposePolicy",
            "EnforcePolicy",
            "RevokePolicy",
            "GetPolicies",
            "StreamPolicies",
            "HealthCheck",
        ],
        "Coordinator": [
            "SubmitSignal",
            "RequestAction",
            "StreamActions",
            "AcknowledgeAction",
            "GetStatus",
            "HealthCheck",
        ],
        "Scheduler": ["SubmitTask", "CancelTask", "GetTaskStatus", "StreamTaskUpdates", "HealthCheck"],
    }


def test_the_named_fields_are_numbered_in_their_order() -> None:
    wanted = {
        "Policy": "id policy_type policy_name version rules enabled created_at_ns updated_at_ns",
        "Signal": "id signal_type timestamp_ns metadata payload priority",
        "ScheduleTaskRequest": "task_id task_type parameters scheduled_time_ns priority",
    }
    for message, names in wanted.items():
        fields = getattr(tai, message).DESCRIPTOR.fields_by_number
        assert [fields[number + 1].name for number in range(len(names.split()))] == names.split()


def test_every_message_and_enum_can_be_imported_from_tai() -> None:
    made = {
        name
        for file in (types_pb2, governor_pb2, coordinator_pb2, scheduler_pb2)
        for name in (*file.DESCRIPTOR.message_types_by_name, *file.DESCRIPTOR.enum_types_by_name)
    }
    assert made == set(tai.__all__)
    assert all(hasattr(tai, name) for name in made)
