from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

import pytest

from _ext.compiling import compile_and_load
from tai_grpc._ext.primitives.clock import FrozenClock

T = TypeVar("T")
THREADS = 8


def pytest_addoption(parser: pytest.Parser) -> None:
    # Known when a path in this folder is on the command line, as with `make kill-sweep`.
    parser.addoption("--kill-at-every", choices=["stores", "instructions"], default="stores")


@pytest.fixture
def kill_at_every(pytestconfig: pytest.Config) -> str:
    """Where test_kill_sweep kills each operation on shared memory."""
    return str(pytestconfig.getoption("--kill-at-every", "stores"))


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock() as frozen:
        yield frozen


@pytest.fixture
def hammer() -> Iterator[Callable[[Callable[[], T]], list[T]]]:
    """Run a function in 8 threads that all start together; return what each returned."""
    with ThreadPoolExecutor(THREADS) as pool:

        def run(work: Callable[[], T]) -> list[T]:
            start = Barrier(THREADS)

            def wait_and_work() -> T:
                start.wait()
                return work()

            return [future.result() for future in [pool.submit(wait_and_work) for _ in range(THREADS)]]

        yield run


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Compile a .pyx of this folder as code outside of the package would be; return the module."""

    def load(name: str) -> Any:
        return compile_and_load(Path(__file__).with_name(f"{name}.pyx"), tmp_path_factory.mktemp(name))

    return load
