import asyncio

import grpc
import pytest

from load.echo import echo_server
from tai_grpc.load.channels import open_blocking_channel
from tai_grpc.load.errors import RequestError
from tai_grpc.load.methods import BUILT_IN, Method, find_method, split_method
from tai_grpc.load.reflection import status_of
from transports import transport

__all__ = ["transport"]  # each test here runs on each of them


@pytest.mark.parametrize("name", ["echo.v1.Echo/Unary", "/echo.v1.Echo/Unary", "echo.v1.Echo.Unary"])
def test_a_method_is_named_with_a_slash_or_a_dot(name: str) -> None:
    assert split_method(name) == ("echo.v1.Echo", "Unary")


@pytest.mark.parametrize("name", ["", "/", "Echo", "echo.v1.Echo/", "/Unary", "a/b/c"])
def test_what_is_not_a_method_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="is not a method"):
        split_method(name)


async def _find(name: str, *, reflection: bool = True) -> Method:
    def find(address: str) -> Method:
        with open_blocking_channel(address) as channel:
            return find_method(channel, name, timeout=10)

    async with echo_server(reflection=reflection) as echo:
        return await asyncio.to_thread(find, echo.address)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Unary", "unary"),
        ("Collect", "client streaming"),
        ("Split", "server streaming"),
        ("Chat", "bidirectional streaming"),
    ],
)
async def test_reflection_describes_a_service_that_was_never_seen(name: str, kind: str) -> None:
    method = await _find(f"echo.v1.Echo/{name}")
    assert method.kind == kind
    assert method.path == f"/echo.v1.Echo/{name}"


async def test_the_files_that_a_service_imports_come_with_it() -> None:
    method = await _find("echo.v1.Echo/Unary")
    assert method.pool.FindFileByName("google/protobuf/timestamp.proto")


async def test_an_unknown_service_names_those_of_the_server() -> None:
    with pytest.raises(
        RequestError, match=r"no service 'no\.Such'; it has: echo\.v1\.Echo, grpc\.reflection"
    ):
        await _find("no.Such/Call")


async def test_a_message_is_not_taken_for_a_service() -> None:
    with pytest.raises(RequestError, match=r"'echo\.v1\.Item' is not a service"):
        await _find("echo.v1.Item/Unary")


async def test_an_unknown_method_names_those_of_the_service() -> None:
    with pytest.raises(RequestError, match="no method 'unary'; it has: Unary, Collect, Split"):
        await _find("echo.v1.Echo/unary")


async def test_without_reflection_the_built_in_services_are_known() -> None:
    method = await _find("tai.v1.Governor/ProposePolicy", reflection=False)
    assert method.request_type.DESCRIPTOR.full_name == "tai.v1.Policy"


async def test_without_reflection_any_other_service_is_refused_and_the_built_in_ones_named() -> None:
    with pytest.raises(
        RequestError, match=r"no reflection, and 'echo\.v1\.Echo' is not built in; .*tai\.v1\.Governor"
    ):
        await _find("echo.v1.Echo/Unary", reflection=False)


def test_the_three_services_and_health_are_built_in() -> None:
    assert set(BUILT_IN) == {
        "tai.v1.Governor",
        "tai.v1.Coordinator",
        "tai.v1.Scheduler",
        "grpc.health.v1.Health",
    }


async def test_a_server_that_cannot_be_reached_is_an_rpc_error() -> None:
    async with echo_server() as echo:
        address = echo.address

    def find() -> None:
        with open_blocking_channel(address) as channel:
            find_method(channel, "echo.v1.Echo/Unary", timeout=10)

    with pytest.raises(grpc.RpcError) as failure:
        await asyncio.to_thread(find)
    assert status_of(failure.value) is grpc.StatusCode.UNAVAILABLE
