"""--config: a JSON or TOML file with the options' long names, as ghz has it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from tai_grpc.cli.load.ghz import LEFT_OUT
from tai_grpc.cli.params import read_file
from tai_grpc.errors import brief

HOST: Final = "host"
HOSTS: Final = "hosts"
"""The name of the command's argument."""
_JSON_OPTIONS: Final = frozenset({"data", "metadata", "reflect-metadata", "tags"})


def apply(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """Make a file's values those that options have when the command line does not give them.

    Raises:
        click.BadParameter: the file cannot be read, or holds what is no option or no value of one.
    """
    if path is not None:
        options = {
            name.removeprefix("--"): each
            for each in ctx.command.params
            if each is not param and not getattr(each, "hidden", False)
            for name in _long_names(each)
        }
        values = ctx.default_map = {}
        for key, value in _read(path).items():
            if key in LEFT_OUT:
                if value and value != "const":
                    raise click.BadParameter(f"{path}: {key} is not supported: {LEFT_OUT[key]}")
            elif key == HOST:
                values[HOSTS] = _listed(path, key, value)
            elif key not in options:
                names = ", ".join(sorted([*options, HOST]))
                raise click.BadParameter(f"{path}: there is no option {key!r}; there are: {names}")
            else:
                values[options[key].name] = _value(path, key, value, options[key])
    return path


def _long_names(param: click.Parameter) -> Iterable[str]:
    return (name for name in param.opts if name.startswith("--"))


def _read(path: str) -> Mapping[str, Any]:
    text = read_file(path, "config")
    try:
        match Path(path).suffix.lower():
            case ".json":
                values = json.loads(text)
            case ".toml":
                values = tomllib.loads(text)
            case _:
                raise click.BadParameter(f"{path}: expected a file that is named .json or .toml")
    except ValueError as error:
        raise click.BadParameter(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise click.BadParameter(f"{path}: expected an object with the options' long names")
    return values


def _value(path: str, key: str, value: Any, param: click.Parameter) -> Any:
    """Return a value as the command line would give it, or a list of them for an option that is repeated."""
    if getattr(param, "is_flag", False):
        if isinstance(value, bool):
            return value
        raise click.BadParameter(
            f"{path}: {key}: expected true or false, not {brief(json.dumps(value, default=str))}"
        )
    if key in _JSON_OPTIONS and isinstance(value, (dict, list) if key == "data" else dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
        return [value] if param.multiple else value
    if key == "import-paths":
        return ",".join(_listed(path, key, value))
    if param.multiple:
        return _listed(path, key, value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise click.BadParameter(f"{path}: {key}: expected a string or a number")
    return str(value)


def _listed(path: str, key: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise click.BadParameter(f"{path}: {key}: expected a string or a list of strings")
    return values
