"""Imports Gradio without the type stubs of its components that it writes each time, a third of the time it takes."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__: list[str] = []


@contextmanager
def _without_stubs() -> Iterator[None]:
    """Refuse to tell in which files Gradio's components are: it then leaves out what it would write beside them."""
    getfile = inspect.getfile

    def refuse(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError(f"{thing} needs no stub.")
        return getfile(thing)

    inspect.getfile = refuse
    try:
        yield
    finally:
        inspect.getfile = getfile


with _without_stubs():
    import gradio  # noqa: F401
