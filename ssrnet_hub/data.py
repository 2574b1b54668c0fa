"""Labelled faces: a ``labels.csv`` and the pictures beside it."""

import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from .errors import LabelsError

__all__ = ["Label", "read_labels"]


@dataclass(frozen=True)
class Label:
    """One row of a labels file.

    Attributes:
        path: The picture.
        age: Years.
        split: ``"train"``, ``"val"``, ...; None where the file has no such column.
    """

    path: Path
    age: float
    split: Optional[str] = None


def read_labels(path: Union[str, os.PathLike], split: Optional[str] = None) -> list[Label]:
    """Read a labels file.

    Args:
        path: A CSV file with the columns ``file`` (relative to the CSV's folder) and ``age`` (years), and perhaps
            ``split``; further columns are passed over.
        split: Only the rows of this split.

    Raises:
        LabelsError: No such file, a column is missing, an age is no number, or the split has no rows.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise LabelsError(f"{path} cannot be read as a labels file: {e}.") from e
    needed = {"file", "age"} | ({"split"} if split else set())
    if not needed <= columns:
        missing = ", ".join(sorted(needed - columns))
        raise LabelsError(f"{path} has no column {missing}. A labels file has the columns file, age and perhaps split.")
    if not rows:
        raise LabelsError(f"{path} has no rows.")
    try:
        labels = [Label(path.parent / row["file"], float(row["age"]), row.get("split")) for row in rows]
        bad = next((label.age for label in labels if not math.isfinite(label.age)), None)
        if bad is not None:
            raise ValueError(bad)
    except (TypeError, ValueError) as e:
        raise LabelsError(f"{path} has a row whose age is no number: {e}.") from e
    if split:
        labels = [label for label in labels if label.split == split]
        if not labels:
            known = ", ".join(sorted({row["split"] for row in rows if row["split"]}))
            raise LabelsError(f"{path} has no rows of split {split!r}. Its splits: {known}.")
    return labels
