"""Detection of small picture files that are expensive to decode, by their structure, before a decoder sees them.

The cost of decoding is bounded by the sizes of the file and the picture, with the exceptions checked here: parts of a
file that each cost a pass over the picture, that are read repeatedly, or that are larger than the picture states.
"""

import re
import struct
from collections.abc import Iterator
from itertools import islice
from mmap import mmap
from typing import NamedTuple, Union

from ..errors import PhotoError, PhotoTooLargeError

__all__ = ["MAX_SCANS", "check_exif", "check_picture", "check_size", "count_scans"]

Data = Union[bytes, mmap]

MAX_SCANS = 100
"""Most scans of a JPEG. Each costs a pass over the picture; photos have about 10, and libtiff has the same limit."""

_EXIF_SEGMENTS = 64  # Pillow joins them one by one
_SEGMENTS = 10_000
_PNG_CHUNKS = 20_000  # and one for every 4 kB; 8 kB each is usual
_PNG_COMPRESSED = 100  # texts and profiles, each of which may inflate to a megabyte
_GIF_BLOCKS = 20_000
_GIF_COMMENT_BLOCKS = 1_000  # Pillow joins them one by one
_PNM_HEADER = 65_536  # read byte by byte
_TIFF_PAGES = 1_000
_TIFF_ENTRIES = 100_000
_TIFF_TILES = 65_536
_PNM_COMMENTS = 100  # a megabyte is copied for each
_JPEG2000_TILES = 10_000
_JPEG2000_WORK = 0.5  # steps of 0.15 microseconds, for each of the pixels that a picture may have
_JPEG2000_PARTS = 2_000_000  # packets, and code blocks
_JPEG2000_SEGMENTS = 200_000
_BOXES = 100_000
_AVIF_ITEMS = 70_000  # a grid has up to 256 x 256
_AVIF_PASSES = 8  # color, transparency, layers
_AVIF_BYTE = 12  # pixels that take as long as a byte
_AVIF_UNITS = 100_000
_HEIF_PASSES = 8  # tiles, transparency
_HEIF_DEPTH = 8
_HEIF_REFERENCES = 100_000


class _Costly(Exception):
    """Reason, as the end of a sentence."""


class _Damaged(Exception):
    """The structure cannot be followed."""


def check_picture(data: Data, name: str, max_pixels: int) -> None:
    """Refuse an encoded picture that is much more expensive than its size and pixel count suggest.

    Args:
        data: The file.
        name: Its name in errors.
        max_pixels: Largest width x height that will be decoded.

    Raises:
        PhotoTooLargeError: Opening it would take memory for more than ``max_pixels``.
        PhotoError: It is too expensive, or too damaged to decide.
    """
    for signature, check in _CHECKS.items():
        if re.match(signature, data, re.DOTALL):
            try:
                check(data, name, max_pixels)
            except _Costly as e:
                raise PhotoError("{name} would take too much work to decode: {reason}.", name=name, reason=e) from e
            except _Damaged as e:
                raise PhotoError("{name} is damaged: {reason}.", name=name, reason=e) from e
            except (struct.error, IndexError) as e:
                raise PhotoError("{name} is damaged: it is cut off.", name=name) from e


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture of more than ``max_pixels``.

    Raises:
        PhotoTooLargeError: It has more.
    """
    if width * height > max_pixels:
        raise PhotoTooLargeError(
            "{name} has {width}x{height} = {size:.1f} megapixels, more than the limit of {limit:.1f}. "
            "Reduce it, or raise the limit with max_pixels.",
            name=name,
            width=width,
            height=height,
            size=width * height / 1e6,
            limit=max_pixels / 1e6,
        )


# JPEG

_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")  # neither stuffing nor a restart, which have no length
_SOS = 0xDA
_WITHOUT_LENGTH = {*range(0x02, 0xC0), 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)}


def _segments(data: Data) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the segments of a JPEG up to its end; what trails it may be another picture."""
    position, scanning = 2, False
    for _ in range(_SEGMENTS):
        match = _MARKER.search(data, position)
        if not match:
            return
        position, marker = match.end(), match[1][0]
        if marker == 0xD9 and scanning:
            return
        if marker in _WITHOUT_LENGTH:
            continue
        scanning |= marker == _SOS
        start, position = position, position + max(2, int.from_bytes(data[position : position + 2], "big"))
        yield marker, start + 2, position
    raise _Costly(f"it has more than {_SEGMENTS} segments")


def count_scans(data: Data) -> int:
    """Scans of a JPEG, not of the thumbnails in it; more than `MAX_SCANS` need not all be counted."""
    try:
        return sum(marker == _SOS for marker, _, _ in _segments(data))
    except _Costly:
        return MAX_SCANS + 1


def _check_jpeg(data: Data, name: str, max_pixels: int) -> None:
    exif, scans, end, between = [], 0, 2, 0
    for marker, start, after in _segments(data):
        scans += marker == _SOS
        if scans > MAX_SCANS:
            raise _Costly(f"it has more than {MAX_SCANS} scans")
        if scans:
            continue
        between, end = between + start - 4 - end, after
        if between > 65_536:  # skipped byte by byte
            raise _Costly("there is too much between its segments")
        segment = data[start:after]
        if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            exif.append(segment[6:])
        elif marker == 0xE2 and segment.startswith(b"MPF\0"):
            _check_directories(segment[4:])
    if len(exif) > _EXIF_SEGMENTS:
        raise _Costly(f"it has more than {_EXIF_SEGMENTS} segments of EXIF")
    _check_directories(b"".join(exif))


# PNG


def _check_png(data: Data, name: str, max_pixels: int) -> None:
    position, number, compressed = 8, 0, 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        number += 1
        compressed += kind in (b"zTXt", b"iTXt", b"iCCP")
        if number > _PNG_CHUNKS + len(data) // 4096 or compressed > _PNG_COMPRESSED:
            raise _Costly("it has too many chunks")
        if kind == b"IHDR" and length >= 8:
            # an animation is given memory for its frames when it is opened
            width, height = struct.unpack_from(">II", data, position + 8)
            check_size(name, width, height, max_pixels)
        elif kind == b"IEND":
            return
        position += 12 + length


# GIF


def _check_gif(data: Data, name: str, max_pixels: int) -> None:
    screen, flags = struct.unpack_from("<HH", data, 6), data[10]
    position = 13 + ((6 << (flags & 7)) if flags & 0x80 else 0)
    blocks = comments = 0
    while position < len(data):
        start, position = data[position], position + 1
        if start == 0x2C:
            left, top, width, height = struct.unpack_from("<HHHH", data, position)
            check_size(name, max(screen[0], left + width), max(screen[1], top + height), max_pixels)
            return
        if start == 0x3B:
            return
        if start != 0x21:
            blocks += 1
        else:
            comment, position = data[position] == 0xFE, position + 1
            while position < len(data) and data[position]:
                position += 1 + data[position]
                blocks += 1
                comments += comment
                if blocks > _GIF_BLOCKS or comments > _GIF_COMMENT_BLOCKS:
                    break
            blocks += 1
            comments += comment
            position += 1
        if blocks > _GIF_BLOCKS or comments > _GIF_COMMENT_BLOCKS:
            raise _Costly("too many blocks come before its picture")


# PPM and its kin


def _check_pnm(data: Data, name: str, max_pixels: int) -> None:
    fields = 3 if data[1:2] in b"14" else 4
    head = re.sub(rb"#[^\r\n]*", b" ", data[:_PNM_HEADER])
    if len(data) > _PNM_HEADER and len(head.split(None, fields)) < fields:
        raise _Costly(f"its header is longer than {_PNM_HEADER} bytes")
    if data[1:2] in b"123" and any(True for _ in islice(re.finditer(rb"#", data), _PNM_COMMENTS, None)):
        raise _Costly(f"it has more than {_PNM_COMMENTS} comments")


# TIFF, and EXIF, which is one


class _Value(NamedTuple):
    """Values of a tag: what they are, how many, and where."""

    type: int
    number: int
    start: int


_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_SUBDIRECTORIES = (0x8769, 0x8825, 0xA005)  # EXIF, GPS, interoperability

_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _PLANAR = 256, 257, 259, 277, 284
_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_SIZES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES = 322, 323, 324, 325
_ONE_OF_EACH = {_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _PLANAR, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT}
_LISTS = {_STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES}
_LONGEST = {258: 64, 338: 64, 339: 64, 320: 3 << 16}  # bits, extra samples and formats of a pixel; colors


class _Tiff:
    """The directories of a TIFF or EXIF block."""

    def __init__(self, data: Data):
        self._data = data
        self._order = "<" if data[:2] == b"II" else ">"
        big = data[2:3] == b"+"
        self._entries = 0
        self.repeated: set[int] = set()
        # number of entries; tag, type and number of values; value, or where it is
        self._forms = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
        (self.first,) = struct.unpack_from(self._order + self._forms[2], data, 8 if big else 4)

    def read(self, offset: int) -> tuple[dict[int, _Value], int]:
        """The tags of a directory, and where the next one is; as much as is there.

        Raises:
            _Costly: Its values, which a decoder keeps, are larger than the file.
        """
        counter, entry, pointer = (struct.Struct(self._order + form) for form in self._forms)
        tags: dict[int, _Value] = {}
        following, overlap = 0, 0
        if offset + counter.size <= len(self._data):
            (count,) = counter.unpack_from(self._data, offset)
            self._entries += count
            if self._entries > _TIFF_ENTRIES:
                raise _Costly("its directories have too many entries")
            start = offset + counter.size
            step = entry.size + pointer.size
            end = start + count * step
            for place in range(start, min(end, len(self._data) - step + 1), step):
                tag, kind, number = entry.unpack_from(self._data, place)
                at, size = place + entry.size, number * _SIZES.get(kind, 0)
                if size > pointer.size:
                    (at,) = pointer.unpack_from(self._data, at)
                    overlap += max(0, min(size, len(self._data) - at))
                if tag in tags:
                    self.repeated.add(tag)
                tags[tag] = _Value(kind, number, at)
            if overlap > 2 * len(self._data) + 65_536:
                raise _Costly("its tags overlap")
            if end + pointer.size <= len(self._data):
                (following,) = pointer.unpack_from(self._data, end)
        return tags, following

    def check(self, offset: int, depth: int = 0) -> tuple[dict[int, _Value], int]:
        """`read`, and the directories that it points at."""
        tags, following = self.read(offset)
        for tag in _SUBDIRECTORIES:
            if tag in tags and depth < 2:
                for inner in self.numbers(tags[tag])[:1]:
                    self.check(inner, depth + 1)
        return tags, following

    def numbers(self, value: _Value) -> tuple[int, ...]:
        """Values of a tag; empty if missing or not numbers."""
        if value.type not in _NUMBERS or value.number * _SIZES[value.type] > len(self._data) - value.start:
            return ()
        return struct.unpack_from(f"{self._order}{value.number}{_NUMBERS[value.type]}", self._data, value.start)


def _check_directories(block: bytes) -> None:
    """Check the EXIF that Pillow reads. A damaged block is accepted: the picture can still be read."""
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    try:
        tiff = _Tiff(block)
        tiff.check(tiff.first)
    except struct.error:
        pass


def check_exif(block: bytes) -> bool:
    """Whether EXIF, read by Pillow, takes memory in proportion to its size."""
    try:
        _check_directories(block)
    except _Costly:
        return False
    return True


def _check_tiff(data: Data, name: str, max_pixels: int) -> None:
    if data[:4] == b"MM\0+":
        raise _Damaged("BigTIFF is read in little-endian byte order only")
    tiff, pages = _Tiff(data), set()
    page = tiff.first
    while page and page not in pages:
        pages.add(page)
        if len(pages) > _TIFF_PAGES:
            raise _Costly(f"it has more than {_TIFF_PAGES} pages")
        tags, page = tiff.check(page)
        if len(pages) > 1 and _WIDTH not in tags:
            return  # not a page, and no pages follow
        _check_layout(tiff, tags, len(data), max_pixels)


def _check_layout(tiff: _Tiff, tags: dict[int, _Value], size: int, max_pixels: int) -> None:
    def number(tag: int, otherwise: int = 0) -> int:
        if tag not in tags:
            return otherwise
        if tags[tag].number != 1 or not tiff.numbers(tags[tag]):
            raise _Damaged(f"tag {tag} is no number")
        return tiff.numbers(tags[tag])[0]

    # readers of one file do not agree on which of two counts
    if repeated := tiff.repeated & {*_ONE_OF_EACH, *_LISTS, *_LONGEST}:
        raise _Damaged(f"tag {min(repeated)} is there twice")
    width, height = number(_WIDTH), number(_HEIGHT)
    if _TILE_WIDTH in tags or _TILE_OFFSETS in tags:
        if _STRIP_OFFSETS in tags:
            raise _Damaged("it has both strips and tiles")
        tile = number(_TILE_WIDTH), number(_TILE_HEIGHT)
        offsets, sizes = _TILE_OFFSETS, _TILE_SIZES
    else:
        tile = width, min(number(_ROWS_PER_STRIP, height), height)
        offsets, sizes = _STRIP_OFFSETS, _STRIP_SIZES
    if not min(width, height, *tile):
        raise _Damaged("it has no pixels")
    grid = -(-width // tile[0]) * -(-height // tile[1])
    tiles = grid * (max(1, number(_SAMPLES, 1)) if number(_PLANAR, 1) == 2 else 1)
    if tiles > _TIFF_TILES:
        raise _Costly(f"it has {tiles} strips or tiles, more than {_TIFF_TILES}")
    if grid * tile[0] * tile[1] > 2 * max_pixels + 1_000_000:
        raise _Costly("its tiles are larger than it is")
    for tag, most in {offsets: tiles, sizes: tiles, **_LONGEST}.items():
        if tag in tags and tags[tag].number > most:
            raise _Costly(f"tag {tag} has {tags[tag].number} values, more than {most}")
    if number(_COMPRESSION, 1) != 1 and tiles > 1:
        # the same bytes, however large, decompressed for every tile
        lengths = tiff.numbers(tags[sizes]) if sizes in tags else ()
        if not lengths:
            raise _Damaged("it does not say how large its strips or tiles are")
        if sum(lengths) > size:
            raise _Costly("its strips or tiles overlap")


# boxes: JPEG 2000, AVIF and HEIF


def _boxes(data: Data, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the boxes in a part of a file."""
    for _ in range(_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        after = start + size if size else end
        if after < body:
            raise _Damaged(f"box {kind!r} ends before it starts")
        yield kind, body, min(after, end)
        start = after
    raise _Costly(f"it has more than {_BOXES} boxes")


# JPEG 2000

_CODESTREAM = b"\xff\x4f\xff\x51"
_SIZ, _COD, _COC, _POC, _SOT, _SOD, _EOC = 0x51, 0x52, 0x53, 0x5F, 0x90, 0x93, 0xD9
_OTHERS = {0x50, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5C, 0x5D, 0x5E, 0x60, 0x61, 0x63, 0x64, 0x74, 0x75, 0x77, 0x78}


def _check_jpeg2000(data: Data, name: str, max_pixels: int) -> None:
    position = 0
    if data[:4] != _CODESTREAM:
        position = next((start for kind, start, _ in _boxes(data, 0, len(data)) if kind == b"jp2c"), len(data))
        if data[position : position + 4] != _CODESTREAM:
            raise _Damaged("it has no codestream")
    position += 2
    size = 0, 0
    components = tiles = layers = packets = blocks = end = segments = pixels = 0
    orders = 1
    while position + 2 <= len(data) and data[position] == 0xFF and (marker := data[position + 1]) != _EOC:
        if marker == _SOD:  # the data of a tile
            if end <= position:
                return
            position = end
            continue
        body, after = position + 4, position + 2 + struct.unpack_from(">H", data, position + 2)[0]
        if marker == _SIZ:
            x1, y1, x0, y0, tile_width, tile_height, left, top, components = struct.unpack_from(">8IH", data, body + 2)
            if not tile_width or not tile_height or x1 <= x0 or y1 <= y0:
                raise _Damaged("it has no pixels")
            size = min(tile_width, x1 - x0), min(tile_height, y1 - y0)
            pixels = (x1 - x0) * (y1 - y0)
            check_size(name, x1 - x0, y1 - y0, max_pixels)
            tiles = -(-(x1 - left) // tile_width) * -(-(y1 - top) // tile_height)
            if tiles > _JPEG2000_TILES or components > 4:
                raise _Costly(f"it has {tiles} tiles of {components} components")
        elif marker == _COD:
            layers = max(layers, struct.unpack_from(">H", data, body + 2)[0])
            packets, blocks = map(max, (packets, blocks), _parts(data, data[body] & 1, body + 5, *size))
        elif marker == _COC:
            packets, blocks = map(max, (packets, blocks), _parts(data, data[body + 1] & 1, body + 2, *size))
        elif marker == _POC:
            orders += (after - body) // 7
        elif marker == _SOT:
            (length,) = struct.unpack_from(">I", data, body + 2)
            end = position + length
        elif marker not in _OTHERS:
            raise _Damaged(f"marker FF{marker:02X} is not known")
        segments += 1
        parts = max(packets * layers * orders, blocks) * tiles * components
        if parts > _JPEG2000_PARTS or segments > _JPEG2000_SEGMENTS:
            raise _Costly("it is cut into too many parts")
        # a decoder goes over all components pixel by pixel, whatever is in the file
        work = pixels * components / 3 + 3 * len(data) + 8 * parts
        if work > _JPEG2000_WORK * max_pixels + 1_000_000:
            raise _Costly(
                f"JPEG 2000 of {pixels / 1e6:.1f} megapixels in {len(data) / 1e6:.1f} MB is slow. Save it in another "
                "format, such as JPEG"
            )
        position = after


def _parts(data: Data, own_precincts: int, at: int, width: int, height: int) -> tuple[int, int]:
    """Packets of a layer, and code blocks, of one component of a tile."""
    levels, block_width, block_height = data[at], (data[at + 1] & 15) + 2, (data[at + 2] & 15) + 2
    if levels > 32:
        raise _Damaged(f"it has {levels} resolutions")
    packets = blocks = 0
    for level in range(levels + 1):
        across, down = (-(-side >> (levels - level)) for side in (width, height))
        across, down = max(1, across), max(1, down)
        precinct = data[at + 5 + level] if own_precincts else 0xFF
        columns, rows = precinct & 15, precinct >> 4
        packets += -(-across >> columns) * -(-down >> rows)
        columns, rows = (max(0, side - (level > 0)) for side in (columns, rows))
        blocks += -(-across >> min(block_width, columns)) * -(-down >> min(block_height, rows))
    return packets, blocks


# AVIF


def _check_avif(data: Data, name: str, max_pixels: int) -> None:
    passes = size = 0
    for kind, payload in _media(data, 0, len(data)):
        size += len(payload)
        if size > 2 * len(data):
            raise _Costly("its items overlap")
        if kind == b"Exif":
            for match in re.finditer(rb"II\*\0|MM\0\*", payload):
                _check_directories(payload[match.start() :])
        else:
            frames, pixels = _frames(payload)
            passes += frames * pixels
        if passes > _AVIF_PASSES * max_pixels:
            raise _Costly(f"its frames have more than {_AVIF_PASSES} x {max_pixels:,} pixels in all")
        if passes + _AVIF_BYTE * size > _AVIF_PASSES * max_pixels:
            raise _Costly(f"AVIF of {size / 1e6:.1f} MB is slow. Save it in another format, such as JPEG")


def _media(data: Data, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Pictures and EXIF in a part of a file; for tracks, the parts of the first frame."""
    found: dict[bytes, tuple[int, int]] = {}
    for kind, body, after in _boxes(data, start, end):
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            yield from _media(data, body, after)
        elif kind == b"meta":
            yield from _media(data, body + 4, after)
        elif kind in found and kind in (b"iloc", b"iinf", b"idat", b"stsz", b"stco", b"co64"):
            raise _Damaged(f"box {kind!r} is there twice")
        else:
            found[kind] = body, after
    if b"iloc" in found and b"iinf" in found:
        kinds = _item_kinds(data, *found[b"iinf"])
        for item, payload in _items(data, found[b"iloc"][0], found.get(b"idat", (0, 0))[0]):
            if kinds.get(item) in (b"av01", b"Exif"):
                yield kinds[item], payload
    if b"stsz" in found and (b"stco" in found or b"co64" in found):
        size, count = struct.unpack_from(">II", data, found[b"stsz"][0] + 4)
        if count and not size:
            (size,) = struct.unpack_from(">I", data, found[b"stsz"][0] + 12)
        if b"stco" in found:
            (first,) = struct.unpack_from(">I", data, found[b"stco"][0] + 8)
        else:
            (first,) = struct.unpack_from(">Q", data, found[b"co64"][0] + 8)
        yield b"av01", data[first : first + size]


def _item_kinds(data: Data, start: int, end: int) -> dict[int, bytes]:
    kinds = {}
    for kind, body, _ in _boxes(data, start + (6 if data[start] == 0 else 8), end):
        if kind == b"infe" and data[body] in (2, 3):
            number = "H" if data[body] == 2 else "I"
            item, _, what = struct.unpack_from(f">{number}H4s", data, body + 4)
            kinds[item] = what
    return kinds


def _items(data: Data, start: int, inner: int) -> Iterator[tuple[int, bytes]]:
    """Numbers and contents of items; ``inner`` is where those begin that are in the same box."""
    version, position = data[start], start + 6
    sizes = data[start + 4] >> 4, data[start + 4] & 15, data[start + 5] >> 4, data[start + 5] & 15

    def number(size: int) -> int:
        nonlocal position
        if position + size > len(data):
            raise _Damaged("its list of items is cut off")
        position += size
        return int.from_bytes(data[position - size : position], "big")

    count, size = number(4 if version == 2 else 2), 0
    if count > _AVIF_ITEMS:
        raise _Costly(f"it has {count} items")
    for _ in range(count):
        item = number(4 if version == 2 else 2)
        origin = inner if version and number(2) & 15 == 1 else 0
        number(2)  # which file, always this one
        origin += number(sizes[2])
        parts = []
        for _ in range(number(2)):
            if version:
                number(sizes[3])
            first, length = origin + number(sizes[0]), number(sizes[1])
            parts.append(data[first : first + length] if length else data[first:])
            size += len(parts[-1])
            if size > 2 * len(data):
                raise _Costly("its items overlap")
        yield item, b"".join(parts)


def _frames(payload: bytes) -> tuple[int, int]:
    """Frames of an AV1 stream, shown or not, and their largest size in pixels."""
    position = frames = pixels = 0
    for _ in range(_AVIF_UNITS):
        if position >= len(payload):
            return frames, pixels
        header, position = payload[position], position + 1 + (payload[position] >> 2 & 1)
        size = len(payload) - position
        if header & 2:
            size = 0
            for step in range(8):
                size |= (payload[position] & 127) << (7 * step)
                position += 1
                if payload[position - 1] < 128:
                    break
        kind = header >> 3 & 15
        if kind == 1:
            pixels = max(pixels, _sequence_pixels(payload[position : position + 256]))
        frames += kind in (3, 6)
        position += size
    raise _Costly(f"a frame has more than {_AVIF_UNITS} parts")


def _sequence_pixels(header: bytes) -> int:
    """Largest frame of an AV1 sequence, by section 5.5 of its specification."""
    bits, left = int.from_bytes(header, "big"), 8 * len(header)

    def take(count: int) -> int:
        nonlocal left
        left -= count
        if left < 0:
            raise _Damaged("its AV1 header is cut off")
        return bits >> left & ((1 << count) - 1)

    take(4)  # profile, still_picture
    if take(1):  # reduced_still_picture_header
        take(5)
    else:
        delay = None
        if take(1):  # timing_info
            take(64)
            if take(1):  # equal_picture_interval, and how long in universal variable length code
                zeros = 0
                while not take(1):
                    zeros += 1
                take(zeros if zeros < 32 else 0)
            if take(1):  # decoder_model_info
                delay = take(5) + 1
                take(42)
        display_delays = take(1)
        for _ in range(take(5) + 1):
            take(12)
            if take(5) > 7:
                take(1)
            if delay is not None and take(1):
                take(2 * delay + 1)
            if display_delays and take(1):
                take(4)
    wide, high = take(4) + 1, take(4) + 1
    return (take(wide) + 1) * (take(high) + 1)


# HEIF

_PICTURES = {b"hvc1", b"av01", b"grid", b"iden", b"iovl"}


def _check_heif(data: Data, name: str, max_pixels: int) -> None:
    top = _distinct(data, 0, len(data))
    if b"meta" not in top:
        return  # no picture but the frames of a sequence
    found = _distinct(data, top[b"meta"][0] + 4, top[b"meta"][1])
    if not {b"iinf", b"iloc", b"iprp"} <= found.keys():
        raise _Damaged("it has no items")
    kinds = _item_kinds(data, *found[b"iinf"])
    contents = dict(_items(data, found[b"iloc"][0], found.get(b"idat", (0, 0))[0]))
    references = list(_references(data, *found[b"iref"])) if b"iref" in found else []
    sizes, weights = _item_properties(data, *found[b"iprp"])
    if b"pitm" in found:
        body, after = found[b"pitm"]
        check_size(name, *sizes.get(int.from_bytes(data[body + 4 : after], "big"), (0, 0)), max_pixels)
    parts: dict[int, list[int]] = {}
    inner: set[int] = set()
    described = 0
    for kind, source, targets in references:
        if kind == b"dimg":
            parts.setdefault(source, []).extend(targets)
            inner.update(targets)
        elif kind == b"auxl":
            for target in targets:
                parts.setdefault(target, []).append(source)
        elif kind == b"cdsc":
            described += len(contents.get(source, b"")) * len(targets)
    # both are read for every picture when the file is opened
    described += sum(weights.get(item, 0) for item, kind in kinds.items() if kind in _PICTURES and item not in inner)
    if described > 2 * len(data) + 1_000_000:
        raise _Costly("its pictures share what describes them")
    costs: dict[int, int] = {}

    def cost(item: int, depth: int = 0) -> int:
        """Pixels that are decoded for a picture: any of them may be the one that is shown."""
        if item not in costs:
            if depth > _HEIF_DEPTH:
                raise _Costly("its pictures are made of one another")
            width, height = sizes.get(item, (0, 0))
            if kinds.get(item) == b"grid" and _grid_size(contents.get(item, b"")) != (width, height):
                raise _Damaged("a grid is not of the size that it says")
            # smaller ones are decoded regardless of the stated size
            costs[item] = max(width * height, 65_536) + sum(cost(part, depth + 1) for part in parts.get(item, ()))
        return costs[item]

    if any(cost(item) > _HEIF_PASSES * max(max_pixels, 1_000_000) for item in kinds):
        raise _Costly(f"its parts have more than {_HEIF_PASSES} x {max_pixels:,} pixels in all")


def _distinct(data: Data, start: int, end: int) -> dict[bytes, tuple[int, int]]:
    """Start and end of the boxes in a part of a file, of which there is one of a kind where it matters."""
    found: dict[bytes, tuple[int, int]] = {}
    for kind, body, after in _boxes(data, start, end):
        if kind in found and kind in (b"meta", b"iloc", b"iinf", b"iref", b"iprp", b"idat", b"pitm", b"ipco"):
            raise _Damaged(f"box {kind!r} is there twice")
        found[kind] = body, after
    return found


def _references(data: Data, start: int, end: int) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    """Kind, item and the items that it refers to."""
    number, size, count = ("H", 2, 0) if data[start] == 0 else ("I", 4, 0)
    for kind, body, _ in _boxes(data, start + 4, end):
        source, targets = struct.unpack_from(f">{number}H", data, body)
        count += targets
        if count > _HEIF_REFERENCES:
            raise _Costly(f"it has more than {_HEIF_REFERENCES} references")
        yield kind, source, struct.unpack_from(f">{targets}{number}", data, body + size + 2)


def _item_properties(data: Data, start: int, end: int) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
    """Width and height of items, and how many bytes their properties have."""
    (first, last) = _distinct(data, start, end).get(b"ipco", (0, 0))
    properties = list(_boxes(data, first, last))
    sizes: dict[int, tuple[int, int]] = {}
    weights: dict[int, int] = {}
    for kind, body, _ in _boxes(data, start, end):
        if kind != b"ipma":
            continue
        wide = data[body + 3] & 1
        (count,) = struct.unpack_from(">I", data, body + 4)
        position = body + 8
        if count > _AVIF_ITEMS:
            raise _Costly(f"it has properties of {count} items")
        for _ in range(count):
            item, number = struct.unpack_from(">IB" if data[body] else ">HB", data, position)
            position += 5 if data[body] else 3
            indices = struct.unpack_from(f">{number}{'H' if wide else 'B'}", data, position)
            position += number * (1 + wide)
            for index in indices:
                index &= 0x7FFF if wide else 0x7F
                if not 0 < index <= len(properties):
                    continue
                what, inside, after = properties[index - 1]
                weights[item] = weights.get(item, 0) + after - inside
                if what == b"ispe":
                    size = struct.unpack_from(">II", data, inside + 4)
                    sizes[item] = max(sizes.get(item, size), size, key=lambda size: size[0] * size[1])
    return sizes, weights


def _grid_size(content: bytes) -> tuple[int, int]:
    return struct.unpack_from(">II" if content[1] & 1 else ">HH", content, 4)


_CHECKS = {
    rb"\xff\xd8\xff": _check_jpeg,
    rb"\x89PNG\r\n\x1a\n": _check_png,
    rb"GIF8[79]a": _check_gif,
    rb"II\*\0|MM\0\*|II\0\*|MM\*\0|II\+\0|MM\0\+": _check_tiff,
    rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ": _check_jpeg2000,
    rb".{4}ftyp(?:avi[fs]|m[is]f1)": _check_avif,
    rb".{4}ftyp(?:he[iv][cxms]|m[is]f1)": _check_heif,
    rb"P[0-6fy]": _check_pnm,
}
