"""The client's life, its typed calls, and any other stub."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, assert_type

import pytest
from grpc import StatusCode, aio

from client.kinds import Context, Item, Kinds, KindsStub, serve, until
from tai_grpc.client import BlockingGrpcClient
from tai_grpc.client import channel as channel_module
from tai_grpc.client.grpc_client import GrpcClient
from tai_grpc.config import GrpcClientConfig
from tai_grpc.errors import ConfigError, TaiGrpcError
from tai_grpc.status import CallError
from tai_grpc.tai import Policy, PolicyUpdate, Receipt, StreamPoliciesRequest
from tai_grpc.tai.v1 import coordinator_pb2, governor_pb2, scheduler_pb2
from tai_grpc.tai.v1.governor_pb2_grpc import GovernorServicer, GovernorStub, add_GovernorServicer_to_server


class Waiting:
    """A Kinds servicer whose One answers when it is told to."""

    def __init__(self) -> None:
        self.kinds = Kinds()
        self.kinds.one = self._one
        self.began = asyncio.Event()
        self.answer = asyncio.Event()

    async def _one(self, request: Any, _context: Context) -> Any:
        self.began.set()
        await self.answer.wait()
        return request


def config(address: str) -> GrpcClientConfig:
    return GrpcClientConfig(server_addresses=(address,))


@pytest.mark.parametrize("kind", [GrpcClient, BlockingGrpcClient])
@pytest.mark.parametrize("given", ["localhost:50051", 5, GrpcClientConfig])
def test_a_client_is_made_of_a_config_and_nothing_else(kind: Any, given: Any) -> None:
    with pytest.raises(ConfigError, match=r"config=.*: expected a GrpcClientConfig"):
        kind(given)


class TestLife:
    async def test_no_call_before_it_is_open(self) -> None:
        client = GrpcClient()
        with pytest.raises(TaiGrpcError, match="async with GrpcClient"):
            await client.governor.propose_policy(Policy())

    async def test_no_call_after_it_is_closed(self) -> None:
        async with GrpcClient() as client:
            pass
        for call in (client.governor.propose_policy, client.governor.stream_policies):
            with pytest.raises(TaiGrpcError, match="closed"):
                call(Policy())  # type: ignore[arg-type]  # one of the two takes another message
        await client.close()
        with pytest.raises(TaiGrpcError, match="opened before"):
            async with client:
                pass

    def test_no_call_from_another_event_loop(self) -> None:
        client = GrpcClient()

        async def enter() -> None:
            await client.__aenter__()

        async def call() -> None:
            with pytest.raises(TaiGrpcError, match="another event loop"):
                await client.governor.propose_policy(Policy())

        asyncio.run(enter())
        asyncio.run(call())

    async def test_closing_lets_calls_in_flight_end_within_the_grace(self) -> None:
        waiting = Waiting()
        async with serve(waiting.kinds) as address, GrpcClient(config(address)) as client:
            call = client.stub(KindsStub).One(Item(text="a"))
            await waiting.began.wait()
            closing = asyncio.create_task(client.close(grace=60.0))
            await asyncio.sleep(0)
            with pytest.raises(TaiGrpcError, match="closed"):
                client.stub(KindsStub).One(Item())
            waiting.answer.set()
            assert (await call).text == "a"
            await closing

    @pytest.mark.parametrize("grace", [None, 0.01])
    async def test_closing_ends_the_other_calls_and_says_so(self, grace: float | None) -> None:
        """Not with an asyncio.CancelledError, which would end the task that awaits the call."""
        waiting = Waiting()
        async with serve(waiting.kinds) as address, GrpcClient(config(address)) as client:
            stub = client.stub(KindsStub)
            call, chat = stub.One(Item()), stub.Chat()
            await chat.write(Item(text="a"))
            await chat.read()
            await waiting.began.wait()
            await client.close(grace)
            for awaited in (call, chat.read()):
                with pytest.raises(CallError, match="the client was closed") as caught:
                    await awaited
                assert caught.value.code() is StatusCode.CANCELLED
            assert client.endpoint_stats()[0].active_connections == 0
            assert client.endpoint_stats()[0].failures == 0

    async def test_a_task_that_is_cancelled_while_the_client_closes_stays_cancelled(self) -> None:
        waiting = Waiting()
        async with serve(waiting.kinds) as address, GrpcClient(config(address)) as client:

            async def work() -> None:
                await client.stub(KindsStub).One(Item())

            task = asyncio.create_task(work())
            await waiting.began.wait()
            task.cancel()
            await client.close()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def test_leaving_the_block_closes(self) -> None:
        waiting = Waiting()
        async with serve(waiting.kinds) as address:
            async with GrpcClient(config(address)) as client:
                call = client.stub(KindsStub).One(Item())
                await waiting.began.wait()
            assert await call.code() is StatusCode.CANCELLED
            await until(lambda: waiting.kinds.ended == 1)

    async def test_the_calls_in_flight_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(channel_module, "MAX_IN_FLIGHT", 2)
        waiting = Waiting()
        async with serve(waiting.kinds) as address, GrpcClient(config(address)) as client:
            stub = client.stub(KindsStub)
            calls = [stub.One(Item()) for _ in range(2)]
            with pytest.raises(CallError, match="2 calls in flight") as caught:
                await stub.One(Item())
            assert (caught.value.code(), caught.value.attempts) == (StatusCode.RESOURCE_EXHAUSTED, 0)
            waiting.answer.set()
            await asyncio.gather(*calls)
            await stub.One(Item())
            assert (client.stats().calls, client.stats().failed) == (4, 1)


class TestControlPlane:
    @pytest.mark.parametrize("name", ["governor", "coordinator", "scheduler"])
    def test_every_call_of_the_service_has_its_python_name(self, name: str) -> None:
        files = {"governor": governor_pb2, "coordinator": coordinator_pb2, "scheduler": scheduler_pb2}
        service = files[name].DESCRIPTOR.services_by_name[name.capitalize()]
        expected = {
            "".join(f"_{c.lower()}" if c.isupper() else c for c in m.name)[1:] for m in service.methods
        }
        assert set(vars(getattr(GrpcClient(), name))) == expected

    async def test_calls_are_typed_as_their_messages_are(self) -> None:
        class Governor(GovernorServicer):
            async def ProposePolicy(self, request: Policy, context: object) -> Receipt:
                return Receipt(subject_id=request.id)

            async def StreamPolicies(self, request: StreamPoliciesRequest, context: object) -> Any:
                yield PolicyUpdate(revision=1, policy=Policy(id="a"))

        server = aio.server()
        add_GovernorServicer_to_server(Governor(), server)  # type: ignore[abstract]  # the other calls are not made
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with GrpcClient(config(f"127.0.0.1:{port}")) as client:
            receipt = await client.governor.propose_policy(Policy(id="a"), timeout=5.0)
            assert_type(receipt, Receipt)
            assert receipt.subject_id == "a"
            async for update in client.governor.stream_policies(StreamPoliciesRequest()):
                assert_type(update, PolicyUpdate)
                assert update.revision == 1
            stub = client.stub(GovernorStub)
            assert_type(await stub.ProposePolicy(Policy()), Receipt)
        await server.stop(None)

    async def test_a_channel_has_what_stubs_ask_for(self) -> None:
        """With grpc.aio's own parameter names, so that generated code of any version finds them."""
        channel: Any = GrpcClient().stub(lambda channel: channel)
        async with aio.insecure_channel("127.0.0.1:1") as original:
            for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
                ours = inspect.signature(getattr(channel, name)).parameters
                assert list(ours) == list(inspect.signature(getattr(original, name)).parameters)
