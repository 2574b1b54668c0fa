"""Labeled faces: a ``labels.csv`` and the pictures next to it."""

import csv
import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from ..batch.records import from_cell
from ..errors import LabelsError
from ..utils.io import full_name, is_file, is_url

__all__ = ["Label", "read_boxes", "read_labels", "set_aside"]

_OLDEST = 200
"""Years, at most, of an age."""

_RANGE = ("age_min", "age_max")


@dataclass(frozen=True)
class Label:
    """One row of a labels file.

    Attributes:
        path: The picture.
        age: Years, 0 to 200; NaN if only the range is known.
        split: ``"train"``, ``"val"``, ...; None without such a column.
        gender: ``"female"`` or ``"male"``; None if unknown.
        ethnicity: As in the file; None if unknown.
        age_range: Lower end and exclusive upper end in years, infinite if open; None if the age is known.
    """

    path: Path
    age: float
    split: Optional[str] = None
    gender: Optional[str] = None
    ethnicity: Optional[str] = None
    age_range: Optional[tuple[float, float]] = None


def read_labels(path: Union[str, os.PathLike], split: Optional[str] = None, ranges: bool = False) -> list[Label]:
    """Read a labels file.

    Args:
        path: A CSV file with the columns ``file`` (relative to the folder of the CSV file), ``age`` (years), and
            optionally ``split``, ``gender``, and ``ethnicity``; other columns are ignored.
        split: Only return rows of this split.
        ranges: Also accept ``age_min`` and ``age_max`` instead of ``age``: whole years, both inclusive; an empty
            ``age_max`` means an open range.

    Raises:
        LabelsError: The file does not exist or lacks a column, a row has no file or an invalid age or range, or the
            split has no rows.
    """
    path = Path(path)
    columns, rows = _read_table(path)
    by_range = ranges and "age" not in columns and any(column in columns for column in _RANGE)
    needed = ["file", *(_RANGE if by_range else ["age"]), *["split"] * bool(split)]
    _check_table(path, columns, rows, needed, "A labels file has file, age and, to train or export, split.")
    if not rows:
        raise LabelsError(f"{path} has no rows.")
    try:
        labels = [
            Label(
                path.parent / row["file"],
                math.nan if by_range else _read_age(row["age"]),
                row.get("split"),
                row.get("gender") or None,
                row.get("ethnicity") or None,
                _read_range(row["age_min"], row["age_max"]) if by_range else None,
            )
            for row in rows
        ]
    except (TypeError, ValueError) as e:
        raise LabelsError(f"{path} has a row whose age is not a number from 0 to {_OLDEST}: {e!s:.200}.") from e
    if split:
        labels = [label for label in labels if label.split == split]
        if not labels:
            known = ", ".join(sorted({row["split"] for row in rows if row["split"]}))
            raise LabelsError(f"{path} has no rows of split {split!r}. Its splits: {known}.")
    return labels


def _read_age(text: Any) -> float:
    age = float(text)
    if not 0 <= age <= _OLDEST:
        raise ValueError(f"{age:g}")
    return age


def _read_range(first: Any, last: Any) -> tuple[float, float]:
    low, high = _read_age(first), _read_age(last) if last else math.inf
    if high < low:
        raise ValueError(f"{low:g} to {high:g}")
    # someone is 29 until the day they are 30
    return low, high + 1


def set_aside(labels: list[Label], count: int) -> tuple[list[Label], list[Label]]:
    """Set aside the ``count`` rows whose file names have the smallest SHA-256.

    Returns:
        The other rows, and the rows set aside, both in their original order.

    Raises:
        LabelsError: No other rows would be left.
    """
    if count >= len(labels):
        raise LabelsError(
            f"Of {len(labels)} rows, {count} are to be set aside: nothing is left to train on. "
            "Set fewer aside, such as --set-aside 0."
        )
    names = sorted({hashlib.sha256(label.path.name.encode()).digest() for label in labels})
    kept = set(names[count:])
    parts: tuple[list[Label], list[Label]] = ([], [])
    for label in labels:
        parts[hashlib.sha256(label.path.name.encode()).digest() not in kept].append(label)
    return parts


def read_boxes(path: Union[str, os.PathLike]) -> dict[Union[str, Path], list[tuple[str, ...]]]:
    """Read bounding boxes.

    Args:
        path: A CSV file with the columns ``file``, ``x1``, ``y1``, ``x2``, ``y2`` (pixels), one row per face; other
            columns are ignored. ``file`` is relative to the working directory or the folder of the CSV file, escaped as
            by `records.to_cell`.

    Returns:
        The boxes of each photo, not validated, in the order of the file; empty for a photo whose only row has no
        numbers. URLs are left as they are.

    Raises:
        LabelsError: The file does not exist or lacks a column, or a row has no file.
    """
    path = Path(path)
    corners = ("x1", "y1", "x2", "y2")
    photos: dict[str, Union[str, Path]] = {}
    boxes: dict[Union[str, Path], list[tuple[str, ...]]] = {}
    columns, rows = _read_table(path)
    _check_table(path, columns, rows, ["file", *corners], "A file of boxes has file, x1, y1, x2, y2.")
    for row in rows:
        name = from_cell(row["file"])
        photo: Union[str, Path] = name
        if not is_url(name):
            photo = Path(name) if is_file(name) or not is_file(path.parent / name) else path.parent / name
        box = tuple(row[corner] or "" for corner in corners)
        # one photo may be named in several ways
        photo = photos.setdefault(full_name(photo), photo)
        boxes.setdefault(photo, []).extend([box] * any(box))
    return boxes


def _read_table(path: Path) -> tuple[Sequence[str], list[dict[str, Any]]]:
    """The names of the columns, and the rows."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            return reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise LabelsError(f"{path} cannot be read as a CSV file: {e}.") from e


def _check_table(
    path: Path, columns: Sequence[str], rows: list[dict[str, Any]], needed: Sequence[str], hint: str
) -> None:
    missing = [column for column in needed if column not in columns]
    if missing:
        raise LabelsError(f"{path} has no column {', '.join(missing)}. {hint}")
    if not all(row["file"] for row in rows):
        raise LabelsError(f"{path} has a row without a file.")
