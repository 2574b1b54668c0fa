"""How answers look on the page."""

import base64
import html
import io
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

from PIL import Image

from ..inference.estimator import Face
from ..inference.tracking import Sighting
from ..inference.video import Moment
from ..inference.visualization import draw_people, figure_svg, plot_ages, plot_breakdown
from .service import to_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CSS", "offer_files", "say_age", "show_ages", "show_breakdowns", "show_faces", "show_frame"]

_PHONE = 4.2
"""Width of the breakdown on a phone, inches of the figure."""

CSS = """
.ssr-faces { display: flex; flex-wrap: wrap; gap: 10px; }
.ssr-face { display: flex; align-items: center; gap: 12px; padding: 8px 14px 8px 8px; cursor: pointer; text-align: left;
  border: 2px solid var(--border-color-primary); border-radius: 12px; background: var(--background-fill-secondary);
  color: var(--body-text-color); font: inherit; min-width: 190px; }
.ssr-face:hover { border-color: var(--color-accent); }
.ssr-face:focus-visible { outline: 3px solid var(--color-accent); outline-offset: 2px; }
.ssr-face[aria-pressed=true] { border-color: var(--color-accent); box-shadow: inset 0 0 0 1px var(--color-accent); }
.ssr-face img { width: 64px; height: 64px; border-radius: 8px; object-fit: cover; }
.ssr-face b { font-size: 1.35em; }
.ssr-face small, .ssr-breakdown small { display: block; opacity: .75; }
.ssr-face small b { font-size: 1em; }
.ssr-breakdowns { display: flex; flex-wrap: wrap; gap: 24px; }
.ssr-breakdown { flex: 1 1 340px; min-width: 0; max-width: 1000px; margin: 0; color: var(--body-text-color); }
.ssr-breakdown figcaption { font-weight: 600; padding-bottom: 4px; }
.ssr-breakdown svg { width: 100%; height: auto; display: block; }
.ssr-breakdown .ssr-narrow { display: none; }
.ssr-several .ssr-breakdown .ssr-wide { display: none; }
.ssr-several .ssr-breakdown .ssr-narrow { display: block; }
@media (max-width: 700px) {
  .ssr-breakdown .ssr-wide { display: none; }
  .ssr-breakdown .ssr-narrow { display: block; }
  .ssr-face { flex: 1 1 100%; }
}
.ssr-frame { width: 100%; border-radius: 8px; display: block; }
.ssr-file { font-weight: 600; margin-right: 12px; }
"""


def say_age(face: Face) -> str:
    """The age in years to a tenth, or NaN."""
    return "NaN" if math.isnan(face.age) else f"{face.age:.1f}"


def say_interval(face: Face) -> str:
    """What is known of how far off the age may be, as HTML; nothing with weights without a calibration."""
    ends = face.interval()
    said = "" if ends is None else "<small>90% interval: {:.0f} to {:.0f}</small>".format(*ends)
    return said + (f"<small><b>{say_doubts(face.doubts)}</b></small>" if face.doubts else "")


def say_doubts(doubts: Optional[Sequence[str]]) -> str:
    """Reasons not to trust an age; empty if there are none, or without a calibration."""
    return f"not reliable: {', '.join(doubts)}" if doubts else ""


def say_turned(turned: int) -> str:
    """The rotation of a face, to be appended to other text; empty for an upright face."""
    return f", rotated by {turned}°" if turned else ""


def show_faces(faces: Sequence[Face], picked: int) -> str:
    """A button a face: its crop, number, age, and how sure the detector is."""
    if not faces:
        return ""
    cards = []
    for index, face in enumerate(faces):
        cards.append(
            f'<button type="button" class="ssr-face" data-face="{index}" aria-pressed="{str(index == picked).lower()}">'
            f'<img src="{_picture(face.crop)}" alt="face {index + 1}">'
            f"<span>face {index + 1}<br><b>{say_age(face)}</b> years{say_interval(face)}"
            f"<small>found with {face.score:.0%} confidence{say_turned(face.turned)}</small></span></button>"
        )
    return f'<div class="ssr-faces" role="group" aria-label="faces">{"".join(cards)}</div>'


def show_breakdowns(faces: Sequence[tuple[str, Face]], number: int) -> str:
    """The breakdown of a face by one or more weights, as wide as the page or for a phone, as the page is.

    Args:
        faces: Names of weights, and what they say of the same face.
        number: The face's, from 1.
    """
    several = len(faces) > 1
    figures = []
    for index, (name, face) in enumerate(faces):
        drawings = _draw(partial(plot_breakdown, face), f"face{index}")
        figures.append(
            f'<figure class="ssr-breakdown"><figcaption><span>face {number}, {html.escape(name)}: {say_age(face)} years'
            f"</span>{say_interval(face)}</figcaption>{drawings}</figure>"
        )
    return f'<div class="ssr-breakdowns {"ssr-several" if several else ""}">{"".join(figures)}</div>'


def show_frame(frame: Image.Image, people: Sequence[Sighting]) -> str:
    """A picture of a camera with boxes and ages, which lies in the page and nowhere on the server's disk."""
    said = ", ".join(f"person {sighting.person}: {sighting.age:.0f} years" for sighting in people) or "nobody"
    return f'<img class="ssr-frame" src="{_picture(draw_people(frame, people))}" alt="{said}">'


def show_ages(seen: Sequence[Moment]) -> str:
    """The ages of the people of a film over time, as wide as the page or for a phone, as the page is."""
    people = {sighting.person for moment in seen for sighting in moment.people}
    if not people:
        return "<p>No faces were found in this video.</p>"
    said = f"{len(people)} {'people' if len(people) > 1 else 'person'}; lines are averages over the last seconds"
    points = [(moment.seconds, moment.people) for moment in seen]
    drawings = _draw(partial(plot_ages, points), "ages")
    return f'<figure class="ssr-breakdown"><figcaption>Age over time: {said}</figcaption>{drawings}</figure>'


def _draw(plot: Callable[..., "Figure"], prefix: str) -> str:
    """A figure twice, of which the page shows one."""
    return "".join(
        f'<div class="ssr-{size}">{figure_svg(plot(width=width), f"{prefix}-{size}-")}</div>'
        for size, width in (("wide", 9.0), ("narrow", _PHONE))
    )


def offer_files(rows: list[dict[str, Any]]) -> str:
    """Links that save answers as CSV and JSON; what they save is in the links, and nowhere on the server's disk."""
    files = {"ages.csv": ("text/csv", to_csv(rows)), "ages.json": ("application/json", json.dumps(rows, indent=2))}
    links = [
        f'<a class="ssr-file" download="{name}" href="{_data_uri(kind, text.encode())}">{name}</a>'
        for name, (kind, text) in files.items()
    ]
    broken = sum(row["error"] is not None for row in rows)
    said = f"{len(rows)} photos" + (f", {broken} of them could not be read" if broken else "")
    return f"<p>{said}. Save: {' '.join(links)}</p>"


def _picture(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return _data_uri("image/jpeg", file.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
