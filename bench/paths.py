"""Where the benchmarks lie, and what they make."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
BUILD: Final = ROOT / "build" / "bench"
RESULTS: Final = ROOT / "bench" / "RESULTS.md"
LOGS: Final = BUILD / "logs"
