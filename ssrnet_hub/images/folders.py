"""The photos in folders and of globs: each once, through whatever links it is reached."""

import glob
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ..utils.io import full_name, is_file, is_folder
from .formats import Sieve, is_of_system

__all__ = ["find_photos"]

_SEPARATORS = re.escape(os.sep + (os.altsep or ""))
_ANY_FOLDERS = re.compile(rf"(?:^|(?<=[{_SEPARATORS}]))(?:\*\*(?:[{_SEPARATORS}]+|$))+")


def find_photos(patterns: Sequence[str], sieve: Sieve) -> list[tuple[Path, Optional[str]]]:
    """Expand files, folders, and globs; yields an error for each that matches nothing or cannot be read.

    Args:
        patterns: Paths and globs from the command line.
        sieve: Filters the photos in folders. Files that are named or matched by a glob are not filtered.
    """
    found: list[tuple[Path, Optional[str]]] = []
    for pattern in patterns:
        path, known = Path(pattern), len(sieve.left_out)
        if is_folder(path):
            photos = _in_folder(path, sieve)
            missing = "no picture in this folder" + " can be read" * (len(sieve.left_out) > known)
        elif is_file(path):
            photos, missing = [(path, None)], None
        else:
            photos = [(file, None) for file in _matching(pattern)]
            missing = "no such file or folder, and nothing matches it as a glob"
        found += photos or [(path, missing)]
    return found


class _Folder(NamedTuple):
    path: str
    entries: list["os.DirEntry[str]"]
    error: Optional[str] = None


def _walk(top: str, hidden: bool = True) -> Iterator[_Folder]:
    """A folder and all below it, those of links as well, each once."""
    folders, links, seen = [top], deque[str](), set()
    while folders or links:
        # of a folder that is reached in several ways, its own path rather than that of a link
        path = folders.pop() if folders else links.popleft()
        real = full_name(path)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(path) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as e:
            yield _Folder(path, [], f"this folder cannot be read: {e.strerror or e}")
            continue
        entries = [entry for entry in entries if not is_of_system(entry.name)]
        for entry in entries:
            with suppress(OSError):  # of a link to itself
                if entry.is_dir() and (hidden or not entry.name.startswith(".")):
                    (links if entry.is_symlink() else folders).append(entry.path)
        yield _Folder(path, entries)


def _in_folder(top: Path, sieve: Sieve) -> list[tuple[Path, Optional[str]]]:
    photos: list[Path] = []
    errors: list[tuple[Path, Optional[str]]] = []
    for folder in _walk(str(top)):
        if folder.error:
            errors.append((Path(folder.path), folder.error))
        for entry in folder.entries:
            path = Path(entry.path)
            # a link to nowhere is a photo that cannot be read
            if (is_file(path) or not os.path.lexists(full_name(path))) and sieve.takes(path):
                photos.append(path)
    return [(path, None) for path in _each_once(photos)] + errors


def _matching(pattern: str) -> list[Path]:
    named = set(Path(pattern).parts)
    return _each_once(
        path
        for path in map(Path, _expand(pattern))
        if is_file(path) and not any(is_of_system(part) for part in path.parts if part not in named)
    )


def _expand(pattern: str) -> Iterator[str]:
    """As `glob.glob`, recursive, which follows links in circles."""
    match = _ANY_FOLDERS.search(pattern)
    if not match:
        yield from glob.glob(pattern)
        return
    before, after = pattern[: match.start()], pattern[match.end() :] or "*"
    for top in glob.glob(before) if before else ["."]:
        for folder in _walk(top, hidden=False):
            yield from _expand(os.path.join(glob.escape(folder.path), after))  # noqa: PTH118


def _each_once(paths: Iterable[Path]) -> list[Path]:
    """Of several paths of a file the one that is not hidden and has the fewest links; in order."""
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(full_name(path), path)
        if other is not path and _rank(path) < _rank(other):
            found[full_name(path)] = path
    return sorted(found.values())


def _rank(path: Path) -> tuple[Any, ...]:
    hidden = any(part.startswith(".") and part != ".." for part in path.parts)
    return hidden, sum(map(os.path.islink, (path, *path.parents))), path
