"""Templates as ghz has them: `{{.RequestNumber}}` or `{{randomInt 1 100}}` in data and metadata."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from tai_grpc.errors import brief
from tai_grpc.load.errors import RequestError
from tai_grpc.load.methods import Method

ACTION: Final = re.compile(r"\{\{([^{}]*)\}\}")
MAX_RANDOM_STRING: Final = 1_000_000

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")


class Call(NamedTuple):
    """The call that a template is rendered for. Its `uuid` and `now_ns` are the same in all its templates."""

    number: int
    now_ns: int
    uuid: str


Piece = Callable[[Call], str]


def new_uuid() -> str:
    """Return a random UUID (version 4)."""
    digits = f"{random.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled text. `constant` is what it renders to when that is the same for every call."""

    pieces: tuple[Piece, ...]
    constant: str | None = None

    def render(self, call: Call) -> str:
        pieces = self.pieces
        if len(pieces) == 1:
            return pieces[0](call)
        return "".join([piece(call) for piece in pieces])


class Names:
    """What the templates of a run may name.

    `workers` is how many different values `{{.WorkerID}}` has: requests are rendered ahead of time, before it
    is known which worker will send them, so it is the request's number modulo the concurrency.
    """

    def __init__(self, method: Method, *, workers: int, functions: bool = True) -> None:
        self._constants: Final[Mapping[str, str]] = {
            ".FullyQualifiedName": f"{method.service}.{method.name}",
            ".ServiceName": method.service.rpartition(".")[2],
            ".MethodName": method.name,
            ".InputName": method.request_type.DESCRIPTOR.name,
            ".OutputName": method.response_type.DESCRIPTOR.name,
            ".IsClientStreaming": str(method.client_streaming).lower(),
            ".IsServerStreaming": str(method.server_streaming).lower(),
        }
        self._variables: Final[Mapping[str, Piece]] = {
            ".RequestNumber": lambda call: str(call.number),
            ".UUID": lambda call: call.uuid,
            ".Timestamp": lambda call: _rfc3339(call.now_ns // 1_000_000_000),
            ".TimestampUnix": lambda call: str(call.now_ns // 1_000_000_000),
            ".TimestampUnixMilli": lambda call: str(call.now_ns // 1_000_000),
            ".TimestampUnixNano": lambda call: str(call.now_ns),
            ".WorkerID": lambda call: f"w{call.number % workers}",
        }
        self._functions: Final[Mapping[str, Callable[[str, list[int]], Piece]]] = (
            {"newUUID": _new_uuid, "randomString": _random_string, "randomInt": _random_int}
            if functions
            else {}
        )
        self._with_uuid = False

    def call(self, number: int) -> Call:
        """Return the call with this number, now."""
        return Call(number, time.time_ns(), new_uuid() if self._with_uuid else "")

    def compile(self, text: str, where: str) -> Template:
        """Compile a text with any number of actions; `where` names it in errors.

        Raises:
            RequestError: an action is not one that there is, or its arguments are wrong.
        """
        parts: list[str | Piece] = []
        position = 0
        for match in ACTION.finditer(text):
            parts += (text[position : match.start()], self._piece(match, where))
            position = match.end()
        parts.append(text[position:])
        if any("{{" in part for part in parts if isinstance(part, str)):
            raise RequestError(
                f"{where}: a {{{{ without its }}}}; there are {self._listed()} "
                "(--disable-template-data sends the data as it is)"
            )
        return _joined(parts)

    def _piece(self, match: re.Match[str], where: str) -> str | Piece:
        action, words = match[0], match[1].split()
        name, arguments = (words[0], words[1:]) if words else ("", [])
        if not arguments and name in self._constants:
            return self._constants[name]
        if not arguments and name in self._variables:
            self._with_uuid |= name == ".UUID"
            return self._variables[name]
        if (function := self._functions.get(name)) is None:
            raise RequestError(f"{where}: {brief(action)} is not known here; there are {self._listed()}")
        if not all(_WHOLE.fullmatch(argument) for argument in arguments):
            raise RequestError(f"{where}: {brief(action)}: its arguments are whole numbers")
        return function(f"{where}: {brief(action)}", [int(argument) for argument in arguments])

    def _listed(self) -> str:
        names: Iterable[str] = (*self._variables, *self._constants)
        if self._functions:
            names = (*names, "newUUID", "randomString LENGTH", "randomInt MIN MAX")
        return ", ".join(f"{{{{{name}}}}}" for name in names)


def _joined(parts: list[str | Piece]) -> Template:
    """One piece for each run of fixed text and for each action."""
    pieces: list[Piece] = []
    fixed = ""
    for part in parts:
        if isinstance(part, str):
            fixed += part
            continue
        if fixed:
            pieces.append(_fixed(fixed))
            fixed = ""
        pieces.append(part)
    if not pieces:
        return Template((_fixed(fixed),), fixed)
    if fixed:
        pieces.append(_fixed(fixed))
    return Template(tuple(pieces))


def _fixed(text: str) -> Piece:
    return lambda _: text


@lru_cache(maxsize=4)
def _rfc3339(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _new_uuid(action: str, arguments: list[int]) -> Piece:
    if arguments:
        _refuse(action, "no argument")
    return lambda _: new_uuid()


def _random_string(action: str, arguments: list[int]) -> Piece:
    if len(arguments) != 1 or arguments[0] > MAX_RANDOM_STRING:
        _refuse(action, f"one argument, the length, {MAX_RANDOM_STRING} at most")
    (length,) = arguments
    if length <= 0:  # as ghz has it
        return lambda _: "".join(random.choices(_LETTERS, k=random.randint(2, 16)))  # noqa: S311 - not secret
    return lambda _: "".join(random.choices(_LETTERS, k=length))  # noqa: S311 - not secret


def _random_int(action: str, arguments: list[int]) -> Piece:
    if len(arguments) != 2 or arguments[0] >= arguments[1]:
        _refuse(action, "two arguments, the least number and one above the greatest")
    low, span = arguments[0], arguments[1] - arguments[0]
    if span > 1 << 52:  # more than a float tells apart
        return lambda _: str(low + random.randrange(span))  # noqa: S311 - not secret
    return lambda _: str(low + int(random.random() * span))  # noqa: S311 - not secret


def _refuse(action: str, accepted: str) -> NoReturn:
    raise RequestError(f"{action}: expected {accepted}")
