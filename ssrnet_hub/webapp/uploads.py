"""Files of a running server, in a folder that is removed with the server."""

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Union

from filelock import FileLock, Timeout
from gradio.route_utils import GradioMultiPartParser, MultiPartException

from ..errors import PhotoError

__all__ = ["FilesOnlyParser", "Folder", "Upload", "find_upload"]

_PREFIX = "ssrnet_hub-"


class Upload(str):
    """Path of a file that was found among the uploads; a plain string is no such path."""

    __slots__ = ()


class FilesOnlyParser(GradioMultiPartParser):
    """Parses uploads of files only: other parts would be kept in memory regardless of their size."""

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if self._current_part.file is None:
            raise MultiPartException("An upload must consist of named files.")


def find_upload(path: Any, folder: Path) -> Upload:
    """Find the upload that a request refers to.

    Args:
        path: Path from the request.
        folder: Folder of the uploads, resolved.

    Raises:
        PhotoError: The path, with links resolved, is not that of a file in the folder. The message does not depend on
            what else exists there.
    """
    try:
        file = Path(path).resolve(strict=True)
        if file.is_relative_to(folder) and file.is_file():
            return Upload(file)
    except (TypeError, OSError, ValueError, RuntimeError):  # no path, no such file, no possible name, links in a circle
        pass
    raise PhotoError("This file is not, or no longer, among the uploads of this server: upload it again.")


class Folder:
    """Folder of a server.

    The server holds a lock on it while it runs. Folders whose server was killed are removed when the next one starts.

    Args:
        base: Parent folder. Default: Gradio's folder for uploads, ``GRADIO_TEMP_DIR``, or the system's temporary
            folder.

    Attributes:
        uploads: Uploads and results.
        work: Temporary files of requests in progress.
    """

    def __init__(self, base: Union[str, os.PathLike, None] = None):
        base = Path(base or os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
        base.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(base)
        self._lock = _claim(base)
        self._path = Path(self._lock.lock_file).with_suffix("")
        self.uploads, self.work = self._path / "uploads", self._path / "work"
        self._path.mkdir(mode=0o700)
        self.uploads.mkdir()
        self.work.mkdir()
        self._kept: set[Path] = set()

    def keep(self) -> None:
        """Let the files that are there now outlast every sweep: they are the page's own."""
        self._kept = {path for path in self.uploads.rglob("*") if path.is_file()}

    def sweep(self, age: float) -> None:
        """Remove uploads and results older than this number of seconds."""
        before = time.time() - age
        # what is in a folder comes before the folder
        for path in sorted(self.uploads.rglob("*"), reverse=True):
            # a file that just came, or one more in the folder, is not to be lost: the next sweep finds it
            with suppress(OSError):
                status = path.lstat()
                if path in self._kept or max(status.st_mtime, status.st_ctime) > before:
                    continue
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()

    def remove(self) -> None:
        """Remove the folder; no harm where it is gone."""
        shutil.rmtree(self._path, ignore_errors=True)
        self._lock.release()
        with suppress(OSError):
            Path(self._lock.lock_file).unlink(missing_ok=True)


def _claim(base: Path) -> FileLock:
    """The lock on a name that no other server has."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_PREFIX, suffix=".lock", dir=base)
        os.close(handle)
        lock = FileLock(name)
        try:
            lock.acquire(timeout=0)
            return lock
        except Timeout:
            # another starting server takes it for a leftover
            continue


def _remove_leftovers(base: Path) -> None:
    for name in base.glob(f"{_PREFIX}{'?' * 8}.lock"):  # as mkstemp names them
        with suppress(Timeout, OSError):
            # folders of other users cannot be removed, and links could point anywhere
            if name.is_symlink() or (hasattr(os, "getuid") and name.stat().st_uid != os.getuid()):
                continue
            folder = name.with_suffix("")
            # with anything else in it, it is no server's
            if folder.is_dir() and not {path.name for path in folder.iterdir()} <= {"uploads", "work"}:
                continue
            with FileLock(name).acquire(timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
                name.unlink(missing_ok=True)
