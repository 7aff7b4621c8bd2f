"""The server that is attacked, in a process of its own: it says its port, and how it is when it is asked.

python tests/attacks/attacked.py [--descriptors N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
from pathlib import Path
from typing import Any

import grpc

from tai_grpc import aio

OPTIONS = [
    ("grpc.server_handshake_timeout_ms", 500),
    ("tai.stall_timeout_ms", 1000),
    ("grpc.keepalive_time_ms", 3_600_000),
    ("grpc.so_reuseport", 0),
]


class Attacked(grpc.GenericRpcHandler):
    """A handler of each kind that an attack may aim at."""

    def __init__(self) -> None:
        self.running = 0
        self.most_running = 0
        self.problems: list[str] = []
        self.handlers: dict[str, Any] = {
            "/attacked/Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "/attacked/Big": grpc.unary_unary_rpc_method_handler(self.big),
            "/attacked/Hold": grpc.stream_stream_rpc_method_handler(self.hold),
            "/attacked/State": grpc.unary_unary_rpc_method_handler(self.state),
        }

    def service(self, handler_call_details: Any) -> Any:
        return self.handlers.get(handler_call_details.method)

    async def echo(self, request: bytes, context: Any) -> bytes:
        return request

    async def big(self, request: bytes, context: Any) -> bytes:
        return b"y" * 10_000

    async def hold(self, requests: Any, context: Any) -> Any:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.get_running_loop().create_future()
            yield b""
        finally:
            self.running -= 1

    @staticmethod
    def process() -> tuple[str, int]:
        return Path("/proc/self/status").read_text(), len(list(Path("/proc/self/fd").iterdir()))

    async def state(self, request: bytes, context: Any) -> bytes:
        status, descriptors = self.process()
        found = {
            "rss_kib": int(status.split("VmRSS:")[1].split()[0]),
            "descriptors": descriptors,
            "running": self.running,
            "most_running": self.most_running,
            "tasks": len(asyncio.all_tasks()),
            "problems": self.problems,
        }
        self.most_running = 0
        return json.dumps(found).encode()


async def serve() -> None:
    attacked = Attacked()

    def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        attacked.problems.append(f"{context.get('message')}: {context.get('exception')!r}")
        del attacked.problems[:-200]

    asyncio.get_running_loop().set_exception_handler(note)
    server = aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((attacked,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    # Its parent closes standard input when it has done.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--descriptors", type=int, help="how many it may have open")
    given = parser.parse_args()
    if given.descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (given.descriptors, given.descriptors))
    asyncio.run(serve())


if __name__ == "__main__":
    main()
