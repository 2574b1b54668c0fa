"""Pictures of results."""

import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Union

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .errors import SSRNetHubError
from .estimator import Face
from .files import replace_file
from .metrics import age_band
from .stages import rounded_contributions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["annotate", "plot_breakdown", "plot_errors"]

_COLOURS = ("#0072B2", "#E69F00", "#009E73")
"""One a stage; told apart by colour-blind eyes as well (Okabe and Ito)."""


def annotate(image: Image.Image, faces: list[Face]) -> Image.Image:
    """A copy of an upright RGB photo with a box and the age at every face."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    line = max(round(max(image.size) / 400), 2)
    for face in faces:
        x1, y1, x2, y2 = face.box
        x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, image.width), min(y2, image.height)
        draw.rectangle((x1, y1, x2, y2), outline="black", width=line + 2)
        draw.rectangle((x1 + 1, y1 + 1, max(x2, x1 + 2) - 1, max(y2, y1 + 2) - 1), outline="white", width=line)
        size = max(round((x2 - x1) / 4), 8 * line)
        font = ImageFont.load_default(size)
        text = f"{face.age:.0f}"
        left, top, right, bottom = draw.textbbox((x1, y1), text, font)
        height = bottom - top + 4 * line
        # above the box, or inside where there is no room
        y = y1 - height if y1 >= height else y1
        draw.rectangle((x1, y, x1 + right - left + 4 * line, y + height), fill="black")
        draw.text((x1 + 2 * line - (left - x1), y + 2 * line - (top - y1)), text, fill="white", font=font)
    return image


def _new_figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise SSRNetHubError("Such pictures are drawn by matplotlib: pip install matplotlib.") from e
    return Figure(figsize=(width, height), layout="constrained")


def plot_breakdown(face: Face) -> "Figure":
    """How the network got to an age: the bins of each stage where it moved them, and what each stage adds.

    A bin stands on the axis of years at the sum of the stages before plus its shifted index times the bin width; its
    height is p. The faint lines are where the bins would stand without the dynamic range.

    Args:
        face: What `AgeEstimator` answered.

    Returns:
        A figure of matplotlib.

    Raises:
        SSRNetHubError: matplotlib (extra ``plot``) is not installed.
    """
    stages = face.stages
    before = [0.0, *accumulate(stage.contribution for stage in stages)]
    figure = _new_figure(9, 1.3 * len(stages) + 2.2)
    photo, *rows, total = figure.subplot_mosaic(
        [["face", f"stage {k}"] for k in range(len(stages))] + [["face", "total"]],
        width_ratios=(1, 3),
        height_ratios=[1] * len(stages) + [1.2],
    ).values()
    photo.imshow(face.crop)
    photo.set_title(f"{face.age:.1f} years", fontsize=16)
    photo.axis("off")

    fixed = face.V
    added = rounded_contributions(stages)
    for k, (stage, axes) in enumerate(zip(stages, rows, strict=True)):
        colour = _COLOURS[k % len(_COLOURS)]
        fixed /= len(stage.p)
        for i in range(len(stage.p) + 1):
            axes.axvline(before[k] + i * fixed, color="0.85", linewidth=1, zorder=0)
        for i, (p, eta) in enumerate(zip(stage.p, stage.eta, strict=True)):
            left = before[k] + (i + eta) * stage.width
            axes.bar(left, p, stage.width, align="edge", color=colour, alpha=0.55, edgecolor=colour)
            if len(stage.p) <= 10:
                middle = left + stage.width / 2
                axes.annotate(str(i), (middle, 0), (0, 2), textcoords="offset points", ha="center", fontsize=8)
        axes.set_ylabel(f"stage {k + 1}\np")
        axes.spines[["top", "right"]].set_visible(False)
        total.barh(0, stage.contribution, left=before[k], color=colour, edgecolor="white")
        middle = before[k] + stage.contribution / 2
        text = f"{added[k]:+.1f}"
        total.annotate(
            text, (middle, 0.45), (0, 3 + 11 * (k % 2)), textcoords="offset points", ha="center", color=colour
        )
    rows[-1].set_xlabel("years (faint: the bins before the network moved them)")
    highest = 1.1 * max(max(stage.p) for stage in stages) or 1
    for axes in rows:
        axes.set_ylim(0, highest)
    total.axvline(before[-1], ymax=0.55, color="black", linewidth=1)
    total.set_ylim(-0.5, 1.3)
    total.set_yticks([])
    total.set_xlabel(face.explain())
    total.spines[["top", "right", "left"]].set_visible(False)
    return figure


def plot_errors(
    predicted: Sequence[float], true: Sequence[float], folder: Union[str, os.PathLike, None] = None
) -> dict[str, "Figure"]:
    """How far predicted ages are off.

    Args:
        predicted: Ages, years.
        true: Ages, years, as many.
        folder: Where to write them as ``NAME.svg``; the same ages make the same bytes.

    Returns:
        Figures of matplotlib: ``scatter``, predicted against true ages; ``errors``, the errors by ten years of true
        age, a box from the 25th to the 75th percentile around the median; ``cs``, the share of the faces with an error
        of at most so many years.

    Raises:
        SSRNetHubError: matplotlib (extra ``plot``) is not installed, or the folder cannot be written to.
    """
    predicted, true = np.asarray(predicted, float), np.asarray(true, float)
    errors = predicted - true
    figures = {"scatter": _new_figure(5, 5), "errors": _new_figure(6, 3.5), "cs": _new_figure(5, 3.5)}
    scatter, by_age, cs = (figure.subplots() for figure in figures.values())

    ends = [min(0, predicted.min(), true.min()), max(predicted.max(), true.max())]
    scatter.plot(ends, ends, color="0.5", linewidth=1)
    scatter.scatter(true, predicted, s=8, alpha=0.4, color=_COLOURS[0], linewidths=0)
    scatter.set(xlabel="true age, years", ylabel="predicted age, years", aspect="equal")

    bands = np.array([age_band(age) for age in true])
    parts = {str(band): errors[bands == band] for band in np.unique(bands)}
    by_age.axhline(0, color="0.5", linewidth=1)
    by_age.boxplot(
        list(parts.values()),
        tick_labels=[f"{band}\n{len(part)}" for band, part in parts.items()],
        showfliers=False,
        medianprops={"color": _COLOURS[1]},
    )
    by_age.set(xlabel="true age, years, and number of faces", ylabel="predicted less true age, years")

    years = np.arange(201) / 10
    cs.plot(years, [(np.abs(errors) <= limit).mean() for limit in years], color=_COLOURS[0])
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
