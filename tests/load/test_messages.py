"""Templates in requests: rendered fields must be what parsing the rendered JSON would give."""

from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from load.echo import POOL
from tai_grpc.load.errors import RequestError
from tai_grpc.load.messages import MessageTemplate, parse_templates
from tai_grpc.load.methods import Method
from tai_grpc.load.payload import parse_messages
from tai_grpc.load.templates import Call, Names

ITEM = POOL.FindMessageTypeByName("echo.v1.Item")
ITEMS = POOL.FindMessageTypeByName("echo.v1.Items")
UUID = "0a0b0c0d-0000-4000-8000-000000000000"


def _method(request: Any = ITEM) -> Method:
    kind = GetMessageClass(request)
    return Method(
        "echo.v1.Echo", "Unary", kind, kind, client_streaming=False, server_streaming=False, pool=POOL
    )


def _call(number: int) -> Call:
    return Call(number, 1_700_000_000_123_456_789 + number, UUID)


def _templates(text: str, method: Method | None = None) -> list[MessageTemplate]:
    method = method or _method()
    return parse_templates(method, text, Names(method, workers=4), _call(0))


@pytest.mark.parametrize(
    "text",
    [
        '{"display_name":"n{{.RequestNumber}}"}',
        '{"displayName":"{{.UUID}}-{{.RequestNumber}}-{{.UUID}}","color":"COLOR_RED"}',
        '{"big":{{.TimestampUnixNano}}}',
        '{"big" : {{ .RequestNumber }} , "display_name":"x"}',
        '{"big":"{{.RequestNumber}}"}',
        '{"big":{{.TimestampUnix}}000}',
        '{"big":-1{{.RequestNumber}}}',
        '{"big":{{.RequestNumber}}e3}',
        '{"raw":"{{.TimestampUnix}}"}',
        '{"raw":"a_b{{.TimestampUnix}}-"}',
        '{"color":{{.RequestNumber}}}',
        '{"labels":{"a":"{{.RequestNumber}}","b":"fixed"}}',
        '{"labels":{"k{{.RequestNumber}}":"v"}}',
        '{"at":"{{.Timestamp}}"}',
        '{"inner":{"inner":{"big":{{.RequestNumber}}},"display_name":"y"}}',
        '{"numbers":[1,{{.RequestNumber}},"{{.RequestNumber}}"]}',
        '{"inner":{},"display_name":"{{.MethodName}} {{.RequestNumber}}"}',
        '{"display_name":"\\u00e4 \\"{{.RequestNumber}}\\" \\\\"}',
    ],
)
def test_a_rendered_message_is_what_its_rendered_json_parses_to(text: str) -> None:
    (template,) = _templates(text)
    for number in (0, 1, 7, 123_456):
        call = _call(number)
        written = text
        for name, value in {
            ".RequestNumber": str(number),
            ".UUID": UUID,
            ".Timestamp": "2023-11-14T22:13:20Z",
            ".TimestampUnix": "1700000000",
            ".TimestampUnixNano": str(call.now_ns),
            ".MethodName": "Unary",
        }.items():
            written = written.replace(f"{{{{{name}}}}}", value).replace(f"{{{{ {name} }}}}", value)
        (expected,) = parse_messages(_method(), written)
        assert _method().request_type.FromString(template.render(call)) == expected


def test_messages_that_hold_messages_are_rendered() -> None:
    method = _method(ITEMS)
    second = '{"display_name":"{{.RequestNumber}}","labels":{"x":"{{.WorkerID}}"}}'
    text = f'{{"items":[{{"display_name":"a"}},{second}]}}'
    (template,) = _templates(text, method)
    message: Any = method.request_type.FromString(template.render(_call(6)))
    assert [item.display_name for item in message.items] == ["a", "6"]
    assert message.items[1].labels == {"x": "w2"}


def test_well_known_types_are_rendered() -> None:
    descriptor = POOL.FindMessageTypeByName("google.protobuf.Timestamp")
    (template,) = _templates('"{{.Timestamp}}"', _method(descriptor))
    message: Any = GetMessageClass(descriptor).FromString(template.render(_call(0)))
    assert message.seconds == 1_700_000_000


def test_several_messages_are_templates_of_their_own() -> None:
    first, second = _templates('[{"big":{{.RequestNumber}}},{"display_name":"fixed"}]')
    assert first.constant is None
    assert second.constant == b"\n\x05fixed"


def test_a_template_that_is_always_the_same_makes_a_constant_message() -> None:
    (template,) = _templates('{"display_name":"{{.MethodName}}"}')
    assert template.constant == b"\n\x05Unary"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"nope":{{.RequestNumber}}}', "echo.v1.Item has no field 'nope'; it has: display_name"),
        ('{"display_name":{{.RequestNumber}}}', "display_name"),
        ('{"display_name":{{.UUID}}}', "a template came to 0a0b0c0d.*, which is not JSON"),
        ('{"big":"{{.UUID}}"}', "big"),
        ('{"display_name":"{{.Nope}}"}', "is not known here"),
        ('{"display_name":{{.UUID}', "the data is not JSON"),
        ('{"display_name":"{{.UUID"}', "without its"),
        ('{"inner":' * 900 + "{{.UUID}}" + "}" * 900, "the data is nested too deep"),
        ("{{.UUID}}", "a template came to"),
        ("{{.RequestNumber}}", "echo.v1.Item is given as a JSON object, not as 0"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_template_is_read(text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as failure:
        _templates(text)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"big":{{.RequestNumber}},"display_name":tru}', "line 1, column 42"),
        ('{"big":{{.RequestNumber}}\n"display_name":{{.UUID}}}', "line 2, column 1"),
        ('{"a":{{.RequestNumber}},"b":{{.UUID}},\n "c":{{.WorkerID}} tru', "line 2, column 20"),
        ('{"a":"{{.RequestNumber}}" tru', "line 1, column 27"),
    ],
)
def test_what_is_no_json_is_where_it_was_written(text: str, place: str) -> None:
    with pytest.raises(RequestError, match=f"{place}$"):
        _templates(text)


def test_a_long_template_that_is_not_known_is_said_briefly() -> None:
    with pytest.raises(RequestError) as failure:
        _templates(f'{{"display_name":"{{{{.{"a" * 1_000_000}}}}}}}"}}')
    assert len(str(failure.value)) < 1000


def test_what_does_not_fit_later_is_refused_then_and_harms_no_other_call() -> None:
    (template,) = _templates('{"numbers":[{{.RequestNumber}}],"display_name":"{{.RequestNumber}}"}')
    with pytest.raises(RequestError, match="numbers"):
        template.render(_call(1 << 31))
    message: Any = _method().request_type.FromString(template.render(_call(5)))
    assert (message.numbers, message.display_name) == ([5], "5")
