from collections.abc import Callable, Iterable

from tai_grpc._ext.aio.call import Call
from tai_grpc._ext.aio.dispatcher import Dispatcher

class UnaryAttempt(Call):
    @property
    def response(self) -> bytes | None: ...
    @property
    def status(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def sent(self) -> bool: ...
    @property
    def unprocessed(self) -> bool: ...
    @property
    def initial(self) -> tuple[tuple[str, str | bytes], ...]: ...
    @property
    def trailing(self) -> tuple[tuple[str, str | bytes], ...]: ...

def unary_attempt(
    dispatcher: Dispatcher,
    method: bytes,
    request: bytes,
    hook: Callable[[UnaryAttempt], object] | None,
    *,
    timeout_ns: int = -1,
    metadata: Iterable[tuple[str, str | bytes]] | None = None,
    wait_for_ready: bool = False,
    encoding: int = 0,
) -> UnaryAttempt: ...
