from collections.abc import Sequence

def arrivals(
    segments: Sequence[tuple[float | None, float, float]],
    count: int,
    *,
    poisson: bool = False,
    seed: int = 0,
    first: float = 0.0,
    step: float = 1.0,
) -> list[int]: ...
def skipped(
    segments: Sequence[tuple[float | None, float, float]],
    taken: int,
    end_ns: int,
    *,
    poisson: bool = False,
    seed: int = 0,
    first: float = 0.0,
    step: float = 1.0,
) -> tuple[int, int]: ...
