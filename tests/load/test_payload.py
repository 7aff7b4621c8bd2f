import json
from typing import Any

import pytest

from load.echo import POOL
from tai_grpc.load.descriptors import Declared
from tai_grpc.load.errors import RequestError
from tai_grpc.load.metadata import parse_metadata
from tai_grpc.load.methods import built_in_method, method_of
from tai_grpc.load.payload import format_message, parse_messages, parse_string_map

PROPOSE = built_in_method("tai.v1.Governor", "ProposePolicy")


def _parse(text: str) -> list[Any]:
    return list(parse_messages(PROPOSE, text))


def test_fields_are_named_as_in_the_proto_or_in_camel_case() -> None:
    snake, camel = _parse('{"policy_type": "a", "policy_name": "b"} {"policyType": "a", "policyName": "b"}')
    assert snake == camel
    assert snake.policy_type == "a"


def test_int64_is_taken_as_a_number_or_a_string_without_loss() -> None:
    number, text = _parse('[{"version": 9007199254740993}, {"version": "9007199254740993"}]')
    assert number.version == text.version == 2**53 + 1


@pytest.mark.parametrize(
    "text", ['{"id":"a"}{"id":"b"}', '{"id":"a"}\n\n{"id":"b"}\n', '[{"id":"a"},{"id":"b"}]']
)
def test_several_messages_are_given_in_a_row_or_as_an_array(text: str) -> None:
    assert [message.id for message in _parse(text)] == ["a", "b"]


@pytest.mark.parametrize("text", ["", " \n", "[]"])
def test_no_json_is_no_message(text: str) -> None:
    assert _parse(text) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON: .* at line 1, column 2"),
        ('{"id":"a"} x', "not JSON: .* column 12"),
        ("5", "tai.v1.Policy is given as a JSON object, not as 5"),
        ('{"nope":1}', "tai.v1.Policy has no field 'nope'; it has: id, policy_type, policy_name, version"),
        ('{"version":"x"}', "version"),
        ('{"rules":[1]}', "rules"),
        ('{"enabled":"yes"}', "enabled"),
        ('{"id":"a","id":"b"}', "'id' is given twice"),
        ("[" * 100_000, "nested too deep"),
        ('{"version":' + "1" * 5000 + "}", "not JSON that can be sent: .*4300 digits"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_that_says_where(text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as failure:
        _parse(text)
    assert "\n" not in str(failure.value)


def test_a_field_within_others_is_named_by_its_path() -> None:
    split = method_of(Declared(POOL, ("echo.v1.Echo",)), "echo.v1.Echo/Split", "echo.proto")
    with pytest.raises(RequestError, match=r"^echo\.v1\.Items: Failed to parse items\.inner\.big field: "):
        parse_messages(split, '{"items":[{"inner":{"big":"x"}}]}')


def test_a_message_is_shown_with_the_names_of_the_proto() -> None:
    shown = format_message(PROPOSE, _parse('{"policyType":"a","version":3}')[0])
    assert json.loads(shown) == {"policy_type": "a", "version": "3"}


def test_defaults_are_shown_when_asked_for() -> None:
    shown = json.loads(format_message(PROPOSE, PROPOSE.request_type(), defaults=True))
    assert shown["version"] == "0"
    assert shown["enabled"] is False
    assert "expected_version" not in shown


def test_metadata_is_a_pair_or_a_json_object() -> None:
    given = ["Trace: a:b", '{"x-one": "1", "x-two": "2"}', "blob-bin: AQI"]
    assert parse_metadata(given) == (
        ("trace", "a:b"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("blob-bin", b"\x01\x02"),
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("novalue", "like key:value"),
        ("a b:c", "metadata key 'a b'"),
        (":c", "metadata key ''"),
        ("grpc-timeout:1S", "reserved"),
        (
            "content-type:x",
            "metadata key 'content-type': the protocol's own, which is sent anyway: leave it out",
        ),
        ("TE:x", "metadata key 'te': the protocol's own"),
        ('{"connection":"close"}', "metadata key 'connection': the protocol's own"),
        ("user-agent:x", "metadata key 'user-agent': the protocol's own"),
        ("blob-bin:%%%", "base64"),
        ("key:Ünicode", "printable ASCII"),
        ('{"a": 1}', "a JSON object of strings"),
        ("{", "not JSON"),
    ],
)
def test_metadata_that_may_not_be_sent_is_refused(entry: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        parse_metadata([entry])


def test_what_is_wrong_with_long_data_is_said_briefly() -> None:
    long = "a" * 5_000_000
    for text in (
        json.dumps(long),
        f'{{"{long}":1}}',
        f'{{"version":"{long}"}}',
        f'{{"{long}":1,"{long}":2}}',
    ):
        with pytest.raises(RequestError) as failure:
            _parse(text)
        assert "aaaa" in str(failure.value)
        assert len(str(failure.value)) < 500


def test_what_is_wrong_with_long_metadata_is_said_briefly() -> None:
    long = "a" * 5_000_000
    for entry in (long, f"[{long}:x", f'{{"{long}":1}}'):
        with pytest.raises(RequestError) as failure:
            parse_metadata([entry])
        assert "aaaa" in str(failure.value)
        assert len(str(failure.value)) < 500


def test_a_string_map_names_what_it_is_for() -> None:
    assert parse_string_map('{"env":"test"}', "tags") == {"env": "test"}
    with pytest.raises(RequestError, match="tags"):
        parse_string_map("[]", "tags")
