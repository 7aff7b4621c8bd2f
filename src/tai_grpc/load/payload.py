"""Protobuf messages from JSON and back, and call metadata from text."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from tai_grpc.load.errors import RequestError
from tai_grpc.load.methods import Method

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NO_FIELD: Final = re.compile(r'Message type "([^"]+)" has no field named "([^"]*)"')
_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")
# Their JSON may be an array, which then is one message and not several.
_ARRAY_TYPES: Final = frozenset({"google.protobuf.ListValue", "google.protobuf.Value"})


def parse_messages(method: Method, text: str) -> list[Message]:
    """Return the requests in `text`: JSON objects one after the other, or one array of them.

    Fields have the proto's names or their camelCase form; values follow the protobuf JSON mapping.

    Raises:
        RequestError: `text` is not JSON, or does not fit the method's request type; says where.
    """
    values = _json_values(text)
    if len(values) == 1 and isinstance(values[0], list) and _type_name(method) not in _ARRAY_TYPES:
        values = values[0]
    return [_message(method, value) for value in values]


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


def parse_metadata(entries: Iterable[str]) -> tuple[tuple[str, str | bytes], ...]:
    """Return call metadata from entries that are each "key:value" or a JSON object of strings.

    The value of a key that ends in "-bin" is base64.

    Raises:
        RequestError: an entry is neither, or is not allowed on the wire.
    """
    pairs: list[tuple[str, str | bytes]] = []
    for entry in entries:
        if entry.lstrip().startswith("{"):
            pairs.extend(
                _metadata_pair(key, value) for key, value in parse_string_map(entry, "metadata").items()
            )
        else:
            key, colon, value = entry.partition(":")
            if not colon:
                raise RequestError(f"metadata {entry!r}: write it like key:value")
            pairs.append(_metadata_pair(key.strip(), value.strip()))
    return tuple(pairs)


def parse_string_map(text: str, what: str) -> dict[str, str]:
    """Return a JSON object whose values are all strings; `what` names it in errors.

    Raises:
        RequestError: `text` is something else.
    """
    values = _json_values(text)
    if len(values) == 1 and isinstance(values[0], dict):
        fields = values[0]
        if all(isinstance(value, str) for value in fields.values()):
            return fields
    raise RequestError(f'{what} {text!r}: expected a JSON object of strings, like {{"key":"value"}}')


def one_line(text: str) -> str:
    """Return `text` with every run of white space made one space."""
    return " ".join(text.split())


def _json_values(text: str) -> list[Any]:
    decoder = json.JSONDecoder(object_pairs_hook=_unique)
    values = []
    position = _skip_space(text, 0)
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise RequestError(
                f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
            ) from None
        except RecursionError:
            raise RequestError("not JSON that can be sent: nested too deep") from None
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
        raise RequestError(f"the field {max(names, key=names.count)!r} is given twice in one object")
    return result


def _type_name(method: Method) -> str:
    return method.request_type.DESCRIPTOR.full_name


def _message(method: Method, value: Any) -> Message:
    name = _type_name(method)
    if not isinstance(value, dict) and not name.startswith("google.protobuf."):
        raise RequestError(f"{name} is given as a JSON object, not as {json.dumps(value)}")
    message = method.request_type()
    try:
        json_format.ParseDict(value, message, descriptor_pool=method.pool)
    # Besides ParseError, json_format lets through what a value of the wrong JSON type happens to raise.
    except (json_format.ParseError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RequestError(_explained(method, str(error))) from None
    return message


def _explained(method: Method, error: str) -> str:
    if (match := _NO_FIELD.search(error)) is None:
        return f"{_type_name(method)}: {one_line(error).rstrip('.')}"
    fields = method.pool.FindMessageTypeByName(match[1]).fields
    return (
        f"{match[1]} has no field {match[2]!r}; it has: {', '.join(field.name for field in fields) or 'none'}"
    )


def _metadata_pair(key: str, value: str) -> tuple[str, str | bytes]:
    key = key.lower()
    if not _KEY.fullmatch(key):
        raise RequestError(f"metadata key {key!r}: letters, digits, '_', '-' and '.' only")
    if key.startswith("grpc-"):
        raise RequestError(f"metadata key {key!r}: keys that begin with grpc- are reserved")
    if key.endswith("-bin"):
        try:
            return key, base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise RequestError(f"metadata {key!r}: the value of a -bin key is base64") from None
    if not _VALUE.fullmatch(value):
        raise RequestError(
            f"metadata {key!r}: the value is printable ASCII; binary data goes under a -bin key"
        )
    return key, value
