from collections.abc import Iterator

import pytest
from hypothesis import settings

from tai_grpc._ext.primitives.clock import FrozenClock

# How long an example takes is no property of the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock() as frozen:
        yield frozen
