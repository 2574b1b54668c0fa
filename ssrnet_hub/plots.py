"""Pictures of results."""

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from .estimator import Face

__all__ = ["annotate"]


def annotate(image: Image.Image, faces: "list[Face]") -> Image.Image:
    """A copy of an upright RGB photo with a box and the age at every face."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    line = max(round(max(image.size) / 400), 2)
    for face in faces:
        x1, y1, x2, y2 = face.box
        draw.rectangle((x1, y1, x2, y2), outline="black", width=line + 2)
        draw.rectangle((x1 + 1, y1 + 1, x2 - 1, y2 - 1), outline="white", width=line)
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
