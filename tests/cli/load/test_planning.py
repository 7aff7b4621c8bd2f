"""Every option of `tai-grpc load`: what it makes of the plan, and what is said where it cannot be."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aio.certificates import Certificates
from cli.load.plans import HOST, planned, refused, write_protoset
from tai_grpc.cli.load import command
from tai_grpc.cli.load.ghz import LEFT_OUT
from tai_grpc.load.plan import Arrivals, AtEnd, LoadPlan, Segment, Streaming, TlsPlan

ITEM = '{"display_name":"a"}'


@pytest.fixture(scope="module")
def protoset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_protoset(tmp_path_factory.mktemp("echo")))


@pytest.fixture
def plan_of(protoset: str) -> Any:
    """Makes the plan of a command line for a method of the echo service."""

    def make(*arguments: str, method: str = "Unary") -> LoadPlan:
        return planned(HOST, "--protoset", protoset, "--call", f"echo.v1.Echo/{method}", *arguments)

    return make


@pytest.fixture
def refusal_of(protoset: str) -> Any:
    def make(*arguments: str, method: str = "Unary") -> str:
        return refused(HOST, "--protoset", protoset, "--call", f"echo.v1.Echo/{method}", *arguments)

    return make


def _stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def _sent(plan: LoadPlan) -> list[tuple[bytes, ...]]:
    assert plan.requests.fixed is not None
    return [request.messages for request in plan.requests.fixed]


def test_the_defaults_are_those_of_ghz_but_for_waiting_at_the_end(plan_of: Any) -> None:
    plan = plan_of()
    assert (plan.hosts, plan.method.full_name) == ((HOST,), "echo.v1.Echo/Unary")
    assert (plan.concurrency, plan.total, plan.duration, plan.timeout) == (50, 200, None, 20.0)
    assert (plan.connections, plan.connect_timeout, plan.threads) == (1, 10.0, 1)
    assert (plan.schedule, plan.closed, plan.warmup, plan.at_end) == (None, False, 0.0, AtEnd.WAIT)
    assert (plan.tls, plan.authority, plan.gzip, plan.max_message_bytes) == (None, None, False, 64 << 20)
    assert plan.streaming == Streaming()
    assert (plan.name, dict(plan.tags)) == ("", {})
    assert _sent(plan) == [(b"",)]


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (("-c", "7"), {"concurrency": 7}),
        (("--concurrency=7",), {"concurrency": 7}),
        (("-n", "9"), {"total": 9}),
        (("-z", "1m30s"), {"total": None, "duration": 90.0}),
        (("-z", "5"), {"total": None, "duration": 5.0}),
        (("-z", "0", "-n", "3"), {"total": 3, "duration": None}),
        (("-x", "10s", "-n", "3"), {"total": 3, "duration": 10.0}),
        (("--duration-stop", "close"), {"at_end": AtEnd.CLOSE}),
        (("--duration-stop", "ignore"), {"at_end": AtEnd.CLOSE}),
        (("--duration-stop", "WAIT"), {"at_end": AtEnd.WAIT}),
        (("-t", "250ms"), {"timeout": 0.25}),
        (("-t", "0"), {"timeout": 3600.0}),
        (("--warmup", "2s"), {"warmup": 2.0}),
        (("--connections", "3"), {"connections": 3}),
        (("--connect-timeout", "1s"), {"connect_timeout": 1.0}),
        (("--cpus", "2"), {"threads": 2, "connections": 2}),
        (("--threads", "2", "--connections", "5"), {"threads": 2, "connections": 5}),
        (("--cpus", "2", "--connections", "1"), {"threads": 1, "connections": 1}),
        (("--cpus", "2", "-c", "1"), {"threads": 1, "connections": 1}),
        (("--cpus", "4", "--connections", "6", "--processes", "2"), {"threads": 3, "connections": 6}),
        (("--cpus", "4", "-c", "6", "--processes", "2"), {"threads": 3, "connections": 6}),
        (("--max-recv-message-size", "4MB"), {"max_message_bytes": 4_000_000}),
        (("--max-recv-message-size", "1.5 KiB"), {"max_message_bytes": 1536}),
        (("--max-recv-message-size", "77"), {"max_message_bytes": 77}),
        (("-e",), {"gzip": True}),
        (("--enable-compression=true",), {"gzip": True}),
        (("--enable-compression=false",), {"gzip": False}),
        (("--authority", "a.example"), {"authority": "a.example"}),
        (("--authority", ""), {"authority": None}),
        (("--insecure",), {"tls": None}),
        (("--tls",), {"tls": TlsPlan()}),
        (("--skipTLS",), {"tls": TlsPlan(verify=False)}),
        (("--cname", "x.example"), {"tls": TlsPlan(server_name="x.example")}),
        (("--stream-interval", "10ms"), {"streaming": Streaming(interval=0.01)}),
        (("--stream-call-count", "4"), {"streaming": Streaming(messages=4)}),
        (("--stream-call-duration", "3s"), {"streaming": Streaming(duration=3.0)}),
        (("--name", "n", "--tags", '{"a":"b"}'), {"name": "n", "tags": {"a": "b"}}),
    ],
)
def test_an_option_is_in_the_plan(plan_of: Any, arguments: tuple[str, ...], changed: dict[str, Any]) -> None:
    plan = plan_of(*arguments)
    assert {name: getattr(plan, name) for name in changed} == changed


def test_pem_texts_are_read_from_their_files(plan_of: Any, tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    texts = {"cacert": made.authority, "cert": made.client_chain, "key": made.client_key}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    plan = plan_of(*(f"--{name}={tmp_path / name}" for name in texts))
    assert plan.tls == TlsPlan(ca=made.authority, certificate=made.client_chain, key=made.client_key)


@pytest.mark.parametrize(
    ("arguments", "hosts"),
    [
        (("a.example:1", "b.example:2"), ("a.example:1", "b.example:2")),
        (("a.example:1,b.example:2", "[::1]:3"), ("a.example:1", "b.example:2", "[::1]:3")),
        (("a.example:1, b.example:2,",), ("a.example:1", "b.example:2")),
        (("dns:///a.example:1",), ("a.example:1",)),
        (("unix:/run/x.sock",), ("unix:/run/x.sock",)),
    ],
)
def test_hosts_are_repeated_or_separated_by_commas(
    protoset: str, arguments: tuple[str, ...], hosts: tuple[str, ...]
) -> None:
    plan = planned(*arguments, "--protoset", protoset, "--call", "echo.v1.Echo.Unary")
    assert plan.hosts == hosts
    assert plan.connections == len(hosts)


# --- rates ---


@pytest.mark.parametrize(
    ("arguments", "segments"),
    [
        (("-r", "100"), (Segment(None, 100.0, 100.0),)),
        (("--rps", "0.5"), (Segment(None, 0.5, 0.5),)),
        (
            (
                "-n",
                "1000",
                "--load-schedule",
                "step",
                "--load-start",
                "50",
                "--load-step",
                "50",
                "--load-end",
                "150",
                "--load-step-duration",
                "5s",
            ),
            (Segment(5.0, 50.0, 50.0), Segment(5.0, 100.0, 100.0), Segment(None, 150.0, 150.0)),
        ),
        (
            (
                "--load-schedule=step",
                "--load-start=50",
                "--load-step=50",
                "--load-step-duration=1s",
                "-n",
                "120",
            ),
            (Segment(1.0, 50.0, 50.0), Segment(1.0, 100.0, 100.0), Segment(None, 150.0, 150.0)),
        ),
        (
            ("--load-schedule=line", "--load-start=200", "--load-step=-2", "--load-end=100"),
            (Segment(50.0, 200.0, 100.0), Segment(None, 100.0, 100.0)),
        ),
        (
            ("--load-schedule=line", "--load-start=0", "--load-step=10", "--load-max-duration=4s"),
            (Segment(4.0, 0.0, 40.0), Segment(None, 40.0, 40.0)),
        ),
    ],
)
def test_a_rate_is_a_schedule(
    plan_of: Any, arguments: tuple[str, ...], segments: tuple[Segment, ...]
) -> None:
    plan = plan_of(*arguments)
    assert plan.schedule is not None
    assert plan.schedule.segments == segments
    assert plan.schedule.arrivals is Arrivals.UNIFORM


def test_arrivals_and_where_latencies_count_from_go_with_a_rate(plan_of: Any) -> None:
    plan = plan_of("-r", "10", "--arrivals", "poisson", "--closed", "--async")
    assert (plan.schedule.arrivals, plan.closed) == (Arrivals.POISSON, True)


def test_a_rate_of_0_is_none_as_in_ghz(plan_of: Any) -> None:
    assert plan_of("-r", "0").schedule is None


# --- what is sent ---


def test_data_is_given_in_every_way(plan_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, raw = tmp_path / "data.json", tmp_path / "data.bin"
    file.write_text(ITEM)
    raw.write_bytes(b"\n\x01a")
    ways: list[tuple[str, ...]] = [
        ("-d", ITEM),
        ("-d", f"@{file}"),
        ("-D", str(file)),
        ("--data-file", str(file)),
        ("-B", str(raw)),
    ]
    for way in ways:
        assert _sent(plan_of(*way)) == [(b"\n\x01a",)], way
    _stdin(monkeypatch, ITEM.encode())
    assert _sent(plan_of("-d", "@")) == [(b"\n\x01a",)]
    _stdin(monkeypatch, b"\n\x01a")
    assert _sent(plan_of("-b")) == [(b"\n\x01a",)]


def test_metadata_is_given_in_every_way(plan_of: Any, tmp_path: Path) -> None:
    file, token = tmp_path / "metadata.json", tmp_path / "token"
    file.write_text('{"x-file":"f"}')
    token.write_text("secret\n")
    plan = plan_of("-m", "x-a:1", "-m", '{"x-b":"2"}', "-M", str(file), "--bearer", f"@{token}")
    (request,) = plan.requests.fixed
    assert request.metadata == (
        ("x-a", "1"),
        ("x-b", "2"),
        ("x-file", "f"),
        ("authorization", "Bearer secret"),
    )
    (other,) = plan_of("--bearer", "abc").requests.fixed
    assert other.metadata == (("authorization", "Bearer abc"),)


def test_templates_know_the_method_and_the_concurrency(plan_of: Any) -> None:
    plan = plan_of("-c", "3", "-d", '{"display_name":"{{.MethodName}} {{.WorkerID}}"}')
    assert [plan.requests.render(number).messages[0][2:] for number in (0, 4)] == [b"Unary w0", b"Unary w1"]


def test_templates_are_turned_off(plan_of: Any) -> None:
    data = '{"display_name":"{{newUUID}}"}'
    plan = plan_of("--disable-template-data", "-d", data)
    assert _sent(plan) == [(b"\n\x0b{{newUUID}}",)]


def test_messages_of_a_stream_are_dynamic(plan_of: Any) -> None:
    arguments = ("-d", '{"display_name":"{{newUUID}}"}', "--stream-call-count=3")
    assert len(set(plan_of(*arguments, method="Collect").requests.render(0).messages)) == 1
    dynamic = plan_of(*arguments, "--stream-dynamic-messages=true", method="Collect")
    assert len(set(dynamic.requests.render(0).messages)) == 3


# --- files that say it ---


def test_a_proto_file_declares_the_method(plan_of: Any) -> None:
    folder = Path(__file__).parents[2] / "load"
    plan = planned(
        HOST, "--call", "echo.v1.Echo/Chat", "--proto", str(folder / "echo.proto"), "-i", f"{folder},."
    )
    assert plan.method.kind == "bidirectional streaming"


CONFIG: dict[str, Any] = {
    "call": "echo.v1.Echo/Unary",
    "host": HOST,
    "total": 2000,
    "concurrency": 7,
    "data": {"display_name": "Joe {{.RequestNumber}}"},
    "metadata": {"x-id": "{{.RequestNumber}}", "x-fixed": "f"},
    "max-duration": "10s",
    "tags": {"env": "test"},
    "insecure": True,
    "connections": 2,
    "rps": 50,
    "skipFirst": 0,
    "concurrency-schedule": "const",
}


def test_a_json_config_file_says_it_all(protoset: str, tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    path.write_text(json.dumps({**CONFIG, "protoset": protoset}))
    plan = planned("--config", str(path))
    assert (plan.hosts, plan.total, plan.concurrency, plan.duration) == ((HOST,), 2000, 7, 10.0)
    assert (dict(plan.tags), plan.connections, plan.tls) == ({"env": "test"}, 2, None)
    assert plan.schedule is not None
    request = plan.requests.render(5)
    assert request.messages == (b"\n\x05Joe 5",)
    assert request.metadata == (("x-id", "5"), ("x-fixed", "f"))


def test_a_toml_config_file_says_it_all(protoset: str, tmp_path: Path) -> None:
    path = tmp_path / "load.toml"
    path.write_text(
        f""""max-duration" = "7s"
total = 5000
call = "echo.v1.Echo.Unary"
protoset = {json.dumps(protoset)}
host = ["a.example:1", "b.example:2"]
insecure = true

[data]
display_name = "Bob"

[metadata]
rn = "1"
"""
    )
    plan = planned("--config", str(path))
    assert (plan.hosts, plan.total, plan.duration) == (("a.example:1", "b.example:2"), 5000, 7.0)
    assert _sent(plan) == [(b"\n\x03Bob",)]


def test_the_command_line_goes_before_the_config_file(protoset: str, tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    path.write_text(json.dumps({**CONFIG, "protoset": protoset}))
    file = tmp_path / "data.json"
    file.write_text(ITEM)
    plan = planned("other.example:9", "--config", str(path), "-D", str(file), "-z", "3s", "-c", "9")
    assert (plan.hosts, plan.total, plan.duration, plan.concurrency) == (("other.example:9",), None, 3.0, 9)
    assert plan.requests.render(0).messages == (b"\n\x01a",)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "a.json: Expecting property name"),
        ("a.json", "[1]", "a.json: expected an object with the options' long names"),
        ("a.toml", "x = ", "a.toml: Invalid value"),
        ("a.yaml", "x: 1", "a.yaml: expected a file that is named .json or .toml"),
        ("a.json", '{"totall":1}', "a.json: there is no option 'totall'; there are: arrivals, "),
        ("a.json", '{"config":"b.json"}', "a.json: there is no option 'config'; there are: arrivals, "),
        ("a.json", '{"metadata":[{"a":"b"}]}', "a.json: metadata: expected a string or a list of strings"),
        ("a.json", '{"tags":["a"]}', "a.json: tags: expected a string or a number"),
        ("a.json", '{"total":[1]}', "a.json: total: expected a string or a number"),
        ("a.json", '{"insecure":"yes"}', 'a.json: insecure: expected true or false, not "yes"'),
        ("a.json", '{"host":5}', "a.json: host: expected a string or a list of strings"),
        ("a.json", '{"skipFirst":5}', "a.json: skipFirst is not supported: give --warmup"),
        ("a.json", '{"total":"many"}', "'many' is not a valid integer"),
        ("a.json", '{"duration":"soon"}', "'soon' is not a duration"),
    ],
)
def test_what_a_config_file_cannot_say_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert said in refused("--config", str(path))


def test_a_config_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "gone.json")
    assert (
        refused("--config", path)
        == f"Invalid value for config: cannot read {path}: No such file or directory"
    )


def test_what_a_config_file_may_have_is_what_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"nope":1}')
    names = refused("--config", str(path)).partition("there are: ")[2].split(", ")
    assert {"host", "data", "fail-if", "load-schedule"} <= set(names)
    assert {"config", *LEFT_OUT} & set(names) == set()


def test_a_config_file_repeats_an_option_by_a_list(protoset: str, tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    data = [{"display_name": "a"}, {"display_name": "b"}]
    changed = {"protoset": protoset, "metadata": ["x-a:1", '{"x-b":"2"}'], "data": data}
    path.write_text(json.dumps({**CONFIG, **changed}))
    plan = planned("--config", str(path))
    assert _sent(plan) == [(b"\n\x01a",), (b"\n\x01b",)]
    assert plan.requests.fixed is not None
    assert plan.requests.fixed[0].metadata == (("x-a", "1"), ("x-b", "2"))


# --- ghz's options ---

GHZ = """config proto protoset call import-paths cacert cert key cname skipTLS insecure authority async rps
    load-schedule load-start load-step load-end load-step-duration load-max-duration concurrency
    concurrency-schedule concurrency-start concurrency-end concurrency-step
    concurrency-step-duration concurrency-max-duration total timeout duration max-duration
    duration-stop data data-file binary binary-file metadata metadata-file stream-interval
    stream-call-duration stream-call-count stream-dynamic-messages reflect-metadata output format
    skipFirst count-errors connections connect-timeout keepalive name tags cpus debug
    enable-compression lb-strategy max-recv-message-size max-send-message-size
    disable-template-functions disable-template-data"""
SHORT = {"i": "import-paths", "c": "concurrency", "n": "total", "t": "timeout", "z": "duration",
    "x": "max-duration", "d": "data", "D": "data-file", "b": "binary", "B": "binary-file", "m": "metadata",
    "M": "metadata-file", "o": "output", "O": "format", "r": "rps", "e": "enable-compression"}  # fmt: skip


def test_every_option_of_ghz_is_taken_or_refused_with_a_reason() -> None:
    long = {option: param for param in command.params for option in param.opts}
    names = GHZ.split()
    assert [name for name in names if f"--{name}" not in long] == []
    assert {letter for letter, name in SHORT.items() if f"-{letter}" not in long[f"--{name}"].opts} == set()
    assert set(LEFT_OUT) <= set(names)


def test_what_is_left_out_is_in_the_document() -> None:
    text = (Path(__file__).parents[3] / "docs/load.md").read_text()
    left_out = {name for name in LEFT_OUT if not name.startswith("concurrency-") or name.endswith("schedule")}
    assert {name for name in left_out if f"`--{name}`" not in text} == set()


# --- what does not go ---


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_what_ghz_has_besides_is_refused_with_the_way_out(name: str, refusal_of: Any) -> None:
    value = () if name == "count-errors" else ("1",)
    assert refusal_of(f"--{name}", *value) == f"--{name} is not supported: {LEFT_OUT[name]}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-d", "{}", "-D", "x"), "--data and --data-file do not go together: give one of them"),
        (("-d", "{}", "-B", "x"), "--data and --binary-file do not go together"),
        (("-b", "-B", "x"), "--binary and --binary-file do not go together"),
        (("-z", "1s", "-x", "1s"), "--duration and --max-duration do not go together"),
        (("--proto", "x.proto"), "--proto and --protoset do not go together"),
        (("--insecure", "--cacert", "x"), "--insecure and --cacert do not go together"),
        (("--insecure", "--skipTLS"), "--insecure and --skipTLS do not go together"),
        (("--cert", "x"), "--cert and --key go together: give both or neither"),
        (("--cacert", "/nowhere"), "cannot read /nowhere: No such file or directory"),
        (("--bearer", "a b"), "expected a token of printable ASCII without spaces"),
        (("--bearer", "@/nowhere"), "cannot read /nowhere"),
        (("-M", "/nowhere"), "cannot read /nowhere"),
        (("-D", "/nowhere"), "cannot read /nowhere"),
        (("-d", "{"), "the data is not JSON: "),
        (("-d", '{"nope":1}'), "echo.v1.Item has no field 'nope'; it has: display_name"),
        (("-d", '{"display_name":"{{.Nope}}"}'), "{{.Nope}} is not known here; there are {{.RequestNumber}}"),
        (
            ("--disable-template-functions", "-d", '{"display_name":"{{newUUID}}"}'),
            "{{newUUID}} is not known",
        ),
        (("-m", "x"), "metadata 'x': write it like key:value"),
        (("--tags", "[]"), "tags '[]': expected a JSON object of strings"),
        (("-c", "0"), "concurrency=0: expected an int from 1 to 100000"),
        (("-c", "x"), "'x' is not a valid integer"),
        (("-n", "0"), "total=0: expected an int from 1"),
        (("-z", "soon"), "'soon' is not a duration: write it like 20s, 1m30s or 250ms"),
        (("-z", "1000h"), "'1000h': expected a week (168h) at most"),
        (("-t", "2h"), "timeout=7200.0: expected a number above 0 and up to 3600"),
        (("--duration-stop", "now"), "'now' is not one of 'wait', 'close', 'ignore'"),
        (("--connections", "60"), "connections=60: expected at most concurrency (50)"),
        (("--cpus", "0"), "cpus=0: expected an int from 1 to 256"),
        (("--cpus", "100000"), "cpus=100000: expected an int from 1 to 256"),
        (("-c", "1", "--processes", "2"), "concurrency=1: expected at least one a host and a process (2)"),
        (("-c", "1", "other.example:1"), "concurrency=1: expected at least one a host and a process (2)"),
        (("--authority", "a b"), "'a b': expected printable ASCII without spaces"),
        (("--authority", "\u00fcmlaut.example"), "expected printable ASCII without spaces"),
        (("--max-recv-message-size", "big"), "'big': expected bytes, or a size like 4MB or 64MiB"),
        (("-r", "-1"), "rps=-1.0: expected a number above 0"),
        (("--closed",), "--closed goes with a rate: give -r or --load-schedule too"),
        (("--arrivals", "poisson"), "--arrivals goes with a rate"),
        (("--async",), "--async goes with a rate"),
        (("--load-start", "5"), "--load-start goes with --load-schedule step or line"),
        (("--load-schedule", "step", "-r", "5"), "-r is the rate of --load-schedule const"),
        (("--load-schedule", "line"), "--load-schedule line needs --load-start and --load-step"),
        (
            ("--load-schedule", "step", "--load-start", "1", "--load-step", "1"),
            "load-step-duration=None: expected how long each step takes",
        ),
        (
            (
                "--load-schedule",
                "line",
                "--load-start",
                "1",
                "--load-step",
                "1",
                "--load-step-duration",
                "1s",
            ),
            "--load-step-duration goes with --load-schedule step",
        ),
        (("--load-schedule", "sine"), "'sine' is not one of 'const', 'step', 'line'"),
        (("-i", "x"), "--import-paths goes with --proto"),
        (("-O", "xml"), "'xml': expected one of summary, csv, json, pretty, html, prometheus, hlog, hgrm"),
        (("-O", "influx-summary"), "'influx-summary': expected one of"),
        (("--stream-call-count", "-1"), "stream-call-count=-1: expected an int from 1"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(refusal_of: Any, arguments: tuple[str, ...], said: str) -> None:
    if arguments[0] == "-i":
        message = refused(HOST, "--call", "echo.v1.Echo/Unary", *arguments)
    else:
        message = refusal_of(*arguments)
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("count", ["-5", "1000000000"])
def test_a_wrong_number_of_dynamic_messages_is_named(refusal_of: Any, count: str) -> None:
    arguments = (
        "--stream-dynamic-messages",
        "--stream-call-count",
        count,
        "-d",
        '{"big":{{.RequestNumber}}}',
    )
    assert refusal_of(*arguments, method="Collect").startswith(f"stream-call-count={count}: expected ")


def test_serialized_messages_cannot_be_dynamic(refusal_of: Any, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"")
    said = refusal_of("-B", str(raw), "--stream-dynamic-messages", method="Collect")
    assert said == "--stream-dynamic-messages needs data with templates, not serialized messages"


def test_the_host_and_the_method_are_asked_for(protoset: str) -> None:
    assert refused("--call", "a/b") == "a HOST:PORT is missing, like 127.0.0.1:50051"
    assert refused(HOST).startswith("--call is missing: the method, like --call")
    assert "'nowhere': expected HOST:PORT" in refused("nowhere", "--call", "a/b")
    said = refused(HOST, "--protoset", protoset, "--call", "echo.v1.Echo/Nope")
    assert "echo.v1.Echo has no method 'Nope'; it has: Unary" in said
