"""Pictures that tests have in common: encoded, turned, damaged, lying about themselves."""

import io
import struct
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from pillow_heif import register_heif_opener

UNDO = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera that notes this EXIF orientation stored an upright picture."""


def encode(image: Image.Image, format: str, **kwargs: Any) -> bytes:
    if format == "HEIF":
        register_heif_opener()
    file = io.BytesIO()
    image.save(file, format, **kwargs)
    return file.getvalue()


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block of entries (tag, type, count, value), whether they make sense or not."""
    directory, values = struct.pack(">H", len(entries)), b""
    start = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in sorted(entries):
        if len(value) > 4:
            values, value = values + value, struct.pack(">I", start + len(values))
        directory += struct.pack(">HHI", tag, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0MM\0*" + struct.pack(">I", 8) + directory + bytes(4) + values


def orientation_entry(orientation: int) -> tuple[int, int, int, bytes]:
    return (0x0112, 3, 1, struct.pack(">H", orientation))


def turned(image: Image.Image, orientation: int, format: str = "PNG", **kwargs: Any) -> bytes:
    """An upright picture, stored as a camera that was held so would."""
    method = UNDO[orientation]
    stored = image if method is None else image.transpose(method)
    return encode(stored, format, exif=exif(orientation_entry(orientation)), **kwargs)


def png_header(width: int, height: int) -> bytes:
    """A PNG of this size by its header; the pixels are missing, so that decoding it fails."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def icon(png: bytes) -> bytes:
    """An ICO file that calls itself 256x256 and holds this PNG."""
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(png), 22) + png


def grey16(image: Image.Image) -> Image.Image:
    """A picture in grey with 16 bits, 0 .. 65535."""
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def write_nasty(folder: Path, face: Image.Image) -> tuple[set[str], set[str]]:
    """Fill a folder with files that all claim to be pictures; answers the names of the good and of the bad ones."""
    good = {
        "pixel.png": encode(Image.new("RGB", (1, 1), "red"), "PNG"),
        "cmyk.jpg": encode(face.convert("CMYK"), "JPEG", quality=95),
        "deep.png": encode(grey16(face), "PNG"),
        "moving.gif": encode(face, "GIF", save_all=True, append_images=[Image.new("RGB", face.size)]),
        "turned.jpg": turned(face, 6, "JPEG", quality=95),
    }
    whole = encode(face, "JPEG")
    bad = {
        "text.jpg": b"This is no picture.\n" * 20,
        "truncated.jpg": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "bomb.png": png_header(30000, 30000),
        "large.png": png_header(11500, 11500),
    }
    for name, data in {**good, **bad}.items():
        (folder / name).write_bytes(data)
    return set(good), set(bad)


def write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of files by their names."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


FILM_SIZE, FILM_RATE = (400, 260), 10


def walk(astronaut):
    """The frames of a second in which two people walk past: one to the right, one to the left."""
    head = astronaut.crop((150, 30, 300, 210))
    frames = []
    for step in range(FILM_RATE):
        frame = Image.new("RGB", FILM_SIZE, "grey")
        frame.paste(head, (4 * step, 10))
        frame.paste(head.resize((100, 120)), (280 - 4 * step, 100))
        frames.append(frame)
    return frames


def write_film(path, frames, rate=FILM_RATE, start=0, aspect=1, **options):
    """A film of frames from a second on, with pixels of a width by their height, and options of the encoder."""
    with av.open(str(path), "w", format={".mkv": "matroska", ".avi": "avi"}.get(path.suffix, "mp4")) as film:
        stream = film.add_stream("libx264", rate=rate, options={key: str(value) for key, value in options.items()})
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = round(start * rate) + number, 1 / Fraction(rate)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path
