"""Call a function after a module is imported, without importing it."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Optional

__all__ = ["run"]


def run(name: str, function: Callable[[], Any]) -> None:
    """Call a function after a module is imported, or immediately if it already is.

    Args:
        name: Name of the module.
        function: Function to call; may import the module.
    """
    if name in sys.modules:
        function()
    else:
        sys.meta_path.insert(0, _Finder(name, function))


class _Finder(MetaPathFinder):
    """Delegates to the finders after it, and calls a function after the module is executed."""

    def __init__(self, name: str, function: Callable[[], Any]):
        self._name, self._function = name, function

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        if fullname != self._name:
            return None
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec and spec.loader:
            self._watch(spec.loader)
        return spec

    def _watch(self, loader: Loader) -> None:
        execute = loader.exec_module

        def execute_and_call(module: ModuleType) -> None:
            execute(module)
            self._function()

        vars(loader)["exec_module"] = execute_and_call
