"""Pools of descriptors made of files that came from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from typing import Final

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from tai_grpc.load.errors import RequestError

_WELL_KNOWN: Final = re.compile(r"google/protobuf/([a-z_]+)\.proto")


@dataclass(frozen=True, slots=True)
class Declared:
    """What files declare: a pool of it, and the full names of the services, sorted."""

    pool: DescriptorPool
    services: tuple[str, ...]


def build_pool(files: Mapping[str, FileDescriptorProto], whose: str) -> DescriptorPool:
    """Return a pool of the files, by their names. What they import and comes with protobuf may be left out.

    Raises:
        RequestError: an import is missing, or the files do not fit together; says `whose` they are.
    """
    whole = dict(files)
    while missing := {name for file in whole.values() for name in file.dependency} - whole.keys():
        for name in missing:
            whole[name] = FileDescriptorProto.FromString(bundled(name, whose))
    pool = DescriptorPool()
    needs = {name: set(file.dependency) for name, file in whole.items()}
    try:
        for name in TopologicalSorter(needs).static_order():
            pool.AddSerializedFile(whole[name].SerializeToString())
    except (CycleError, TypeError) as error:
        raise RequestError(f"{whose} do not fit together: {error}") from None
    return pool


def services_of(files: Iterable[FileDescriptorProto]) -> tuple[str, ...]:
    """Return the full names of the services that files declare, sorted."""
    return tuple(
        sorted(
            f"{file.package}.{service.name}" if file.package else service.name
            for file in files
            for service in file.service
        )
    )


def bundled(name: str, whose: str) -> bytes:
    """Return a file that comes with protobuf itself: some leave those out.

    Raises:
        RequestError: it does not; says `whose` descriptors need it.
    """
    if match := _WELL_KNOWN.fullmatch(name):
        with suppress(ModuleNotFoundError):
            data: bytes = import_module(f"google.protobuf.{match[1]}_pb2").DESCRIPTOR.serialized_pb
            return data
    raise RequestError(f"{whose} leave out {name}, which they import")


def with_imports(file: FileDescriptor) -> tuple[bytes, ...]:
    """Return a file and all that it imports, serialized."""
    found: dict[str, bytes] = {}
    waiting = [file]
    while waiting:
        each = waiting.pop()
        if each.name not in found:
            found[each.name] = each.serialized_pb
            waiting += each.dependencies
    return tuple(found.values())


def parsed(files: Iterable[bytes]) -> dict[str, FileDescriptorProto]:
    """Return serialized files by their names."""
    protos = map(FileDescriptorProto.FromString, files)
    return {proto.name: proto for proto in protos}
