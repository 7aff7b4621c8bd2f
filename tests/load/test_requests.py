import base64
import pickle
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from load.echo import POOL
from tai_grpc.errors import ConfigError
from tai_grpc.load import requests
from tai_grpc.load.descriptors import Declared
from tai_grpc.load.errors import RequestError
from tai_grpc.load.methods import Method, method_of
from tai_grpc.load.requests import Data, Request, make_requests

ECHO = Declared(POOL, ("echo.v1.Echo",))
UNARY, COLLECT, SPLIT, CHAT = (
    method_of(ECHO, f"echo.v1.Echo/{name}", "echo") for name in ("Unary", "Collect", "Split", "Chat")
)


def _items(method: Method, request: Request) -> list[Any]:
    return [method.request_type.FromString(message) for message in request.messages]


def _names(method: Method, request: Request) -> list[str]:
    return [item.display_name for item in _items(method, request)]


def test_by_default_one_empty_message_is_sent() -> None:
    for method in (UNARY, COLLECT, CHAT, SPLIT):
        assert make_requests(method, Data()).fixed == (Request((b"",)),)


def test_messages_are_sent_in_turn_to_a_method_with_one_request() -> None:
    source = make_requests(UNARY, Data(text='[{"display_name":"a"},{"display_name":"b"}]'))
    assert source.fixed is not None
    assert [_names(UNARY, each) for each in source.fixed] == [["a"], ["b"]]
    assert [_names(UNARY, source.render(number)) for number in range(3)] == [["a"], ["b"], ["a"]]


@pytest.mark.parametrize("method", [COLLECT, CHAT])
def test_all_messages_are_sent_in_each_call_of_a_method_with_a_request_stream(method: Method) -> None:
    source = make_requests(method, Data(text='[{"display_name":"a"},{"display_name":"b"}]'))
    assert source.fixed is not None
    assert [_names(method, each) for each in source.fixed] == [["a", "b"]]


def test_a_request_stream_may_be_empty_and_a_request_may_not() -> None:
    assert make_requests(COLLECT, Data(text="[]")).fixed == (Request(()),)
    with pytest.raises(RequestError, match=r"the data holds no message, and echo\.v1\.Echo/Unary takes one"):
        make_requests(UNARY, Data(text="[]"))


def test_templates_are_rendered_for_each_call_with_its_number() -> None:
    source = make_requests(UNARY, Data(text='{"display_name":"{{.RequestNumber}}"}'))
    assert source.fixed is None
    assert [_names(UNARY, source.render(number)) for number in (0, 3, 5)] == [["0"], ["3"], ["5"]]


def test_templates_of_several_messages_are_taken_in_turn() -> None:
    text = '[{"display_name":"a{{.RequestNumber}}"},{"display_name":"b"}]'
    source = make_requests(UNARY, Data(text=text))
    assert [_names(UNARY, source.render(number)) for number in range(3)] == [["a0"], ["b"], ["a2"]]


def test_metadata_has_templates_and_shares_the_uuid_of_the_call_with_the_data() -> None:
    data = Data(
        text='{"display_name":"{{.UUID}}"}',
        metadata=("X-Id:{{.UUID}}", '{"x-fixed":"f","x-raw-bin":"{{.TimestampUnix}}"}'),
    )
    request = make_requests(UNARY, data).render(4)
    metadata = dict(request.metadata)
    assert [metadata["x-id"]] == _names(UNARY, request)
    assert metadata["x-fixed"] == "f"
    seconds = base64.b64encode(
        bytes(metadata["x-raw-bin"] if isinstance(metadata["x-raw-bin"], bytes) else b"")
    )
    assert seconds.startswith(b"1")


def test_templates_in_metadata_alone_are_rendered() -> None:
    source = make_requests(UNARY, Data(metadata=("x-id:{{.RequestNumber}}",)))
    assert source.fixed is None
    assert source.render(8) == Request((b"",), (("x-id", "8"),))


def test_a_template_that_is_always_the_same_needs_no_rendering() -> None:
    source = make_requests(
        UNARY, Data(text='{"display_name":"{{.MethodName}}"}', metadata=("x:{{.ServiceName}}",))
    )
    assert source.fixed == (Request((b"\n\x05Unary",), (("x", "Echo"),)),)


def test_templates_can_be_turned_off() -> None:
    data = Data(text='{"display_name":"{{.Nope"}', metadata=("x:{{.UUID}}",), templates=False)
    source = make_requests(UNARY, data)
    assert source.fixed is not None
    assert _names(UNARY, source.fixed[0]) == ["{{.Nope"]
    assert source.fixed[0].metadata == (("x", "{{.UUID}}"),)


def test_messages_of_a_call_are_rendered_once_unless_they_are_dynamic() -> None:
    text = '{"display_name":"{{newUUID}}"}'
    once = make_requests(COLLECT, Data(text=text, stream_messages=4)).render(0)
    assert len(once.messages) == 1  # which is sent 4 times
    anew = make_requests(COLLECT, Data(text=text, stream_messages=4, dynamic=True)).render(0)
    assert len(set(anew.messages)) == 4


def test_dynamic_messages_go_through_the_data_from_the_beginning_again() -> None:
    text = '[{"display_name":"a{{.RequestNumber}}"},{"display_name":"b{{.RequestNumber}}"}]'
    source = make_requests(COLLECT, Data(text=text, stream_messages=3, dynamic=True))
    assert _names(COLLECT, source.render(1)) == ["a1", "b1", "a1"]


def test_there_is_a_limit_to_what_is_rendered_for_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_DYNAMIC_MESSAGES", 3)
    data = Data(text='{"display_name":"{{newUUID}}"}', stream_messages=4, dynamic=True)
    with pytest.raises(ConfigError, match="stream-call-count=4: expected at most 3 with --stream-dynamic"):
        make_requests(COLLECT, data)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """There is no more than a quarter of a GiB beside what is used now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_too_many_dynamic_messages_are_refused_before_there_is_one(little_memory: None) -> None:
    data = Data(text='{"display_name":"{{newUUID}}"}', stream_messages=1_000_000_000, dynamic=True)
    with pytest.raises(ConfigError, match="stream-call-count=1000000000: expected at most 10000"):
        make_requests(COLLECT, data)


def test_serialized_messages_are_sent_as_they_are() -> None:
    source = make_requests(UNARY, Data(binary=b"\x03\n\x01a\x03\n\x01b"))
    assert source.fixed is not None
    assert [each.messages for each in source.fixed] == [(b"\n\x01a",), (b"\n\x01b",)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Data(text="{"), "the data is not JSON"),
        (Data(text='{"nope":1}'), "has no field 'nope'"),
        (Data(metadata=("x",)), "metadata 'x': write it like key:value"),
        (Data(metadata=("x:{{.Nope}}",)), r"^metadata 'x': \{\{\.Nope\}\} is not known"),
        (Data(metadata=("x-bin:{{.UUID}}",)), "metadata 'x-bin': the value of a -bin key is base64"),
        (Data(metadata=("{{.UUID}}:x",)), "metadata is not JSON"),
        (Data(metadata=("grpc-x:y",)), "reserved"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_the_run(data: Data, said: str) -> None:
    with pytest.raises(RequestError, match=said) as failure:
        make_requests(UNARY, data)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    "data",
    [
        Data(text='{"display_name":"{{.RequestNumber}}"}', metadata=("x:{{.RequestNumber}}",)),
        Data(text='{"display_name":"fixed"}'),
    ],
)
def test_a_source_and_its_method_go_to_another_process(data: Data) -> None:
    method, source = pickle.loads(pickle.dumps((UNARY, make_requests(UNARY, data))))
    assert source.render(7) == make_requests(UNARY, data).render(7)
    assert (method.path, method.kind) == (UNARY.path, UNARY.kind)
    assert method.request_type.DESCRIPTOR.full_name == "echo.v1.Item"
