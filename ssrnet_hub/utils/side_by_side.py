"""Calling a function on several values at a time, where it leaves Python's lock to others."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from .forks import count_threads

__all__ = ["side_by_side"]

_ValueT = TypeVar("_ValueT")
_AnswerT = TypeVar("_AnswerT")


@contextmanager
def side_by_side(function: Callable[[_ValueT], _AnswerT], values: Sequence[_ValueT]) -> Iterator[Iterable[_AnswerT]]:
    """What a function answers for each of the values, in their order, on as many threads as `count_threads` says."""
    threads = min(count_threads(), len(values))
    if threads < 2:
        yield map(function, values)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map(function, values)
