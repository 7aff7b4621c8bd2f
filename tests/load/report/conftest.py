import pytest


@pytest.fixture(autouse=True)
def transport() -> None:
    """Reports are the same on each transport: here no test runs twice."""
