"""Pictures of results."""

from itertools import accumulate
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from .errors import SSRNetHubError
from .estimator import Face
from .stages import rounded_contributions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["annotate", "plot_breakdown"]

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
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise SSRNetHubError("Pictures of breakdowns are drawn by matplotlib: pip install matplotlib.") from e

    stages = face.stages
    before = [0.0, *accumulate(stage.contribution for stage in stages)]
    figure = Figure(figsize=(9, 1.3 * len(stages) + 2.2), layout="constrained")
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
