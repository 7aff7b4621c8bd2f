"""Durations, shares and foreign text, as people read them."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return foreign text, an error's or a name, on one line and without what a terminal would obey."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def plural(count: int, noun: str) -> str:
    """`count` and its noun: "1 call", "2,000 calls"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def share(part: int, whole: int) -> str:
    """`part` of `whole` in per cent."""
    return f"{part / whole:.2%}".replace("%", " %") if whole else "0.00 %"


def encodable(text: str) -> str:
    """Return text that UTF-8 can hold: what an argument had of other bytes becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
