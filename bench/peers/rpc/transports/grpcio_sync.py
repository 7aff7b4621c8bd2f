from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc

from bench.peers.rpc.echo import TEXT, messages, services
from bench.peers.rpc.protocol import OWN_CONNECTION, Blocking, BlockingClient, Serving, Tls
from bench.peers.rpc.servicers import NOTE, Count, ThreadedEcho

WORKERS = 10
"""As in grpcio's own examples."""


class Stub:
    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.unary = stub.Unary
        self.request = messages().Note(text=TEXT)

    def download(self, messages: int) -> int:
        return sum(1 for _ in self._stub.Download(Count(messages=messages)))

    def upload(self, messages: int) -> int:
        return int(self._stub.Upload(NOTE for _ in range(messages)).messages)

    def chat(self, messages: int) -> int:
        outgoing: SimpleQueue[Any] = SimpleQueue()
        replies = self._stub.Chat(iter(outgoing.get, None))
        for came in range(messages):
            outgoing.put(NOTE)
            if next(replies) != NOTE:
                return came
        outgoing.put(None)
        return messages


@contextmanager
def serve(port: int, tls: Tls | None) -> Iterator[Serving]:
    server = grpc.server(ThreadPoolExecutor(WORKERS))
    echo = ThreadedEcho()
    services().add_EchoServicer_to_server(echo, server)
    address = f"127.0.0.1:{port}"
    if tls is None:
        bound = server.add_insecure_port(address)
    else:
        pair = (tls.key.read_bytes(), tls.chain.read_bytes())
        bound = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    server.start()
    yield Serving(bound, echo)
    server.stop(None)


@contextmanager
def connect(port: int, tls: Tls | None) -> Iterator[BlockingClient]:
    address = f"127.0.0.1:{port}"
    if tls is None:
        channel = grpc.insecure_channel(address, OWN_CONNECTION)
    else:
        trusted = grpc.ssl_channel_credentials(tls.authority.read_bytes())
        channel = grpc.secure_channel(address, trusted, OWN_CONNECTION)
    with channel:
        yield Stub(services().EchoStub(channel))


PEER = Blocking(("grpcio", "protobuf"), serve, connect)
