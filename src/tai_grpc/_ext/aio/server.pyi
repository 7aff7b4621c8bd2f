from typing_extensions import disjoint_base

from tai_grpc._ext.aio.connection import Connection
from tai_grpc._ext.aio.service import Service
from tai_grpc._ext.aio.timers import TimerEntry

@disjoint_base
class ConnectionTimer(TimerEntry): ...

@disjoint_base
class ServerConnection(Connection):
    def __init__(self, service: Service) -> None: ...
    def drain(self) -> None: ...
    def cut(self) -> None: ...
