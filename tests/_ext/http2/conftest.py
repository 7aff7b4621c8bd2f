from collections.abc import Iterator

import pytest

from tai_grpc._ext.primitives.clock import FrozenClock


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock() as frozen:
        yield frozen
