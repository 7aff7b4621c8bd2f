"""What the checks say of a value that is refused, where no config's own test shows it."""

import pytest

from tai_grpc.checks import check_type
from tai_grpc.config import CircuitBreakerConfig, OutlierConfig
from tai_grpc.errors import ConfigError


@pytest.mark.parametrize(
    ("kind", "optional", "message"),
    [
        (CircuitBreakerConfig, False, "it=5: expected a CircuitBreakerConfig"),
        (OutlierConfig, False, "it=5: expected an OutlierConfig"),
        (OutlierConfig, True, "it=5: expected an OutlierConfig or None"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: type, optional: bool, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_type("it", 5, kind, optional=optional)
    assert str(refused.value) == message


def test_only_what_is_optional_may_be_none() -> None:
    check_type("it", None, OutlierConfig, optional=True)
    with pytest.raises(ConfigError, match=r"^it=None: expected an OutlierConfig$"):
        check_type("it", None, OutlierConfig)
