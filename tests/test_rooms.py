"""Imports run one way through the rooms of the package, and no two files import each other."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ssrnet_hub

PACKAGE = Path(ssrnet_hub.__file__).parent
ROOMS = ["errors", "utils", "images", "models", "hub", "inference", "batch", "training", "webapp", "cli"]
"""Each may import those before it."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imports_of(name: str) -> set[str]:
    """The modules of the package that a module imports, the folders of those that are not its own too."""
    path = MODULES[name]
    package = (name if path.name == "__init__.py" else name.rpartition(".")[0]).split(".")
    found = set()
    for node in at_run_time(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            asked = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            base = base if node.level else node.module or ""
            asked = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in filter(MODULES.__contains__, asked):
            parts = module.split(".")
            found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return found - {".".join(package[:end]) for end in range(1, len(package) + 1)} - {name}


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module but for those that are for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from at_run_time(node)


def room_of(name: str) -> str:
    return name.split(".")[1]


def test_the_rooms_are_these():
    entries = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert entries == {*ROOMS, "__init__"} and len(ROOMS) <= 10


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"ssrnet_hub"}))
def test_imports_run_one_way(name):
    allowed = ROOMS[: ROOMS.index(room_of(name)) + 1]
    assert not {module for module in imports_of(name) if module == "ssrnet_hub" or room_of(module) not in allowed}


def test_no_two_files_import_each_other():
    # raises CycleError
    assert TopologicalSorter({name: imports_of(name) for name in MODULES}).prepare() is None


@pytest.mark.parametrize("room", ROOMS)
def test_each_folder_says_what_lives_there(room):
    path = PACKAGE / room / "__init__.py"
    if path.exists():
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert said and len(said) <= 120 and "\n" not in said
