from typing import Any, Final

from typing_extensions import disjoint_base

from tai_grpc._ext.aio.callstream import CallStream
from tai_grpc._ext.aio.task import CallTask

METHOD_NOT_FOUND: Final[str]
LIMIT_EXCEEDED: Final[str]

@disjoint_base
class Peer: ...

@disjoint_base
class HandlerTask(CallTask[Any]): ...

@disjoint_base
class ServedCall(CallStream): ...
