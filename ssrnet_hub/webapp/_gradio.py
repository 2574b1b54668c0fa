"""Imports Gradio without the type stubs of its components that it writes each time, a third of the time it takes."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__: list[str] = []


@contextmanager
def _without_stubs() -> Iterator[None]:
    """Hide the source files of Gradio's components, so that it skips writing stub files next to them."""
    getfile = inspect.getfile

    def refuse(object: Any) -> str:
        if isinstance(object, type) and object.__module__.startswith("gradio."):
            raise OSError(f"{object} needs no stub.")
        return getfile(object)

    inspect.getfile = refuse
    try:
        yield
    finally:
        inspect.getfile = getfile


with _without_stubs():
    import gradio  # noqa: F401
