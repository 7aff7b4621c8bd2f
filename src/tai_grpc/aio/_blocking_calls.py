"""The methods of a blocking channel: called they make calls, with grpc's arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn, Self

import grpc
from grpc import CallCredentials, StatusCode

from tai_grpc._ext.aio.blocking_stream import BlockingStream
from tai_grpc.aio._blocking_attempt import Attempt, code_of, feed, unary
from tai_grpc.aio._blocking_keeper import RefusalError
from tai_grpc.aio._blocking_start import Arguments, Entries, Start, Starter

_OK: Final = 0


class BlockingRpcError(grpc.RpcError):
    """A call failed: its status, as in any `grpc.RpcError`.

    It is also what grpc's interceptors have in hand when a call failed: a future that is done.
    """

    def __init__(
        self, code: StatusCode, details: str, initial_metadata: Entries = (), trailing_metadata: Entries = ()
    ) -> None:
        super().__init__(f"{code.name}: {details}")
        self._code = code
        self._details = details
        self._initial_metadata = initial_metadata
        self._trailing_metadata = trailing_metadata

    def code(self) -> StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def initial_metadata(self) -> Entries:
        return self._initial_metadata

    def trailing_metadata(self) -> Entries:  # type: ignore[override]  # the stubs' own tuple type is private
        return self._trailing_metadata

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> NoReturn:
        raise self

    def exception(self, timeout: float | None = None) -> Self:
        return self

    def add_done_callback(self, fn: Callable[[Self], object]) -> None:
        fn(self)


class _MultiCallable:
    """One method. `timeout` is in seconds. Errors: BlockingRpcError, and ValueError on a closed channel."""

    def __init__(
        self,
        starter: Starter,
        method: str,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
    ) -> None:
        self._starter = starter
        self._method = method
        self._serialize = serialize
        self._deserialize = deserialize

    def _start(self, request: bytes | None, arguments: Arguments, *, single: bool) -> Start:
        try:
            return self._starter.start(self._method, request, arguments, single=single)
        except RefusalError as refusal:
            raise BlockingRpcError(refusal.code, refusal.details) from None

    def _serialized(self, request: Any) -> bytes:
        try:
            return request if self._serialize is None else self._serialize(request)
        except Exception as error:
            raise BlockingRpcError(
                StatusCode.INTERNAL, f"the request cannot be serialized: {error!r}"
            ) from error

    def _fed(self, requests: Iterable[Any], arguments: Arguments, *, single: bool) -> Attempt:
        """Start a call whose requests a thread sends. What their source raises ends it with UNKNOWN, as in
        grpc.
        """
        attempt = Attempt(self._starter.keeper, self._start(None, arguments, single=single))

        def serialized() -> Iterator[bytes]:
            for request in requests:
                data = request if self._serialize is None else self._serialize(request)
                self._starter.check_size(data)
                yield data

        def failed(error: Exception) -> None:
            if isinstance(error, RefusalError):
                attempt.cancel(error.code, error.details)
            else:
                attempt.cancel(StatusCode.UNKNOWN, f"Exception iterating requests! {error!r}")

        feed(attempt, serialized(), failed)
        return attempt

    def _message(self, data: bytes | None, ended: BlockingStream | Attempt) -> Any:
        if data is None:
            raise BlockingRpcError(
                StatusCode.INTERNAL,
                "the server ended the call with OK and without a response",
                ended.initial_metadata(),
                ended.trailing_metadata(),
            )
        return _read(data, self._deserialize, ended)


class _OneResponseMultiCallable(_MultiCallable):
    """One that grpc's blocking interface can also start without waiting for its response."""

    def future(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: there is no thread in which the call would go on.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "a blocking channel of tai_grpc.aio has no future(): make the call in a thread of yours, such as "
            "those of concurrent.futures.ThreadPoolExecutor, or on a channel of asyncio"
        )


class UnaryUnaryMultiCallable(_OneResponseMultiCallable):
    """One request, one response."""

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        return self.with_call(request, timeout, metadata, credentials, wait_for_ready, compression)[0]

    def with_call(  # noqa: PLR0917 - as above
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, FinishedCall]:
        """Return the response, and the call with its metadata."""
        arguments = Arguments(timeout, metadata, credentials, wait_for_ready, compression)
        start = self._start(self._serialized(request), arguments, single=True)
        try:
            stream = unary(self._starter.keeper, start)
        except RefusalError as refusal:
            raise BlockingRpcError(refusal.code, refusal.details) from None
        answer = stream.read() if stream.code == _OK else None
        if stream.code != _OK:
            raise _error(stream)
        return self._message(answer, stream), FinishedCall(stream)


class UnaryStreamMultiCallable(_MultiCallable):
    """One request, a stream of responses. The call returns once it is on a connection or has failed."""

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> ResponseIterator:
        arguments = Arguments(timeout, metadata, credentials, wait_for_ready, compression)
        start = self._start(self._serialized(request), arguments, single=False)
        return ResponseIterator(Attempt(self._starter.keeper, start), self._deserialize)


class StreamUnaryMultiCallable(_OneResponseMultiCallable):
    """A stream of requests, one response."""

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        return self.with_call(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)[
            0
        ]

    def with_call(  # noqa: PLR0917 - as above
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, FinishedCall]:
        """Return the response, and the call with its metadata."""
        arguments = Arguments(timeout, metadata, credentials, wait_for_ready, compression)
        attempt = self._fed(request_iterator, arguments, single=True)
        try:
            attempt.wait_ended()
        except BaseException:
            attempt.cancel()
            raise
        answer = attempt.read() if attempt.code is StatusCode.OK else None
        if attempt.code is not StatusCode.OK:
            raise _error(attempt)
        return self._message(answer, attempt), FinishedCall(attempt)


class StreamStreamMultiCallable(_MultiCallable):
    """A stream of requests, a stream of responses. As `UnaryStreamMultiCallable`."""

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> ResponseIterator:
        arguments = Arguments(timeout, metadata, credentials, wait_for_ready, compression)
        return ResponseIterator(self._fed(request_iterator, arguments, single=False), self._deserialize)


class FinishedCall:
    """What `with_call` gives beside the response."""

    def __init__(self, ended: BlockingStream | Attempt) -> None:
        self._ended = ended

    def code(self) -> StatusCode:
        return StatusCode.OK

    def details(self) -> str:
        return self._ended.details

    def initial_metadata(self) -> Entries:
        return self._ended.initial_metadata()

    def trailing_metadata(self) -> Entries:
        return self._ended.trailing_metadata()


class ResponseIterator:
    """An iterator over a call's responses; any thread may cancel it. Dropping it ends the call."""

    def __init__(self, attempt: Attempt, deserialize: Callable[[bytes], Any] | None) -> None:
        self._attempt = attempt
        self._deserialize = deserialize

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        data = self._attempt.read()
        if data is not None:
            return _read(data, self._deserialize, self._attempt)
        if self._attempt.code is StatusCode.OK:
            raise StopIteration
        raise _error(self._attempt)

    def cancel(self) -> bool:
        """Give the call up; False when it has ended already."""
        return self._attempt.cancel()

    def is_active(self) -> bool:
        return not self._attempt.all_read

    def code(self) -> StatusCode:
        """Wait for the status."""
        self._attempt.wait_ended()
        return self._attempt.code

    def details(self) -> str:
        self._attempt.wait_ended()
        return self._attempt.details

    def initial_metadata(self) -> Entries:
        """Wait for the response's headers."""
        self._attempt.answered()
        return self._attempt.initial_metadata()

    def trailing_metadata(self) -> Entries:
        self._attempt.wait_ended()
        return self._attempt.trailing_metadata()

    def __del__(self) -> None:
        # A thread that feeds it holds the attempt, and may be waiting for the next request.
        self._attempt.abandon()


def _read(data: bytes, deserialize: Callable[[bytes], Any] | None, call: BlockingStream | Attempt) -> Any:
    if deserialize is None:
        return data
    try:
        return deserialize(data)
    except Exception as error:
        details = f"the response cannot be read: {error!r}"
        if isinstance(call, Attempt):
            call.fail(details)
        raise BlockingRpcError(
            StatusCode.INTERNAL, details, call.initial_metadata(), call.trailing_metadata()
        ) from error


def _error(ended: BlockingStream | Attempt) -> BlockingRpcError:
    code = ended.code if isinstance(ended, Attempt) else code_of(ended)
    return BlockingRpcError(code, ended.details, ended.initial_metadata(), ended.trailing_metadata())
