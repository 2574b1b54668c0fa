"""Which files are pictures, and which of these can be read."""

from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Optional

from PIL import Image

from ..errors import ArchiveError
from ..utils.io import full_name

__all__ = ["FORMATS", "INSTALL_HEIF", "Sieve", "formats_for", "is_heif", "is_of_system", "picture_suffixes"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM", "TGA", "HEIF")
"""Formats that are opened, by Pillow's names; HEIF, as in HEIC files, with the extra ``heif``. Those that run another
program, like EPS, are left out."""

_HEIF_SUFFIXES = {".heic", ".heics", ".heif", ".heifs", ".hif"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
INSTALL_HEIF = "pip install 'ssrnet_hub[heif]'"

_START = 64
"""Length of the signature, bytes."""

_RAW = """
.3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl
.sr2 .srf .srw .x3f
"""
_OTHERS = """
.bpg .cur .dds .emf .eps .exr .flif .hdp .hdr .icns .ico .jxl .jxr .kra .pcx .psb .psd .qoi .svg .svgz .wdp .wmf .xbm
.xcf .xpm
"""
_UNREAD = _HEIF_SUFFIXES.union(_RAW.split(), _OTHERS.split())
"""File name endings of pictures that are not opened, unless their format is one of those that are."""


def is_of_system(name: str) -> bool:
    """Whether this is the name of a file or folder that systems add next to photos: previews, or macOS attributes."""
    return name.startswith("._") or name in (".thumbnails", "@eaDir", "__MACOSX")


def picture_suffixes() -> set[str]:
    """File name endings, in lower case with the dot, of the formats that are opened."""
    # .mpo files are opened as JPEG
    names = {*FORMATS, "MPO"} - {"HEIF"}
    found = {suffix for suffix, name in Image.registered_extensions().items() if name in names}
    return found | _HEIF_SUFFIXES if _has_heif() else found


def is_heif(start: bytes) -> bool:
    """Whether a file with this start is HEIF, but not AVIF."""
    brand = start[8:12]
    if start[4:8] != b"ftyp" or brand not in _HEIF_BRANDS:
        return False
    others = start[16 : int.from_bytes(start[:4], "big")]
    return brand not in (b"mif1", b"msf1") or not (b"avif" in others or b"avis" in others)


def formats_for(start: bytes) -> tuple[str, ...]:
    """The formats that a file that starts so may be opened as, for `Image.open`; HEIF where something reads it."""
    others = tuple(format for format in FORMATS if format != "HEIF")
    if not is_heif(start):
        return others
    if "HEIF" not in Image.OPEN:
        try:
            # not before there is a need: it takes a while, and changes Pillow for the whole process
            import pillow_heif

            pillow_heif.register_heif_opener()
        except ImportError:
            return others
    return (*others, "HEIF")


def _has_heif() -> bool:
    return "HEIF" in Image.OPEN or find_spec("pillow_heif") is not None


class Sieve:
    """Tells the photos in folders and zips from other files, and keeps count of the pictures that cannot be read.

    Attributes:
        left_out: Pictures that cannot be read, by path, with the endings of their names.
    """

    def __init__(self) -> None:
        self.left_out: dict[str, str] = {}
        self._read = picture_suffixes()

    def takes(self, path: PurePath, start: Optional[Callable[[int], bytes]] = None) -> bool:
        """Whether a file is a photo, by its name, or by its content if the name is that of an unsupported picture.

        Args:
            path: Path of the file, possibly in a zip.
            start: Function that returns the given number of bytes from its start. Default: read from the path.
        """
        suffix = path.suffix.lower()
        if suffix in self._read:
            return True
        if suffix not in _UNREAD:
            return False
        if _is_opened(start(_START) if start else _read_start(path)):
            return True
        self.left_out[full_name(path)] = suffix
        return False

    def error(self) -> ArchiveError:
        """Warnings about pictures that cannot be read."""
        each = [
            f"{count} {suffix}" + f" ({INSTALL_HEIF})" * (suffix in _HEIF_SUFFIXES)
            for suffix, count in Counter(self.left_out.values()).most_common()
        ]
        values = {"count": len(self.left_out), "formats": ", ".join(each)}
        if len(self.left_out) == 1:
            return ArchiveError("{count} picture left out, of formats that cannot be read: {formats}.", **values)
        return ArchiveError("{count} pictures left out, of formats that cannot be read: {formats}.", **values)

    def __str__(self) -> str:
        return str(self.error()).removesuffix(".")


def _read_start(path: PurePath) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_START)
    except OSError:
        return b""


def _is_opened(start: bytes) -> bool:
    """Whether a file with this start is a supported picture, regardless of its name."""
    # raw photos are TIFF in form, and anything may be TGA
    names = [name for name in FORMATS if name not in ("TIFF", "TGA", "HEIF")]
    return not is_heif(start) and any(_accepts(name, start) for name in names)


def _accepts(format: str, start: bytes) -> bool:
    accept = Image.OPEN[format][1] if format in Image.OPEN else None
    return accept is not None and accept(start) is True
