"""Output of the command: tables, JSON, CSV, and errors next to a progress bar."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

from tqdm import tqdm

from ..batch.records import columns_of, describe_photo, write_csv
from ..inference.estimator import Face
from ..training.labels import Label
from ..utils.io import on_one_line

__all__ = ["Result", "print_csv", "print_json", "print_table", "table", "tell_error", "warn_of_training", "with_name"]


Result = tuple[str, list[Face], Optional[str], int]
"""File, its faces, what went wrong, and how many pages it has."""


def tell_error(error: str) -> None:
    # beside the progress bar, where there is one
    tqdm.write(f"error: {on_one_line(error)}", file=sys.stderr)


def warn_of_training(labels: Iterable[Label]) -> None:
    """Say so where weights are measured on what they may have been trained on."""
    if any(label.split == "train" for label in labels):
        print(
            "warning: the labels include the split train; results of weights trained on it are too optimistic",
            file=sys.stderr,
        )


def with_name(file: str, error: str) -> str:
    return error if error.startswith(file) else f"{file}: {error}"


def print_json(results: Iterable[Result], explain: bool) -> None:
    print(json.dumps(list(describe(results, explain)), indent=2))


def print_csv(results: Iterable[Result], explain: bool) -> None:
    write_csv(sys.stdout, describe(results, explain), columns_of(explain))


def describe(results: Iterable[Result], explain: bool) -> Iterator[dict[str, Any]]:
    return (describe_photo(file, faces, error, explain, pages) for file, faces, error, pages in results)


def print_table(
    results: Iterable[Result], files: Sequence[str], with_interval: bool, with_gender: bool, explain: bool
) -> None:
    """Print a row per face immediately, in columns of fixed width."""
    columns = {"file": min(max(len(on_one_line(file)) for file in files), _WIDEST_FILE), "face": 4, "age": 7}
    columns |= {"90% interval": 13, "doubts": 8} if with_interval else {}
    columns |= {"female 0 .. 1 male": 18} if with_gender else {}
    columns |= {"score": 5, "box (x1 y1 x2 y2)": 19, "stages" if explain else "": 0}
    print_row(columns, columns.values())
    doubtful, of_pages = False, []
    for name, faces, error, pages in results:
        file = on_one_line(name)
        if pages > 1:
            of_pages.append(f"{file}: {pages} pages, only the largest was used")
        for number, face in enumerate(faces, start=1):
            doubtful = doubtful or face.reliable is False
            row: list[Any] = [file, number, f"{face.age:.1f}" + " ?" * (face.reliable is False)]
            if with_interval:
                interval = face.interval()
                row += ["{:.0f} to {:.0f}".format(*interval) if interval else "", ", ".join(face.doubts or ())]
            if with_gender:
                row.append(f"{face.gender_score:.2f}")
            row += [
                f"{face.score:.2f}",
                " ".join(f"{v:.0f}" for v in face.box or ()) + (f", rotated by {face.turned}" if face.turned else ""),
                face.explain() if explain else "",
            ]
            print_row(row, columns.values())
        if not faces:
            blank = [""] * (len(columns) - 3)
            print_row([file, *blank, "not read" if error else "no face found", ""], columns.values())
    if doubtful:
        print("?: not reliable, for the doubts beside it", file=sys.stderr)
    for note in of_pages:
        print(note, file=sys.stderr)


_WIDEST_FILE = 100
"""Characters; a longer name shifts only the columns of its own rows."""


def print_row(cells: Iterable[Any], widths: Iterable[int]) -> None:
    line = "  ".join(str(cell).ljust(width) for cell, width in zip(cells, widths, strict=True))
    print(line.rstrip(), flush=True)


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [[str(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
