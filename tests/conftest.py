"""Settings of all tests."""

import gc

from hypothesis import HealthCheck, settings

# How long an example takes depends on who else uses the machine, and no test shall fail by chance.
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """Leave what the collected tests are made of to no collector: tests that collect garbage do it often."""
    gc.collect()
    gc.freeze()
