"""Output of a long job, which is whole at every moment: it grows by parts, each a file, which are joined at last."""

import csv
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Union

from filelock import FileLock, Timeout

from .errors import OutputError
from .files import replace_file
from .tables import COLUMNS, columns_of, to_rows, write_csv

__all__ = ["FORMATS", "Parts"]

_EVERY = 2.0
"""Seconds between parts, at least."""

_ROW_GROUP = 50_000
"""Rows that are written together when Parquet files are joined, about."""

Photos = Sequence[dict[str, Any]]
"""As `describe_photo` has them."""

Seen = Iterator[tuple[str, bool]]
"""Names of photos that a file has rows of, and whether the row is an error; a name may come more than once."""


class Parts:
    """An output file that a job fills with photos as `describe_photo` has them.

    Until the job is done they are in the folder ``OUTPUT.parts``, in files of their own, none of which is ever half
    written. A job that was killed leaves that folder, and another one goes on from there.

    Args:
        output: CSV, JSONL or Parquet, by its ending.
        settings: What the job's answers depend on, as JSON has it. A job goes on only where another one left off that
            had the same.
        resume: Go on with the parts that are there, or with the output itself.

    Attributes:
        done: Names of the photos that need not be looked at again.
        failed: Those of them that could not be read.

    Raises:
        OutputError: The output has another ending or is there already; a job that was killed left parts, and this one
            is not to go on with them; it was another job; or it is still running.
    """

    def __init__(self, output: Union[str, os.PathLike], settings: dict[str, Any], resume: bool = False):
        self.output = Path(output)
        self._format = _format_of(self.output)
        self._columns = columns_of(settings["explain"])
        self._folder = self.output.with_name(f"{self.output.name}.parts")
        if not resume and self.output.exists():
            raise OutputError(f"{self.output} is there already. Resume (--resume) to add what it lacks, or remove it.")
        if not resume and self._folder.exists():
            raise OutputError(
                f"{self._folder} is what a job left that was cut off. Resume (--resume) to go on with it, or remove it."
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self._folder / "lock")
            self._lock.acquire(timeout=0)
        except Timeout as e:
            raise OutputError(f"Another job is writing {self.output}.") from e
        except OSError as e:
            raise OutputError(f"{self._folder} cannot be written: {e}.") from e
        try:
            self._compare(json.loads(json.dumps(settings, default=str)))
            self.done, self.failed = self._look_back()
        except BaseException:
            self._leave()
            raise
        self._waiting: list[dict[str, Any]] = []
        self._written = -math.inf

    def write(self, photos: Photos) -> None:
        """Take photos; they are on disk a few seconds later."""
        self._waiting += photos
        if time.monotonic() > self._written + _EVERY:
            self._flush()

    def finish(self) -> None:
        """Join the parts, and what the output had before, to the output.

        Raises:
            OutputError: It cannot be written.
        """
        self._flush()
        with self._writing(self.output) as temporary:
            sources = [self.output] * self.output.exists() + self._files()
            self._format.join(sources, temporary, self._columns)
        self._lock.release()
        shutil.rmtree(self._folder)

    def close(self) -> None:
        """Write what is waiting and leave the parts to another job; if there are none, nothing is left."""
        try:
            self._flush()
        finally:
            self._leave()

    def _leave(self) -> None:
        self._lock.release()
        if not self._files():
            shutil.rmtree(self._folder)

    @contextmanager
    def _writing(self, path: Path) -> Iterator[Path]:
        try:
            with replace_file(path) as temporary:
                yield temporary
        except OSError as e:
            raise OutputError(f"{path} cannot be written: {e}.") from e

    def _flush(self) -> None:
        if self._waiting:
            files = self._files()
            number = int(files[-1].stem) + 1 if files else 0
            with self._writing(self._folder / f"{number:08}{self.output.suffix}") as temporary:
                self._format.write(self._waiting, temporary, self._columns)
        self._waiting = []
        self._written = time.monotonic()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"[0-9]*{self.output.suffix}"))

    def _compare(self, settings: dict[str, Any]) -> None:
        path = self._folder / "job.json"
        if not path.exists():
            with self._writing(path) as temporary:
                temporary.write_text(json.dumps(settings), encoding="utf-8")
            return
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as e:
            raise OutputError(f"{path} is damaged ({e}): remove {self._folder}.") from e
        if other := sorted(key for key in before.keys() | settings.keys() if before.get(key) != settings.get(key)):
            said = ", ".join(f"{key} {before.get(key)!r}, now {settings.get(key)!r}" for key in other)
            raise OutputError(f"{self._folder} is of a job with other settings: {said}. Repeat these, or remove it.")

    def _look_back(self) -> tuple[set[str], set[str]]:
        seen: dict[str, bool] = {}
        if self.output.exists():
            seen.update(self._format.names(self.output, self._columns))
        for number, path in enumerate(self._files()):
            names = dict(self._format.names(path, self._columns))
            if number == 0 and self.output.exists() and names.keys() <= seen.keys():
                # the job was killed after it had joined its parts
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


def _format_of(output: Path) -> Format:
    if output.suffix not in FORMATS:
        raise OutputError(f"{output} has to end with one of {', '.join(FORMATS)}.")
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
            yield from ((row["file"], bool(row["error"])) for row in reader)
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
"""What an output may be, by its ending."""
