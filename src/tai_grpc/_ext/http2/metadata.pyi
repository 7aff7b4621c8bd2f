from typing import NamedTuple

class Metadatum(NamedTuple):
    key: str
    value: str | bytes
