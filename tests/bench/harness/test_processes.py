"""The processes of a run: what they say, and what is said of one that ends."""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator

import pytest

from bench.harness.processes import CLIENTS, PeerFailedError, Process, last_words
from bench.peers.rpc.protocol import NotBuiltError

ANSWERS = """
import sys
print('{"versions": {"peer": "1.0"}}', flush=True)
print('{"ready": true}', flush=True)
for line in sys.stdin:
    if line == "die\\n":
        sys.exit("it is broken")
    print('{"said": ' + line.strip() + '}', flush=True)
"""


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process("a peer", [sys.executable, "-c", ANSWERS], CLIENTS)
    yield process
    process.end()


def test_a_line_is_answered(process: Process) -> None:
    process.until_ready()
    assert process.versions == {"peer": "1.0"}
    assert [process.ask("1"), process.ask("2")] == [{"said": 1}, {"said": 2}]
    assert process.runs
    assert process.resident_bytes > 1_000_000


def test_one_that_ends_is_quoted_and_stays_ended(process: Process) -> None:
    """A row goes on without it, and so do the rows to come."""
    process.until_ready()
    with pytest.raises(PeerFailedError, match=r"^a peer ended: it is broken$"):
        process.ask("die")
    assert not process.runs
    for _ in range(2):
        with pytest.raises(PeerFailedError, match=r"^a peer ended before$"):
            process.ask("1")


@pytest.mark.parametrize(
    ("line", "quoted"),
    [
        ("hello", "'hello'"),
        ("[1]", r"'\[1\]'"),
        ("1" * 9999, f"'{'1' * 300}'"),  # which Python refuses to read as a number
        (r"\xff", r"'\ufffd'"),
    ],
)
def test_a_line_that_is_no_answer_is_quoted(line: str, quoted: str) -> None:
    """It ends neither the row nor the run."""
    says = f"import sys; sys.stdout.buffer.write(b'{line}\\n'); sys.stdout.flush(); sys.stdin.read()"
    process = Process("a peer", [sys.executable, "-c", says], CLIENTS)
    with pytest.raises(PeerFailedError, match=f"^a peer said {quoted}, which is no JSON object$"):
        process.until_ready()
    assert not process.runs


def test_a_line_without_an_end_has_a_limit() -> None:
    says = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    process = Process("a peer", [sys.executable, "-c", says], CLIENTS)
    with pytest.raises(PeerFailedError, match="said more than 1,048,576 bytes without an end of line"):
        process.until_ready()


def test_one_that_says_something_else_than_that_it_is_ready_has_failed() -> None:
    process = Process("a peer", [sys.executable, "-c", "print('{\"hello\": 1}')"], CLIENTS)
    with pytest.raises(PeerFailedError, match=r'^a peer said \{"hello": 1\} before it was ready$'):
        process.until_ready()


def test_what_dies_while_it_is_asked_is_said_to_have_died_of_its_signal(process: Process) -> None:
    process.until_ready()
    process._process.kill()
    process._process.wait()
    with pytest.raises(PeerFailedError, match=r"^a peer ended by SIGKILL$"):
        process.ask("1")


def test_an_error_of_many_lines_is_quoted_from_its_first() -> None:
    log = (
        "Traceback (most recent call last):\n"
        '  File "echo.py", line 1, in <module>\n'
        "AioRpcError: <AioRpcError of RPC that terminated with:\n"
        "\tstatus = StatusCode.UNAVAILABLE\n"
        '\tdetails = "Socket closed"\n'
        ">\n"
    )
    assert last_words(log) == (
        "AioRpcError: <AioRpcError of RPC that terminated with: status = StatusCode.UNAVAILABLE "
        'details = "Socket closed" >'
    )
    assert last_words("") == ""
    assert last_words("  indented") == "indented"
    assert len(last_words("x" * 999)) == 300


def test_one_whose_answer_nobody_waited_for_is_asked_no_more(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would give the answer to the question before."""
    process.until_ready()

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(select, "select", interrupted)
        with pytest.raises(KeyboardInterrupt):
            process.ask("1")
    with pytest.raises(PeerFailedError, match=r"^a peer ended before$"):
        process.ask("2")


def test_one_that_says_it_cannot_be_run_is_not_built() -> None:
    said = """print('{"not_built": "no uvloop here"}')"""
    process = Process("a peer", [sys.executable, "-c", said], CLIENTS)
    with pytest.raises(NotBuiltError, match=r"^no uvloop here$"):
        process.until_ready()
    assert not process.runs
