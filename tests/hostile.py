"""Small files that make much work or reach for other files, made as an attacker would."""

import lzma
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
from PIL import Image

from .pictures import encode

# pictures

EMPTY_SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00"
"""A scan of a progressive JPEG without data: a pass over a component of the picture for 10 bytes."""


def grey(side: int) -> Image.Image:
    return Image.new("RGB", (side, side), "grey")


def scans(side: int, count: int) -> bytes:
    """A progressive JPEG of so many scans more than usual."""
    plain = encode(grey(side), "JPEG", progressive=True)
    return plain[:-2] + EMPTY_SCAN * count + plain[-2:]


def sequential_scans(side: int, count: int) -> bytes:
    """A JPEG that is not progressive and has the scan of a component many times, without data."""
    plain = encode(grey(side), "JPEG")
    start = plain.index(b"\xff\xda")
    one, two, three = (
        segment(0xDA, bytes([1, plain[start + at], plain[start + at + 1], 0, 63, 0])) for at in (5, 7, 9)
    )
    return plain[:start] + one * count + two + three + b"\xff\xd9"


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_with(*segments: bytes) -> bytes:
    plain = encode(grey(8), "JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


def exif_segments(block: bytes) -> bytes:
    return b"".join(segment(0xE1, b"Exif\0\0" + block[i : i + 65_000]) for i in range(0, len(block), 65_000))


def overlapping_tags(count: int = 60_000, each: int = 100_000, at: int = 8) -> bytes:
    """EXIF whose tags all have the same bytes as their values: 720 kB that become 6 GB."""
    entries = b"".join(struct.pack(">HHII", tag, 7, each, at) for tag in range(1, count + 1))
    return b"MM\0*" + struct.pack(">IH", 8, count) + entries + bytes(4 + each)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes) -> bytes:
    plain = encode(grey(8), "PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def inflating(kind: bytes, broken: bool = False) -> bytes:
    """A text or profile of a kilobyte that inflates to a megabyte; Pillow does not count one that is broken there."""
    packer = zlib.compressobj(9)
    data = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    return chunk(kind, b"a\0\0" + data + (b"\x07" if broken else packer.flush()))


def animated_png(side: int) -> bytes:
    """An animation whose first frame is to be cleared: memory for it is taken when the file is opened."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, side, side, 0, 0, 1, 1, 1, 0))
    rest = chunk(b"acTL", struct.pack(">II", 2, 0)) + control + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + rest


def gif_with(extension: bytes) -> bytes:
    plain = encode(Image.new("P", (8, 8)), "GIF")
    start = plain.index(b",")
    return plain[:start] + extension + plain[start:]


def run_lengths(side: int) -> bytes:
    """A BMP in run lengths of which every row has a single pixel."""
    data = b"\1\1\0\0" * side
    start = 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + bytes(1024) + data


BYTE, SHORT, LONG = 1, 3, 4
_FORMS = {BYTE: "B", SHORT: "H", LONG: "I"}


def tiff(tags: dict[int, tuple[int, list[int]]], data: bytes = b"", more: bytes = b"") -> bytes:
    """A TIFF of tags (type, values) and data, which begins at byte 8; ``more`` are further entries."""
    start = 8 + len(data) + len(data) % 2
    count = len(tags) + len(more) // 12
    entries, values = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        raw = struct.pack(f"<{len(numbers)}{_FORMS[kind]}", *numbers)
        entries += struct.pack("<HHI", tag, kind, len(numbers))
        if len(raw) <= 4:
            entries += raw.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", start + 2 + 12 * count + 4 + len(values))
            values += raw + bytes(len(raw) % 2)
    directory = struct.pack("<H", count) + entries + more + bytes(4) + values
    return b"II*\0" + struct.pack("<I", start) + data.ljust(start - 8, b"\0") + directory


def layout(width: int, height: int, compression: int = 1, photometric: int = 2) -> dict[int, tuple[int, list[int]]]:
    """Tags of an RGB picture."""
    tags = {256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [8] * 3), 259: (SHORT, [compression])}
    return tags | {262: (SHORT, [photometric]), 277: (SHORT, [3])}


def strips(rows: int, offsets: list[int], lengths: list[int], kind: int = LONG) -> dict[int, tuple[int, list[int]]]:
    return {278: (LONG, [rows]), 273: (kind, offsets), 279: (LONG, lengths)}


def tiles(side: int, offsets: list[int], lengths: list[int]) -> dict[int, tuple[int, list[int]]]:
    return {322: (LONG, [side]), 323: (LONG, [side]), 324: (LONG, offsets), 325: (LONG, lengths)}


def large_tile(twice: bool = False, side: int = 20_000) -> bytes:
    """A picture of 64x64 in a tile of 1.2 GB; if ``twice``, beside entries that say 64, which Pillow would go by."""
    packer = zlib.compressobj()
    head = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    data = head + again * (3 * side * side >> 20) + packer.flush()
    small = struct.pack("<HHII", 322, LONG, 1, 64) + struct.pack("<HHII", 323, LONG, 1, 64)
    return tiff(layout(64, 64, 8) | tiles(side, [8], [len(data)]), data, small if twice else b"")


def shared_strips(count: int = 10_000) -> bytes:
    """Strips that are all the same megabyte of empty blocks, and a row at its end."""
    row = bytes(64 * 3)
    data = b"\x78\x9c" + b"\0\0\0\xff\xff" * 200_000 + zlib.compress(row)[2:]
    return tiff(layout(64, count, 8) | strips(1, [8] * count, [len(data)] * count), data)


def shared_tiles(data: bytes, compression: int, photometric: int = 2, side: int = 6_320, each: int = 16) -> bytes:
    """Many small tiles that are all the same bytes."""
    count = (side // each) ** 2
    return tiff(layout(side, side, compression, photometric) | tiles(each, [8] * count, [len(data)] * count), data)


def raw_strips(side: int, rows: int, count: int) -> bytes:
    """More strips than the picture has, all the same, a byte each."""
    data = bytes(side * rows * 3)
    return tiff(layout(side, side) | strips(rows, [8] * count, [len(data)], BYTE), data)


def tiff_tags() -> bytes:
    """A TIFF with tags that have all the same megabyte as their value."""
    more = b"".join(struct.pack("<HHII", tag, 7, 1_000_000, 8) for tag in range(40_000, 60_000))
    return tiff(layout(8, 8) | strips(8, [8], [192]), bytes(1_000_000), more)


def jpeg2000(
    side: int,
    layers: int | None = None,
    precincts: int | None = None,
    blocks: int | None = None,
    larger: int | None = None,
) -> bytes:
    """A codestream that says another number of layers, size of precincts or code blocks (powers of two), or side."""
    data = encode(grey(side), "JPEG2000", no_jp2=True)
    start = data.index(b"\xff\x52")
    (length,) = struct.unpack_from(">H", data, start + 2)
    style = bytearray(data[start + 4 : start + 2 + length])
    if layers is not None:
        style[2:4] = struct.pack(">H", layers)
    if blocks is not None:
        style[6] = style[7] = blocks - 2
    if precincts is not None:
        style[0] |= 1
        style += bytes([precincts * 0x11]) * (style[5] + 1)
    if larger is not None:
        data = (
            data[:8] + struct.pack(">II", larger, larger) + data[16:24] + struct.pack(">II", larger, larger) + data[32:]
        )
    return data[:start] + segment(0x52, bytes(style)) + data[start + 2 + length :]


def box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I4s", len(content) + 8, kind) + content


def full_box(kind: bytes, version: int, *contents: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24), *contents)


def av1_units(payload: bytes) -> list[bytes]:
    units, position = [], 0
    while position < len(payload):
        size, after = 0, position + 1
        for step in range(8):
            size |= (payload[after] & 127) << (7 * step)
            after += 1
            if payload[after - 1] < 128:
                break
        units.append(payload[position : after + size])
        position = after + size
    return units


def layers(side: int, count: int) -> bytes:
    """An AVIF of many frames, none of which is of the layer that is to be shown: all of them are decoded."""
    plain = encode(grey(side), "AVIF", speed=10)
    *head, frame = av1_units(plain[plain.index(b"mdat") + 4 :])
    payload = b"".join(head) + frame * count
    properties = [
        full_box(b"ispe", 0, struct.pack(">II", side, side)),
        full_box(b"pixi", 0, b"\3\x08\x08\x08"),
        box(b"av1C", b"\x81\x08\x0c\0"),
        box(b"lsel", struct.pack(">H", 1)),
    ]
    associated = full_box(b"ipma", 0, struct.pack(">IHB", 1, 1, 4), b"\1\2\x83\x84")
    entry = full_box(b"infe", 2, struct.pack(">HH4s", 1, 0, b"av01"), b"\0")
    kind = box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf")

    def meta(start: int) -> bytes:
        place = struct.pack(">HHHHII", 1, 1, 0, 1, start, len(payload))
        return full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, b"\0\1"),
            full_box(b"iloc", 0, b"\x44\0", place),
            full_box(b"iinf", 0, b"\0\1", entry),
            box(b"iprp", box(b"ipco", *properties), associated),
        )

    return kind + meta(len(kind) + len(meta(0)) + 8) + box(b"mdat", payload)


def _jpeg_of_scans() -> bytes:
    return scans(16, 80)


Item = tuple[bytes, bytes, list[bytes]]
"""Kind, content and properties of an item of a HEIF file."""


@lru_cache
def heif_tile(side: int) -> Item:
    """A grey picture as an item: a kilobyte, whatever its size."""
    data = encode(grey(side), "HEIF", quality=10)
    start = data.index(b"hvcC") - 4
    (length,) = struct.unpack_from(">I", data, start)
    payload = data[data.rindex(b"mdat") + 4 :]
    return b"hvc1", payload, [data[start : start + length], heif_size(side, side)]


def heif_size(width: int, height: int) -> bytes:
    return full_box(b"ispe", 0, struct.pack(">II", width, height))


def heif_grid(rows: int, columns: int, side: int, size: bytes | None = None) -> Item:
    """A picture of others, which may say that it is of another size than it is."""
    return b"grid", struct.pack(">4B2H", 0, 0, rows - 1, columns - 1, side, side), [size or heif_size(side, side)]


def heif(items: list[Item], references: list[tuple[bytes, int, list[int]]], primary: int) -> bytes:
    """A HEIF file of items, numbered from 1, and references: kind, item, and the items that it refers to."""
    properties = list(dict.fromkeys(own for _, _, each in items for own in each))
    kinds, associated = [], []
    for number, (kind, _, own) in enumerate(items, start=1):
        kinds.append(full_box(b"infe", 2, struct.pack(">HH4s", number, 0, kind), b"\0"))
        indices = [properties.index(each) + 1 for each in own]
        associated.append(struct.pack(">HB", number, len(indices)) + bytes(indices))
    referring = [
        box(kind, struct.pack(f">HH{len(targets)}H", source, len(targets), *targets))
        for kind, source, targets in references
    ]

    def meta(start: int) -> bytes:
        places = []
        for number, (_, content, _) in enumerate(items, start=1):
            places.append(struct.pack(">HHHII", number, 0, 1, start, len(content)))
            start += len(content)
        return full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, struct.pack(">H", primary)),
            full_box(b"iloc", 0, b"\x44\0", struct.pack(">H", len(items)), *places),
            full_box(b"iinf", 0, struct.pack(">H", len(items)), *kinds),
            full_box(b"iref", 0, *referring),
            box(
                b"iprp",
                box(b"ipco", *properties),
                full_box(b"ipma", 0, struct.pack(">I", len(items)), *associated),
            ),
        )

    brands = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    start = len(brands) + len(meta(0)) + 8
    return brands + meta(start) + box(b"mdat", *[content for _, content, _ in items])


def heif_of_one_tile(rows: int, side: int, of: int = 1_500) -> bytes:
    """A picture of the same tile again and again, of which it may show a corner."""
    return heif([heif_tile(of), heif_grid(rows, rows, side)], [(b"dimg", 2, [1] * rows**2)], 2)


def heif_of_grids(depth: int) -> bytes:
    """A picture of a picture twice, which is of a picture twice, and so on."""
    items = [heif_tile(1_500), *[heif_grid(1, 2, 1_500)] * depth]
    return heif(items, [(b"dimg", number + 1, [number] * 2) for number in range(1, depth + 1)], depth + 1)


def heif_of_descriptions(kind: bytes, content: bytes, count: int) -> bytes:
    """Small pictures that all have the same EXIF or XMP, which is read for each of them."""
    described = list(range(1, count + 1))
    return heif([heif_tile(64)] * count + [(kind, content, [])], [(b"cdsc", count + 1, described)], 1)


def heif_of_profiles(count: int) -> bytes:
    kind, payload, properties = heif_tile(64)
    return heif([(kind, payload, [*properties, box(b"colr", b"prof", bytes(1_500_000))])] * count, [], 1)


def heif_of_itself() -> bytes:
    return heif([heif_tile(64), heif_grid(1, 1, 64)], [(b"dimg", 2, [2])], 2)


def heif_that_is_larger() -> bytes:
    """A picture of 2 megapixels that says it has a thousand pixels."""
    kind, payload, (codec, _) = heif_tile(1_500)
    return heif([(kind, payload, [codec, heif_size(32, 32)])], [], 1)


BOMBS: dict[str, Callable[[], bytes]] = {
    "JPEG of 1,000 scans": lambda: scans(2_000, 1_000),
    "JPEG of 1,000 scans that is not progressive": lambda: sequential_scans(1_000, 1_000),
    "JPEG whose EXIF overlaps": lambda: jpeg_with(exif_segments(overlapping_tags())),
    "JPEG of much EXIF in small pieces": lambda: jpeg_with(
        exif_segments(bytes(650_000)), *[segment(0xE1, b"Exif\0\0a")] * 9_000
    ),
    "JPEG whose index of pictures overlaps": lambda: jpeg_with(
        segment(0xE2, b"MPF\0" + overlapping_tags(4_000, 17_000))
    ),
    "JPEG of many segments": lambda: jpeg_with(b"\xff\xfe\0\2" * 250_000),
    "JPEG with something between its segments": lambda: jpeg_with(segment(0xFE, b""), b"a" * 2_000_000),
    "PNG of many profiles": lambda: png_with(inflating(b"iCCP") * 900),
    "PNG of many broken texts": lambda: png_with(inflating(b"zTXt", broken=True) * 900),
    "PNG of many chunks": lambda: png_with(chunk(b"abCd", b"") * 80_000),
    "PNG of many empty chunks of data": lambda: png_with(chunk(b"IDAT", b"") * 80_000),
    "PNG that is cleared when it is opened": lambda: animated_png(30_000),
    "GIF with a long comment": lambda: gif_with(b"!\xfe" + b"\1a" * 500_000 + b"\0"),
    "GIF with many comments": lambda: gif_with(
        b"!\xfe" + (b"\xff" + b"a" * 255) * 2_000 + b"\0" + b"!\xfe\1a\0" * 100_000
    ),
    "BMP in run lengths": lambda: run_lengths(6_000),
    "PPM in words": lambda: b"P3 2000 2000 255\n" + b"0 " * 500_000,
    "PPM with a range of its own": lambda: b"P6 2000 2000 254\n" + bytes(1_000_000),
    "PGM with a long comment": lambda: b"P5 #" + b"a" * 1_000_000 + b"\n8 8 255\n" + bytes(64),
    "TIFF with a large tile": large_tile,
    "TIFF with a large tile beside a small one": lambda: large_tile(twice=True),
    "TIFF of strips that overlap": shared_strips,
    "TIFF of small tiles in LZMA": lambda: shared_tiles(lzma.compress(bytes(16 * 16 * 3), preset=9), 34925),
    "TIFF of small tiles of many scans": lambda: shared_tiles(_jpeg_of_scans(), 7, 6),
    "TIFF of too many strips": lambda: raw_strips(64, 1, 1_000_000),
    "TIFF of strips again and again": lambda: raw_strips(1_000, 500, 2_000),
    "TIFF whose tags overlap": tiff_tags,
    "JPEG 2000 of small precincts": lambda: jpeg2000(2_000, layers=1_000, precincts=1),
    "JPEG 2000 of many layers": lambda: jpeg2000(2_000, layers=65_535, precincts=8),
    "JPEG 2000 of small code blocks": lambda: jpeg2000(500, blocks=2, larger=6_000),
    "JPEG 2000 of one color": lambda: encode(Image.new("RGB", (6_300, 6_300)), "JPEG2000"),
    "JPEG 2000 of one color in transparency": lambda: encode(Image.new("RGBA", (4_200, 4_200)), "JPEG2000"),
    "JPEG 2000 of one color in tiles": lambda: encode(
        Image.new("RGB", (6_300, 6_300)), "JPEG2000", tile_size=(900, 900)
    ),
    "PGM in words of half a megapixel": lambda: b"P2 900 700 255\n" + b"0 " * 630_000,
    "PPM with a range of its own of half a megapixel": lambda: b"P6 900 700 254\n" + bytes(1_890_000),
    "BMP in run lengths of a megapixel": lambda: run_lengths(1_000),
    "PGM of comments": lambda: b"P2 8 8 255\n" + b"#\n" * 1_000_000 + b"1 " * 64,
    "PBM of comments": lambda: b"P1 8 8\n" + b"#\n" * 1_000_000 + b"1 " * 64,
    "AVIF of many frames": lambda: layers(3_000, 200),
    "HEIC of one tile many times": lambda: heif_of_one_tile(64, 100),
    "HEIC of grids of grids": lambda: heif_of_grids(8),
    "HEIC with a large grid that says it is small": lambda: heif(
        [heif_tile(1_500), heif_grid(20, 20, 30_000, heif_size(100, 100))], [(b"dimg", 2, [1] * 400)], 2
    ),
    "HEIC that says it is smaller": heif_that_is_larger,
    "HEIC whose pictures share their EXIF": lambda: heif_of_descriptions(b"Exif", bytes(1_900_000), 900),
    "HEIC whose pictures share their profile": lambda: heif_of_profiles(900),
}
"""Pictures of at most 2 MB that would take seconds or gigabytes."""


# films


def write_color(
    path: Path, color: str, format: str = "mp4", codec: str = "libx264", frames: int = 10, **options: str
) -> Path:
    """A film of one color, 10 frames a second."""
    with av.open(str(path), "w", format=format) as film:
        stream = film.add_stream(codec, rate=10, options=options)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for _ in range(frames):
            film.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 48), color))))
        film.mux(stream.encode())
    return path


def write_still(path: Path, side: int, frames: int, together: bool = False) -> Path:
    """A film of one picture that stands still, so many times, 1/90000 of a second apart, or all in one packet."""
    clock = Fraction(1, 90_000)
    with av.open(str(path), "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=25, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = clock
        packets = []
        for number in range(2):
            frame = av.VideoFrame.from_image(grey(side))
            frame.pts, frame.time_base = number, clock
            packets += stream.encode(frame)
        first, again = (bytes(packet) for packet in [*packets, *stream.encode()][:2])
        for number, data in enumerate([first, again * (frames - 1)] if together else [first] + [again] * (frames - 1)):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, clock, not number
            packet.pts = packet.dts = number
            film.mux(packet)
    return path


def replace_box(data: bytes, path: list[bytes], new: bytes) -> bytes:
    """An MP4 in which one box has become another; those around it have their right size."""
    position = 0
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        if kind == path[0]:
            inner = data[position + 8 : position + size]
            replaced = new if len(path) == 1 else box(kind, replace_box(inner, path[1:], new))
            return data[:position] + replaced + data[position + size :]
        position += size
    raise KeyError(path)


TABLES = [b"moov", b"trak", b"mdia", b"minf", b"stbl"]


def without_media(data: bytes) -> bytes:
    """An MP4 whose frames have been overwritten with zeros."""
    start = data.index(b"mdat")
    (size,) = struct.unpack_from(">I", data, start - 4)
    return data[: start + 4] + bytes(size - 8) + data[start - 4 + size :]


def external(film: Path) -> bytes:
    """An MP4 whose frames lie in another file, as an alias of old Mac OS."""
    name, path = film.name.encode(), str(film).encode().replace(b"/", b":")
    path += bytes(len(path) % 2)
    alias = bytes(10) + b"\1v" + bytes(26) + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16)
    alias += struct.pack(">hh", 1, 1) + bytes(16) + struct.pack(">HH", 2, len(path)) + path + struct.pack(">hH", -1, 0)
    reference = full_box(b"dref", 0, struct.pack(">I", 1), full_box(b"alis", 0, alias.ljust(160, b"\0")))
    return without_media(replace_box(film.read_bytes(), [*TABLES[:-1], b"dinf", b"dref"], reference))


def many_samples(film: Path, count: int) -> bytes:
    """An MP4 of 2 kB that says that it has so many frames of a byte each."""
    data = film.read_bytes()
    for kind, numbers in {b"stsz": (1, count), b"stts": (1, count, 1), b"stsc": (1, 1, count, 1)}.items():
        data = replace_box(data, [*TABLES, kind], full_box(kind, 0, struct.pack(f">{len(numbers)}I", *numbers)))
    return data


def same_time(film: Path) -> bytes:
    """An MP4 whose frames are all shown at the same time; of one without frames in another order."""
    data = film.read_bytes()
    start = data.index(b"stts")
    (frames,) = struct.unpack_from(">I", data, start + 12)
    return replace_box(data, [*TABLES, b"stts"], full_box(b"stts", 0, struct.pack(">III", 1, frames, 0)))


def backwards(film: Path) -> bytes:
    """An MP4 whose frames are shown in reverse order; of one without frames in another order."""
    data = film.read_bytes()
    start = data.index(b"stts")
    frames, ticks = struct.unpack_from(">II", data, start + 12)
    moves = b"".join(struct.pack(">Ii", 1, -2 * ticks * number) for number in range(frames))
    offsets = full_box(b"ctts", 1, struct.pack(">I", frames), moves)
    table = full_box(b"stts", 0, struct.pack(">III", 1, frames, ticks))
    return replace_box(data, [*TABLES, b"stts"], table + offsets)


def _hls(*names: str) -> bytes:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", *(f"#EXTINF:1,\n{name}" for name in names), "#EXT-X-ENDLIST", ""]
    return "\n".join(lines).encode()


def _concat(*names: str) -> bytes:
    return "\n".join(["ffconcat version 1.0", *(f"file '{name}'" for name in names)]).encode()


def _dash(name: str) -> bytes:
    return f"""<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S">
<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000"><BaseURL>{name}</BaseURL>
<SegmentBase/></Representation></AdaptationSet></Period></MPD>""".encode()


_SESSION = b"""v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 9 RTP/AVP 96\r\n
a=rtpmap:96 H264/90000\r\n"""

REACHING: dict[str, Callable[[Path, Path], bytes]] = {
    "segments.m3u8": lambda film, stream: _hls(stream.name),
    "absolute.m3u8": lambda film, stream: _hls(str(stream)),
    "address.m3u8": lambda film, stream: _hls(f"file://{stream}"),
    "joined.m3u8": lambda film, stream: _hls(f"concat:{stream}|{stream}"),
    "renamed.mp4": lambda film, stream: _hls(stream.name),
    "renamed.mjpeg": lambda film, stream: _hls(stream.name),
    "list.ffconcat": lambda film, stream: _concat(film.name),
    "list.mkv": lambda film, stream: _concat(film.name),
    "manifest.mpd": lambda film, stream: _dash(film.name),
    "manifest.mp4": lambda film, stream: _dash(film.name),
    "session.sdp": lambda film, stream: _SESSION,
    "session.mov": lambda film, stream: _SESSION,
    "external.mov": lambda film, stream: external(film),
}
"""Files that name another film, which lies beside them, or as a stream."""
