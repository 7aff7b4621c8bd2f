"""`tai-grpc load` as a process, against servers that count what reaches them."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from aio.certificates import Certificates
from cli.command import COMMAND, Ran, ran, shell, started, tai_grpc
from cli.load.plans import write_protoset
from load.echo import POOL, SERVICE, Echo, echo_server
from tai_grpc import aio


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echo_server() as server:
        yield server


async def _load(echo: Echo, method: str, *arguments: str, stdin: bytes | None = None) -> Ran:
    return await tai_grpc("load", echo.address, "--call", f"echo.v1.Echo/{method}", *arguments, stdin=stdin)


async def _json(echo: Echo, method: str, *arguments: str) -> Any:
    result = await _load(echo, method, "-O", "json", *arguments)
    assert (result.code, result.err) == (0, "")
    return result.json


async def test_by_default_200_calls_are_made_and_a_summary_printed(echo: Echo) -> None:
    result = await _load(echo, "Unary")
    assert (result.code, result.err) == (0, "")
    assert echo.calls["Unary"] == 200
    assert "\nSummary:\n  Count:\t200\n" in result.out
    assert "[OK]" in result.out
    assert "Closed loop: " in result.out


async def test_the_json_report_counts_what_the_server_counted(echo: Echo) -> None:
    tags = ("--name", "x", "--tags", '{"a":"b"}')
    report = await _json(echo, "Unary", "-n", "70", "-c", "7", "--connections", "2", *tags)
    assert report["count"] == report["statusCodeDistribution"]["OK"] == echo.calls["Unary"] == 70
    assert (report["name"], report["tags"], report["options"]["concurrency"]) == ("x", {"a": "b"}, 7)
    assert len(echo.peers) == 2


async def test_threads_share_the_calls(echo: Echo) -> None:
    report = await _json(echo, "Unary", "-n", "301", "-c", "8", "--threads", "2")
    assert report["count"] == echo.calls["Unary"] == 301
    assert len(echo.peers) == 2


async def test_several_hosts_share_the_calls(echo: Echo) -> None:
    async with echo_server() as other:
        hosts = f"{echo.address},{other.address}"
        result = await tai_grpc("load", hosts, "--call", "echo.v1.Echo/Unary", "-n", "100", "-c", "4")
        assert result.code == 0
        assert echo.calls["Unary"] + other.calls["Unary"] == 100
        assert min(echo.calls["Unary"], other.calls["Unary"]) > 0


async def test_requests_are_sent_in_turn_with_the_metadata(echo: Echo, tmp_path: Path) -> None:
    file = tmp_path / "requests.json"
    file.write_text('[{"display_name":"ABORTED"},{"display_name":"NOT_FOUND"}]')
    arguments = ("-D", str(file), "-n", "6", "-c", "1", "-O", "json", "-m", '{"x-env":"test"}')
    result = await _load(echo, "Fail", *arguments)
    assert result.json["statusCodeDistribution"] == {"ABORTED": 3, "NOT_FOUND": 3}
    assert echo.metadata["x-env"] == "test"


async def test_templates_are_rendered_for_each_call(echo: Echo) -> None:
    arguments = ("-n", "20", "-c", "1", "-d", '{"display_name":"{{.UUID}}","big":{{.RequestNumber}}}')
    await _json(echo, "Unary", *arguments, "-m", "x-number:{{.RequestNumber}}", "--bearer", "secret")
    assert echo.metadata["x-number"] == "19"
    assert echo.metadata["authorization"] == "Bearer secret"


async def test_all_kinds_of_methods_are_called(echo: Echo) -> None:
    items = '[{"display_name":"a"},{"display_name":"b"}]'
    kinds = (("Collect", items, 2, 1), ("Split", f'{{"items":{items}}}', 1, 2), ("Chat", items, 2, 2))
    reports = await asyncio.gather(
        *(_json(echo, method, "-d", data, "-n", "10", "-c", "2") for method, data, _, _ in kinds)
    )
    for (method, _, sent, received), report in zip(kinds, reports, strict=True):
        assert report["statusCodeDistribution"] == {"OK": 10}
        assert echo.calls[method] == 10
        messages = sum(each["messagesSent"] for each in report["intervals"])
        assert (messages, sum(each["messagesReceived"] for each in report["intervals"])) == (
            10 * sent,
            10 * received,
        )


async def test_streams_are_shaped(echo: Echo) -> None:
    arguments = ("-n", "4", "-c", "2", "-d", '{"display_name":"{{newUUID}}"}', "--stream-dynamic-messages")
    report = await _json(echo, "Chat", *arguments, "--stream-call-count", "5", "--stream-interval", "1ms")
    assert sum(each["messagesSent"] for each in report["intervals"]) == 20


async def test_serialized_messages_come_from_stdin(echo: Echo) -> None:
    result = await _load(
        echo, "Fail", "-b", "-n", "4", "-O", "json", stdin=b"\x09\n\x07ABORTED\x0b\n\tNOT_FOUND"
    )
    assert result.json["statusCodeDistribution"] == {"ABORTED": 2, "NOT_FOUND": 2}


async def test_requests_are_compressed(echo: Echo) -> None:
    report = await _json(echo, "Unary", "-e", "-n", "5", "-d", json.dumps({"display_name": "x" * 5000}))
    assert report["statusCodeDistribution"] == {"OK": 5}


async def test_a_rate_is_an_open_loop(echo: Echo) -> None:
    report = await _json(echo, "Unary", "-r", "400", "-z", "500ms", "--warmup", "100ms")
    assert report["options"]["loop"] == "open"
    # The last ones may be due too late to be sent, which is said.
    assert report["count"] + report["missed"] == 200
    assert echo.calls["Unary"] == 240 - report["missed"]


async def test_a_rate_may_rise_and_calls_come_at_random(echo: Echo) -> None:
    steps = (
        "--load-start",
        "100",
        "--load-step",
        "200",
        "--load-step-duration",
        "100ms",
        "--load-end",
        "500",
    )
    rises, report = await asyncio.gather(
        _json(echo, "Unary", "--load-schedule", "step", *steps, "-n", "60"),
        _json(echo, "Unary", "-r", "1000", "--arrivals", "poisson", "-n", "50", "--closed"),
    )
    assert (rises["count"], report["count"], echo.calls["Unary"]) == (60, 50, 110)
    assert (report["options"]["arrivals"], report["options"]["latency-from"]) == ("poisson", "sent")


async def test_a_duration_replaces_the_number_of_calls(echo: Echo) -> None:
    report = await _json(echo, "Unary", "-z", "200ms", "-c", "2")
    assert report["endReason"] == "timeout"
    assert report["total"] >= 200_000_000
    assert report["count"] == echo.calls["Unary"]


async def test_a_number_of_calls_may_have_a_longest_time(echo: Echo) -> None:
    report, result = await asyncio.gather(
        _json(echo, "Unary", "-x", "60s", "-n", "30"),
        _load(echo, "Wait", "-x", "200ms", "-n", "30", "--duration-stop", "close", "-O", "json"),
    )
    assert report["endReason"] == "normal"
    assert (result.code, result.json["count"]) == (1, 0)
    assert result.error == "tai-grpc: no call ended"


async def test_a_call_that_takes_too_long_is_given_up(echo: Echo) -> None:
    result = await _load(echo, "Wait", "-t", "50ms", "-n", "2", "-O", "json")
    assert result.json["statusCodeDistribution"] == {"DEADLINE_EXCEEDED": 2}
    assert result.code == 1


async def test_failed_calls_make_the_exit_code_1_after_the_report(echo: Echo) -> None:
    result = await _load(echo, "Fail", "-d", '{"display_name":"ABORTED"}', "-n", "5")
    assert result.code == 1
    assert "ABORTED: went wrong,\\nand on purpose" in result.out
    assert result.error == "tai-grpc: 5 of 5 calls failed: 5 ABORTED"


async def test_a_run_fails_when_a_condition_holds_and_only_then(echo: Echo) -> None:
    good = ("--fail-if", "p99>1m", "--fail-if", "errors>0", "--fail-if", "rps<1")
    fails = ("--fail-if", "min>1ns", "--fail-if", "count<11")
    passed, result = await asyncio.gather(
        _load(echo, "Unary", *good), _load(echo, "Unary", "-n", "10", *good, *fails)
    )
    assert (passed.code, result.code) == (0, 1)
    assert "Count:\t10" in result.out
    assert result.error.startswith("tai-grpc: min>1ns: it was ")
    assert result.error.endswith("; count<11: it was 10")


async def test_a_condition_on_errors_decides_about_calls_that_fail(echo: Echo) -> None:
    data = ("-d", '[{"display_name":"ABORTED"}]', "-n", "4")
    passed, result = await asyncio.gather(
        *(_load(echo, "Fail", *data, "--fail-if", condition) for condition in ("errors>4", "errors>=100%"))
    )
    assert passed.code == 0
    assert (result.code, result.error) == (1, "tai-grpc: errors>=100%: it was 100% (4 of 4)")


async def test_the_report_goes_to_a_file_and_replaces_what_was_there(echo: Echo, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("before " * 10_000)
    result = await _load(echo, "Unary", "-n", "3", "-O", "json", "-o", str(target))
    assert (result.code, result.out) == (0, "")
    assert json.loads(target.read_text())["count"] == 3


async def test_a_report_that_could_not_be_written_is_said_before_the_load(echo: Echo) -> None:
    result = await _load(echo, "Unary", "-o", "/nowhere/report")
    assert result.code == 2
    assert "cannot write /nowhere/report: No such file or directory" in result.error
    assert echo.calls.total() == 0


async def test_a_report_that_a_full_device_does_not_take_is_one_line_after_the_load(echo: Echo) -> None:
    call = ("load", echo.address, "--call", "echo.v1.Echo/Unary", "-n", "3")
    file, full, closed = await asyncio.gather(
        tai_grpc(*call, "-o", "/dev/full"), shell(">/dev/full", *call), shell(">&-", *call)
    )
    assert (file.code, file.out, full.code, closed.code) == (1, "", 1, 1)
    assert file.error == "tai-grpc: cannot write the report to /dev/full: No space left on device"
    assert full.error == "tai-grpc: cannot write the report to stdout: No space left on device"
    assert closed.error == "tai-grpc: cannot write the report to stdout: it is closed"
    assert echo.calls["Unary"] == 9


async def test_a_run_that_does_not_begin_leaves_no_file(tmp_path: Path) -> None:
    target, before = tmp_path / "report", tmp_path / "before"
    before.write_text("before")
    call = ("load", "127.0.0.1:1", "--call", "no", "-o")
    for result in await asyncio.gather(*(tai_grpc(*call, str(path)) for path in (target, before))):
        assert result.code == 2
    assert not target.exists()
    assert before.read_text() == "before"


async def test_a_report_on_a_stdout_of_ascii_is_still_a_report(echo: Echo) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    call = ("load", echo.address, "--call", "echo.v1.Echo/Unary", "-n", "3")
    async with started(*call, env=ascii_only) as process:
        result = await ran(process)
    assert (result.code, result.err) == (0, "")
    assert "|\\u220e" in result.out


async def test_there_are_many_forms_of_the_report(echo: Echo) -> None:
    forms = ("csv", "html", "prometheus", "hlog")
    results = await asyncio.gather(*(_load(echo, "Unary", "-n", "3", "-O", form) for form in forms))
    for form, result in zip(forms, results, strict=True):
        assert (result.code, result.err) == (0, ""), form
        assert result.out.strip(), form


async def test_ctrl_c_ends_the_run_with_the_report_so_far(echo: Echo) -> None:
    echo.expected_waiting = 3
    call = ("--call", "echo.v1.Echo/Wait", "-c", "3", "-O", "json")
    async with started("load", echo.address, *call) as process:
        await echo.all_waiting.wait()
        process.send_signal(signal.SIGINT)
        result = await ran(process)
    assert (result.code, result.err) == (130, "")
    assert (result.json["endReason"], result.json["count"], result.json["abandoned"]) == ("cancel", 0, 3)


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


DEAF = """
import sys
from tai_grpc.load.frames import read_frame, write_frame
told, said = sys.stdin.buffer, sys.stdout.buffer
version, plan = read_frame(told), read_frame(told)
write_frame(said, "ready")
for _ in range(2):
    print(read_frame(told), file=sys.stderr, flush=True)
told.read()
"""
"""An engine process that hears that it is to stop, and does not until its coordinator has gone."""


async def test_a_second_ctrl_c_ends_the_program(tmp_path: Path) -> None:
    """The first one waits for the report: here, for that of an engine process that does not stop."""
    deaf = tmp_path / "deaf.py"
    deaf.write_text(DEAF)
    declared = ("--protoset", str(write_protoset(tmp_path)), "--call", "echo.v1.Echo/Unary")
    async with started("load", "127.0.0.1:1", *declared, "--via", f"{sys.executable} {deaf}") as process:
        assert process.stderr is not None
        assert await process.stderr.readline() == b"go\n"
        process.send_signal(signal.SIGINT)
        assert await process.stderr.readline() == b"stop\n"
        assert process.returncode is None
        process.send_signal(signal.SIGINT)
        assert (await ran(process)).code == -signal.SIGINT


async def test_the_run_is_seen_on_a_terminal(echo: Echo) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "load", echo.address, "--call", "echo.v1.Echo/Unary", "-r", "100", "-n", "100"),
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    out, _ = await process.communicate()
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert process.returncode == 0
    assert "Count:\t100" in out.decode()
    assert "echo.v1.Echo/Unary" in shown
    assert "calls/s" in shown


# --- services that are not ours ---


async def test_a_service_without_reflection_is_called_by_its_files(tmp_path: Path) -> None:
    async with echo_server(reflection=False) as echo:
        proto = Path(__file__).parents[2] / "load" / "echo.proto"
        by_protoset, by_proto, result = await asyncio.gather(
            _json(echo, "Unary", "--protoset", str(write_protoset(tmp_path)), "-n", "10"),
            _json(echo, "Unary", "--proto", str(proto), "-n", "10"),
            _load(echo, "Unary"),
        )
        for report in (by_protoset, by_proto):
            assert report["statusCodeDistribution"] == {"OK": 10}
        assert result.code == 2
        assert "the server has no reflection, and 'echo.v1.Echo' is not built in" in result.error


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
        right = ((*authority, *ours), (*authority, *ours, "--cname", "localhost"), ("--skipTLS", *ours))
        wrong = (authority, (*authority, *ours, "--cname", "other.example"), ("--tls", *ours), ())
        results = await asyncio.gather(*(tai_grpc(*call, *each) for each in (*right, *wrong)))
        assert [result.code for result in results] == [0] * len(right) + [2] * len(wrong), results
        assert echo.calls["Unary"] == 60
        for result in results[len(right) :]:
            assert f"127.0.0.1:{port}" in result.error
    finally:
        await server.stop(None)


async def test_a_server_on_a_socket_is_loaded_and_its_authority_is_as_asked_for(tmp_path: Path) -> None:
    server = aio.server()
    echo = Echo()
    server.add_generic_rpc_handlers((echo.handlers(),))
    enable_server_reflection((SERVICE,), server, pool=POOL)
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    try:
        call = ("load", f"unix:{tmp_path}/s", "--call", "echo.v1.Echo/Unary", "-n", "20")
        assert (await tai_grpc(*call, "--authority", "a.example")).code == 0
        assert echo.calls["Unary"] == 20
    finally:
        await server.stop(None)


async def test_reflection_may_have_metadata_of_its_own(echo: Echo) -> None:
    assert (
        await _load(echo, "Unary", "-n", "5", "--reflect-metadata", "x-reflect:1", "-m", "x-call:2")
    ).code == 0
    assert echo.metadata["x-call"] == "2"
    assert "x-reflect" not in echo.metadata


# --- what cannot be run ---


async def test_what_cannot_be_run_is_one_line_and_exit_2(echo: Echo) -> None:
    cases: list[tuple[str, tuple[str, ...], str]] = [
        ("Unary", ("-d", '{"nope":1}'), "no field 'nope'"),
        ("Unary", ("-d", "{}", "-D", "file"), "--data and --data-file do not go together"),
        ("Unary", ("-c", "0"), "concurrency=0: expected an int from 1"),
        ("Unary", ("-O", "xml"), "'xml': expected one of summary, csv, json"),
        ("Unary", ("--fail-if", "p99"), "'p99' is not a threshold: write NAME, one of > >= < <="),
        ("Nope", (), "echo.v1.Echo has no method 'Nope'; it has: Unary"),
        ("Unary", ("--skipFirst", "5"), "--skipFirst is not supported: give --warmup"),
        ("Unary", ("--cacert", "/dev/null"), "cacert="),
        ("Unary", ("-d", '{"big":' + "1" * 5000 + "}"), "the data is not JSON that can be sent: "),
        ("Unary", ("--processes", "100000"), "processes=100000: expected an int from 1 to 256"),
        (
            "Unary",
            ("--via", "/nowhere/ssh box"),
            "cannot start /nowhere/ssh box tai-grpc load engine: No such",
        ),
    ]
    results = await asyncio.gather(*(_load(echo, method, *arguments) for method, arguments, _ in cases))
    for (_, _, said), result in zip(cases, results, strict=True):
        assert (result.code, result.out) == (2, "")
        assert said in result.error
    assert echo.calls.total() == 0


async def test_a_refused_connection_is_one_line_and_exit_2(tmp_path: Path) -> None:
    async with echo_server() as server:
        address = server.address
    declared = ("--protoset", str(write_protoset(tmp_path)), "--call", "echo.v1.Echo/Unary")
    asked, not_asked = await asyncio.gather(
        tai_grpc("load", address, "--call", "tai.v1.Governor/HealthCheck"),
        tai_grpc("load", address, *declared),
    )
    assert asked.code == 2
    assert asked.error.startswith(f"tai-grpc: cannot reach {address}: connection refused")
    assert not_asked.code == 2
    assert not_asked.error == f"tai-grpc: cannot connect to {address}: Connection refused"


async def test_a_request_that_cannot_be_rendered_in_the_run_ends_it(echo: Echo) -> None:
    data = '{"raw":"abc{{.RequestNumber}}"}'  # which with two digits is no base64
    result = await _load(echo, "Unary", "-d", data, "-n", "1000")
    assert result.code == 2
    assert "raw" in result.error
    assert "Cut short, as a request could not be made: " in result.out


async def test_a_host_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        declared = ("--protoset", str(write_protoset(tmp_path)), "--call", "echo.v1.Echo/Unary")
        result = await tai_grpc("load", address, *declared, "--connect-timeout", "200ms")
    assert result.code == 2
    assert result.error.startswith(f"tai-grpc: cannot connect to {address}: ")
