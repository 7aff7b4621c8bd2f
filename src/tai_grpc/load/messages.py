"""Requests whose JSON holds templates: parsed once, then only the fields with templates are set anew."""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tai_grpc.errors import brief
from tai_grpc.load.errors import RequestError
from tai_grpc.load.methods import Method
from tai_grpc.load.payload import json_requests, place_in, to_message
from tai_grpc.load.templates import ACTION, Call, Names, Template

WHERE: Final = "the data"

# A JSON string, or what else stands between JSON's own signs, actions and what they touch included.
_TOKEN: Final = re.compile(rf'"(?:\\.|[^"\\])*"|(?:{ACTION.pattern}|[^\s"{{}}\[\],:])+', re.DOTALL)
_INTEGERS: Final = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)
_FLOATS: Final = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})
_WRAPPED: Final = re.compile(r"google\.protobuf\.(?:U?Int(?:32|64)|Float|Double|String|Bytes)Value")
_FROM_TEXT: Final = frozenset(
    {"google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"}
)

Fill = Callable[[str], object]
"""Sets a field from what its template was rendered to. ValueError or TypeError: it does not fit."""


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """A JSON value with templates in it; a `bare` one stands where a number may stand, not in a string."""

    template: Template
    bare: bool

    def value(self, text: str) -> Any:
        """Return the JSON value that it is when its template was rendered to `text`."""
        if not self.bare:
            return text
        try:
            return json.loads(text)
        except ValueError:
            raise RequestError(f"{WHERE}: a template came to {brief(text)}, which is not JSON") from None


class MessageTemplate:
    """One message. For one thread at a time."""

    def __init__(self, method: Method, value: Any, first: Call) -> None:
        """Take a JSON value with slots, and see that it fits when it is rendered for the call `first`.

        Raises:
            RequestError: it does not.
        """
        self._method = method
        self._value = value
        self._slots = tuple(_slots(value))
        self._templates = tuple(slot.template for slot in self._slots)
        self._message = self._parsed([template.render(first) for template in self._templates])
        self._constant = None if self._slots else self._message.SerializeToString()
        self._fills: tuple[Fill, ...] | None = None
        if (fills := _fills(self._message, value)) is not None:
            self._fills = tuple(fills[slot] for slot in self._slots)

    @property
    def constant(self) -> bytes | None:
        """The serialized message when it is the same for every call."""
        return self._constant

    def render(self, call: Call) -> bytes:
        """Return the message of a call, serialized.

        Raises:
            RequestError: what the templates have come to does not fit the message's fields.
        """
        if self._constant is not None:
            return self._constant
        texts = [template.render(call) for template in self._templates]
        if self._fills is not None:
            try:
                for fill, text in zip(self._fills, texts, strict=True):
                    fill(text)
            except (ValueError, TypeError):
                pass  # parsing says what is wrong
            else:
                return self._message.SerializeToString()
        return self._parsed(texts).SerializeToString()

    def _parsed(self, texts: Sequence[str]) -> Message:
        return to_message(self._method, _filled(self._value, dict(zip(self._slots, texts, strict=True))))


def parse_templates(method: Method, text: str, names: Names, first: Call) -> list[MessageTemplate]:
    """Return the requests in `text`, which is JSON with templates (see `payload.parse_messages`).

    Raises:
        RequestError: there is no such action, or the text rendered for the call `first` is not JSON that fits
            the method's request type.
    """
    mark = next(sign for sign in map(chr, range(0xE000, 0xF8FF)) if not _holds(text, sign))

    def with_slots(value: Any) -> Any:
        match value:
            case str() if value.startswith(mark):
                template = names.compile(value[1:], WHERE)
                return _simplest(template, bare=True)
            case str() if "{{" in value:
                return _simplest(names.compile(value, WHERE), bare=False)
            case list():
                return [with_slots(each) for each in value]
            case dict():
                return {with_slots(key): with_slots(each) for key, each in value.items()}
        return value

    quoted, before = _quoted(text, mark)
    values = json_requests(method, quoted, lambda position: place_in(text, before(position)))
    try:
        return [MessageTemplate(method, with_slots(value), first) for value in values]
    except RecursionError:
        raise RequestError(f"{WHERE} is nested too deep") from None


def _holds(text: str, sign: str) -> bool:
    return sign in text or f"\\u{ord(sign):x}" in text.lower()


def _quoted(text: str, mark: str) -> tuple[str, Callable[[int], int]]:
    """Return JSON in which bare templates are strings that begin with `mark`.

    And what tells of a position in it, that is in none of them, where it was in `text`.
    """
    ends: list[int] = []
    grown = [0]

    def quoted(match: re.Match[str]) -> str:
        found = match[0]
        if not _is_bare_template(found):
            return found
        string = json.dumps(mark + found, ensure_ascii=False)
        grown.append(grown[-1] + len(string) - len(found))
        ends.append(match.end() + grown[-1])
        return string

    return _TOKEN.sub(quoted, text), lambda position: position - grown[bisect_right(ends, position)]


def _is_bare_template(token: str) -> bool:
    return "{{" in token and not token.startswith('"')


def _simplest(template: Template, *, bare: bool) -> Any:
    """A slot, or the value that it would always have."""
    slot = Slot(template, bare)
    return slot if template.constant is None else slot.value(template.constant)


def _slots(value: Any) -> Iterator[Slot]:
    match value:
        case Slot():
            yield value
        case list():
            for each in value:
                yield from _slots(each)
        case dict():
            for key, each in value.items():
                yield from _slots(key)
                yield from _slots(each)


def _filled(value: Any, texts: Mapping[Slot, str]) -> Any:
    """Return the JSON value in which every slot has become what its template was rendered to."""
    match value:
        case Slot():
            return value.value(texts[value])
        case list():
            return [_filled(each, texts) for each in value]
        case dict():
            return {_filled(key, texts): _filled(each, texts) for key, each in value.items()}
    return value


def _fills(message: Message, value: Any) -> dict[Slot, Fill] | None:
    """Return what sets the field of each slot in `message`, which `value` was parsed into.

    None when a slot is in a place that only parsing understands.
    """
    fills: dict[Slot, Fill] = {}
    try:
        _Finder(fills).visit(message, value)
    except _NotSimpleError:
        return None
    return fills


class _NotSimpleError(Exception):
    """A slot is not the value of a plain field."""


class _Finder:
    def __init__(self, fills: dict[Slot, Fill]) -> None:
        self._fills = fills

    def visit(self, message: Any, value: Any) -> None:
        descriptor: Descriptor = message.DESCRIPTOR
        if not any(_slots(value)):
            return
        if isinstance(value, Slot):
            if descriptor.full_name in _FROM_TEXT:
                self._fills[value] = message.FromJsonString
            elif _WRAPPED.fullmatch(descriptor.full_name):
                self._set(message, descriptor.fields_by_name["value"], value)
            else:
                raise _NotSimpleError
            return
        if descriptor.full_name.startswith("google.protobuf."):
            raise _NotSimpleError
        by_json_name = {field.json_name: field for field in descriptor.fields}
        for key, each in value.items():
            if isinstance(key, Slot):
                raise _NotSimpleError
            if any(_slots(each)):
                field = by_json_name.get(key) or descriptor.fields_by_name.get(key)
                if field is None:  # an extension
                    raise _NotSimpleError
                self._visit_field(message, field, each)

    def _visit_field(self, message: Any, field: FieldDescriptor, value: Any) -> None:
        if not field.is_repeated:
            if field.message_type is None:
                self._set(message, field, value)
            else:
                self.visit(getattr(message, field.name), value)
            return
        inner: Any = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key_field, value_field = field.message_type.fields
            if key_field.cpp_type != FieldDescriptor.CPPTYPE_STRING or any(map(_is_slot, value)):
                raise _NotSimpleError
            items, field = value.items(), value_field
        else:
            items = enumerate(value)
        for key, each in items:
            if field.message_type is not None:
                self.visit(inner[key], each)
            elif isinstance(each, Slot):
                self._fills[each] = _setter(inner.__setitem__, key, field, each)

    def _set(self, message: Any, field: FieldDescriptor, value: Any) -> None:
        self._fills[value] = _setter(partial(setattr, message), field.name, field, value)


def _is_slot(value: Any) -> bool:
    return isinstance(value, Slot)


def _setter(assign: Callable[[Any, Any], object], key: Any, field: FieldDescriptor, slot: Slot) -> Fill:
    """Return what sets a field or element from text as the protobuf JSON mapping does."""
    if field.cpp_type in _INTEGERS:
        return lambda text: assign(key, int(text))
    if field.cpp_type in _FLOATS:
        return lambda text: assign(key, float(text))
    if slot.bare:
        raise _NotSimpleError
    if field.type == FieldDescriptor.TYPE_STRING:
        return lambda text: assign(key, text)
    if field.type == FieldDescriptor.TYPE_BYTES:
        # As many '=' as may be missing: more of them do not count.
        return lambda text: assign(key, base64.urlsafe_b64decode(text + "=="))
    raise _NotSimpleError
