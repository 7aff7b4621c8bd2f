"""What the checkers say of the compiled modules' stubs, and whether the stubs say what the modules do.

In checks/, `# reveals: T` is the type that both checkers must reveal in that line, and `# error` a line in
which both must find one; they may find none elsewhere.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

import tai_grpc.resilience

ROOT = Path(__file__).parents[2]
CHECKS = sorted((Path(__file__).parent / "checks").glob("*.py"))
ALLOWED = Path(__file__).with_name("stubtest-allowlist.txt")


class Findings(NamedTuple):
    """What was found in one file, by line."""

    reveals: dict[int, str]
    errors: dict[int, list[str]]


Line = tuple[str, int, bool, str]  # file, line, is a revealed type, text


class Said(NamedTuple):
    """What a checker's process said."""

    code: int
    out: str
    err: str


FILES = tuple(map(str, CHECKS))
COMMANDS = {
    "mypy": ("mypy", "--no-error-summary", "--output=json", *FILES),
    "pyright": ("pyright", "--outputjson", "--pythonpath", sys.executable, *FILES),
    "stubtest": ("mypy.stubtest", "tai_grpc._ext", "--concise", "--allowlist", str(ALLOWED)),
}


@pytest.fixture(scope="module")
def said() -> dict[str, Said]:
    """All checkers, at the same time: each takes seconds."""

    def run(command: tuple[str, ...]) -> Said:
        process = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return Said(process.returncode, process.stdout, process.stderr)

    with ThreadPoolExecutor() as pool:
        return dict(zip(COMMANDS, pool.map(run, COMMANDS.values()), strict=True))


def mypy(said: Said) -> list[Line]:
    assert said.err == ""
    found = []
    for line in said.out.splitlines():
        message = json.loads(line)
        revealed = re.fullmatch(r'Revealed type is "(.*)"', message["message"])
        if revealed:
            found.append((Path(message["file"]).name, message["line"], True, revealed[1]))
        elif message["severity"] == "error":
            found.append((Path(message["file"]).name, message["line"], False, message["message"]))
    return found


def pyright(said: Said) -> list[Line]:
    found = []
    for message in json.loads(said.out)["generalDiagnostics"]:
        where = Path(message["file"]).name, message["range"]["start"]["line"] + 1
        revealed = re.fullmatch(r'Type of ".*" is "(.*)"', message["message"], re.DOTALL)
        if revealed:
            found.append((*where, True, revealed[1]))
        elif message["severity"] == "error":
            found.append((*where, False, message["message"]))
    return found


def plain(revealed: str) -> str:
    """A type without its module, and a named tuple by its name: mypy spells both out."""
    revealed = re.sub(r"\b\w+\.", "", revealed)
    return re.sub(r"tuple\[[^\[\]]*, fallback=(\w+)\]", r"\1", revealed)


@pytest.fixture(scope="module", params=[mypy, pyright])
def findings(request: pytest.FixtureRequest, said: dict[str, Said]) -> dict[str, Findings]:
    lines: Callable[[Said], list[Line]] = request.param
    by_file = {path.name: Findings({}, defaultdict(list)) for path in CHECKS}
    for file, line, revealed, text in lines(said[lines.__name__]):
        if revealed:
            by_file[file].reveals[line] = plain(text)
        else:
            by_file[file].errors[line].append(text)
    return by_file


def marked(path: Path, mark: str) -> dict[int, str]:
    """What stands behind a mark, by line."""
    lines = enumerate(path.read_text().splitlines(), 1)
    return {number: found[1] for number, line in lines if (found := re.search(f"# {mark}(.*)$", line))}


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_the_checkers_reveal_the_types_that_users_rely_on(findings: dict[str, Findings], path: Path) -> None:
    assert findings[path.name].reveals == marked(path, "reveals: ")


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_the_checkers_find_wrong_uses_and_nothing_else(findings: dict[str, Findings], path: Path) -> None:
    errors = findings[path.name].errors
    assert set(errors) == set(marked(path, "error")), dict(errors)


def test_every_method_of_the_compiled_classes_is_checked() -> None:
    text = "".join(path.read_text() for path in CHECKS)
    for name in tai_grpc.resilience.__all__:
        thing: type = getattr(tai_grpc.resilience, name)
        if issubclass(thing, (int, tuple)) or "tai_grpc._ext" not in str(thing.__mro__):
            continue
        for member in dir(thing):
            assert member.startswith("_") or re.search(rf"\.{member}\b", text), f"{name}.{member}"


def test_the_stubs_say_what_the_compiled_modules_have(said: dict[str, Said]) -> None:
    """Not more, not less, and with the same parameters, but for what the allow-list gives a reason for."""
    stubtest = said["stubtest"]
    assert stubtest.code == 0, stubtest.out + stubtest.err
