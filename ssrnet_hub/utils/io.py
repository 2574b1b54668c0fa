"""Dealing with files: written whole or not at all, and asked after by names that may be no names."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
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
    "make_empty_folder",
    "on_one_line",
    "printable",
    "replace_file",
]


def is_folder(name: Union[str, os.PathLike]) -> bool:
    """Whether there is such a folder; False also for what cannot be a path, as too long a name."""
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):
        return False


def is_file(name: Union[str, os.PathLike]) -> bool:
    """Whether there is such a file; False also for what cannot be a path, as too long a name."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def is_url(name: Union[str, os.PathLike]) -> bool:
    """Whether a name is the address of something on the web."""
    return isinstance(name, str) and re.match("https?://", name, re.IGNORECASE) is not None


def file_digest(path: Union[str, os.PathLike]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def git_digest(path: Union[str, os.PathLike]) -> str:
    """SHA-1 of a file as git names its content, in hexadecimal."""
    content = Path(path).read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def full_name(path: Union[str, os.PathLike]) -> str:
    """A path from the root, without ``..`` and links, to tell whether two paths are of the same file."""
    try:
        return os.path.realpath(path)
    except ValueError:  # what cannot be a path
        return os.path.abspath(path)  # noqa: PTH100


def printable(text: str) -> str:
    """Text with the bytes of a file's name that are no UTF-8 as backslash escapes."""
    return text.encode(errors="backslashreplace").decode()


def assert_free(path: Union[str, os.PathLike]) -> None:
    """Check that nothing is there, not even a link to nowhere.

    Raises:
        OutputError: Something is.
    """
    if os.path.lexists(path):
        raise OutputError(f"{path} already exists: choose another name, or remove it.")


def make_empty_folder(path: Union[str, os.PathLike]) -> Path:
    """Make a folder, or take an empty one that is there.

    Raises:
        OutputError: Something is in it, or it cannot be made.
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
    """Text for a terminal, with control characters, which files and zips may have in their names, as escapes."""
    return re.sub("[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)


@contextmanager
def replace_file(path: Union[str, os.PathLike]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block ends well, that file takes the place of ``path``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp keeps the file to its owner; a result is as readable as any other file of the folder
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
