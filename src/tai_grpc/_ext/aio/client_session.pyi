# Its functions are for other compiled modules: see the .pxd.

from typing import Final

MAX_QUEUED_CALLS: Final[int]
QUEUE_FULL: Final[str]
DEADLINE_PASSED: Final[str]
LOCALLY_CANCELLED: Final[str]
