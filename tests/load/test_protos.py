"""Services from files: what protoc makes, and .proto files that it is run on."""

import shutil
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from load.echo import POOL
from tai_grpc.load import protos
from tai_grpc.load.errors import RequestError
from tai_grpc.load.methods import method_of
from tai_grpc.load.protos import compile_proto, read_protoset

ECHO = Path(__file__).parent / "echo.proto"


def _protoset(folder: Path, *names: str) -> Path:
    path = folder / "set.binpb"
    found = FileDescriptorSet()
    for name in names:
        POOL.FindFileByName(name).CopyToProto(found.file.add())
    path.write_bytes(found.SerializeToString())
    return path


def test_a_proto_file_is_compiled_with_what_it_imports() -> None:
    declared = compile_proto(ECHO)
    assert declared.services == ("echo.v1.Echo",)
    method = method_of(declared, "echo.v1.Echo/Chat", "echo.proto")
    assert method.kind == "bidirectional streaming"
    assert method.pool.FindFileByName("google/protobuf/timestamp.proto")


def test_imports_are_found_in_the_import_paths(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "b" / "deep" / "item.proto").write_text('syntax = "proto3"; package x; message Item {}')
    service = tmp_path / "a" / "service.proto"
    service.write_text(
        'syntax = "proto3"; package x; import "deep/item.proto"; service S { rpc Do(Item) returns (Item); }'
    )
    with pytest.raises(RequestError, match=r"^proto: deep/item\.proto: File not found\."):
        compile_proto(service)
    assert compile_proto(service, [tmp_path / "b"]).services == ("x.S",)


def test_a_file_in_an_import_path_goes_by_its_name_there() -> None:
    folder = Path(__file__).parents[2] / "protos"
    declared = compile_proto(folder / "tai/v1/governor.proto", [folder])
    assert declared.services == ("tai.v1.Governor",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('syntax = "proto3"; message {', r"^proto: broken\.proto:1:\d+: Expected message name"),
        ('syntax = "proto3"; message A { B b = 1; }', '"B" is not defined'),
    ],
)
def test_what_the_compiler_refuses_is_one_line(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.proto").write_text(text)
    with pytest.raises(RequestError, match=said) as failure:
        compile_proto(Path("broken.proto"))
    assert "\n" not in str(failure.value)


def test_files_and_folders_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^proto: no file .*/gone\.proto$"):
        compile_proto(tmp_path / "gone.proto")
    with pytest.raises(RequestError, match=r"^import-paths: no folder .*/gone$"):
        compile_proto(ECHO, [tmp_path / "gone"])
    with pytest.raises(RequestError, match=r"^protoset: cannot read .*/gone: No such file or directory"):
        read_protoset(tmp_path / "gone")


def test_protoc_is_taken_where_grpcio_tools_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protoc = tmp_path / "protoc"
    protoc.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    monkeypatch.setattr(protos, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert compile_proto(ECHO).services == ("echo.v1.Echo",)


def test_of_what_a_compiler_says_only_its_errors_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b.proto").write_text(
        'syntax = "proto3"; import "google/protobuf/any.proto"; message A { B b = 1; }'
    )
    protoc = tmp_path / "protoc"
    protoc.write_text(
        "#!/bin/sh\necho 'runtime: a warning of its own' >&2\n"
        f'exec "{sys.executable}" -m grpc_tools.protoc "$@"\n'
    )
    protoc.chmod(0o755)
    monkeypatch.setattr(protos, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(RequestError, match=r'^proto: [^ ]*/a b\.proto:1:\d+: "B" is not defined\.$'):
        compile_proto(tmp_path / "a b.proto")
    protoc.write_text("#!/bin/sh\necho no such flag >&2\nexit 1\n")
    with pytest.raises(RequestError, match=r"^proto: no such flag$"):
        compile_proto(tmp_path / "a b.proto")


def test_without_any_compiler_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protos, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(
        RequestError, match=r"no compiler: pip install 'tai-grpc\[proto\]', or install protoc; or"
    ):
        compile_proto(ECHO)


def test_a_compiler_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protos, "_compiler", lambda: ["sh", "-c", "sleep 60"])
    monkeypatch.setattr(protos, "COMPILE_TIMEOUT", 0.05)
    with pytest.raises(RequestError, match=r"is not compiled within 0\.05 s"):
        compile_proto(ECHO)


def test_a_protoset_is_read_and_may_leave_out_what_comes_with_protobuf(tmp_path: Path) -> None:
    declared = read_protoset(_protoset(tmp_path, "echo.proto"))
    assert method_of(declared, "echo.v1.Echo.Unary", "set").request_type.DESCRIPTOR.name == "Item"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xff", "is no FileDescriptorSet"),
        (b"", "holds no file"),
    ],
)
def test_what_is_no_protoset_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(data)
    with pytest.raises(RequestError, match=rf"^protoset: .*{said}"):
        read_protoset(path)


def test_a_protoset_without_its_imports_is_refused(tmp_path: Path) -> None:
    found = FileDescriptorSet()
    found.file.add(name="a.proto", dependency=["gone.proto"])
    path = tmp_path / "set"
    path.write_bytes(found.SerializeToString())
    with pytest.raises(RequestError, match=r"its descriptors leave out gone\.proto, which they import"):
        read_protoset(path)


def test_a_protoset_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protos, "MAX_PROTOSET_BYTES", 10)
    with pytest.raises(RequestError, match="is larger than"):
        read_protoset(_protoset(tmp_path, "echo.proto"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no.Such/Call", r"^set has no service 'no\.Such'; it has: echo\.v1\.Echo$"),
        ("echo.v1.Item/Call", r"^set has no service 'echo\.v1\.Item'"),
        ("echo.v1.Echo/Nope", "echo.v1.Echo has no method 'Nope'; it has: Unary, Collect"),
        ("nothing", "'nothing' is not a method"),
    ],
)
def test_what_a_file_does_not_declare_names_what_it_does(name: str, said: str, tmp_path: Path) -> None:
    declared = read_protoset(_protoset(tmp_path, "echo.proto"))
    with pytest.raises(RequestError, match=said):
        method_of(declared, name, "set")
