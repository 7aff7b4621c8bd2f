from collections.abc import Iterator

import pytest

from bench.peers import ours
from bench.peers.breakers import inside_at_once
from bench.peers.reports import PACKAGES, Report, run, table

LINES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def reports(pytestconfig: pytest.Config) -> Iterator[list[Report]]:
    """Every peer's figures, measured one process after the other."""
    measured = [run(peer) for peer in PACKAGES]
    pytestconfig.stash[LINES] = list(table(measured, inside_at_once(ours.breaker)))
    yield measured


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if LINES not in config.stash:
        return
    terminalreporter.section("beside other packages")
    for line in config.stash[LINES]:
        terminalreporter.write_line(line)
