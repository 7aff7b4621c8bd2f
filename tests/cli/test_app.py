import asyncio

import pytest

from cli.command import Ran, shell, tai_grpc
from tai_grpc import __version__

COMMANDS = ("serve", "call", "load", "bench", "demo")


async def test_the_version_is_printed() -> None:
    ran = await tai_grpc("--version")
    assert (ran.code, ran.out) == (0, f"tai-grpc, version {__version__}\n")


async def test_help_lists_every_command_and_the_exit_codes() -> None:
    ran = await tai_grpc("--help")
    assert (ran.code, ran.err) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name}" in ran.out
    assert "Exit codes:" in ran.out


async def test_without_a_command_the_help_is_printed() -> None:
    bare, asked = await asyncio.gather(tai_grpc(), tai_grpc("-h"))
    assert bare == asked


@pytest.mark.parametrize("name", COMMANDS)
async def test_the_help_of_a_command_has_examples_and_exit_codes(name: str) -> None:
    ran = await tai_grpc(name, "--help")
    assert ran.code == 0
    assert "Examples:\n" in ran.out
    assert f"    tai-grpc {name}" in ran.out
    assert "Exit codes:\n    0  " in ran.out


async def test_an_unknown_command_names_those_there_are() -> None:
    ran = await tai_grpc("serv")
    assert ran.code == 2
    names = ", ".join(COMMANDS)
    assert ran.error == f"tai-grpc: no command 'serv'; there are: {names} (see: tai-grpc --help)"


async def test_an_unknown_option_is_one_line_that_names_the_help() -> None:
    ran = await tai_grpc("call", "--frobnicate")
    assert ran.code == 2
    assert "--frobnicate" in ran.error
    assert ran.error.endswith("(see: tai-grpc call --help)")


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("load", "--help")])
async def test_what_a_full_device_does_not_take_is_one_line(arguments: tuple[str, ...]) -> None:
    ran = await shell(">/dev/full", *arguments)
    assert (ran.code, ran.error) == (1, "tai-grpc: cannot write to stdout: No space left on device")


async def test_a_stdout_that_is_closed_is_none() -> None:
    assert await shell(">&-", "--version") == Ran(0, "", "")


async def test_a_stdin_that_is_closed_is_one_line() -> None:
    ran = await shell("<&-", "call", "127.0.0.1:1", "tai.v1.Governor/HealthCheck", "-d", "@")
    assert ran.code == 2
    assert ran.error.startswith("tai-grpc: Invalid value for data: stdin is closed (see: ")


async def test_an_authority_that_cannot_be_sent_is_refused() -> None:
    ran = await tai_grpc("call", "127.0.0.1:1", "tai.v1.Governor/HealthCheck", "--authority", "a b")
    assert ran.code == 2
    assert "'--authority': 'a b': expected printable ASCII without spaces" in ran.error
