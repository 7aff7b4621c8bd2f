"""The values of the API: Metadata, AioRpcError, EOF, the errors' family."""

import pickle
from typing import Any

import grpc
import pytest
from grpc import StatusCode


def test_metadata_is_an_ordered_multimap(rpc: Any) -> None:
    metadata = rpc.Metadata(("a", "1"), ("b", "2"), ("a", "3"))
    assert len(metadata) == 3
    assert list(metadata) == [("a", "1"), ("a", "3"), ("b", "2")]
    assert metadata["a"] == "1"
    assert metadata.get("a") == "1"
    assert metadata.get("none") is None
    assert metadata.get("none", "default") == "default"
    assert metadata.get_all("a") == ["1", "3"]
    assert metadata.get_all("none") == []
    assert "a" in metadata
    assert "none" not in metadata
    assert list(metadata.keys()) == ["a", "b"]
    with pytest.raises(KeyError):
        metadata["none"]


def test_metadata_can_be_changed(rpc: Any) -> None:
    metadata = rpc.Metadata(("a", "1"), ("a", "2"))
    metadata.add("b-bin", b"3")
    metadata["a"] = "first"
    metadata["c"] = "new"
    assert list(metadata) == [("a", "first"), ("a", "2"), ("b-bin", b"3"), ("c", "new")]
    del metadata["a"]
    assert metadata.get_all("a") == ["2"]
    metadata.set_all("b-bin", [b"x", b"y"])
    assert metadata.get_all("b-bin") == [b"x", b"y"]
    metadata.delete_all("b-bin")
    assert "b-bin" not in metadata
    with pytest.raises(KeyError):
        del metadata["none"]
    with pytest.raises(KeyError):
        metadata.delete_all("none")


def test_metadata_compares_and_adds(rpc: Any) -> None:
    metadata = rpc.Metadata(("a", "1"))
    assert metadata == rpc.Metadata(("a", "1"))
    assert metadata == (("a", "1"),)
    assert metadata != rpc.Metadata(("a", "2"))
    assert metadata + rpc.Metadata(("b", "2")) == rpc.Metadata(("a", "1"), ("b", "2"))
    more = (("b", "2"),)
    assert metadata + more == rpc.Metadata(("a", "1"), ("b", "2"))
    assert rpc.Metadata.from_tuple((("a", "1"),)) == metadata
    assert rpc.Metadata.from_tuple(()) == rpc.Metadata()
    assert not rpc.Metadata()
    assert repr(metadata) == "Metadata((('a', '1'),))"


def test_an_rpc_error_tells_all_it_was_made_with(rpc: Any) -> None:
    initial, trailing = rpc.Metadata(("i", "1")), rpc.Metadata(("t", "2"))
    error: Any = rpc.AioRpcError(StatusCode.ABORTED, initial, trailing, "details", "debug")
    assert issubclass(rpc.AioRpcError, grpc.RpcError)
    assert error.code() is StatusCode.ABORTED
    assert error.details() == "details"
    assert error.initial_metadata() == initial
    assert error.trailing_metadata() == trailing
    assert error.debug_error_string() == "debug"
    text = (
        "<AioRpcError of RPC that terminated with:\n"
        "\tstatus = StatusCode.ABORTED\n"
        '\tdetails = "details"\n'
        '\tdebug_error_string = "debug"\n'
        ">"
    )
    assert str(error) == repr(error) == text


def test_an_rpc_error_needs_only_a_code(rpc: Any) -> None:
    error = rpc.AioRpcError(StatusCode.ABORTED)
    assert error.details() is None
    assert error.debug_error_string() is None
    assert error.initial_metadata() is None
    assert error.trailing_metadata() is None


def test_an_rpc_error_can_be_pickled(rpc: Any) -> None:
    """Pools of processes carry exceptions that way."""
    made = rpc.AioRpcError(
        StatusCode.ABORTED, rpc.Metadata(), rpc.Metadata(("a", "1")), details="d", debug_error_string="x"
    )
    error = pickle.loads(pickle.dumps(made))
    assert type(error) is rpc.AioRpcError
    assert (error.code(), error.details(), error.debug_error_string()) == (StatusCode.ABORTED, "d", "x")
    assert error.trailing_metadata() == rpc.Metadata(("a", "1"))


def test_the_errors_of_use_are_one_family(rpc: Any) -> None:
    for name in ("UsageError", "InternalError", "AbortError"):
        assert issubclass(getattr(rpc, name), rpc.BaseError)
        assert not issubclass(getattr(rpc, name), grpc.RpcError)
    assert issubclass(rpc.BaseError, Exception)


def test_eof(rpc: Any) -> None:
    assert not rpc.EOF
    assert "EOF" in repr(rpc.EOF)


def test_client_call_details_are_a_named_tuple(rpc: Any) -> None:
    details: Any = rpc.ClientCallDetails("/a/b", 1.5, rpc.Metadata(("a", "1")), None, True)
    assert details.method == "/a/b"
    assert details.timeout == 1.5
    assert details.wait_for_ready is True
    assert issubclass(rpc.ClientCallDetails, grpc.ClientCallDetails)
    changed = details._replace(timeout=2.0)
    assert (changed.timeout, changed.metadata, changed.credentials) == (2.0, details.metadata, None)


async def test_starting_and_ending_the_library_by_hand_is_allowed(rpc: Any) -> None:
    rpc.init_grpc_aio()
    rpc.shutdown_grpc_aio()
