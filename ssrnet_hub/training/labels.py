"""Labelled faces: a ``labels.csv`` and the pictures beside it."""

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
        age: Years, 0 to 200; NaN where the file knows ages by their range alone.
        split: ``"train"``, ``"val"``, ...; None where the file has no such column.
        gender: ``"female"`` or ``"male"``; None where the file does not say.
        ethnicity: As the file calls it; None where it does not say.
        age_range: The lowest age and the first that is above all others, years, of which the latter is infinite for an
            open range; None where the age is known.
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
        path: A CSV file with the columns ``file`` (relative to the CSV's folder) and ``age`` (years), and perhaps
            ``split``, ``gender`` and ``ethnicity``; further columns are passed over.
        split: Only the rows of this split.
        ranges: Take a file as well that has ``age_min`` and ``age_max`` for ``age``: whole years, both inclusive;
            without an ``age_max`` the range is open.

    Raises:
        LabelsError: No such file, a column is missing, a row names no file, an age is no number or out of bounds, a
            range is empty, or the split has no rows.
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
        raise LabelsError(f"{path} has a row whose age is no number of years from 0 to {_OLDEST}: {e!s:.200}.") from e
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
    """Part a split by a fixed rule: the ``count`` rows whose picture's name has the smallest SHA-256, and the others.

    Returns:
        The others, and those set aside, both in their order.

    Raises:
        LabelsError: Nothing would be left.
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
    """Read where the faces are in photos.

    Args:
        path: A CSV file with the columns ``file``, ``x1``, ``y1``, ``x2``, ``y2`` (pixels), a row a face; further
            columns are passed over. ``file`` is relative to the working folder, or else to the CSV's; it is read as
            `tables.to_cell` writes it.

    Returns:
        The boxes of each photo, not checked, in the file's order; none for a photo whose only row has no numbers. The
        address of one on the web is left as it is.

    Raises:
        LabelsError: No such file, a column is missing, or a row names no file.
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
        raise LabelsError(f"{path} has a row that names no file.")
