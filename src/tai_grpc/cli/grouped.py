"""Commands with so many options that their --help lists them under headings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


class _Option(click.Option):
    def __init__(self, *arguments: Any, heading: str, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.heading = heading


class Heading:
    """A part of a command's options."""

    def __init__(self, title: str) -> None:
        self._title = title

    def option(self, *names: str, **attributes: Any) -> Callable[[_F], _F]:
        """Return `click.option` of an option under this heading."""
        return click.option(*names, cls=_Option, heading=self._title, **attributes)


class GroupedCommand(click.Command):
    """Lists options under their headings. A flag may be written --flag=true and --flag=false too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        flags = {name for each in self.params if getattr(each, "is_flag", False) for name in each.opts}
        return super().parse_args(ctx, [word for each in args for word in _as_flag(each, flags)])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        titled: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                titled.setdefault(getattr(param, "heading", "Other"), []).append(record)
        for title, records in titled.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _as_flag(word: str, flags: set[str]) -> list[str]:
    name, equals, value = word.partition("=")
    if not equals or name not in flags or value not in ("true", "false"):
        return [word]
    return [name] if value == "true" else []
