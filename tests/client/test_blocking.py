"""The client for threads, against a server in a process of its own."""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, assert_type

import pytest
from grpc import StatusCode

from client.kinds import Item, KindsStub, Process, unused_address
from tai_grpc.client import BlockingGrpcClient, GrpcClient
from tai_grpc.config import GrpcClientConfig, RetryConfig
from tai_grpc.errors import TaiGrpcError
from tai_grpc.resilience import CircuitState
from tai_grpc.resilience.timeout import deadline_scope
from tai_grpc.status import CallError
from tai_grpc.tai import Policy, Receipt


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    process = Process()

    async def start() -> None:
        await process.start()

    with asyncio.Runner() as runner:
        runner.run(start())
        yield process.address
        runner.run(process.kill())


@pytest.fixture
def client(address: str) -> Iterator[BlockingGrpcClient]:
    with BlockingGrpcClient(GrpcClientConfig(server_addresses=(address,))) as client:
        yield client


def items(*words: str) -> list[Any]:
    return [Item(text=word) for word in words]


def test_all_four_kinds_of_calls(client: BlockingGrpcClient) -> None:
    stub = client.stub(KindsStub)
    assert stub.One(Item(text="a"), timeout=5.0, metadata=(("asked", "yes"),)).text == "a"
    assert [item.text for item in stub.Split(Item(text="a b"))] == ["a", "b"]
    assert stub.Collect(iter(items("a", "b"))).text == "a b"
    assert [item.text for item in stub.Chat(items("a", "b"))] == ["A", "B"]
    assert client.stats().calls == 4
    assert client.endpoint_stats()[0].active_connections == 0


def test_a_conversation_takes_turns(client: BlockingGrpcClient) -> None:
    """The next request is asked for only when the one before is away: the iterator may wait for an answer."""
    asked: queue.Queue[Any] = queue.Queue()
    chat = client.stub(KindsStub).Chat(iter(asked.get, None))
    for word in ("a", "b"):
        asked.put(Item(text=word))
        assert next(chat).text == word.upper()
    asked.put(None)
    with pytest.raises(StopIteration):
        next(chat)
    assert (chat.code(), chat.details()) == (StatusCode.OK, "")


def test_it_serves_many_threads(client: BlockingGrpcClient) -> None:
    stub = client.stub(KindsStub)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: stub.One(Item(text=str(number))).text, range(200)))
    assert answers == [str(number) for number in range(200)]


def test_a_failure_is_raised_where_the_call_is_made(client: BlockingGrpcClient) -> None:
    channel: Any = client.stub(lambda channel: channel)
    with pytest.raises(CallError) as caught:
        channel.unary_unary("/kinds.v1.Kinds/Unheard")(b"")
    assert caught.value.code() is StatusCode.UNIMPLEMENTED
    stream = channel.unary_stream("/kinds.v1.Kinds/Unheard")(b"")
    with pytest.raises(CallError, match="UNIMPLEMENTED"):
        next(stream)
    assert stream.code() is StatusCode.UNIMPLEMENTED


def test_what_the_request_iterator_raises_reaches_the_caller(client: BlockingGrpcClient) -> None:
    def words() -> Iterator[Any]:
        yield Item(text="a")
        raise KeyError("the source broke")

    with pytest.raises(KeyError, match="the source broke"):
        client.stub(KindsStub).Collect(words())
    with pytest.raises(KeyError, match="the source broke"):
        list(client.stub(KindsStub).Chat(words()))


def test_the_control_plane_is_typed_and_has_the_same_names() -> None:
    config = GrpcClientConfig(server_addresses=(unused_address(),), retry=RetryConfig(max_retries=0))
    with BlockingGrpcClient(config) as client:
        plain = GrpcClient()
        for name in ("governor", "coordinator", "scheduler"):
            assert list(vars(getattr(client, name))) == list(vars(getattr(plain, name)))
        with pytest.raises(CallError, match="Connection refused"):
            assert_type(client.governor.propose_policy(Policy(id="a")), Receipt)
        assert client.breaker(client.config.server_addresses[0]).state is CircuitState.CLOSED


def test_the_deadline_of_the_callers_thread_is_inherited(client: BlockingGrpcClient) -> None:
    with deadline_scope(time.monotonic() - 1.0), pytest.raises(CallError, match="deadline of the handler"):
        client.stub(KindsStub).One(Item())


def test_cancelling_a_stream_wakes_the_thread_that_reads(client: BlockingGrpcClient) -> None:
    requests: queue.Queue[Any] = queue.Queue()
    chat = client.stub(KindsStub).Chat(iter(requests.get, None))
    requests.put(Item(text="a"))
    assert next(chat).text == "A"
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(next, chat)
        chat.cancel()
        with pytest.raises(CallError) as caught:
            reading.result()
    assert caught.value.code() is StatusCode.CANCELLED
    assert chat.code() is StatusCode.CANCELLED


def test_closing_wakes_the_threads_that_wait_and_ends_the_clients_own(address: str) -> None:
    client = BlockingGrpcClient(GrpcClientConfig(server_addresses=(address,)))
    own = [thread for thread in threading.enumerate() if thread.name == "tai-grpc-client"]
    chat = client.stub(KindsStub).Chat(iter(queue.Queue[Any]().get, None))
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(next, chat)
        while client.endpoint_stats()[0].active_connections == 0:
            time.sleep(0.001)
        client.close()
        with pytest.raises(CallError) as caught:
            reading.result()
    assert caught.value.code() is StatusCode.CANCELLED
    assert not any(thread.is_alive() for thread in own)
    with pytest.raises(TaiGrpcError, match="closed"):
        client.stub(KindsStub).One(Item())
    with pytest.raises(TaiGrpcError, match="closed"):
        next(chat)
    client.close()


def test_a_callback_does_not_wait_for_itself(client: BlockingGrpcClient, transport: str) -> None:
    """A breaker's callback runs in the client's thread: a call from there is an error, not a standstill.

    On the native transport it runs in the thread that caused it, and its call is one like others.
    """
    caught: list[BaseException] = []

    def transition(_old: CircuitState, _new: CircuitState) -> None:
        try:
            client.stub(KindsStub).One(Item())
        except TaiGrpcError as error:
            caught.append(error)

    async def trip() -> None:
        client.breaker(client.config.server_addresses[0]).on_transition(transition)
        client.breaker(client.config.server_addresses[0]).force_open()

    if transport == "native":
        asyncio.run(trip())
        assert "circuit breaker refuses" in str(caught[0])
    else:
        engine: Any = client._engine
        engine.loop.run(trip())
        assert "cannot wait" in str(caught[0])


def test_32_threads_make_hundreds_of_calls_each_on_one_client(
    client: BlockingGrpcClient, transport: str
) -> None:
    """Fewer on grpcio's transport, which takes its time."""
    one = client.stub(KindsStub).One
    count = 300 if transport == "native" else 100

    def work(thread: int) -> bool:
        return all(one(Item(text=f"{thread} {call}")).text == f"{thread} {call}" for call in range(count))

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(work, range(32)))
    stats = client.stats()
    assert (stats.calls, stats.failed, stats.attempts) == (32 * count, 0, 32 * count)
    assert client.endpoint_stats()[0].active_connections == 0


def test_threads_have_their_own_deadlines(client: BlockingGrpcClient) -> None:
    client.breaker(client.config.server_addresses[0]).disable()  # which streams without an answer would open
    chat = client.stub(KindsStub).Chat

    def ended(timeout: float) -> StatusCode:
        with pytest.raises(CallError) as caught:
            next(chat(iter(queue.Queue[Any]().get, None), timeout=timeout))
        return caught.value.code()

    with ThreadPoolExecutor(8) as pool:
        codes = set(pool.map(ended, (0.05, 0.4, 0.1, 0.3, 0.2, 0.15, 0.25, 0.35)))
    assert codes == {StatusCode.DEADLINE_EXCEEDED}
    assert client.stub(KindsStub).One(Item(text="a"), timeout=5.0).text == "a"


def test_a_server_that_is_killed_and_started_again_is_found_again() -> None:
    """Calls of 8 threads fail with UNAVAILABLE while it is away, or are retried, and succeed afterwards."""
    process = Process()
    with asyncio.Runner() as runner:
        runner.run(process.start())
        config = GrpcClientConfig(server_addresses=(process.address,), connect_backoff_max=0.1)
        stop = threading.Event()
        codes: set[StatusCode] = set()

        def work(client: BlockingGrpcClient) -> int:
            succeeded, one = 0, client.stub(KindsStub).One
            while not stop.is_set():
                try:
                    assert one(Item(text="a"), timeout=5.0).text == "a"
                    succeeded += 1
                except CallError as error:
                    codes.add(error.code())
                    stop.wait(0.01)  # the server's process needs the processors too
            return succeeded

        with BlockingGrpcClient(config) as client, ThreadPoolExecutor(8) as pool:
            client.breaker(process.address).disable()
            workers = [pool.submit(work, client) for _ in range(8)]
            try:
                for _ in range(3):
                    _grows(lambda: client.stats().calls, 100)
                    runner.run(process.kill())
                    _grows(lambda: client.stats().failed, 8)
                    runner.run(process.start())
                    _until(
                        lambda: client.stub(KindsStub).One(Item(text="b"), wait_for_ready=True).text == "b"
                    )
            finally:
                stop.set()
            assert all(worker.result(20) > 0 for worker in workers)
            assert client.endpoint_stats()[0].active_connections == 0
        runner.run(process.kill())
    assert codes <= {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED}


def _grows(count: Callable[[], int], by: int) -> None:
    start = count()
    _until(lambda: count() >= start + by)


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_no_descriptor_and_no_thread_is_left(address: str, transport: str) -> None:
    """Of ours: grpcio closes its own when it likes."""
    kept: list[tuple[int, int]] = []
    for _ in range(3):
        with BlockingGrpcClient(GrpcClientConfig(server_addresses=(address,))) as client:
            stub = client.stub(KindsStub)
            with ThreadPoolExecutor(4) as pool:
                assert [item.text for item in pool.map(stub.One, items("a", "b", "c"))] == ["a", "b", "c"]
            assert next(stub.Split(Item(text="a b"))).text == "a"
        gc.collect()
        kept.append((len(list(Path("/proc/self/fd").iterdir())), threading.active_count()))
        assert not any(thread.name == "tai-grpc-client" for thread in threading.enumerate())
    if transport == "native":
        assert kept[0] == kept[1] == kept[2]


def test_a_grace_lets_calls_end(address: str) -> None:
    client = BlockingGrpcClient(GrpcClientConfig(server_addresses=(address,)))
    requests: queue.Queue[Any] = queue.Queue()
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(client.stub(KindsStub).Collect, iter(requests.get, None))
        _until(lambda: client.endpoint_stats()[0].active_connections == 1)
        closing = pool.submit(client.close, 20.0)
        _until(lambda: _refuses(client))
        requests.put(Item(text="a"))
        requests.put(None)
        assert answer.result(20).text == "a"
        closing.result(20)


def _refuses(client: BlockingGrpcClient) -> bool:
    try:
        client.stub(KindsStub).One(Item())
    except TaiGrpcError as error:
        return "closed" in str(error)
    return False
