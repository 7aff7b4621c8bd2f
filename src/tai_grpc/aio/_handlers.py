"""From grpcio's method handlers to the compiled methods that a server calls.

A handler is adapted once, when it is registered or first asked for: wrapped, and looked at for the kind of
function that it is. Handlers that interceptors return are adapted when they are new.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import grpc

from tai_grpc._ext.aio.service import Method
from tai_grpc.handlers import Handler, adapted

Wrap = Callable[[str, Handler], Handler]
"""Of "/pkg.Service/Method" and its handler makes the handler that is to be served."""


class CallDetails(NamedTuple):
    """What generic handlers and interceptors are told of a call: grpc.HandlerCallDetails."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...]


grpc.HandlerCallDetails.register(CallDetails)


class Registry:
    """The methods of a server, as they were registered and as they are served."""

    def __init__(
        self,
        pool: Executor | None,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        wrap: Wrap | None = None,
    ) -> None:
        self.methods: dict[bytes, Method] = {}
        """By path. Only what was registered by name gets in, so it cannot grow beyond that."""
        self._pool = pool
        self._interceptors = tuple(interceptors)
        self._wrap = wrap
        self._registered: set[bytes] = set()
        self._generic: list[Any] = []

    def add_generic(self, handlers: Iterable[Any]) -> None:
        """Add handlers that are asked in turn; those that grpcio makes of a dict only once for each path."""
        for handler in handlers:
            if not callable(getattr(handler, "service", None)):
                raise TypeError(f"{handler!r} is not a grpc.GenericRpcHandler: it has no method `service`")
            self._generic.append(handler)
        # What was found earlier may have been found behind one of these; methods by name stay.
        for path in self.methods.keys() - self._registered:
            del self.methods[path]

    def add_registered(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Add methods by name: they come before generic handlers."""
        for name, handler in handlers.items():
            path = f"/{service}/{name}"
            self.methods[path.encode()] = self.adapted(path, self._wrapped(path, handler))
            self._registered.add(path.encode())

    def resolve(self, path: str, metadata: tuple[Any, ...]) -> tuple[Method | None, bool]:
        """Ask the generic handlers; also say whether the answer holds for every call of the path."""
        for_good = True
        details = CallDetails(path, metadata)
        for generic in self._generic:
            # What protoc's code registers answers by the path alone; one of the user's own as it likes.
            for_good = for_good and type(generic) is _BY_PATH
            handler = generic.service(details)
            if handler is not None:
                return self.adapted(path, self._wrapped(path, handler)), for_good
        return None, False

    @property
    def intercepts(self) -> bool:
        return bool(self._interceptors)

    async def intercept(self, path: str, metadata: tuple[Any, ...]) -> Method | None:
        """Ask the interceptors, the first one first, and at last the handlers."""
        details = CallDetails(path, metadata)
        found: Method | None = None

        async def innermost(details: Any) -> Handler | None:
            nonlocal found
            method = details.method
            found = self.methods.get(method.encode() if isinstance(method, str) else method)
            if found is None:
                found, for_good = self.resolve(method, tuple(details.invocation_metadata or ()))
                if found is not None and for_good:
                    self.methods[method.encode()] = found
            return None if found is None else found.source

        continuation: Callable[[Any], Awaitable[Handler | None]] = innermost
        for interceptor in reversed(self._interceptors):
            continuation = _bound(interceptor, continuation)
        handler = await continuation(details)
        if handler is None:
            return None
        return found if found is not None and handler is found.source else self.adapted(path, handler)

    def _wrapped(self, path: str, handler: Handler) -> Handler:
        return handler if self._wrap is None else self._wrap(path, handler)

    def adapted(self, path: str, handler: Handler) -> Method:
        """Return a handler as a compiled method."""
        behaviour, generates = adapted(path, handler, self._pool)
        return Method(
            path,
            handler,
            behaviour,
            handler.request_deserializer,
            handler.response_serializer,
            bool(handler.request_streaming),
            bool(handler.response_streaming),
            generates,
        )


_BY_PATH = type(grpc.method_handlers_generic_handler("", {}))


def _bound(
    interceptor: grpc.aio.ServerInterceptor, continuation: Callable[[Any], Awaitable[Handler | None]]
) -> Callable[[Any], Awaitable[Handler | None]]:
    async def intercept(details: Any) -> Handler | None:
        return await interceptor.intercept_service(continuation, details)

    return intercept
