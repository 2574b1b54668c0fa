"""Anything a person may call a photo to an upright RGB picture. Pictures are untrusted: size, format and content."""

import inspect
import io
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Protocol, TypeGuard, TypeVar, Union

import numpy as np
from PIL import ExifTags, Image

from ..errors import PhotoError, PhotoTooLargeError
from ..utils.defaults import MAX_PIXELS
from .bombs import check_exif, check_picture, check_size
from .formats import FORMATS, INSTALL_HEIF, formats_for, is_heif
from .tiff import TiffImageFile, is_tiff, read_pixels, select_page, unsupported

if TYPE_CHECKING:  # a process that only decodes does without
    import torch

__all__ = ["MAX_PIXELS", "Photo", "by_pixels", "load_photo"]

T = TypeVar("T")


class Readable(Protocol):
    """An open file, or an upload of a web framework."""

    def read(self) -> Any: ...


Photo = Union[str, os.PathLike, bytes, bytearray, memoryview, Readable, Image.Image, np.ndarray, "torch.Tensor"]

_SLOW_SHARE, _SLOW_PIXELS = 1 / 80, 200_000
"""Largest picture of the kinds that Pillow decodes in Python, at up to 5 seconds a megapixel: a share of ``max_pixels``
or so many pixels, whichever is more."""

_WITH_RGB = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA")
"""Modes of pictures whose color profile, if it is for RGB, also applies after the conversion to RGB."""


def load_photo(photo: Photo, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a photo into an upright RGB picture.

    Takes the first frame of an animation, and the largest page of a TIFF that is neither a thumbnail nor a mask; if
    there are several, ``info["pages"]`` of the result is their number. Transparency is composited on white, 16 bits
    are scaled to 8, and the EXIF orientation is applied. Colors are not converted; ``info["icc_profile"]`` is their
    profile, if any.

    Args:
        photo: A path; an encoded file as bytes, or open in binary mode, which is read from its start; an upload of
            Starlette, FastAPI, Flask or Django; a PIL image of any mode; an array ``(H, W)`` or ``(H, W, C)`` or a
            tensor ``(H, W)`` or ``(C, H, W)``, with C = 1, 3 (RGB) or 4 (RGBA), uint8 or a float in [0, 1].
        max_pixels: Largest width x height to decode.

    Raises:
        PhotoTooLargeError: The picture has more than ``max_pixels``; it was not decoded.
        PhotoError: Not a picture, damaged, far more expensive to decode than its size suggests, or missing.
    """
    name = "The picture"
    if isinstance(photo, np.ndarray) or _is_tensor(photo):
        image = _from_array(photo)
    elif isinstance(photo, Image.Image):
        image = photo
    elif isinstance(photo, (bytes, bytearray, memoryview)):
        image = _open(bytes(photo), len(photo), name, max_pixels)
    elif isinstance(photo, (str, os.PathLike)):
        name = os.fspath(photo)
        try:
            size = Path(photo).stat().st_size
        except (OSError, ValueError) as e:
            why = getattr(e, "strerror", None) or e
            raise PhotoError("{name:.300} cannot be read: {reason}.", name=name, reason=why) from e
        if Path(photo).is_dir():
            raise PhotoError("{name} is a folder, not a picture.", name=name)
        image = _open(Path(photo), size, name, max_pixels)
    elif hasattr(photo, "read"):
        content = _read(photo)
        image = _open(content, len(content), name, max_pixels)
    else:
        raise PhotoError(
            "A photo is a path, bytes, an open file, a PIL image, an array (H, W, 3) or a tensor (3, H, W), "
            f"not {type(photo).__name__}."
        )
    try:
        pages = select_page(image, name) if image is not photo and isinstance(image, TiffImageFile) else 1
        width, height = image.size
        if not width or not height:
            raise PhotoError("{name} has no pixels: {width}x{height}.", name=name, width=width, height=height)
        check_size(name, width, height, max_pixels)
        tiles = getattr(image, "tile", ())
        slow = max(_SLOW_PIXELS, max_pixels * _SLOW_SHARE)
        if width * height > slow and any(tile.codec_name in Image.DECODERS for tile in tiles):
            raise PhotoError(
                "{name} would take too much work to decode: {format} of this kind is read up to {limit:.1f} "
                "megapixels. Save it in another format, such as PNG.",
                name=name,
                format=image.format,
                limit=slow / 1e6,
            )
        read = read_pixels(image, name) if isinstance(image, TiffImageFile) else image
        upright = _to_rgb(_upright(read))
        # with its EXIF, the upright picture would be rotated again by the next reader
        upright.info = {"pages": pages} if pages > 1 else {}
        profile = image.info.get("icc_profile")
        if isinstance(profile, bytes) and image.mode in _WITH_RGB and profile[16:20] == b"RGB ":
            upright.info["icc_profile"] = profile
        return upright
    except PhotoError:
        raise
    except MemoryError as e:
        raise PhotoError("{name} needs more memory to decode than is available.", name=name) from e
    except Exception as e:  # decoders raise anything on damaged or hostile files
        raise PhotoError("{name} is damaged: {reason}.", name=name, reason=_on_one_line(e)) from e
    finally:
        if image is not photo:
            image.close()


def by_pixels(photos: Iterable[tuple[Image.Image, T]], most: int = 16_000_000) -> Iterator[list[tuple[Image.Image, T]]]:
    """Batch pictures, each with an associated value: at most ``most`` pixels per batch, or one larger picture."""
    part: list[tuple[Image.Image, T]] = []
    pixels = 0
    for image, own in photos:
        size = image.width * image.height
        if part and pixels + size > most:
            yield part
            part, pixels = [], 0
        part.append((image, own))
        pixels += size
    if part:
        yield part


def _is_tensor(photo: Any) -> TypeGuard["torch.Tensor"]:
    torch = sys.modules.get("torch")  # without which nobody has a tensor
    return torch is not None and isinstance(photo, torch.Tensor)


def _read(file: Readable) -> bytes:
    kind = type(file).__name__
    if inspect.iscoroutinefunction(file.read):
        # Starlette's uploads, whose own file is an ordinary one
        file = getattr(file, "file", file)
    try:
        position = _rewind(file)
        content = file.read()
        if position is not None:
            file.seek(position)  # type: ignore[attr-defined]
    except Exception as e:  # whatever a file of someone else's raises
        raise PhotoError(f"The {kind} cannot be read: {e}.") from e
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise PhotoError(f"The {kind} returns {type(content).__name__}, not bytes: open it with mode 'rb'.")
    return bytes(content)


def _rewind(file: Any) -> Optional[int]:
    """Go to the start of a file; where it was, or None for a stream."""
    try:
        position = file.tell()
        file.seek(0)
    except (AttributeError, OSError):
        return None
    return position


def _open(file: Union[Path, bytes], size: int, name: str, max_pixels: int) -> Image.Image:
    if not size:
        raise PhotoError("{name} is empty: 0 bytes.", name=name)
    start = b""
    try:
        start = _start_of(file)
        if isinstance(file, bytes):
            check_picture(file, name, max_pixels)
        else:
            with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as data:
                check_picture(data, name, max_pixels)
        with warnings.catch_warnings():
            # of size, where the limit is ours and checked before the pixels are decoded; and of damaged EXIF
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=formats_for(start))
    except PhotoError:
        raise
    except Image.DecompressionBombError as e:
        raise PhotoTooLargeError(
            "{name}: {reason} To allow it, raise PIL.Image.MAX_IMAGE_PIXELS as well as max_pixels.",
            name=name,
            reason=e,
        ) from e
    except Image.UnidentifiedImageError as e:
        if is_tiff(start):
            raise unsupported(name) from e
        if is_heif(start):
            if "HEIF" not in Image.OPEN:
                raise PhotoError(
                    "{name} is HEIC, which needs the extra heif: {install}.", name=name, install=INSTALL_HEIF
                ) from e
            raise PhotoError("{name} is damaged, or HEIC of a kind that is not supported.", name=name) from e
        known = ", ".join(FORMATS)
        raise PhotoError("{name} is not a picture of a known format ({formats}).", name=name, formats=known) from e
    except MemoryError as e:
        raise PhotoError("{name} needs more memory to decode than is available.", name=name) from e
    except Exception as e:  # decoders raise anything on damaged or hostile files
        raise PhotoError("{name} cannot be read as a picture: {reason}.", name=name, reason=_on_one_line(e)) from e


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split()).removesuffix(".")


def _start_of(file: Union[Path, bytes]) -> bytes:
    if isinstance(file, bytes):
        return file[:64]
    with file.open("rb") as opened:
        return opened.read(64)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    # not ImageOps.exif_transpose, which rewrites the EXIF and fails if any other entry is damaged
    image.load()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # a bomb is damage as well
            entries = image.getexif() if _has_fair_exif(image) else {}
            turn = _TURNS.get(entries.get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF does not affect the pixels
        turn = None
    return image if turn is None else image.transpose(turn)


def _has_fair_exif(image: Image.Image) -> bool:
    exif = image.info.get("exif")
    if exif is None and "Raw profile type exif" in image.info:
        exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return exif is None or check_exif(exif)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_uint8(np.asarray(image)))
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """Gray values of more than 8 bits to 0 .. 255, by their type or else by the range they are in."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, posinf=0, neginf=0)
    top = float(values.max())
    if values.dtype.itemsize == 2 or (values.dtype.kind == "i" and 255 < top <= 65535):
        top = 65535.0
    elif values.dtype.kind == "f" and top <= 1:
        top = 1.0
    else:
        top = max(top, 255.0)
    return (values * (255 / top)).clip(0, 255).round().astype(np.uint8)


def _from_array(array: Union[np.ndarray, "torch.Tensor"]) -> Image.Image:
    shape = tuple(array.shape)
    if not isinstance(array, np.ndarray):
        array = array.detach().cpu()
        if array.is_floating_point():
            array = array.float()
        if array.ndim == 3:
            array = array.permute(1, 2, 0)
        array = array.numpy()
        expected = "a tensor (H, W) or (C, H, W) with C = 1, 3 or 4"
    else:
        expected = "an array (H, W) or (H, W, C) with C = 1, 3 or 4"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise PhotoError(f"Expected {expected}, got shape {shape}.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not array.size:
        raise PhotoError(f"The picture has no pixels: shape {shape}.")
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise PhotoError(f"Float pixels must be in [0, 1], these are in [{low:.3g}, {high:.3g}].")
        array = (array * 255).round().astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        raise PhotoError(f"Pixels must be uint8, or floats in [0, 1], not {array.dtype}.")
    return Image.fromarray(np.ascontiguousarray(array))
