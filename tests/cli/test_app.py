import asyncio

from cli.command import Ran, shell, tai_grpc
from tai_grpc import __version__

COMMANDS = ("serve", "call", "load", "bench", "demo")


async def test_the_version_is_printed() -> None:
    ran = await tai_grpc("--version")
    assert (ran.code, ran.out) == (0, f"tai-grpc, version {__version__}\n")


async def test_without_a_command_the_help_lists_every_one_and_the_exit_codes() -> None:
    bare, asked, short = await asyncio.gather(tai_grpc(), tai_grpc("--help"), tai_grpc("-h"))
    assert bare == asked == short
    assert (asked.code, asked.err) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name}" in asked.out
    assert "Exit codes:" in asked.out


async def test_the_help_of_a_command_has_examples_and_exit_codes() -> None:
    for name, ran in zip(
        COMMANDS, await asyncio.gather(*(tai_grpc(name, "--help") for name in COMMANDS)), strict=True
    ):
        assert ran.code == 0, name
        assert "Examples:\n" in ran.out, name
        assert f"    tai-grpc {name}" in ran.out
        assert "Exit codes:\n    0  " in ran.out, name


async def test_an_unknown_command_or_option_is_one_line_that_names_the_help() -> None:
    command, option = await asyncio.gather(tai_grpc("serv"), tai_grpc("call", "--frobnicate"))
    assert (command.code, option.code) == (2, 2)
    names = ", ".join(COMMANDS)
    assert command.error == f"tai-grpc: no command 'serv'; there are: {names} (see: tai-grpc --help)"
    assert "--frobnicate" in option.error
    assert option.error.endswith("(see: tai-grpc call --help)")


async def test_what_a_full_device_does_not_take_is_one_line() -> None:
    said = "tai-grpc: cannot write to stdout: No space left on device"
    for ran in await asyncio.gather(
        *(shell(">/dev/full", *each) for each in (("--version",), ("--help",), ("load", "--help")))
    ):
        assert (ran.code, ran.error) == (1, said)


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
