"""What was found in photos as plain dictionaries, and these as a table with a row a face."""

import csv
from collections.abc import Iterable, Sequence
from typing import Any, Optional, TextIO

from .estimator import Face

__all__ = ["COLUMNS", "columns_of", "describe_photo", "to_rows", "write_csv"]

COLUMNS = {
    "file": str,
    "face": int,
    "age": float,
    "low": float,
    "high": float,
    "reliable": bool,
    "raw_age": float,
    "in_range": bool,
    "x1": float,
    "y1": float,
    "x2": float,
    "y2": float,
    "score": float,
    "aligned": bool,
    "gender_score": float,
    "error": str,
    "explanation": str,
}
"""Columns of the table with their types: ``low`` and ``high`` are the ends of ``Face.interval()``."""

_DECIMALS = {"age": 3, "low": 1, "high": 1, "raw_age": 3, "x1": 1, "y1": 1, "x2": 1, "y2": 1, "score": 4}
_DECIMALS |= {"gender_score": 3}


def columns_of(explain: bool) -> list[str]:
    """Names of the columns; the explanation is the last where it is wanted."""
    return [name for name in COLUMNS if explain or name != "explanation"]


def describe_photo(
    file: str, faces: Sequence[Face], error: Optional[str] = None, explain: bool = False
) -> dict[str, Any]:
    """``file``, ``faces``, each as `Face.to_dict` has it, with ``explain`` and its ``explanation``, and ``error``."""
    told = [{**face.to_dict(), **({"explanation": face.explain()} if explain else {})} for face in faces]
    return {"file": file, "faces": told, "error": error}


def to_rows(photo: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each face of a photo as `describe_photo` has it, numbered from 1; or one for a photo without."""
    rows = []
    for number, face in enumerate(photo["faces"], start=1):
        row = {name: face.get(name) for name in COLUMNS if name in face}
        row |= {"file": photo["file"], "face": number}
        row |= zip(("low", "high"), face["interval"] or (), strict=False)
        row |= zip(("x1", "y1", "x2", "y2"), face["box"] or (), strict=False)
        for name, decimals in _DECIMALS.items():
            if row.get(name) is not None:
                row[name] = round(row[name], decimals)
        rows.append(row)
    return rows or [{"file": photo["file"], "error": photo["error"]}]


def write_csv(file: TextIO, photos: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write photos as `describe_photo` has them as CSV."""
    plain, quoted = (
        csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n", quoting=quoting)
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    plain.writeheader()
    for photo in photos:
        for row in to_rows(photo):
            # a carriage return ends a row for those who read, and needs no quotes for csv
            (quoted if any("\r" in value for value in row.values() if isinstance(value, str)) else plain).writerow(row)
