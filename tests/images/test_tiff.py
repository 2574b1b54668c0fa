"""A TIFF is read as it is meant, whatever its layout, or refused; of several pages the photo counts."""

import csv
import io
import json
import struct
from itertools import product

import numpy as np
import pytest
import tifffile
from PIL import Image

from ssrnet_hub import cli
from ssrnet_hub.batch.local import Task, predict_files
from ssrnet_hub.errors import PhotoError, PhotoTooLargeError
from ssrnet_hub.images.alignment import iou
from ssrnet_hub.images.loading import load_photo

BOX = (180, 61, 269, 175)

HEIGHT, WIDTH = 70, 100
Y, X = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([X * 255 / (WIDTH - 1), Y * 255 / (HEIGHT - 1), (X // 20 + Y // 20) % 2 * 200 + 20], -1).round()
GREY = (RGB @ (0.299, 0.587, 0.114)).round()
ALPHA = np.full((HEIGHT, WIDTH, 1), 255.0)
ALPHA[30:40], ALPHA[50:60] = 128, 0


def tiff(pixels, planarconfig="contig", **options):
    file = io.BytesIO()
    if planarconfig == "separate":
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    tifffile.imwrite(file, pixels, planarconfig=planarconfig, **options)
    return file.getvalue()


def directory(tags, order="<"):
    return struct.pack(f"{order}H", len(tags)) + b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items())
    )


def plain_tiff(tags, data, order="<"):
    """An uncompressed file of one channel, by its tags."""
    tags = {259: 1, 273: 8, 277: 1, 278: tags[257], 279: len(data), **tags}
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(data))
    return start + data + directory(tags, order) + bytes(4)


def stored(values, dtype, negative=False):
    """Values of 0 to 255 as numbers of this type, of which the largest, or 1, is white, or black."""
    dtype = np.dtype(dtype)
    shares = 1 - values / 255 if negative else values / 255
    return shares.astype(dtype) if dtype.kind == "f" else (shares * np.iinfo(dtype).max).round().astype(dtype)


def layouts(order, dtype, compression, tile):
    """A file of each kind of pixels, and what it should look like."""
    options = {"byteorder": order, "compression": compression, "tile": tile}
    if compression and np.dtype(dtype).kind != "f":
        options["predictor"] = True
    yield "grey", tiff(stored(GREY, dtype), photometric="minisblack", **options), GREY
    yield "white is zero", tiff(stored(GREY, dtype, negative=True), photometric="miniswhite", **options), GREY
    ink = np.dstack([255 - RGB, 0 * GREY])
    red, blue = (RGB[..., 0] - GREY) / 1.402 + 128, (RGB[..., 2] - GREY) / 1.772 + 128
    luma = np.dstack([GREY, blue, red]).clip(0, 255)
    for planar in ("contig", "separate"):
        own = {"planarconfig": planar, **options}
        yield f"RGB {planar}", tiff(stored(RGB, dtype), photometric="rgb", **own), RGB
        yield f"CMYK {planar}", tiff(stored(ink, dtype), photometric="separated", **own), RGB
        yield f"YCbCr {planar}", tiff(stored(luma, dtype), photometric="ycbcr", subsampling=(1, 1), **own), RGB
        for kind, photometric, values in (("grey", "minisblack", GREY[..., None]), ("RGB", "rgb", RGB)):
            for alpha in ("unassalpha", "assocalpha", "unspecified"):
                pixels = np.dstack([values * ALPHA / 255 if alpha == "assocalpha" else values, ALPHA])
                seen = values if alpha == "unspecified" else values * ALPHA / 255 + 255 - ALPHA
                data = tiff(stored(pixels, dtype), photometric=photometric, extrasamples=[alpha], **own)
                yield f"{kind} {alpha} {planar}", data, seen


def is_read(kind, order, dtype, compression):
    """Whether a layout is one that has to be read; others may be refused."""
    if dtype not in ("u1", "u2"):
        return False
    if kind == "white is zero":
        return (order, dtype) != (">", "u2")
    if kind in ("grey", "RGB contig", "RGB separate", "CMYK contig", "RGB unassalpha separate"):
        return True
    return kind in ("RGB unassalpha contig", "RGB assocalpha contig", "RGB unspecified contig")


def assert_right_or_refused(data, expected, must_be_read, tolerance=2.0):
    try:
        seen = np.asarray(load_photo(data), float)
    except PhotoError:
        assert not must_be_read
        return
    expected = expected.reshape(HEIGHT, WIDTH, -1)
    assert np.abs(seen - expected).max() <= tolerance


@pytest.mark.parametrize("tile", [None, (32, 48)], ids=["strips", "tiles"])
@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("order, dtype", [*product("<>", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])])
def test_every_layout_is_read_right_or_refused(order, dtype, compression, tile):
    # without a share of 1 to go by, 32 bits are scaled by the range that they are in
    tolerance = 5 if dtype in ("i4", "u4") else 2
    for kind, data, expected in layouts(order, dtype, compression, tile):
        assert_right_or_refused(data, expected, is_read(kind, order, dtype, compression), tolerance)


@pytest.mark.parametrize("order, depth", [*product("<>", [1, 2, 4, 6, 10, 12, 14])])
def test_other_depths(order, depth):
    white = 2**depth - 1
    levels = (GREY / 255 * white).round()
    for photometric, values in ((1, levels), (0, white - levels)):
        shown = values.astype(int)[..., None] >> np.arange(depth)[::-1] & 1
        rows = np.packbits(shown.reshape(HEIGHT, -1).astype(bool), axis=1)
        file = plain_tiff({256: WIDTH, 257: HEIGHT, 258: depth, 262: photometric}, rows.tobytes(), order)
        must_be_read = depth <= 4 or (depth, order, photometric) == (12, "<", 1)
        assert_right_or_refused(file, levels / white * 255, must_be_read)


@pytest.mark.parametrize("order, dtype", [*product("<>", ["u1", "u2"])])
def test_other_files(order, dtype):
    colours = np.zeros((3, 2 ** (8 * np.dtype(dtype).itemsize)), np.uint16)
    colours[:, :256] = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2]) * 257
    file = tiff(GREY.astype(dtype), photometric="palette", colormap=colours, byteorder=order)
    assert_right_or_refused(file, colours.T[GREY.astype(int)] / 257, dtype == "u1")
    for planar in ("contig", "separate"):
        file = tiff(stored(RGB, dtype), planar, photometric="rgb", bigtiff=True, byteorder=order)
        assert_right_or_refused(file, RGB, order == "<")


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("order, dtype", [*product("<>", ["u1", "u2", "f4"])])
def test_a_single_channel_that_is_stored_by_itself(order, dtype, photometric):
    pixels = stored(GREY, dtype, negative=photometric == "miniswhite")
    file = tiff(pixels, photometric=photometric, byteorder=order, extratags=[(65001, "H", 1, 2, True)])
    mine, planar = (struct.pack(f"{order}HH", code, 3) for code in (65001, 284))
    assert file.count(mine) == 1
    assert_right_or_refused(file.replace(mine, planar), GREY, (dtype, photometric) == ("u1", "minisblack"))


def test_an_open_file_of_the_caller():
    planes = tiff(stored(RGB, "u2"), "separate", photometric="rgb")
    negative = tiff(stored(GREY, "u2", negative=True), photometric="miniswhite")
    for data, expected in ((planes, RGB), (negative, GREY[..., None])):
        with Image.open(io.BytesIO(data)) as image:
            assert np.abs(np.asarray(load_photo(image), float) - expected).max() <= 2
    with Image.open(io.BytesIO(planes)) as image:
        image.load()
        # Pillow has read it wrongly already
        with pytest.raises(PhotoError, match="not supported"):
            load_photo(image)


def test_negative_numbers_are_refused():
    for dtype in ("i1", "i2", "i4"):
        with pytest.raises(PhotoError, match="a plain TIFF"):
            load_photo(tiff((GREY - 128).astype(dtype), photometric="minisblack"))


def test_a_kind_that_is_not_known_is_not_called_no_tiff(tmp_path):
    path = tmp_path / "scan.tif"
    path.write_bytes(tiff(stored(RGB, "f4"), photometric="rgb"))
    for photo, name in ((path, str(path)), (path.read_bytes(), "The picture")):
        with pytest.raises(PhotoError, match="is a TIFF that is damaged or of a kind that is not supported") as e:
            load_photo(photo)
        assert str(e.value).startswith(name)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_age_of_an_astronaut_in_16_bits(order, estimator, astronaut):
    pixels = stored(np.asarray(astronaut, float), "u2")
    grey = stored(np.asarray(astronaut.convert("L"), float), "u2")
    expected = estimator(astronaut.convert("L"))[0].age
    for data, age in (
        (tiff(pixels, "separate", photometric="rgb", byteorder=order), estimator(astronaut)[0].age),
        (tiff(grey, photometric="minisblack", byteorder=order), expected),
        (tiff(65535 - grey, photometric="miniswhite"), expected),
    ):
        (face,) = estimator(data)
        assert face.age == pytest.approx(age, abs=0.1)
        assert iou(face.box, BOX) > 0.95


def pages(*parts, **options):
    """A file of several pages, each as its pixels and its kind (NewSubfileType)."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for pixels, _ in parts:
            writer.write(pixels, photometric="minisblack" if pixels.ndim == 2 else "rgb", subfiletype=2, **options)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as written:
        offsets = [page.tags[254].valueoffset for page in written.pages]
    data = bytearray(file.getvalue())
    for offset, (_, kind) in zip(offsets, parts, strict=True):
        # tifffile writes no masks of more than one bit
        data[offset] = kind
    return bytes(data)


PHOTO = RGB.astype(np.uint8)
SMALL = np.full((10, 14, 3), 77, np.uint8)
LARGE = np.full((2 * HEIGHT, 2 * WIDTH, 3), 77, np.uint8)

PAGES = {
    "thumbnail first": ([(SMALL, 1), (PHOTO, 0)], 1),
    "thumbnail first, unmarked": ([(SMALL, 0), (PHOTO, 0)], 2),
    "large thumbnail": ([(LARGE, 1), (PHOTO, 0)], 1),
    "mask": ([(LARGE[..., 0], 4), (PHOTO, 0), (LARGE[..., 0], 5)], 1),
    "smaller ones of a pyramid": ([(PHOTO, 0), (PHOTO[::2, ::2], 1), (PHOTO[::4, ::4], 1)], 1),
    "three of one size": ([(PHOTO, 2), (PHOTO[::-1], 2), (PHOTO[:, ::-1], 2)], 3),
    "largest in the middle": ([(SMALL, 0), (PHOTO, 0), (SMALL, 0)], 3),
    "thumbnail alone": ([(PHOTO, 1)], 1),
}


@pytest.mark.parametrize("parts, count", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_the_page_that_counts(parts, count, compression, tmp_path):
    data = pages(*parts, compression=compression)
    path = tmp_path / "pages.tif"
    path.write_bytes(data)
    for photo in (data, path):
        image = load_photo(photo)
        assert (np.asarray(image) == PHOTO).all()
        assert image.info.get("pages", 1) == count


def test_an_open_file_of_several_pages_is_read_where_it_is():
    data = pages((SMALL, 1), (PHOTO, 0), (SMALL + 1, 0))
    with Image.open(io.BytesIO(data)) as image:
        assert load_photo(image).size == (14, 10)
        image.seek(2)
        assert load_photo(image).getpixel((0, 0)) == (78, 78, 78)
        assert image.tell() == 2


def test_the_limit_is_that_of_the_page_that_counts():
    data = pages((SMALL, 1), (PHOTO, 0))
    assert load_photo(data, max_pixels=HEIGHT * WIDTH).size == (WIDTH, HEIGHT)
    with pytest.raises(PhotoTooLargeError, match="100x70"):
        load_photo(data, max_pixels=HEIGHT * WIDTH - 1)


def test_a_page_that_cannot_be_read():
    unknown = stored(RGB, "f4")
    with pytest.raises(PhotoError, match="not supported"):
        load_photo(pages((SMALL, 0), (unknown, 0)))
    with pytest.raises(PhotoError, match="not supported"):
        load_photo(pages((SMALL, 0), (unknown, 0), (SMALL, 0)))
    image = load_photo(pages((PHOTO, 0), (unknown[::2], 0), (SMALL, 0)))
    assert (np.asarray(image) == PHOTO).all() and image.info == {"pages": 3}


def test_a_thumbnail_of_a_photo_that_is_out_of_reach():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(SMALL, photometric="rgb", subfiletype=1, subifds=1)
        writer.write(PHOTO, photometric="rgb", subfiletype=0)
    with pytest.raises(PhotoError, match="not supported"):
        load_photo(file.getvalue())


@pytest.mark.filterwarnings("error")
def test_damage_after_the_first_page_changes_no_pixel():
    deep = PHOTO[..., 0].astype(np.uint16) * 257
    for photo, expected in ((PHOTO, PHOTO), (deep, PHOTO[..., :1])):
        whole = pages((photo, 0), (SMALL, 0))
        with tifffile.TiffFile(io.BytesIO(whole)) as file:
            second = file.pages[1].offset
        assert (np.asarray(load_photo(whole[:second])) == expected).all()
        for damaged in (whole[: second + 30], whole[:second] + b"\xff" * 2000):
            try:
                read = load_photo(damaged)
            except PhotoError:  # a page whose cost cannot be told
                continue
            assert (np.asarray(read) == expected).all()


def test_pages_without_end():
    page = directory({256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 4})

    def chain(count):
        starts = [8 + (len(page) + 4) * number for number in range(count)]
        links = [*starts[1:], starts[7]]
        return b"II*\0" + struct.pack("<I", 8) + b"".join(page + struct.pack("<I", link) for link in links)

    assert load_photo(chain(900)).info == {"pages": 100}
    with pytest.raises(PhotoError, match="more than 1000 pages"):
        load_photo(chain(5000))
    # each with as many tags as there can be, which take a second
    many = directory(
        {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 4} | dict.fromkeys(range(1000, 8000), 1)
    )
    for count in (12, 100):
        links = [8 + (len(many) + 4) * number for number in range(1, count)]
        data = b"II*\0" + struct.pack("<I", 8) + b"".join(many + struct.pack("<I", link) for link in [*links, 0])
        if count == 12:
            assert load_photo(data).info == {}
        else:
            with pytest.raises(PhotoError, match="too many entries"):
                load_photo(data)


def test_tables_say_that_there_are_more(tmp_path, capsys, astronaut, estimator):
    photo = np.asarray(astronaut)
    (tmp_path / "scan.tif").write_bytes(
        pages((photo[::4, ::4], 1), (photo, 0), (photo[::-1], 0), compression="deflate")
    )
    (tmp_path / "plain.png").write_bytes(b"")
    astronaut.save(tmp_path / "plain.png")
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    names = [str(tmp_path / name) for name in ("plain.png", "scan.tif", "broken.tif")]
    assert cli.main(["predict", *names]) == 1
    out, err = capsys.readouterr()
    rows = out.splitlines()
    assert rows[1].split()[2] == rows[2].split()[2] == f"{estimator(astronaut)[0].age:.1f}"
    assert f"{names[1]}: 2 pages, only the largest was used" in err
    assert "plain.png" not in err
    cli.main(["predict", *names, "--json"])
    assert [photo["pages"] for photo in json.loads(capsys.readouterr().out)] == [1, 2, None]
    cli.main(["predict", *names, "--csv"])
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["pages"] for row in table] == ["1", "2", ""]
    tasks = [Task(name, name) for name in names]
    predict_files(tasks, tmp_path / "ages.csv", workers=1)
    assert list(csv.DictReader((tmp_path / "ages.csv").open())) == table
