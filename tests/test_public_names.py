"""The public names, and that the primitives among them need no grpc."""

import subprocess
import sys

import tai_grpc


def test_all_is_what_can_be_named() -> None:
    assert sorted(set(tai_grpc.__all__)) == list(tai_grpc.__all__), "sorted, each once"
    missing = [name for name in tai_grpc.__all__ if not hasattr(tai_grpc, name)]
    assert missing == []
    assert dir(tai_grpc) == sorted(tai_grpc.__all__)
    for name in tai_grpc.__all__:
        value = getattr(tai_grpc, name)
        if isinstance(value, type):
            assert value.__doc__, name


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    try:
        tai_grpc.NoSuchName  # type: ignore[attr-defined]  # noqa: B018 -- that is what is tested
    except AttributeError as error:
        assert "NoSuchName" in str(error)
    else:
        raise AssertionError("it was found")


def test_the_primitives_load_no_grpc() -> None:
    program = """
import sys
import tai_grpc

breaker = tai_grpc.CircuitBreaker()
assert breaker.is_call_allowed()
assert tai_grpc.LoadBalancer(["a", "b"]).pick().address == "a"
assert tai_grpc.TokenBucket(1.0, 1).try_acquire()
assert not {"grpc", "google.protobuf", "rich", "click"} & set(sys.modules), "only what is used is loaded"
assert tai_grpc.GrpcClient.__name__ == "GrpcClient"
assert "grpc" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
