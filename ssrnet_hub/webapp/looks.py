"""Faces found in visitors' photos, kept in memory within limits."""

import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from threading import Lock
from typing import Optional

from ..inference.estimator import Face

__all__ = ["Looks"]

_Key = tuple[Hashable, Hashable]

_FACE = 8192
"""Approximate bytes of a face without its crop."""


class Looks:
    """Faces by photo and settings. Those looked at longest ago go first, and all of them after a while.

    Args:
        max_size: Bytes of memory, about.
        max_age: How long they are kept, seconds.
    """

    def __init__(self, max_size: int, max_age: float):
        self._max_size, self._max_age = max_size, max_age
        self._kept: OrderedDict[_Key, tuple[float, int, Sequence[Face]]] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, photo: Hashable, settings: Hashable) -> Optional[Sequence[Face]]:
        """The faces in a photo by some settings; None where they are not kept."""
        self.sweep()
        with self._lock:
            if (photo, settings) not in self._kept:
                return None
            self._kept.move_to_end((photo, settings))
            return self._kept[photo, settings][2]

    def put(self, photo: Hashable, settings: Hashable, faces: Sequence[Face]) -> None:
        """Keep the faces in a photo."""
        size = _FACE + sum(_FACE + 4 * face.crop.width * face.crop.height for face in faces)
        with self._lock:
            self._drop((photo, settings))
            self._kept[photo, settings] = time.monotonic(), size, faces
            self._size += size
            while self._size > self._max_size:
                self._drop(next(iter(self._kept)))

    def sweep(self) -> None:
        """Forget what is older than ``max_age``."""
        before = time.monotonic() - self._max_age
        with self._lock:
            for key in [key for key, (since, _, _) in self._kept.items() if since < before]:
                self._drop(key)

    def _drop(self, key: _Key) -> None:
        if key in self._kept:
            self._size -= self._kept.pop(key)[1]
