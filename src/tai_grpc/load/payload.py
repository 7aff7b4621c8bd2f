"""Protobuf messages from JSON and back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from tai_grpc.errors import brief
from tai_grpc.load.errors import RequestError
from tai_grpc.load.methods import Method

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NO_FIELD: Final = re.compile(r'Message type "([^"]+)" has no field named "([^"]*)"')
# Their JSON may be an array, which then is one message and not several.
_ARRAY_TYPES: Final = frozenset({"google.protobuf.ListValue", "google.protobuf.Value"})
_MOST_EXPLAINED: Final = 300

Place = Callable[[int], str]
"""Names a position in a text."""


def parse_messages(method: Method, text: str) -> list[Message]:
    """Return the requests in `text`: JSON objects one after the other, or one array of them.

    Fields have the proto's names or their camelCase form; values follow the protobuf JSON mapping.

    Raises:
        RequestError: `text` is not JSON, or does not fit the method's request type; says where.
    """
    return [to_message(method, value) for value in json_requests(method, text)]


def json_requests(method: Method, text: str, place: Place | None = None) -> list[Any]:
    """Return the requests in `text` as JSON values, not looked into: see `parse_messages`.

    `place` is as of `json_values`.

    Raises:
        RequestError: `text` is not JSON.
    """
    values = json_values(text, place=place)
    if len(values) == 1 and isinstance(values[0], list) and _type_name(method) not in _ARRAY_TYPES:
        return values[0]
    return values


def to_message(method: Method, value: Any) -> Message:
    """Return the request that a JSON value stands for.

    Raises:
        RequestError: it does not fit the method's request type.
    """
    name = _type_name(method)
    if not isinstance(value, dict) and not name.startswith("google.protobuf."):
        raise RequestError(f"{name} is given as a JSON object, not as {brief(json.dumps(value))}")
    message = method.request_type()
    try:
        json_format.ParseDict(value, message, descriptor_pool=method.pool)
    # Besides ParseError, json_format lets through what a value of the wrong JSON type happens to raise.
    except (json_format.ParseError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RequestError(_explained(method, str(error))) from None
    return message


def format_message(
    method: Method, message: Message, *, defaults: bool = False, indent: int | None = None
) -> str:
    """Return `message` as JSON with the proto's field names; `defaults`: also the fields that are not set.

    Raises:
        RequestError: the message cannot be shown as JSON (a google.protobuf.Any of an unknown type).
    """
    try:
        return json_format.MessageToJson(
            message,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=defaults,
            indent=indent,
            descriptor_pool=method.pool,
            ensure_ascii=False,
        )
    except (TypeError, ValueError, json_format.SerializeToJsonError) as error:
        raise RequestError(f"the response cannot be shown as JSON: {one_line(str(error))}") from None


def parse_string_map(text: str, what: str) -> dict[str, str]:
    """Return a JSON object whose values are all strings; `what` names it in errors.

    Raises:
        RequestError: `text` is something else.
    """
    values = json_values(text, what)
    if len(values) == 1 and isinstance(values[0], dict):
        fields = values[0]
        if all(isinstance(value, str) for value in fields.values()):
            return fields
    given = brief(repr(text))
    raise RequestError(f'{what} {given}: expected a JSON object of strings, like {{"key":"value"}}')


def one_line(text: str) -> str:
    """Return `text` with every run of white space made one space."""
    return " ".join(text.split())


def place_in(text: str, position: int) -> str:
    """Return where a position of `text` is, from line 1 and column 1 on."""
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    return f"line {line}, column {column}"


def json_values(text: str, what: str = "the data", *, place: Place | None = None) -> list[Any]:
    """Return the JSON values that `text` holds one after the other; `what` names it in errors.

    `place` says where a position is, when `text` is not what was given.

    Raises:
        RequestError: `text` is not JSON.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_unique)
    place = place or partial(place_in, text)
    values = []
    position = _skip_space(text, 0)
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            problem = error.msg.removesuffix(" at")
            raise RequestError(f"{what} is not JSON: {problem} at {place(error.pos)}") from None
        except RecursionError:
            raise RequestError(f"{what} is not JSON that can be sent: nested too deep") from None
        except RequestError:
            raise
        except ValueError as error:  # an integer of more digits than Python takes
            raise RequestError(f"{what} is not JSON that can be sent: {one_line(str(error))}") from None
        values.append(value)
        position = _skip_space(text, position)
    return values


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return position if match is None else match.end()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise RequestError(
            f"the field {brief(repr(max(names, key=names.count)))} is given twice in one object"
        )
    return result


def _type_name(method: Method) -> str:
    return method.request_type.DESCRIPTOR.full_name


def _explained(method: Method, error: str) -> str:
    if (match := _NO_FIELD.search(error)) is None:
        said = one_line(error).replace(" field: Failed to parse ", ".")  # one path, however deep
        return f"{_type_name(method)}: {brief(said.rstrip('.'), _MOST_EXPLAINED)}"
    fields = method.pool.FindMessageTypeByName(match[1]).fields
    names = ", ".join(field.name for field in fields) or "none"
    return f"{match[1]} has no field {brief(repr(match[2]))}; it has: {names}"
