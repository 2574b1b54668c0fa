"""Imports run one way through the rooms of the package, and no two files import each other."""

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import ssrnet_hub
from ssrnet_hub import SSRNetHubError, errors

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


def declared(*extras: str) -> set[str]:
    """The distributions that the package declares that it needs, with these extras."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return {normal(re.match(r"[\w.-]+", line)[0]) for line in asked}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


distributions = cache(packages_distributions)


def distributions_of(path: Path) -> set[str]:
    """The distributions that a module imports from."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    asked = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    asked |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    top = {name.partition(".")[0] for name in asked} - {"ssrnet_hub"} - set(sys.stdlib_module_names)
    return {normal(distributions()[name][0]) for name in top}


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"ssrnet_hub"}))
def test_whatever_is_imported_is_declared(name):
    extras = ["convert", "heif", "onnx", "parquet", "plot", "ray", "train", "video"]
    assert distributions_of(MODULES[name]) <= declared(*["demo"] if room_of(name) == "webapp" else extras)


def test_all_errors_are_in_one_place():
    for name in set(MODULES) - {"ssrnet_hub.cli.__main__"}:
        importlib.import_module(name)
    found, kinds = set(), [SSRNetHubError]
    while kinds:
        kind = kinds.pop()
        found.add(kind)
        kinds += kind.__subclasses__()
    assert {kind for kind in found if kind.__module__.startswith("ssrnet_hub")} == {
        getattr(errors, name) for name in errors.__all__
    }
