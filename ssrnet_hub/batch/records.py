"""Results of photos as plain dictionaries, and as a table with one row per face."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Optional, TextIO

from ..inference.estimator import Face
from ..inference.tracking import Sighting

__all__ = [
    "COLUMNS",
    "FILM_COLUMNS",
    "columns_of",
    "describe_photo",
    "from_cell",
    "to_cell",
    "to_film_rows",
    "to_rows",
    "write_csv",
]

COLUMNS = {
    "file": str,
    "face": int,
    "age": float,
    "low": float,
    "high": float,
    "reliable": bool,
    "doubts": str,
    "raw_age": float,
    "in_range": bool,
    "x1": float,
    "y1": float,
    "x2": float,
    "y2": float,
    "score": float,
    "turned": int,
    "aligned": bool,
    "gender_score": float,
    "pages": int,
    "error": str,
    "explanation": str,
}
"""Columns of the table with their types: ``low`` and ``high`` are the ends of ``Face.interval()``, ``pages`` is how
many the file has, of which one was looked at, ``doubts`` are joined by commas."""

_DECIMALS = {"age": 3, "low": 1, "high": 1, "raw_age": 3, "x1": 1, "y1": 1, "x2": 1, "y2": 1, "score": 4}
_DECIMALS |= {"gender_score": 3}

# where a cell begins: spreadsheets of many countries split rows at semicolons, with no regard to quotes amid a cell
_BEGIN = r"(?:^|(?<=[;\t\r\n]))"
# what makes a formula of it; of the last four, the wide ones, in East Asian settings
_FORMULA = "['\"]*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_BARE, _ESCAPED = re.compile(f"{_BEGIN}(?={_FORMULA})"), re.compile(f"{_BEGIN}'(?={_FORMULA})")


def to_cell(text: str) -> str:
    """Escape text for a CSV cell, so that no spreadsheet takes it for a formula, with a single quote.

    Formulas start with ``=``, ``+``, ``-``, ``@``, a tab, or a line break, at the beginning or after anything that may
    end a cell, optionally after quotes. `from_cell` restores the text.
    """
    return _BARE.sub("'", text)


def from_cell(cell: str) -> str:
    """Undo `to_cell`: remove the leading ``'`` of a formula; other text is returned unchanged."""
    return _ESCAPED.sub("", cell)


def columns_of(explain: bool) -> list[str]:
    """Names of the columns; the explanation is the last where it is wanted."""
    return [name for name in COLUMNS if explain or name != "explanation"]


def describe_photo(
    file: str, faces: Sequence[Face], error: Optional[str] = None, explain: bool = False, pages: int = 1
) -> dict[str, Any]:
    """``file``, ``faces``, each as `Face.to_dict` has it, with ``explain`` and its ``explanation``, ``pages`` and
    ``error``.
    """
    told = [{**face.to_dict(), **({"explanation": face.explain()} if explain else {})} for face in faces]
    return {"file": file, "faces": told, "pages": pages if error is None else None, "error": error}


def to_rows(photo: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each face of a photo as `describe_photo` has it, numbered from 1; or one for a photo without."""
    rows = []
    for number, face in enumerate(photo["faces"], start=1):
        row = {name: face.get(name) for name in COLUMNS if name in face}
        row |= {"file": photo["file"], "face": number, "pages": photo.get("pages")}
        row |= zip(("low", "high"), face["interval"] or (), strict=False)
        row["doubts"] = None if face.get("doubts") is None else ", ".join(face["doubts"])
        row |= zip(("x1", "y1", "x2", "y2"), face["box"] or (), strict=False)
        for name, decimals in _DECIMALS.items():
            if row.get(name) is not None:
                row[name] = round(row[name], decimals)
        rows.append(row)
    return rows or [{"file": photo["file"], "pages": photo.get("pages"), "error": photo["error"]}]


FILM_COLUMNS = ("seconds", "person", "age", "low", "high", "reliable", "x1", "y1", "x2", "y2", "score")
"""Columns of the table of a film; ``age`` is smoothed, and ``low`` and ``high`` are the ends of its interval."""


def to_film_rows(seconds: float, people: Iterable[Sighting]) -> list[dict[str, Any]]:
    """A row for each person in a frame of a film, of the columns ``FILM_COLUMNS``."""
    rows = []
    for sighting in people:
        (row,) = to_rows(describe_photo("", [replace(sighting.face, age=sighting.age)]))
        row |= {"seconds": round(seconds, 3), "person": sighting.person}
        rows.append({name: row.get(name) for name in FILM_COLUMNS})
    return rows


def write_csv(file: TextIO, photos: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write photos as `describe_photo` has them as CSV, text by `to_cell`."""
    plain, quoted = (
        csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n", quoting=quoting)
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    plain.writeheader()
    for photo in photos:
        for row in to_rows(photo):
            row = {name: to_cell(value) if isinstance(value, str) else value for name, value in row.items()}
            # a carriage return ends a row for those who read, and needs no quotes for csv
            (quoted if any("\r" in value for value in row.values() if isinstance(value, str)) else plain).writerow(row)
