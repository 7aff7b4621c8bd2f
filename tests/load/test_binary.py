import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]  # protobuf's own, to compare
from hypothesis import given
from hypothesis import strategies as st

from tai_grpc.load.binary import split_binary
from tai_grpc.load.errors import RequestError
from tai_grpc.load.methods import built_in_method
from tai_grpc.tai import Policy

PROPOSE = built_in_method("tai.v1.Governor", "ProposePolicy")
MESSAGE = Policy(id="a", rules={"k": "v" * 300}).SerializeToString()


@given(st.lists(st.text(min_size=1, max_size=200), min_size=1, max_size=5))
def test_messages_after_their_lengths_are_taken_apart(names: list[str]) -> None:
    messages = [Policy(id=name, policy_type="t").SerializeToString() for name in names]
    data = b"".join(_VarintBytes(len(message)) + message for message in messages)
    assert split_binary(PROPOSE, data) == messages


def test_one_message_stands_by_itself() -> None:
    assert split_binary(PROPOSE, MESSAGE) == [MESSAGE]


def test_nothing_is_one_empty_message() -> None:
    assert split_binary(PROPOSE, b"") == [b""]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 20,
        _VarintBytes(len(MESSAGE)) + MESSAGE[:-1],
        _VarintBytes(len(MESSAGE)) + MESSAGE + b"\x80",
        b"\x01\xff",
        b"\x80\x80\x80\x80\x80\x80\x01",
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError, match=r"neither a serialized tai\.v1\.Policy nor several"):
        split_binary(PROPOSE, data)
