"""`tai-grpc load` as a process, until it is connected: TLS, hosts that do not answer, what is waited for."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from aio.certificates import Certificates
from cli.command import Ran, on_a_terminal, ran, started, tai_grpc
from cli.load.plans import write_protoset
from load.echo import POOL, SERVICE, Echo, echo_server
from tai_grpc import aio


@pytest.mark.parametrize("implementation", [grpc.aio, aio], ids=["grpcio", "native"])
async def test_a_server_with_tls_is_asked_for_its_services_and_loaded(
    tmp_path: Path, implementation: Any
) -> None:
    certificates = Certificates(tmp_path)
    for name in ("client_chain", "client_key"):
        (tmp_path / name).write_bytes(getattr(certificates, name))
    server = implementation.server()
    echo = Echo()
    server.add_generic_rpc_handlers((echo.handlers(),))
    enable_server_reflection((SERVICE,), server, pool=POOL)
    credentials = implementation if implementation is aio else grpc
    port = server.add_secure_port(
        "127.0.0.1:0",
        credentials.ssl_server_credentials(
            [(certificates.server_key, certificates.server_chain)],
            root_certificates=certificates.authority,
            require_client_auth=True,
        ),
    )
    await server.start()
    try:
        call = ("load", f"127.0.0.1:{port}", "--call", "echo.v1.Echo/Unary", "-n", "20", "-c", "2")
        authority = ("--cacert", str(certificates.authority_file))
        ours = ("--cert", str(tmp_path / "client_chain"), "--key", str(tmp_path / "client_key"))
        assert (await tai_grpc(*call, *authority, *ours)).code == 0
        assert (await tai_grpc(*call, *authority, *ours, "--cname", "localhost")).code == 0
        assert (await tai_grpc(*call, "--skipTLS", *ours)).code == 0
        assert echo.calls["Unary"] == 60
        declared = ("--protoset", str(write_protoset(tmp_path)))
        for wrong, way_out in (
            (authority, ""),
            ((*authority, *ours, "--cname", "other.example"), "give the certificate's name by --cname"),
            (("--tls", *ours), "give its authority by --cacert FILE"),
            ((), "if the server speaks TLS, give --tls, or --cacert FILE"),
        ):
            for asked in ((), declared):
                result = await tai_grpc(*call, *wrong, *asked)
                assert result.code == 2, result
                assert f"127.0.0.1:{port}" in result.error
                assert result.error.endswith(way_out) or f"{way_out}, or --skipTLS" in result.error
    finally:
        await server.stop(None)


async def test_a_server_without_tls_is_named_as_such(tmp_path: Path) -> None:
    async with echo_server() as echo:
        call = ("load", echo.address, "--call", "echo.v1.Echo/Unary", "--skipTLS")
        results = [
            await tai_grpc(*call, *asked) for asked in ((), ("--protoset", str(write_protoset(tmp_path))))
        ]
    for result in results:
        assert result.code == 2
        assert result.error.endswith("; the server speaks no TLS: leave --tls, --cacert and the like out")


def _hash(certificate: Path) -> str:
    command = ("openssl", "x509", "-hash", "-noout", "-in", str(certificate))
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


async def test_the_systems_authorities_are_found_in_a_folder_too(tmp_path: Path) -> None:
    """By the hash of their names, as `c_rehash` lays it out."""
    certificates = Certificates(tmp_path)
    (tmp_path / f"{_hash(certificates.authority_file)}.0").symlink_to(certificates.authority_file)
    server, echo = aio.server(), Echo()
    server.add_generic_rpc_handlers((echo.handlers(),))
    pairs = [(certificates.server_key, certificates.server_chain)]
    port = server.add_secure_port("127.0.0.1:0", aio.ssl_server_credentials(pairs))
    await server.start()
    try:
        call = ("load", f"127.0.0.1:{port}", "--call", "echo.v1.Echo/Unary", "-n", "20", "--tls")
        declared = ("--protoset", str(write_protoset(tmp_path)))
        authorities = {"SSL_CERT_FILE": "/none", "SSL_CERT_DIR": str(tmp_path)}
        async with started(*call, *declared, env=authorities) as process:
            result = await ran(process)
        assert (result.code, result.err) == (0, "")
    finally:
        await server.stop(None)


async def test_a_refused_connection_is_one_line_and_exit_2(tmp_path: Path) -> None:
    async with echo_server() as server:
        address = server.address
    asked = await tai_grpc("load", address, "--call", "tai.v1.Governor/HealthCheck")
    assert asked.code == 2
    assert asked.error.startswith(f"tai-grpc: cannot connect to {address}: connection refused")
    declared = ("--protoset", str(write_protoset(tmp_path)), "--call", "echo.v1.Echo/Unary")
    not_asked = await tai_grpc("load", address, *declared)
    assert not_asked.code == 2
    assert not_asked.error.startswith(f"tai-grpc: cannot connect to {address}: Connection refused; is the ")


async def test_a_host_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        declared = ("--protoset", str(write_protoset(tmp_path)), "--call", "echo.v1.Echo/Unary")
        result = await tai_grpc("load", address, *declared, "--connect-timeout", "200ms")
        call = ("load", address, "--call", "echo.v1.Echo/Unary")
        asked = await tai_grpc(*call, "--connect-timeout", "200ms")
    assert result.code == asked.code == 2
    assert result.error.startswith(f"tai-grpc: cannot connect to {address}: ")
    assert asked.error == f"tai-grpc: {address}: no answer to reflection within 0.2 s (--connect-timeout)"


async def test_what_is_waited_for_before_the_run_is_seen_on_a_terminal(tmp_path: Path) -> None:
    """Here, of a host that takes connections and says nothing."""
    declared = ("--protoset", str(write_protoset(tmp_path)))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        call = ("load", address, "--call", "echo.v1.Echo/Unary", "--connect-timeout", "1s")
        for arguments, said in (
            ((), f"asking {address} what echo.v1.Echo/Unary takes"),
            (declared, f"connecting to {address}"),
        ):
            async with on_a_terminal(*call, *arguments) as (process, terminal):
                await process.communicate()
                shown = os.read(terminal, 65536).decode()
            assert process.returncode == 2
            assert f"\r\x1b[K{said}\r\x1b[Ktai-grpc: " in shown


async def test_ctrl_c_ends_the_program_while_it_connects(tmp_path: Path) -> None:
    """Here, to a host that takes connections and says nothing."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        declared = ("--protoset", str(write_protoset(tmp_path)), "--call", "echo.v1.Echo/Unary")
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with started("load", address, *declared, "--connect-timeout", "20s") as process:
            connected, _ = await loop.sock_accept(silent)
            process.send_signal(signal.SIGINT)
            assert await ran(process) == Ran(-signal.SIGINT, "", "")
            connected.close()
