"""What the calls of a run send."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final, NamedTuple, Protocol

from tai_grpc.errors import ConfigError
from tai_grpc.load.binary import split_binary
from tai_grpc.load.errors import RequestError
from tai_grpc.load.messages import MessageTemplate, parse_templates
from tai_grpc.load.metadata import metadata_value, split_metadata
from tai_grpc.load.methods import Method
from tai_grpc.load.payload import parse_messages
from tai_grpc.load.templates import Call, Names, Template, new_uuid
from tai_grpc.status import Metadata

MAX_DYNAMIC_MESSAGES: Final = 10_000
"""The most messages of one call that are each rendered on their own: a call is rendered before it is sent."""


class Request(NamedTuple):
    """What one call sends: one serialized message, or those of a stream, and its metadata."""

    messages: tuple[bytes, ...]
    metadata: Metadata = ()


class RequestSource(Protocol):
    """Where the requests of a run come from. For one thread at a time."""

    @property
    def fixed(self) -> Sequence[Request] | None:
        """The requests when they are the same all the time, call N sending number N modulo how many they are;
        None when each call's is rendered from templates.
        """

    def render(self, number: int) -> Request:
        """Return the request of call `number`, from 0.

        Raises:
            RequestError: its templates have come to what does not fit the method's request type.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What the calls of a run are to send, as it was written.

    `text` is JSON with templates: a message, several one after the other, or an array. `binary` is one
    serialized message or several, each after its length; without either it is one empty message. Methods
    with one request send the messages in turn, one a call; methods with a request stream send all of them in
    each call. `metadata` has entries as `metadata.parse_metadata` takes them, with templates in the values.

    With `templates` off `{{` has no meaning; with `functions` off only variables are rendered. `workers` is
    the concurrency. With `dynamic` each message of a request stream is
    rendered anew, as many of them as `stream_messages` says, the text's messages taken from the beginning
    again; otherwise a call's messages are rendered once, however often they are sent.
    """

    text: str | None = None
    binary: bytes | None = None
    metadata: Sequence[str] = ()
    templates: bool = True
    functions: bool = True
    workers: int = 50
    dynamic: bool = False
    stream_messages: int | None = None


def make_requests(method: Method, data: Data) -> RequestSource:
    """Return the source of what `data` says, whose first request was rendered to see that it can be sent.

    Raises:
        RequestError: the data or the metadata is not what the method takes, or names what there is not.
    """
    names = Names(method, workers=data.workers, functions=data.functions)
    first = Call(0, time.time_ns(), new_uuid())  # all that templates, not compiled yet, may ask for
    messages = _messages(method, data, names, first)
    if not messages and not method.client_streaming:
        raise RequestError(f"the data holds no message, and {method.full_name} takes one")
    metadata = _metadata(data, names, first)
    source: RequestSource = _Rendered(method, data, messages, metadata, names)
    fixed = [message.constant for message in messages]
    if any(each is None for each in fixed) or any(template for _, _, template in metadata):
        return source
    count = 1 if method.client_streaming else max(1, len(messages))
    return Fixed([source.render(number) for number in range(count)])


class Fixed:
    """Requests that were there before the run."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = tuple(requests)

    @property
    def fixed(self) -> Sequence[Request]:
        return self._requests

    def render(self, number: int) -> Request:
        return self._requests[number % len(self._requests)]


class _Message(Protocol):
    @property
    def constant(self) -> bytes | None: ...

    def render(self, call: Call) -> bytes: ...


class _Constant(NamedTuple):
    constant: bytes

    def render(self, call: Call) -> bytes:
        return self.constant


_Entry = tuple[str, str | bytes, Template | None]
"""A key, its value in the first call, and the template of the others unless it stays the same."""


class _Rendered:
    def __init__(
        self,
        method: Method,
        data: Data,
        messages: Sequence[_Message],
        metadata: Sequence[_Entry],
        names: Names,
    ) -> None:
        self._made_of = (method, data)
        self._messages = messages
        self._names = names
        self._metadata = metadata
        self._fixed_metadata: Metadata | None = None
        if not any(template for _, _, template in metadata):
            self._fixed_metadata = tuple((key, value) for key, value, _ in metadata)
        self._select: Callable[[int], Sequence[_Message]] = self._in_turn
        if method.client_streaming:
            count = data.stream_messages if data.dynamic else None
            number = len(messages) if count is None else count
            if data.dynamic and number > MAX_DYNAMIC_MESSAGES:
                accepted = f"at most {MAX_DYNAMIC_MESSAGES} with --stream-dynamic-messages"
                raise ConfigError("stream-call-count", number, accepted)
            stream = tuple(islice(cycle(messages), number))
            self._select = lambda _: stream

    def __reduce__(self) -> tuple[Callable[[Method, Data], RequestSource], tuple[Method, Data]]:
        """Go to another process as what it was made of."""
        return make_requests, self._made_of

    @property
    def fixed(self) -> None:
        return None

    def render(self, number: int) -> Request:
        call = self._names.call(number)
        messages = tuple([message.render(call) for message in self._select(number)])
        metadata = self._fixed_metadata
        if metadata is None:
            metadata = tuple(
                [
                    (key, value if template is None else metadata_value(key, template.render(call)))
                    for key, value, template in self._metadata
                ]
            )
        return Request(messages, metadata)

    def _in_turn(self, number: int) -> Sequence[_Message]:
        return (self._messages[number % len(self._messages)],)


def _messages(method: Method, data: Data, names: Names, first: Call) -> list[_Message]:
    if data.binary is not None:
        return [_Constant(message) for message in split_binary(method, data.binary)]
    if data.text is None:
        return [_Constant(b"")]
    if data.templates and "{{" in data.text:
        found: list[MessageTemplate] = parse_templates(method, data.text, names, first)
        return list(found)
    return [_Constant(message.SerializeToString()) for message in parse_messages(method, data.text)]


def _metadata(data: Data, names: Names, first: Call) -> list[_Entry]:
    entries: list[_Entry] = []
    for key, text in split_metadata(data.metadata):
        if not data.templates or "{{" not in text:
            entries.append((key, metadata_value(key, text), None))
            continue
        template = names.compile(text, f"metadata {key!r}")
        varies = template.constant is None
        entries.append((key, metadata_value(key, template.render(first)), template if varies else None))
    return entries
