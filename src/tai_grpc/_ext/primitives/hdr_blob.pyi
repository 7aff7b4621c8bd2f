from typing import Final

BLOB_ERRORS: Final[tuple[type[Exception], ...]]
