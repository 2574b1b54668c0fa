"""Map a function over values in threads, for functions that release Python's global interpreter lock."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from .forks import count_threads

__all__ = ["side_by_side"]

_ValueT = TypeVar("_ValueT")
_ResultT = TypeVar("_ResultT")


@contextmanager
def side_by_side(function: Callable[[_ValueT], _ResultT], values: Sequence[_ValueT]) -> Iterator[Iterable[_ResultT]]:
    """Yield the results of a function for the values, in order, computed on up to `count_threads` threads."""
    threads = min(count_threads(), len(values))
    if threads < 2:
        yield map(function, values)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map(function, values)
