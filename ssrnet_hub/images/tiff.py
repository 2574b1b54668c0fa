"""TIFF files: which of their pages counts, and pixels that Pillow alone reads wrongly."""

import warnings
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    FILLORDER,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    PREFIXES,
    SAMPLEFORMAT,
    TiffImageFile,
)

from ..errors import PhotoError

__all__ = ["TiffImageFile", "is_tiff", "read_pixels", "select_page", "unsupported"]

_MOST_PAGES, _MOST_TAGS = 100, 5000
"""Pages that are looked at, and their tags: a small file may claim to have millions, which take minutes to read."""

_NEW_SUBFILE_TYPE, _SUB_IFDS = 254, 330
_THUMBNAIL, _MASK = 1, 4
_WHITE_IS_ZERO, _YCBCR = 0, 6
_UNSIGNED, _SIGNED = {1}, {2}


def is_tiff(start: bytes) -> bool:
    """Whether a file with this start is a TIFF."""
    return start.startswith(tuple(PREFIXES))


def unsupported(name: str) -> PhotoError:
    """The error for a TIFF that cannot be read correctly."""
    return PhotoError(
        "{name} is a TIFF that is damaged or of a kind that is not supported: save it as PNG or JPEG, or as a plain "
        "TIFF of 8 or 16 bits a channel.",
        name=name,
    )


def select_page(image: TiffImageFile, name: str) -> int:
    """Seek to the photo: the largest page that is neither a thumbnail nor a mask, the first of equally large ones.

    Returns:
        Number of pages other than thumbnails and masks, among the first 100.

    Raises:
        PhotoError: The photo cannot be read.
    """
    pages: list[tuple[int, int]] = []
    small: list[tuple[int, int]] = []
    unread = set()
    below, count = False, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged tags
        # looked through by itself: a damaged page would leave its tags behind
        assert image.fp is not None  # just opened
        image.fp.seek(0)
        file = TiffImageFile(image.fp)
        for number in range(_MOST_PAGES):
            try:
                file.seek(number)
            except EOFError:
                break
            except Exception:
                if file.tell() != number:  # not even its tags
                    break
                unread.add(number)
            tags = file.tag_v2
            width, height = tags.get(IMAGEWIDTH), tags.get(IMAGELENGTH)
            area = width * height if isinstance(width, int) and isinstance(height, int) else 0
            kind = tags.get(_NEW_SUBFILE_TYPE)
            is_small = isinstance(kind, int) and bool(kind & (_THUMBNAIL | _MASK))
            (small if is_small else pages).append((area, -number))
            below |= is_small and _SUB_IFDS in tags
            count += len(tags)
            if count > _MOST_TAGS:
                break
    if below and not pages:
        # as in raw photos: Pillow reads the thumbnail, and not the pages below it
        raise unsupported(name)
    number = -max(pages or small)[1]
    if number in unread:
        raise unsupported(name)
    image.seek(number)
    return len(pages) or 1


def read_pixels(image: TiffImageFile, name: str) -> Image.Image:
    """The page that a file is turned to, where Pillow reads other values than it has: these, or an error.

    Returns:
        A loaded picture; gray of more than 8 bits runs from 0, black, to 65535, unless it is float or of 32 bits.

    Raises:
        PhotoError: Pillow would misread it.
    """
    tags = image.tag_v2
    bits, formats = set(tags.get(BITSPERSAMPLE, (1,))), set(tags.get(SAMPLEFORMAT, (1,)))
    photometric = tags.get(PHOTOMETRIC_INTERPRETATION, _WHITE_IS_ZERO)
    is_raw = image.info.get("compression") == "raw"
    if _is_misread(image, bits, formats, photometric, is_raw):
        raise unsupported(name)
    if is_raw and image.mode in ("RGB", "RGBA") and bits == {16} and tags.get(PLANAR_CONFIGURATION) == 2:
        # Pillow reads each plane as 8 bits
        order = "B" if tags.prefix == b"MM" else "L"
        image.tile = [_deepen(tile, order) for tile in image.tile]
    image.load()
    if image.mode.startswith("I;16"):
        white, values = 2 ** max(bits) - 1, np.asarray(image)
        if photometric == _WHITE_IS_ZERO:
            values = white - values
        if white < 65535:
            values = (values.astype(np.uint32) * 65535 // white).astype(np.uint16)
        return Image.fromarray(values)
    # Pillow has no unsigned 32 bits
    if image.mode == "I" and np.asarray(image).min() < 0:
        raise unsupported(name)
    return image


def _deepen(tile: Any, order: str) -> Any:
    """Pillow's tile of a plane, for 16 bits instead of 8."""
    return tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))


def _is_misread(image: TiffImageFile, bits: set[int], formats: set[int], photometric: int, is_raw: bool) -> bool:
    tags = image.tag_v2
    is_plain = bits == {8} and tags.get(FILLORDER, 1) == 1 and photometric != _WHITE_IS_ZERO
    if formats == _SIGNED and bits != {32}:
        # 8 bits are read as unsigned; for 16, white is undefined
        return True
    if formats != _UNSIGNED and (photometric == _WHITE_IS_ZERO or (tags.prefix == b"MM" and not is_raw)):
        # not turned to a positive; bytes swapped twice
        return True
    if photometric == _YCBCR and is_raw and image.mode != "L":
        return True
    if tags.get(PLANAR_CONFIGURATION) != 2:
        return False
    if not is_raw:
        return image.mode in ("LA", "PA")
    if image.mode in ("RGB", "RGBA") and bits == {16}:
        return not image.tile  # loaded before
    return not is_plain or image.mode not in ("L", "P", "RGB", "RGBA", "CMYK", "LAB")
