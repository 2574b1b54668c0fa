"""Calls of the command and what it printed."""

import csv
import json
import subprocess
import sys
from pathlib import Path

FORMULAS = ["=1+1.png", "+1.png", "-1.png", "@a.png", "\ta.png", "\ra.png", "\n=a.png", "a;=1.png", 'a;"=1".png']
FORMULAS += ["'=1.png", "''-1.png", "'quoted'.png", "'\t.png"]
"""Names that a spreadsheet takes for a formula, and such as look like those written so that it does not."""

BOX = (60, 40, 145, 155)
"""Around the face of the photo."""


def files(out: str) -> list[str]:
    return [row["file"] for row in json.loads(out)]


def write_boxes(path: Path, *rows: tuple) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "x1", "y1", "x2", "y2"), *rows])
    return path


def told(out: str) -> dict[str, dict]:
    return {Path(row["file"]).name: row for row in json.loads(out)}


def shell(*arguments, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ssrnet_hub.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, **{"encoding": "utf-8", **kwargs})
