import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from aio.certificates import Certificates
from cli.command import Ran, ran, started, tai_grpc
from load.echo import POOL, SERVICE, Echo, echo_server
from transports import TRANSPORTS


async def call(*arguments: str, stdin: bytes | None = None) -> Ran:
    """Run `tai-grpc call` on each transport, at once: what it does must not depend on it."""
    first, second = await asyncio.gather(
        *(tai_grpc("call", "--transport", transport, *arguments, stdin=stdin) for transport in TRANSPORTS)
    )
    assert first == second
    return first


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echo_server() as server:
        yield server


async def test_a_unary_call_prints_its_response_with_the_names_of_the_proto(echo: Echo) -> None:
    data = '{"displayName":"a","big":"9007199254740993","raw":"AQI=","color":"COLOR_RED","labels":{"k":"v"},'
    data += '"at":"2024-01-02T03:04:05Z","inner":{"numbers":[1,2]}}'
    result = await call(echo.address, "echo.v1.Echo/Unary", "-d", data)
    assert (result.code, result.err) == (0, "")
    assert result.json == {
        "display_name": "a",
        "big": "9007199254740993",
        "raw": "AQI=",
        "color": "COLOR_RED",
        "labels": {"k": "v"},
        "at": "2024-01-02T03:04:05Z",
        "inner": {"numbers": [1, 2]},
    }


async def test_without_data_an_empty_message_is_sent(echo: Echo) -> None:
    result = await call(echo.address, "echo.v1.Echo.Unary")
    assert (result.code, result.json) == (0, {})


async def test_defaults_are_printed_when_asked_for(echo: Echo) -> None:
    result = await call(echo.address, "echo.v1.Echo/Unary", "--emit-defaults")
    assert result.json["big"] == "0"
    assert result.json["numbers"] == []


async def test_data_comes_from_a_file(echo: Echo, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text('{"display_name":"from a file, ü"}')
    result = await call(echo.address, "echo.v1.Echo/Unary", "-d", f"@{file}")
    assert result.json == {"display_name": "from a file, ü"}


async def test_a_request_stream_is_read_from_stdin(echo: Echo) -> None:
    stdin = b'{"display_name":"a"}\n{"display_name":"b"}\n'
    result = await call(echo.address, "echo.v1.Echo/Collect", "-d", "@", stdin=stdin)
    assert result.json == {"items": [{"display_name": "a"}, {"display_name": "b"}]}


async def test_a_request_stream_without_data_is_empty(echo: Echo) -> None:
    result = await call(echo.address, "echo.v1.Echo/Collect")
    assert (result.code, result.json) == (0, {})


async def test_streamed_responses_are_one_object_a_line(echo: Echo) -> None:
    data = '{"items":[{"big":"1"},{"big":"2"}]}'
    result = await call(echo.address, "echo.v1.Echo/Split", "-d", data)
    assert result.lines == [{"big": "1"}, {"big": "2"}]


async def test_a_bidirectional_call_takes_an_array(echo: Echo) -> None:
    result = await call(echo.address, "echo.v1.Echo/Chat", "-d", '[{"big":"1"},{"big":"2"}]')
    assert result.lines == [{"big": "1"}, {"big": "2"}]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_metadata_reaches_the_server(echo: Echo, transport: str) -> None:
    arguments = ("-m", "x-trace-id:42", "-m", '{"x-env":"test"}', "-m", "blob-bin:AQI=")
    await tai_grpc("call", "--transport", transport, echo.address, "echo.v1.Echo/Unary", *arguments)
    assert echo.metadata["x-trace-id"] == "42"
    assert echo.metadata["x-env"] == "test"
    assert echo.metadata["blob-bin"] == b"\x01\x02"
    assert str(echo.metadata["user-agent"]).startswith("tai-grpc/")


async def test_a_failed_call_is_one_line_with_its_code_and_details(echo: Echo) -> None:
    data = '{"display_name":"FAILED_PRECONDITION"}'
    result = await call(echo.address, "echo.v1.Echo/Fail", "-d", data)
    assert (result.code, result.out) == (1, "")
    expected = f"echo.v1.Echo/Fail at {echo.address}: FAILED_PRECONDITION: went wrong, and on purpose"
    assert result.error == f"tai-grpc: {expected}"


async def test_a_stream_that_breaks_off_keeps_what_came_before(echo: Echo) -> None:
    result = await call(echo.address, "echo.v1.Echo/Break", "-d", '{"display_name":"ABORTED"}')
    assert result.code == 1
    assert result.lines == [{"display_name": "ABORTED"}] * 2
    assert "ABORTED: broken off" in result.error


async def test_the_timeout_ends_a_call(echo: Echo) -> None:
    """The words behind the code are each transport's own."""
    wait = ("call", echo.address, "echo.v1.Echo/Wait", "-t", "300ms", "--transport")
    for result in await asyncio.gather(*(tai_grpc(*wait, transport) for transport in TRANSPORTS)):
        assert result.code == 1
        assert "DEADLINE_EXCEEDED" in result.error


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ctrl_c_ends_a_call_at_once_and_silently(echo: Echo, transport: str) -> None:
    async with started("call", "--transport", transport, echo.address, "echo.v1.Echo/Wait") as process:
        await echo.all_waiting.wait()
        process.send_signal(signal.SIGINT)
        result = await ran(process)
    assert (result.code, result.out, result.err) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_reader_that_leaves_ends_a_stream_silently(echo: Echo, transport: str) -> None:
    many = "[" + ",".join(['{"display_name":"' + "x" * 1000 + '"}'] * 1000) + "]"
    command = ("call", "--transport", transport, echo.address, "echo.v1.Echo/Chat", "-d", "@")
    async with started(*command) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(many.encode())
        process.stdin.close()
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]  # asyncio has no public way to hang up
        assert await process.stderr.read() == b""
        assert await process.wait() == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("echo.v1.Echo/Unary", "-d", '{"nope":1}'),
            "echo.v1.Item has no field 'nope'; it has: display_name, big",
        ),
        (("echo.v1.Echo/Unary", "-d", "{}{}"), "takes one request, and the data holds 2"),
        (("echo.v1.Echo/Unary", "-d", "@/nowhere/at.all"), "cannot read /nowhere/at.all: No such file"),
        (("echo.v1.Echo/Nope",), "no method 'Nope'; it has: Unary, Collect, Split, Chat, Break, Fail, Wait"),
    ],
)
async def test_what_cannot_be_sent_is_one_line_and_exit_2(
    echo: Echo, arguments: tuple[str, ...], said: str
) -> None:
    result = await call(echo.address, *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.error
    assert echo.calls.total() == 0


async def test_a_host_without_a_port_is_exit_2() -> None:
    result = await call("localhost", "tai.v1.Governor/HealthCheck")
    assert result.code == 2
    assert "expected HOST:PORT" in result.error


async def test_a_refused_connection_is_one_line_and_exit_1() -> None:
    async with echo_server() as server:
        address = server.address
    result = await call(address, "tai.v1.Governor/HealthCheck")
    assert result.code == 1
    assert result.error.startswith(
        f"tai-grpc: cannot reach {address}: connection refused; is the server running"
    )


async def test_without_reflection_a_built_in_service_is_called_all_the_same() -> None:
    async with echo_server(reflection=False) as server:
        result = await call(server.address, "grpc.health.v1.Health/Check")
    # The call left the client: this server has no health service, and says so itself.
    assert result.code == 1
    assert "UNIMPLEMENTED" in result.error


async def test_without_reflection_another_service_is_refused() -> None:
    async with echo_server(reflection=False) as server:
        result = await call(server.address, "echo.v1.Echo/Unary")
    assert result.code == 2
    assert "'echo.v1.Echo' is not built in; built in are: tai.v1.Governor" in result.error


async def test_several_calls_at_once_do_not_disturb_each_other(echo: Echo) -> None:
    numbers = range(3)
    results = await asyncio.gather(
        *(call(echo.address, "echo.v1.Echo/Unary", "-d", f'{{"big":{n}}}') for n in numbers)
    )
    assert [result.json.get("big", "0") for result in results] == [str(n) for n in numbers]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_server_with_tls_is_called_with_a_certificate_and_a_token(
    tmp_path: Path, transport: str
) -> None:
    certificates = Certificates(tmp_path)
    for name in ("client_chain", "client_key"):
        (tmp_path / name).write_bytes(getattr(certificates, name))
    (tmp_path / "token").write_text("secret\n")
    server = grpc.aio.server()
    echo = Echo()
    server.add_generic_rpc_handlers((echo.handlers(),))
    enable_server_reflection((SERVICE,), server, pool=POOL)
    pairs = [(certificates.server_key, certificates.server_chain)]
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials(
            pairs, root_certificates=certificates.authority, require_client_auth=True
        ),
    )
    await server.start()
    try:
        address = f"127.0.0.1:{port}"
        call = ("call", address, "echo.v1.Echo/Unary", "-d", '{"big":1}', "--transport", transport)
        trust = ("--cacert", str(certificates.authority_file))
        ours = ("--cert", str(tmp_path / "client_chain"), "--key", str(tmp_path / "client_key"))
        ran = await tai_grpc(*call, *trust, *ours, "--bearer", f"@{tmp_path / 'token'}")
        assert (ran.code, ran.json) == (0, {"big": "1"})
        assert echo.metadata["authorization"] == "Bearer secret"
        ran = await tai_grpc(*call, *trust)
        assert ran.code == 1
        assert address in ran.error
    finally:
        await server.stop(None)


async def test_options_of_tls_that_do_not_go_together_are_one_line_and_exit_2() -> None:
    ran = await tai_grpc("call", "127.0.0.1:1", "a.B/C", "--insecure", "--tls")
    assert ran.code == 2
    assert "--insecure and --tls do not go together" in ran.error
