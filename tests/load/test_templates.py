import re
import time
import uuid
from datetime import datetime

import pytest

from tai_grpc.load.errors import RequestError
from tai_grpc.load.methods import built_in_method
from tai_grpc.load.templates import Call, Names, new_uuid

STREAM = built_in_method("tai.v1.Governor", "StreamPolicies")
NAMES = Names(STREAM, workers=7)
NOW_NS = 1_700_000_000_123_456_789
CALL = Call(23, NOW_NS, "0a0b0c0d-0000-4000-8000-000000000000")


def _rendered(text: str) -> str:
    return NAMES.compile(text, "data").render(CALL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{.RequestNumber}}", "23"),
        ("{{ .RequestNumber }}", "23"),
        ("a{{.RequestNumber}}b{{.RequestNumber}}", "a23b23"),
        ("{{.UUID}}", CALL.uuid),
        ("{{.Timestamp}}", "2023-11-14T22:13:20Z"),
        ("{{.TimestampUnix}}", "1700000000"),
        ("{{.TimestampUnixMilli}}", "1700000000123"),
        ("{{.TimestampUnixNano}}", str(NOW_NS)),
        ("{{.WorkerID}}", "w2"),
        ("{{.FullyQualifiedName}}", "tai.v1.Governor.StreamPolicies"),
        ("{{.ServiceName}}", "Governor"),
        ("{{.MethodName}}", "StreamPolicies"),
        ("{{.InputName}}", "StreamPoliciesRequest"),
        ("{{.OutputName}}", "PolicyUpdate"),
        ("{{.IsClientStreaming}} {{.IsServerStreaming}}", "false true"),
        ("no action: } {", "no action: } {"),
    ],
)
def test_variables_are_rendered(text: str, expected: str) -> None:
    assert _rendered(text) == expected


def test_what_is_the_same_for_every_call_is_known_to_be() -> None:
    assert (
        NAMES.compile("{{.MethodName}} of {{.ServiceName}}", "data").constant == "StreamPolicies of Governor"
    )
    assert NAMES.compile("{{.MethodName}} {{.RequestNumber}}", "data").constant is None


def test_the_numbers_of_random_int_are_in_its_range_and_all_of_them_come() -> None:
    template = NAMES.compile("{{randomInt -2 3}}", "data")
    assert {int(template.render(CALL)) for _ in range(500)} == {-2, -1, 0, 1, 2}


def test_random_int_spans_more_than_a_float_tells_apart() -> None:
    template = NAMES.compile("{{randomInt 0 900000000000000001}}", "data")
    assert any(int(template.render(CALL)) % 2 for _ in range(200))


def test_a_random_string_has_the_length_asked_for() -> None:
    assert re.fullmatch(r"[0-9A-Za-z]{12}", _rendered("{{randomString 12}}"))
    lengths = {len(_rendered("{{randomString 0}}")) for _ in range(500)}
    assert lengths == set(range(2, 17))


def test_each_new_uuid_is_another_one_and_a_version_4() -> None:
    first, second = (uuid.UUID(text) for text in _rendered("{{newUUID}},{{newUUID}}").split(","))
    assert first != second
    assert {first.version, second.version} == {4}
    assert {uuid.UUID(new_uuid()).variant for _ in range(100)} == {uuid.RFC_4122}


def test_the_uuid_of_a_call_is_the_same_in_all_its_templates() -> None:
    names = Names(STREAM, workers=1)
    template = names.compile("{{.UUID}} {{.UUID}}", "data")
    first, second = names.call(0), names.call(1)
    assert len(set(template.render(first).split())) == 1
    assert template.render(first) != template.render(second)
    assert first.now_ns <= second.now_ns <= time.time_ns()


def test_the_timestamp_is_that_of_the_call() -> None:
    names = Names(STREAM, workers=1)
    template = names.compile("{{.Timestamp}} {{.TimestampUnix}}", "data")
    text, seconds = template.render(names.call(0)).split()
    assert datetime.fromisoformat(text).timestamp() == int(seconds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{{.Nope}}",
            r"^data: \{\{\.Nope\}\} is not known here; there are .*\.RequestNumber.*randomInt MIN MAX",
        ),
        ("{{}}", "is not known here"),
        ("{{randomString}}", r"\{\{randomString\}\}: expected one argument"),
        ("{{randomString 2000000}}", "1000000 at most"),
        ("{{randomString x}}", "its arguments are whole numbers"),
        ("{{randomInt 1}}", "expected two arguments"),
        ("{{randomInt 5 5}}", "expected two arguments, the least number and one above the greatest"),
        ("{{newUUID 1}}", "expected no argument"),
        ("{{.UUID 1}}", "is not known here"),
        ("{{if .UUID}}", "is not known here"),
        ("{{ .UUID", r"a \{\{ without its \}\}; there are .*--disable-template-data"),
    ],
)
def test_what_is_not_there_is_refused_and_what_there_is_named(text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        _rendered(text)


def test_functions_can_be_left_out() -> None:
    names = Names(STREAM, workers=1, functions=False)
    assert names.compile("{{.RequestNumber}}", "data").render(CALL) == "23"
    with pytest.raises(RequestError, match=r"\{\{newUUID\}\} is not known here; .*\.IsServerStreaming\}\}$"):
        names.compile("{{newUUID}}", "data")
