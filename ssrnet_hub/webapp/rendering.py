"""Data for the page's own components: numbers, keys, and pictures, which the components put into words."""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Optional

from PIL import Image

from ..batch.records import to_cell
from ..errors import SSRNetHubError
from ..inference.estimator import Face
from ..inference.tracking import Sighting
from ..inference.video import Moment
from ..inference.visualization import draw_people, plot_breakdown
from .service import tell_error, to_csv, without_folders

__all__ = [
    "tell_failure",
    "tell_figure",
    "tell_files",
    "tell_frame",
    "tell_look",
    "tell_moments",
    "tell_row",
    "thumbnail",
]


_VALUE = 300
"""Longest text of a value in an error."""


def tell_look(
    told: Mapping[str, Sequence[Face]], drawn: Image.Image, size: tuple[int, int], max_faces: int
) -> dict[str, Any]:
    """Render the faces in a photo.

    Args:
        told: Faces by name of the weights, the same faces for all; the first name is the main result.
        drawn: The photo with bounding boxes.
        size: Width and height of the photo, to which the boxes refer.
        max_faces: Maximum number of faces.
    """
    first, *_ = told.values()
    faces = []
    for index, face in enumerate(first):
        assert face.box
        faces.append(
            {
                "number": index + 1,
                "box": [v / size[axis % 2] for axis, v in enumerate(face.box)],
                "crop": _picture(face.crop),
                "entries": [{"weights": name, "face": these[index].to_dict()} for name, these in told.items()],
            }
        )
    return {"picture": _picture(drawn), "size": drawn.size, "faces": faces, "all": len(faces) < max_faces}


def tell_figure(face: Face, name: str, kind: str) -> dict[str, str]:
    """The breakdown of a face as a file, PNG or SVG."""
    file = io.BytesIO()
    plot_breakdown(face).savefig(file, format=kind, dpi=150)
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    return {"name": f"{name}.{kind}", "content": _data_uri(mime, file.getvalue())}


def tell_frame(frame: Image.Image, people: Sequence[Sighting]) -> dict[str, Any]:
    """Render a camera frame with boxes and ages, inline in the page and never on the server's disk."""
    ages = [{"person": sighting.person, "age": sighting.age} for sighting in people]
    return {"picture": _picture(draw_people(frame, people)), "people": ages}


def tell_moments(seen: Sequence[Moment]) -> dict[str, Any]:
    """The ages of the people of a film over time: seconds, age of the frame and smoothed age."""
    people: dict[int, list[list[float]]] = {}
    for moment in seen:
        for sighting in moment.people:
            point = [round(moment.seconds, 3), round(sighting.face.age, 2), round(sighting.age, 2)]
            people.setdefault(sighting.person, []).append(point)
    return {"people": [{"person": person, "points": points} for person, points in sorted(people.items())]}


def tell_failure(error: SSRNetHubError, tidy: Callable[[str], str] = str) -> dict[str, Any]:
    """Render an error: its English message, and the template by which ``static/errors.js`` finds the translation.

    Args:
        error: The error.
        tidy: Cleans texts that come from visitors.
    """
    values = {name: tidy(without_folders(value)[:_VALUE]) for name, value in error.values.items()}
    # a message without values may have texts of visitors in it
    message = error.message if values else tell_error(error)
    return {"kind": type(error).__name__, "message": message, "values": values, "said": tidy(tell_error(error))}


def tell_row(
    row: Mapping[str, Any], picture: Optional[Image.Image] = None, error: Optional[SSRNetHubError] = None
) -> dict[str, Any]:
    """A photo among many, or why it could not be read."""
    names = ("age", "interval", "doubts", "score", "turned")
    faces = [{name: face[name] for name in names} for face in row["faces"]]
    return {
        # visitors copy it into spreadsheets
        "file": to_cell(row["file"]),
        "error": error and tell_failure(error, to_cell),
        "picture": picture and _picture(picture, 75),
        "faces": faces,
    }


def tell_files(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Render results as CSV and JSON for download, inline in the page and never on the server's disk."""
    return {"ages.csv": to_csv(list(map(dict, rows))), "ages.json": json.dumps(rows, indent=2)}


@cache
def thumbnail(path: Path) -> str:
    """A small picture of an example."""
    with Image.open(path) as image:
        image.thumbnail((120, 120))
        return _picture(image.convert("RGB"), 80)


def _picture(image: Image.Image, quality: int = 88) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return _data_uri("image/jpeg", file.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
