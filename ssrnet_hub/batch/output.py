"""Output of a long job, which is whole at every moment: it grows by parts, each a file, which are joined at last."""

import csv
import json
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Union

from ..errors import OutputError
from ..utils.io import replace_file
from .records import COLUMNS, columns_of, from_cell, to_rows, write_csv

__all__ = ["FORMATS", "JobOutput"]

_EVERY = 2.0
"""Seconds between parts, at least."""

_ROW_GROUP = 50_000
"""Rows that are written together when Parquet files are joined, about."""

_JOB = "ssrnet-hub predict"
_STATE, _LOCK = "job.json", "lock"
"""Files next to the parts: the settings of the job and its number of parts, and the lock of a running job."""

_OTHERS = re.compile(rf"{_LOCK}|{_STATE}|\.job-\w{{8}}\.json", re.ASCII)
_PART = re.compile(r"(?:(\d{8})|\.(\d{8})-\w{8})(\.\w+)", re.ASCII)
"""File names of a job, and of `replace_file` for unfinished files."""

Photos = Sequence[dict[str, Any]]
"""As `describe_photo` has them."""

Seen = Iterator[tuple[str, bool]]
"""Names of photos that a file has rows of, and whether the row is an error; a name may come more than once."""


class JobOutput:
    """Output file of a job, filled with photos from `describe_photo`.

    Until the job is done, results are in part files in the folder ``OUTPUT.parts``; each is written atomically. A
    killed job leaves that folder, and another job can resume from it. ``job.json`` in the folder counts its parts.
    Nothing else is ever joined or removed, and a folder with other content is not touched.

    Args:
        output: CSV, JSONL, or Parquet, by its suffix.
        settings: JSON-serializable settings that the results depend on. A job only resumes one with the same settings.
        resume: Continue with existing parts, or with the output itself.
        overwrite: Start over: existing parts are removed, and the output is replaced once the job is done, even if it
            is resumed in between.

    Attributes:
        done: Names of the photos that are already done.
        failed: Those of them that could not be read.

    Raises:
        OutputError: The output has another suffix, is a link, or exists; a killed job left parts, without ``resume`` or
            with other settings; a job is still running; or the folder of parts has other content.
    """

    def __init__(
        self, output: Union[str, os.PathLike], settings: dict[str, Any], resume: bool = False, overwrite: bool = False
    ):
        self.output = Path(output)
        self._format = _format_of(self.output)
        self._columns = columns_of(settings["explain"])
        self._folder = self.output.with_name(f"{self.output.name}.parts")
        self._settings = json.loads(json.dumps(settings, default=str))
        self._count, self._replaces = 0, overwrite
        if _is_there(self.output) and not (resume or overwrite):
            raise OutputError(
                f"{self.output} already exists. Add missing photos with --resume, or replace it with --overwrite."
            )
        new = not os.path.lexists(self._folder)
        if new:
            self._make_folder()
        self._read_state()
        # a command that writes no such file does without its import
        from filelock import FileLock, Timeout

        try:
            self._lock = FileLock(self._folder / _LOCK)
            self._lock.acquire(timeout=0)
        except Timeout as e:
            raise OutputError(f"Another job is writing {self.output}.") from e
        except OSError as e:
            raise OutputError(f"{self._folder} cannot be written: {e}.") from e
        try:
            if not (new or resume or overwrite):
                raise OutputError(
                    f"{self._folder} contains an interrupted job. Continue it (--resume) or start over (--overwrite)."
                )
            # again, now that no other job changes it
            before = self._read_state()
            if overwrite:
                self._start_anew()
            else:
                self._compare(before)
            self.done, self.failed = self._look_back()
        except BaseException:
            if new:
                self._remove()
            else:
                self._lock.release()
            raise
        self._waiting: list[dict[str, Any]] = []
        self._written = -math.inf

    def write(self, photos: Photos) -> None:
        """Take photos; they are on disk a few seconds later."""
        self._waiting += photos
        if time.monotonic() > self._written + _EVERY:
            self._flush()

    def finish(self) -> None:
        """Join the parts, and the previous content of the output, into the output.

        Raises:
            OutputError: It cannot be written.
        """
        self._flush()
        with self._writing(self.output) as temporary:
            sources = [self.output] * self._goes_on() + self._files()
            self._format.join(sources, temporary, self._columns)
        self._remove()

    def close(self) -> None:
        """Flush, and leave the parts for another job; without parts, nothing is left."""
        try:
            self._flush()
        finally:
            self._lock.release() if self._files() else self._remove()

    @contextmanager
    def _writing(self, path: Path) -> Iterator[Path]:
        try:
            with replace_file(path) as temporary:
                yield temporary
        except OSError as e:
            raise OutputError(f"{path} cannot be written: {e}.") from e

    def _flush(self) -> None:
        if self._waiting:
            path = self._folder / f"{self._count:08}{self.output.suffix}"
            if os.path.lexists(path):
                raise OutputError(f"{path} was not written by this job: move it away, then continue with --resume.")
            # counted before it is there: a part that is not counted is not the job's
            self._write_state(self._folder, self._count + 1)
            with self._writing(path) as temporary:
                self._format.write(self._waiting, temporary, self._columns)
            self._count += 1
        self._waiting = []
        self._written = time.monotonic()

    def _files(self) -> list[Path]:
        names = sorted(entry.name for entry in os.scandir(self._folder) if self._is_ours(entry))
        return [self._folder / name for name in names if name[0].isdecimal()]

    def _goes_on(self) -> bool:
        """Whether the existing output is kept as part of the result."""
        return self.output.exists() and not self._replaces

    def _start_anew(self) -> None:
        for part in self._files():
            part.unlink()
        self._count, self._replaces = 0, True
        self._write_state(self._folder, 0)

    def _make_folder(self) -> None:
        """Make the folder with its state in it at once: a job that is killed leaves both or neither."""
        folder = self._folder.with_name(f".{self._folder.name}-{secrets.token_hex(4)}")
        try:
            folder.mkdir(parents=True)
            try:
                self._write_state(folder, 0)
                folder.rename(self._folder)
            except BaseException:
                (folder / _STATE).unlink(missing_ok=True)
                folder.rmdir()
                raise
        except OSError as e:
            if os.path.lexists(self._folder):
                raise OutputError(f"Another job is writing {self.output}.") from e
            raise OutputError(f"{self._folder} cannot be written: {e}.") from e

    def _write_state(self, folder: Path, count: int) -> None:
        state = {"job": _JOB, "parts": count, "replaces": self._replaces, "settings": self._settings}
        with self._writing(folder / _STATE) as temporary:
            temporary.write_text(json.dumps(state), encoding="utf-8")

    def _read_state(self) -> dict[str, Any]:
        """Check that everything in the folder belongs to a job, count its parts, and return its settings; read-only."""
        try:
            if self._folder.is_symlink() or not self._folder.is_dir():
                raise self._not_ours("it is not a folder, or is a link")
            entries = {entry.name: entry for entry in os.scandir(self._folder)}
            if _STATE not in entries or not entries[_STATE].is_file(follow_symlinks=False):
                raise self._not_ours(f"it has no {_STATE}")
            state = json.loads((self._folder / _STATE).read_text(encoding="utf-8"))
            job, count, settings = (state.pop(key) for key in ("job", "parts", "settings"))
            replaces = state.pop("replaces", False)
            wrong = state or job != _JOB or type(count) is not int or type(replaces) is not bool
            if wrong or not isinstance(settings, dict):
                raise ValueError("unexpected content")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise self._not_ours(f"its {_STATE} is damaged ({e!r:.200})") from e
        self._count, self._replaces = count, replaces
        if foreign := sorted(name for name, entry in entries.items() if not self._is_ours(entry)):
            raise self._not_ours(f"no job wrote {foreign[0]!r}")
        return settings

    def _is_ours(self, entry: os.DirEntry[str]) -> bool:
        """Whether a file was written by a job with this number of parts, or one that was killed while writing it."""
        if not entry.is_file(follow_symlinks=False):
            return False
        part = _PART.fullmatch(entry.name)
        if part:
            return part[3] == self.output.suffix and int(part[1] or part[2]) < self._count
        return bool(_OTHERS.fullmatch(entry.name))

    def _remove(self) -> None:
        """Remove the job's files, and the folder unless other files were added."""
        try:
            ours = {entry.name for entry in os.scandir(self._folder) if self._is_ours(entry)} - {_STATE, _LOCK}
            # the state last: it identifies the others
            for name in [*ours, _STATE]:
                (self._folder / name).unlink(missing_ok=True)
            self._lock.release()
            (self._folder / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):
                self._folder.rmdir()
        except OSError as e:
            raise OutputError(f"{self._folder} cannot be removed: {e}.") from e

    def _not_ours(self, why: str) -> OutputError:
        return OutputError(
            f"{self._folder} is not the folder of a job: {why}. Move it away, or choose another output. Nothing was "
            "changed."
        )

    def _compare(self, before: dict[str, Any]) -> None:
        now = self._settings
        if other := sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)):
            said = ", ".join(f"{key} {before.get(key)!r}, now {now.get(key)!r}" for key in other)
            raise OutputError(
                f"{self._folder} is from a job with other settings: {said}. Use the same settings, or remove it."
            )

    def _look_back(self) -> tuple[set[str], set[str]]:
        seen: dict[str, bool] = {}
        if self._goes_on():
            seen.update(self._format.names(self.output, self._columns))
        for number, path in enumerate(self._files()):
            names = dict(self._format.names(path, self._columns))
            if number == 0 and self._goes_on() and names.keys() <= seen.keys():
                # the job was killed after joining its parts
                for part in self._files():
                    part.unlink()
                break
            seen.update(names)
        return set(seen), {name for name, failed in seen.items() if failed}


class Format(NamedTuple):
    """How photos are kept in files of a kind.

    Attributes:
        write: Writes photos to a file.
        names: Of the photos in a file, with whether each is an error.
        join: Writes what is in several files, in their order, to one.
    """

    write: Callable[[Photos, Path, list[str]], None]
    names: Callable[[Path, list[str]], Seen]
    join: Callable[[Sequence[Path], Path, list[str]], None]


def _is_there(output: Path) -> bool:
    """Whether the output exists; anything but a regular file is refused."""
    try:
        mode = output.lstat().st_mode
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as e:
        raise OutputError(f"{output} cannot be written: {e}.") from e
    if not stat.S_ISREG(mode):
        what = "a link" if stat.S_ISLNK(mode) else "there already, and no file"
        raise OutputError(f"{output} is {what}: choose another file.")
    return True


def _format_of(output: Path) -> Format:
    if output.suffix not in FORMATS:
        raise OutputError(f"{output} must end in one of {', '.join(FORMATS)}.")
    if output.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as e:
            raise OutputError(f"Parquet needs the extra parquet: pip install 'ssrnet_hub[parquet]' ({e}).") from e
    return FORMATS[output.suffix]


def _write_csv(photos: Photos, path: Path, columns: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        write_csv(file, photos, columns)


def _csv_names(path: Path, columns: list[str]) -> Seen:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != columns:
                raise ValueError(f"its columns are {reader.fieldnames}")
            yield from ((from_cell(row["file"]), bool(row["error"])) for row in reader)
    except (OSError, ValueError, csv.Error) as e:
        raise OutputError(f"{path} is not what this job would write: {e}.") from e


def _join_csv(paths: Sequence[Path], path: Path, columns: list[str]) -> None:
    with path.open("wb") as file:
        file.write((",".join(columns) + "\n").encode())
        for part in paths:
            with part.open("rb") as source:
                source.readline()
                shutil.copyfileobj(source, file)


def _write_jsonl(photos: Photos, path: Path, columns: list[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(photo) + "\n" for photo in photos)


def _jsonl_names(path: Path, columns: list[str]) -> Seen:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                photo = json.loads(line)
                yield photo["file"], bool(photo["error"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise OutputError(f"{path} is not what this job would write: {e!r}.") from e


def _join_jsonl(paths: Sequence[Path], path: Path, columns: list[str]) -> None:
    with path.open("wb") as file:
        for part in paths:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)


def _write_parquet(photos: Photos, path: Path, columns: list[str]) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(to_table(photos, columns), path)


def to_table(photos: Iterable[dict[str, Any]], columns: Sequence[str]) -> Any:
    """Photos as `describe_photo` has them as a table of pyarrow, a row a face."""
    import pyarrow

    types = {str: pyarrow.string(), int: pyarrow.int32(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    schema = pyarrow.schema([(name, types[COLUMNS[name]]) for name in columns])
    return pyarrow.Table.from_pylist([row for photo in photos for row in to_rows(photo)], schema)


def _parquet_names(path: Path, columns: list[str]) -> Seen:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if file.schema_arrow.names != columns:
                raise ValueError(f"its columns are {file.schema_arrow.names}")
            for batch in file.iter_batches(columns=["file", "error"]):
                names, errors = (column.to_pylist() for column in batch.columns)
                yield from zip(names, map(bool, errors), strict=True)
    except (OSError, ValueError, pyarrow.ArrowException) as e:
        raise OutputError(f"{path} is not what this job would write: {e}.") from e


def _join_parquet(paths: Sequence[Path], path: Path, columns: list[str]) -> None:
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetWriter(path, to_table([], columns).schema) as writer:
        waiting: list[Any] = []
        for part in paths:
            with pyarrow.parquet.ParquetFile(part) as file:
                for batch in file.iter_batches(_ROW_GROUP):
                    waiting.append(batch)
                    if sum(len(batch) for batch in waiting) >= _ROW_GROUP:
                        writer.write_table(pyarrow.Table.from_batches(waiting))
                        waiting = []
        if waiting:
            writer.write_table(pyarrow.Table.from_batches(waiting))


FORMATS = {
    ".csv": Format(_write_csv, _csv_names, _join_csv),
    ".jsonl": Format(_write_jsonl, _jsonl_names, _join_jsonl),
    ".parquet": Format(_write_parquet, _parquet_names, _join_parquet),
}
"""Output formats by suffix."""
