"""Pictures of results."""

import io
import math
import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import SSRNetHubError
from ..images.alignment import Box
from ..utils.io import replace_file
from ..utils.metrics import age_band
from .estimator import Face
from .stages import Stage, rounded_contributions
from .tracking import Sighting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import HashableList

__all__ = ["draw_faces", "draw_people", "figure_svg", "plot_ages", "plot_breakdown", "plot_errors"]

_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Color of each stage or person: the color-blind safe palette of Okabe and Ito."""


def draw_faces(image: Image.Image, faces: Sequence[Face], labels: Optional[Sequence[str]] = None) -> Image.Image:
    """A copy of an upright RGB photo with a box and a label at every face.

    Args:
        image: The photo in which the faces were found.
        faces: With boxes.
        labels: One a face; without, the age in whole years, after the face's number where there are several.

    Raises:
        ValueError: There are not as many labels as faces, or one of the faces has no box.
    """
    if labels is None:
        numbers = [f"{number}: " for number in range(1, len(faces) + 1)] if len(faces) > 1 else [""]
        labels = [number + _short_age(face) for number, face in zip(numbers, faces, strict=False)]
    image = image.copy()
    draw = ImageDraw.Draw(image)
    line = max(round(max(image.size) / 400), 2)
    boxes = [_clip_box(face, image) for face in faces]
    for x1, y1, x2, y2 in boxes:
        draw.rectangle((x1, y1, x2, y2), outline="black", width=line + 2)
        draw.rectangle((x1 + 1, y1 + 1, max(x2, x1 + 2) - 1, max(y2, y1 + 2) - 1), outline="white", width=line)
    taken: list[Box] = []
    # over all the boxes, or those of neighbors would cross them out
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        font, edge = ImageFont.load_default(min(max(round((x2 - x1) / 4), 9 * line), 24 * line)), 2 * line
        left, top, right, bottom = draw.textbbox((0, 0), label, font)
        width, height = right - left + 2 * edge, bottom - top + 2 * edge
        spots = [
            (min(max(x, 0), max(image.width - width, 0)), y)
            for y in (y1 - height, y2, y1)
            for x in (x1, x2 - width)
            if y >= 0 and (y == y1 or y + height <= image.height)
        ]
        # above the box, or below, or inside where there is no room
        x, y = min(spots, key=lambda at: sum(_common_area((*at, at[0] + width, at[1] + height), o) for o in taken))
        taken.append((x, y, x + width, y + height))
        draw.rectangle(taken[-1], fill="black")
        draw.text((x + edge - left, y + edge - top), label, fill="white", font=font)
    return image


def draw_people(frame: Image.Image, people: Sequence[Sighting]) -> Image.Image:
    """A copy of a frame of a film with a box, the number and the smoothed age of every person."""
    labels = [f"{sighting.person}: {sighting.age:.0f}" for sighting in people]
    return draw_faces(frame, [sighting.face for sighting in people], labels)


def _short_age(face: Face, digits: int = 0) -> str:
    return "?" if math.isnan(face.age) else f"{face.age:.{digits}f}"


def _clip_box(face: Face, image: Image.Image) -> Box:
    if face.box is None:
        raise ValueError("A face without a box, such as one from a crop, cannot be drawn into a photo.")
    x1, y1, x2, y2 = face.box
    return max(x1, 0), max(y1, 0), min(x2, image.width), min(y2, image.height)


def _common_area(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def _new_figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise SSRNetHubError("Plots require matplotlib: pip install 'ssrnet_hub[plot]'.") from e
    return Figure(figsize=(width, height), layout="constrained")


def plot_breakdown(face: Face, *, width: float = 9.0) -> "Figure":
    """Plot how the network arrived at an age: the adjusted bins of each stage, and the contributions of the stages.

    A bin is drawn at the sum of the previous stages plus its shifted index times the bin width,
    ``(i + eta_i) * width``, with height p. Dashed bins are without the dynamic range, with eta and delta 0. The last
    row adds up the contributions of the stages.

    Args:
        face: A result of `AgeEstimator`.
        width: Width of the figure, inches; below 6, everything is in one column.

    Returns:
        A matplotlib figure.

    Raises:
        SSRNetHubError: matplotlib (extra ``plot``) is not installed.
    """
    stages, narrow = face.stages, width < 6
    names = [f"stage {k}" for k in range(len(stages))]
    heights = [1.0] * len(stages) + [0.45 + 0.25 * len(stages)]
    panels: list[HashableList[str]] = [[name] for name in (*names, "total")]
    if narrow:
        panels, heights = [["face"], *panels], [0.8, *heights]
    else:
        panels = [["face", *panel] for panel in panels]
    figure = _new_figure(width, 1.35 * sum(heights) + 0.4)
    axes = figure.subplot_mosaic(panels, width_ratios=(1,) if narrow else (1, 3.2), height_ratios=heights)
    axes["face"].imshow(face.crop)
    axes["face"].set_title(f"{_short_age(face, 1)} years", fontsize=16, fontweight="bold")
    axes["face"].axis("off")

    before = [0.0, *accumulate(stage.contribution for stage in stages)]
    added = rounded_contributions(stages) if math.isfinite(face.raw_age) else [math.nan] * len(stages)
    highest = max((p for stage in stages for p in stage.p if math.isfinite(p)), default=0) or 1
    fixed = face.V
    for k, (stage, name) in enumerate(zip(stages, names, strict=True)):
        fixed /= len(stage.p)
        _draw_bins(axes[name], stage, before[k], fixed, highest, _COLORS[k % len(_COLORS)])
        says = f"{added[k]:.1f} years" if k == 0 else f"{added[k]:+.1f} years"
        kind = "" if len(stages) == 1 else ", coarse" if k == 0 else ", finer" if k == 1 else ", finest"
        axes[name].set_title(f"stage {k + 1}{kind}: {says}", loc="left", fontsize=11, fontweight="bold")
    axes[names[-1]].set_xlabel("years; faint: the bins before the network moved them", fontsize=9)
    _draw_sum(axes["total"], before, added, face)
    return figure


def _draw_bins(axes: "Axes", stage: Stage, start: float, fixed: float, highest: float, color: str) -> None:
    """The bins of a stage, over those of ``fixed`` years that stand at their places from ``start``."""
    few = len(stage.p) <= 10
    for i, (p, eta) in enumerate(zip(stage.p, stage.eta, strict=True)):
        if few:
            axes.bar(start + i * fixed, highest, fixed, align="edge", gid="fixed", **_FAINT)
        left = start + (i + eta) * stage.width
        axes.bar(left, p, stage.width, align="edge", gid="bin", color=color, alpha=0.6, edgecolor=color, linewidth=1.5)
        if few and math.isfinite(left):
            middle = (left + stage.width / 2, 0)
            axes.annotate(
                f"{i}", middle, (0, 3), textcoords="offset points", ha="center", fontsize=9, fontweight="bold"
            )
    axes.set_ylim(0, 1.1 * highest)
    axes.set_ylabel("p", rotation=0, labelpad=10)
    axes.tick_params(labelsize=9)
    axes.locator_params(axis="y", nbins=3)
    axes.spines[["top", "right"]].set_visible(False)


_FAINT: dict[str, Any] = {"fill": False, "edgecolor": "0.6", "linewidth": 0.8, "linestyle": (0, (3, 3)), "zorder": 0}


def _draw_sum(axes: "Axes", before: Sequence[float], added: Sequence[float], face: Face) -> None:
    """The contributions, each from where the one before ended, down to the age."""
    for k, share in enumerate(added):
        axes.barh(k, before[k + 1] - before[k], 0.7, left=before[k], color=_COLORS[k % len(_COLORS)])
        axes.plot([before[k + 1]] * 2, [k - 0.35, k + 1.35], color="0.5", linewidth=1, linestyle=":")
        _note(axes, max(before[k], before[k + 1]), k, f"{share:.1f}" if k == 0 else f"{share:+.1f}")
    axes.barh(len(added), before[-1], 0.7, color="0.5")
    _note(axes, before[-1], len(added), f"{sum(added):.1f} years")
    axes.set_yticks(range(len(added) + 1), [*(f"stage {k + 1}" for k in range(len(added))), "age"], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.tick_params(axis="x", labelsize=9)
    axes.set_xlabel(textwrap.fill(face.explain(), 48), fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _note(axes: "Axes", x: float, y: float, text: str) -> None:
    if math.isfinite(x):
        axes.annotate(text, (x, y), (4, 0), textcoords="offset points", va="center", fontsize=10, fontweight="bold")


def plot_ages(seen: Iterable[tuple[float, Sequence[Sighting]]], *, width: float = 9.0) -> "Figure":
    """Plot ages over the time of a video: a line per person, smoothed as by `AgeTracker`, over a dot per frame.

    Args:
        seen: Time in seconds and people of each frame.
        width: Width of the figure, inches.

    Returns:
        A matplotlib figure. Lines end in the person's number, and have a gap if the person was out of sight for more
        than a second.

    Raises:
        SSRNetHubError: matplotlib (extra ``plot``) is not installed.
    """
    times: dict[int, list[tuple[float, float, float]]] = {}
    for seconds, people in seen:
        for sighting in people:
            times.setdefault(sighting.person, []).append((seconds, sighting.face.age, sighting.age))
    figure = _new_figure(width, 3.6)
    axes = figure.subplots()
    for person, points in sorted(times.items()):
        color, line = _COLORS[(person - 1) % len(_COLORS)], _LINES[(person - 1) // len(_COLORS) % len(_LINES)]
        seconds, raw, smooth = np.array(points).T
        axes.scatter(seconds, raw, s=6, color=color, alpha=0.3, linewidths=0)
        gaps = np.flatnonzero(np.diff(seconds) > 1) + 1
        axes.plot(np.insert(seconds, gaps, np.nan), np.insert(smooth, gaps, np.nan), line, color=color, gid="person")
        _note(axes, seconds[-1], smooth[-1], str(person))
    low, high = axes.get_ylim()
    spare = max(10 - (high - low), 0) / 2
    axes.set(xlabel="seconds", ylabel="age, years", ylim=(low - spare, high + spare))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


_LINES = ("-", "--", ":", "-.")


def plot_ratios(panels: Mapping[str, Mapping[str, float]], *, width: float = 9.0) -> "Figure":
    """How long contestants take, as a share of the first: a panel a task, a bar a contestant.

    Args:
        panels: By task, by contestant, its share; the first contestant's is 1.
        width: Inches.

    Raises:
        SSRNetHubError: matplotlib (extra ``plot``) is not installed.
    """
    rows = [len(shares) for shares in panels.values()]
    figure = _new_figure(width, 0.34 * sum(rows) + 0.7 * len(rows))
    for axes, (task, shares) in zip(
        figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=rows)[:, 0], panels.items(), strict=True
    ):
        places = range(len(shares), 0, -1)
        colors = ["#999999"] + [_COLORS[0]] * (len(shares) - 1)
        bars = axes.barh(places, list(shares.values()), 0.7, color=colors)
        axes.bar_label(bars, [f"{share:.2f}" for share in shares.values()], padding=3, fontsize=9)
        axes.set_yticks(places, list(shares), fontsize=9)
        axes.set_title(task, loc="left", fontsize=10)
        axes.set_xlim(0, max(1.1, 1.1 * max(shares.values())))
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(bottom=False, labelbottom=False, left=False)
    return figure


def figure_svg(figure: "Figure", prefix: str = "") -> str:
    """A figure as an ``<svg>`` element for a web page: in the page's own text color and without a background.

    Args:
        figure: Of matplotlib; it is changed: what is black in it takes the color of the text around it.
        prefix: For the ids in it, which must differ between the figures of a page.

    Returns:
        The element; the same figure makes the same text.
    """
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.hashsalt": "ssrnet_hub", "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    # axes and ticks are drawn in black, and text without any color, which is black as well
    svg = re.sub(r"(stroke|fill): #000000", r"\1: currentColor", svg)
    svg = svg.replace("<text ", '<text fill="currentColor" ').replace("'DejaVu Sans'", "inherit")
    return svg.replace("<svg ", '<svg role="img" ', 1)


def plot_errors(
    predicted: Sequence[float], true: Sequence[float], folder: Union[str, os.PathLike, None] = None
) -> dict[str, "Figure"]:
    """Plot the errors of predicted ages.

    Args:
        predicted: Predicted ages, years.
        true: True ages, years.
        folder: Folder to write them to as ``NAME.svg``, deterministically.

    Returns:
        matplotlib figures: ``scatter``, predicted against true ages; ``errors``, box plots of the errors by decade of
        true age, from the 25th to the 75th percentile; ``cs``, the cumulative score by error.

    Raises:
        SSRNetHubError: matplotlib (extra ``plot``) is not installed, or the folder cannot be written to.
    """
    x, y = np.asarray(true, float), np.asarray(predicted, float)
    errors = y - x
    figures = {"scatter": _new_figure(5, 5), "errors": _new_figure(6, 3.5), "cs": _new_figure(5, 3.5)}
    scatter, by_age, cs = (figure.subplots() for figure in figures.values())

    ends = [min(0, x.min(), y.min()), max(x.max(), y.max())]
    scatter.plot(ends, ends, color="0.5", linewidth=1)
    scatter.scatter(x, y, s=8, alpha=0.4, color=_COLORS[0], linewidths=0)
    scatter.set(xlabel="true age, years", ylabel="predicted age, years", aspect="equal")

    bands = np.array([age_band(age) for age in x])
    parts = {str(band): errors[bands == band] for band in np.unique(bands)}
    by_age.axhline(0, color="0.5", linewidth=1)
    by_age.boxplot(
        list(parts.values()),
        tick_labels=[f"{band}\n{len(part)}" for band, part in parts.items()],
        showfliers=False,
        medianprops={"color": _COLORS[1]},
    )
    by_age.set(xlabel="true age, years, and number of faces", ylabel="predicted less true age, years")

    years = np.arange(201) / 10
    cs.plot(years, [(np.abs(errors) <= limit).mean() for limit in years], color=_COLORS[0])
    cs.set(xlabel="error of at most, years", ylabel="share of the faces", xlim=(0, 20), ylim=(0, 1))
    for axes in (scatter, by_age, cs):
        axes.spines[["top", "right"]].set_visible(False)
    if folder is not None:
        _write_svg(figures, Path(folder))
    return figures


def _write_svg(figures: dict[str, "Figure"], folder: Path) -> None:
    from matplotlib import rc_context

    # without these, ids are drawn by chance and the date is written in
    with rc_context({"svg.hashsalt": "ssrnet_hub"}):
        for name, figure in figures.items():
            try:
                with replace_file(folder / f"{name}.svg") as path:
                    figure.savefig(path, metadata={"Date": None})
            except OSError as e:
                raise SSRNetHubError(f"{folder / name}.svg cannot be written: {e.strerror or e}.") from e
