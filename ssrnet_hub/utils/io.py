"""File utilities: atomic writes, digests, and checks of names that may not be valid paths."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Union

from ..errors import OutputError

__all__ = [
    "assert_free",
    "file_digest",
    "full_name",
    "git_digest",
    "is_file",
    "is_folder",
    "is_url",
    "join_names",
    "make_empty_folder",
    "on_one_line",
    "printable",
    "replace_file",
]


def is_folder(name: Union[str, os.PathLike]) -> bool:
    """Whether a folder exists; False also for invalid paths, such as too long a name."""
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):
        return False


def is_file(name: Union[str, os.PathLike]) -> bool:
    """Whether a file exists; False also for invalid paths, such as too long a name."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def is_url(name: Union[str, os.PathLike]) -> bool:
    """Whether a name is an HTTP or HTTPS URL."""
    return isinstance(name, str) and re.match("https?://", name, re.IGNORECASE) is not None


def file_digest(path: Union[str, os.PathLike]) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def git_digest(path: Union[str, os.PathLike]) -> str:
    """Return the hexadecimal SHA-1 of a file as a git blob."""
    content = Path(path).read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def full_name(path: Union[str, os.PathLike]) -> str:
    """Return the absolute path without ``..`` and links, to check whether two paths are the same file."""
    try:
        return os.path.realpath(path)
    except ValueError:  # an invalid path
        return os.path.abspath(path)  # noqa: PTH100


def printable(text: str) -> str:
    """Escape the bytes of a file name that are not valid UTF-8 with backslashes."""
    return text.encode(errors="backslashreplace").decode()


def join_names(names: Sequence[str]) -> str:
    """One or more names as in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def assert_free(path: Union[str, os.PathLike]) -> None:
    """Check that a path does not exist, not even as a broken link.

    Raises:
        OutputError: The path exists.
    """
    if os.path.lexists(path):
        raise OutputError(f"{path} already exists: choose another name, or remove it.")


def make_empty_folder(path: Union[str, os.PathLike]) -> Path:
    """Create a folder, or accept an existing one if it is empty.

    Raises:
        OutputError: The folder is not empty, or cannot be created.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise OutputError(f"{path} is not empty: choose another folder.")
    except OSError as e:
        raise OutputError(f"{path} cannot be created: {e.strerror or e}.") from e
    return path


def on_one_line(text: str) -> str:
    """Escape control characters, which names of files and zip entries may contain, for output on a terminal."""
    return re.sub("[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)


@contextmanager
def replace_file(path: Union[str, os.PathLike]) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; if the block succeeds, that file replaces ``path`` atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp restricts the file to its owner; results get the default permissions
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
