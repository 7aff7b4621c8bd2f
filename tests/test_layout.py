"""The layout is the same everywhere: what is compiled is declared, tests are where their subject is."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tai_grpc"
# Tests of the whole rather than of one folder, what the tests of several folders share, and those of
# the benchmarks, which are no part of the package.
ACROSS = {"interop", "faults", "attacks", "typing", "wire", "bench"}


def stems(folder: Path, suffix: str) -> set[str]:
    return {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob(f"*{suffix}")}


def test_every_compiled_module_is_declared_for_cython_and_for_python() -> None:
    compiled = stems(ROOT / "_ext", ".pyx")
    assert compiled
    assert compiled <= stems(PACKAGE / "_ext", ".pxd")
    assert compiled == stems(PACKAGE / "_ext", ".pyi")


def test_sources_and_declarations_do_not_share_a_folder() -> None:
    """Cython would take a module of a folder with both for one of another name."""
    assert {path.suffix for path in (ROOT / "_ext").rglob("*") if path.is_file()} == {".pyx"}
    assert not stems(PACKAGE, ".pyx")


def test_every_folder_of_tests_has_one_in_the_package() -> None:
    folders = {
        path.relative_to(ROOT / "tests")
        for path in (ROOT / "tests").rglob("*")
        if path.is_dir() and path.name != "__pycache__"
    }
    of_subjects = {folder for folder in folders if folder.parts[0] not in ACROSS}
    assert of_subjects
    assert {folder.as_posix() for folder in of_subjects if not (PACKAGE / folder).is_dir()} == set()
