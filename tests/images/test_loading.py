"""Anything that may be called a photo becomes the same upright RGB picture, or is refused with a PhotoError."""

import gc
import io
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, ImageCms, ImageDraw
from starlette.datastructures import UploadFile
from werkzeug.datastructures import FileStorage

from ssrnet_hub.errors import PhotoError, PhotoTooLargeError
from ssrnet_hub.images.formats import FORMATS, picture_suffixes
from ssrnet_hub.images.loading import load_photo

from ..pictures import UNDO, encode, exif, grey16, icon, orientation_entry, png_header, turned


def draw() -> Image.Image:
    """48x32: red, white, blue and dark grey quarters, a green mark in the top left corner; nothing is symmetric."""
    image = Image.new("RGB", (48, 32), (64, 64, 64))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 23, 15), "red")
    pen.rectangle((24, 0, 47, 15), "white")
    pen.rectangle((0, 16, 23, 31), "blue")
    pen.rectangle((0, 0, 7, 3), (0, 255, 0))
    return image


PICTURE = draw()
RGB = np.asarray(PICTURE)
ALPHA = np.full((32, 48), 255, np.uint8)
ALPHA[:, 12:24] = 0
ALPHA[:, 24:36] = 128


def grey(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601-2 luma, as grey RGB."""
    return np.repeat((rgb @ (0.299, 0.587, 0.114))[:, :, None], 3, axis=2)


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[:, :, None] / 255
    return rgb * share + 255 * (1 - share)


def with_alpha() -> Image.Image:
    image = PICTURE.copy()
    image.putalpha(Image.fromarray(ALPHA))
    return image


def palette() -> Image.Image:
    return PICTURE.convert("P", palette=Image.Palette.ADAPTIVE, colors=8)


def palette_with(transparency) -> Image.Image:
    """The index of blue is transparent."""
    image = palette()
    index = image.getpixel((5, 25))
    image.info["transparency"] = index if transparency is int else bytes(0 if i == index else 255 for i in range(8))
    return image


def palette_with_alpha() -> Image.Image:
    image = palette().convert("PA")
    image.putalpha(Image.fromarray(ALPHA))
    return image


def transparent_blue(mode: str) -> Image.Image:
    """One colour is transparent, as PNG has it."""
    image = PICTURE.convert(mode)
    image.info["transparency"] = image.getpixel((5, 25))
    return image


def lab() -> Image.Image:
    srgb, to = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(PICTURE, srgb, to, outputMode="LAB")


def deep(mode: str) -> Image.Image:
    values = np.asarray(PICTURE.convert("L")).astype(">u2" if mode.endswith("B") else "<u2") * 257
    return Image.frombytes(mode, PICTURE.size, values.astype(values.dtype).tobytes())


def blue_is_white(rgb: np.ndarray) -> np.ndarray:
    expected = rgb.copy()
    expected[16:, :24] = 255
    return expected


# mode, picture in that mode, what it should look like, largest difference
MODES = [
    ("1", PICTURE.convert("1", dither=Image.Dither.NONE), np.where(grey(RGB) >= 128, 255, 0), 0),
    ("L", PICTURE.convert("L"), grey(RGB), 1),
    ("L", transparent_blue("L"), blue_is_white(grey(RGB)), 1),
    ("LA", with_alpha().convert("LA"), over_white(grey(RGB), ALPHA), 2),
    ("La", with_alpha().convert("LA").convert("La"), over_white(grey(RGB), ALPHA), 2),
    ("P", palette(), RGB, 0),
    ("P", palette_with(int), blue_is_white(RGB), 0),
    ("P", palette_with(bytes), blue_is_white(RGB), 0),
    ("PA", palette_with_alpha(), over_white(RGB, ALPHA), 1),
    ("RGB", PICTURE, RGB, 0),
    ("RGB", transparent_blue("RGB"), blue_is_white(RGB), 0),
    ("RGBA", with_alpha(), over_white(RGB, ALPHA), 1),
    ("RGBa", with_alpha().convert("RGBa"), over_white(RGB, ALPHA), 2),
    ("RGBX", PICTURE.convert("RGBX"), RGB, 0),
    ("CMYK", PICTURE.convert("CMYK"), RGB, 1),
    ("YCbCr", PICTURE.convert("YCbCr"), RGB, 3),
    # pure blue is out of reach of 8 bit LAB
    ("LAB", lab(), RGB, 24),
    ("HSV", PICTURE.convert("HSV"), RGB, 4),
    ("I", PICTURE.convert("I"), grey(RGB), 1),
    ("I;16", deep("I;16"), grey(RGB), 1),
    ("I;16B", deep("I;16B"), grey(RGB), 1),
    ("F", PICTURE.convert("F"), grey(RGB), 1),
]


@pytest.mark.parametrize("mode, image, expected, tolerance", MODES, ids=lambda v: v if isinstance(v, str) else "")
def test_every_mode_looks_as_it_should(mode, image, expected, tolerance):
    assert image.mode == mode
    before, pixels = image.copy(), image.tobytes()
    photo = load_photo(image)
    assert photo.mode == "RGB"
    assert photo.size == PICTURE.size
    assert np.abs(np.asarray(photo) - expected.astype(float)).max() <= tolerance
    assert (image.mode, image.size, image.info, image.tobytes()) == (mode, before.size, before.info, pixels)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bits_are_scaled_not_clipped(mode):
    values = np.arange(0, 60000, 60000 // 64)[:64].reshape(8, 8)
    kind = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
    image = Image.frombytes(mode, (8, 8), values.astype(kind).tobytes())
    seen = np.asarray(load_photo(image))[:, :, 0]
    assert np.abs(seen - values / 257).max() <= 1


def test_a_dark_picture_of_16_bits_stays_dark():
    values = np.full((8, 8), 2570, np.uint16)
    assert np.asarray(load_photo(Image.fromarray(values))).max() == 10


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_files_of_16_bits(format, tmp_path):
    for image in (grey16(PICTURE), deep("I;16B")):
        path = tmp_path / "deep"
        path.write_bytes(encode(image, format))
        assert np.abs(np.asarray(load_photo(path)) - grey(RGB)).max() <= 1


def test_float_pictures_by_the_range_they_are_in():
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    for top in (1, 255):
        seen = np.asarray(load_photo(Image.fromarray(values * top)))[:, :, 0]
        assert np.abs(seen - values * 255).max() <= 0.51


def test_float_picture_with_a_hole():
    values = np.full((4, 4), 0.5, np.float32)
    values[0, 0] = np.nan
    seen = np.asarray(load_photo(Image.fromarray(values)))[:, :, 0]
    assert (seen.ravel()[1:] == 128).all()


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_as_path_and_as_bytes(format, tmp_path):
    data = encode(PICTURE, format)
    path = tmp_path / "picture"
    path.write_bytes(data)
    expected = PICTURE
    if format == "ICO":
        # icons are stored in a few sizes of their own
        expected = Image.open(path).convert("RGB")
    elif format == "GIF":
        expected = PICTURE.quantize(256).convert("RGB")
    for photo in (path, str(path), data):
        seen = load_photo(photo)
        assert seen.mode == "RGB" and seen.size == expected.size
        # a few formats are lossy; the means of 8x8 blocks, which no edge crosses, survive that
        difference = np.asarray(seen, float) - np.asarray(expected, float)
        assert np.abs(difference[20:28, 4:20].mean((0, 1))).max() <= 8
        assert np.abs(difference[4:12, 28:44].mean((0, 1))).max() <= 8


def test_path_of_any_kind(tmp_path):
    class Elsewhere:
        def __fspath__(self):
            return str(path)

    path = tmp_path / "Ünïcode 写真 [1].png"
    PICTURE.save(path)
    for photo in (path, str(path), Elsewhere()):
        assert (np.asarray(load_photo(photo)) == RGB).all()


@pytest.mark.parametrize("orientation", UNDO)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_orientation(orientation, format, tmp_path):
    sharp = {"quality": 95, "subsampling": "4:4:4"}
    options = {"WEBP": {"lossless": True}, "JPEG": sharp, "AVIF": sharp, "HEIF": sharp}.get(format, {})
    data = turned(PICTURE, orientation, format, **options)
    path = tmp_path / "photo"
    path.write_bytes(data)
    with Image.open(path) as opened:
        for photo in (path, data, opened):
            upright = load_photo(photo)
            assert upright.size == PICTURE.size
            assert np.abs(np.asarray(upright, float) - RGB).max() <= (60 if format in ("JPEG", "AVIF", "HEIF") else 0)
            # a second time around it must not be turned again
            assert load_photo(upright).tobytes() == upright.tobytes()


def test_orientation_that_does_not_exist():
    for orientation in (0, 9, 65535):
        data = encode(PICTURE, "PNG", exif=exif(orientation_entry(orientation)))
        assert (np.asarray(load_photo(data)) == RGB).all()


NONSENSE = {
    "not EXIF at all": b"Exif\0\0" + bytes(range(200)),
    "cut off": exif(orientation_entry(6))[:20],
    "only its name": b"Exif\0\0",
    "directory out of the file": b"Exif\0\0MM\0*\xff\xff\xff\xff",
    "text as orientation": exif((0x0112, 2, 4, b"abc\0")),
    "a fraction as orientation": exif((0x0112, 5, 1, bytes(8))),
    "unknown type": exif((0x010F, 99, 1, b"abcd")),
    "value out of the file": exif((0x010F, 2, 2**31, b"\0\0\1\0")),
}


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("block", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_exif_is_no_error(format, block):
    assert load_photo(encode(PICTURE, format, exif=block)).size == PICTURE.size


def test_damaged_exif_is_no_error_where_warnings_are():
    data = encode(PICTURE, "JPEG", exif=NONSENSE["value out of the file"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_photo(data).size == PICTURE.size


@pytest.mark.parametrize(
    "entry",
    [
        (0x0132, 5, 1, bytes([0, 0, 0, 72, 0, 0, 0, 1])),
        (0x0103, 5, 1, bytes([0, 0, 0, 72, 0, 0, 0, 1])),
        (0x011A, 2, 4, b"abc\0"),
        (0x8298, 11, 1, b"?\xc0\0\0"),
        (0x8825, 2, 4, b"abc\0"),
        (0x8769, 4, 1, b"\0\0\xff\xff"),
    ],
    ids=["fraction as date", "fraction as number", "text as fraction", "float as text", "no GPS", "lost directory"],
)
def test_orientation_counts_beside_a_damaged_entry(entry):
    stored = PICTURE.transpose(UNDO[6])
    data = encode(stored, "PNG", exif=exif(orientation_entry(6), entry))
    assert (np.asarray(load_photo(data)) == RGB).all()


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_of_several(format, tmp_path):
    frames = [Image.new("RGB", PICTURE.size, "black")] * 2
    data = encode(PICTURE, format, save_all=True, append_images=frames)
    path = tmp_path / "frames"
    path.write_bytes(data)
    with Image.open(path) as opened:
        for photo in (data, path, opened):
            seen = np.asarray(load_photo(photo), float)
            assert np.abs(seen[8:12, 28:44] - 255).max() <= 8
            assert np.abs(seen[20:28, 4:20].mean((0, 1)) - (0, 0, 255)).max() <= 8


ARRAYS = {
    "RGB": (RGB, RGB),
    "grey": (RGB[:, :, 0], np.repeat(RGB[:, :, :1], 3, 2)),
    "grey with a channel": (RGB[:, :, :1], np.repeat(RGB[:, :, :1], 3, 2)),
    "RGBA": (np.dstack([RGB, ALPHA]), over_white(RGB, ALPHA)),
    "bool": (RGB[:, :, 0] > 100, np.repeat(RGB[:, :, :1] > 100, 3, 2) * 255),
    "bool RGB": (RGB > 100, (RGB > 100) * 255),
    "float64": (RGB / 255, RGB),
    "float32": ((RGB / 255).astype(np.float32), RGB),
    "float16": ((RGB / 255).astype(np.float16), RGB),
    "float, other byte order": ((RGB / 255).astype(">f4"), RGB),
    "float RGBA": (np.dstack([RGB, ALPHA]) / 255, over_white(RGB, ALPHA)),
    "columns first in memory": (np.asfortranarray(RGB), RGB),
    "every second pixel": (RGB[::2, ::2], RGB[::2, ::2]),
    "upside down": (RGB[::-1], RGB[::-1]),
    "mirrored": (RGB[:, ::-1], RGB[:, ::-1]),
    "BGR turned to RGB": (RGB[:, :, ::-1], RGB[:, :, ::-1]),
    "transposed": (RGB.transpose(1, 0, 2), RGB.transpose(1, 0, 2)),
    "one pixel": (RGB[:1, :1], RGB[:1, :1]),
    "one column": (RGB[:, :1], RGB[:, :1]),
    "three pixels wide": (RGB[:, 20:23], RGB[:, 20:23]),
}


@pytest.mark.parametrize("array, expected", ARRAYS.values(), ids=ARRAYS)
def test_arrays(array, expected):
    before = array.copy()
    photo = load_photo(array)
    assert photo.mode == "RGB"
    seen = np.asarray(photo, float)
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).max() <= 0.51
    photo.paste((1, 2, 3), (0, 0, *photo.size))
    assert (array == before).all()


def test_read_only_array():
    array = RGB.copy()
    array.flags.writeable = False
    assert (np.asarray(load_photo(array)) == RGB).all()


TENSOR = torch.from_numpy(RGB.copy()).permute(2, 0, 1)
TENSORS = {
    "RGB": (TENSOR, RGB),
    "RGB, contiguous": (TENSOR.contiguous(), RGB),
    "grey": (TENSOR[0], np.repeat(RGB[:, :, :1], 3, 2)),
    "grey with a channel": (TENSOR[:1], np.repeat(RGB[:, :, :1], 3, 2)),
    "RGBA": (torch.cat([TENSOR, torch.from_numpy(ALPHA)[None]]), over_white(RGB, ALPHA)),
    "bool": (TENSOR[0] > 100, np.repeat(RGB[:, :, :1] > 100, 3, 2) * 255),
    "float": (TENSOR / 255, RGB),
    "double": (TENSOR.double() / 255, RGB),
    "half": (TENSOR.half() / 255, RGB),
    "bfloat16": ((TENSOR / 255).bfloat16(), RGB),
    "with gradient": ((TENSOR / 255).requires_grad_(), RGB),
    "result of a computation with gradient": ((TENSOR / 255).requires_grad_() * 1, RGB),
    "flipped": (TENSOR.flip(2), RGB[:, ::-1]),
    "three pixels high": (TENSOR[:, 10:13], RGB[10:13]),
}


@pytest.mark.parametrize("tensor, expected", TENSORS.values(), ids=TENSORS)
def test_tensors(tensor, expected):
    before = tensor.detach().clone()
    photo = load_photo(tensor)
    assert photo.mode == "RGB"
    seen = np.asarray(photo, float)
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).max() <= (1 if tensor.dtype == torch.bfloat16 else 0.51)
    assert torch.equal(tensor.detach(), before)


def test_tensor_on_the_way_from_inference():
    with torch.inference_mode():
        assert (np.asarray(load_photo(TENSOR / 255)) == RGB).all()


REFUSED = {
    "floats to 255": (RGB.astype(np.float32), "must be in [0, 1]"),
    "negative floats": (RGB / 255 - 0.5, "must be in [0, 1]"),
    "NaN": (np.full((4, 4), np.nan), "must be in [0, 1]"),
    "infinity": (np.full((4, 4), np.inf), "must be in [0, 1]"),
    "float tensor to 255": (TENSOR.float(), "must be in [0, 1]"),
    "int64": (RGB.astype(np.int64), "int64"),
    "int64 tensor": (TENSOR.long(), "int64"),
    "uint16": (RGB.astype(np.uint16), "uint16"),
    "complex": (RGB.astype(complex), "complex128"),
    "objects": (RGB.astype(object), "object"),
    "text": (np.array([["a", "b"]]), "U1"),
    "a batch": (RGB[None], "(1, 32, 48, 3)"),
    "a batch of tensors": (TENSOR[None], "(1, 3, 32, 48)"),
    "channels first": (RGB.transpose(2, 0, 1), "(3, 32, 48)"),
    "two channels": (RGB[:, :, :2], "(32, 48, 2)"),
    "five channels": (np.zeros((8, 8, 5), np.uint8), "(8, 8, 5)"),
    "tensor with channels last": (torch.zeros(32, 48, 3, dtype=torch.uint8), "(32, 48, 3)"),
    "one row": (RGB[0, :, 0], "(48,)"),
    "a number": (np.array(3, np.uint8), "()"),
    "no rows": (np.zeros((0, 8, 3), np.uint8), "no pixels"),
    "no columns": (np.zeros((8, 0), np.uint8), "no pixels"),
    "empty tensor": (torch.zeros(3, 0, 5), "no pixels"),
    "empty picture": (Image.new("RGB", (0, 5)), "no pixels"),
    "None": (None, "NoneType"),
    "a number of Python": (3, "int"),
    "a list": ([[1, 2], [3, 4]], "list"),
    "an open file": (sys.stdin, type(sys.stdin).__name__),
    "no bytes": (b"", "empty"),
    "bytes of text": (b"Not a picture. " * 100, "not a picture"),
    "zeros": (bytes(1000), "not a picture"),
}


@pytest.mark.parametrize("photo, said", REFUSED.values(), ids=REFUSED)
def test_refusals(photo, said):
    with pytest.raises(PhotoError) as e:
        load_photo(photo)
    assert not isinstance(e.value, PhotoTooLargeError)
    assert said in str(e.value)


def test_refused_files_are_named(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("Dear diary")
    (tmp_path / "folder.jpg").mkdir()
    for name, said in {
        "missing.jpg": "No such file",
        "empty.jpg": "empty",
        "text.jpg": "not a picture",
        "folder.jpg": "folder",
    }.items():
        for path in (tmp_path / name, str(tmp_path / name)):
            with pytest.raises(PhotoError, match=said) as e:
                load_photo(path)
            assert str(path) in str(e.value)


@pytest.mark.parametrize("path", ["", "\0", "a\0.jpg", "x" * 5000, "http://localhost/photo.jpg"])
def test_refused_paths(path):
    for photo in (path, Path(path)):
        with pytest.raises(PhotoError):
            load_photo(photo)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files(format, share, tmp_path, astronaut):
    data = encode(astronaut.resize((96, 64)), format)
    data = data[: int(len(data) * share)]
    path = tmp_path / "cut"
    path.write_bytes(data)
    for photo in (data, path):
        with pytest.raises(PhotoError):
            load_photo(photo)


def test_a_truncated_picture_that_the_caller_opened(tmp_path, astronaut):
    path = tmp_path / "cut.jpg"
    path.write_bytes(encode(astronaut.resize((96, 64)), "JPEG")[:1000])
    with Image.open(path) as image, pytest.raises(PhotoError, match="damaged"):
        load_photo(image)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_damage_never_raises_anything_else(astronaut):
    rng = random.Random(0)
    small = astronaut.resize((60, 40))
    files = [encode(small, format) for format in FORMATS]
    files += [encode(small, "TIFF", compression="tiff_lzw"), encode(small.convert("P"), "PNG", transparency=3)]
    files += [encode(small, "JPEG", exif=exif(orientation_entry(6), (0x010F, 2, 6, b"Maker\0")), progressive=True)]
    refused = 0
    for data in files:
        for _ in range(200):
            damaged = bytearray(data)
            for _ in range(rng.choice([1, 2, 5, 20])):
                damaged[rng.randrange(min(len(data), rng.choice([64, 10**6])))] = rng.randrange(256)
            try:
                assert load_photo(bytes(damaged), max_pixels=10**6).mode == "RGB"
            except PhotoError:
                refused += 1
    assert refused


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "pixel.png")
    assert load_photo(tmp_path / "pixel.png").getpixel((0, 0)) == (9, 8, 7)


@pytest.mark.parametrize("size", [(30000, 30000), (11500, 11500)])
@pytest.mark.parametrize("filters", ["default", "error"])
def test_too_large_is_refused_before_it_is_decoded(size, filters, tmp_path):
    # decoding this file would fail: its pixels are missing
    data = png_header(*size)
    path = tmp_path / "large.png"
    path.write_bytes(data)
    for photo in (data, path):
        with warnings.catch_warnings():
            warnings.simplefilter(filters)
            with pytest.raises(PhotoTooLargeError, match="max_pixels"):
                load_photo(photo)


def test_the_limit_can_be_set(tmp_path):
    pixels = PICTURE.width * PICTURE.height
    path = tmp_path / "picture.png"
    PICTURE.save(path)
    for photo in (path, path.read_bytes(), PICTURE, RGB, TENSOR):
        assert load_photo(photo, max_pixels=pixels).size == PICTURE.size
        with pytest.raises(PhotoTooLargeError, match="48x32"):
            load_photo(photo, max_pixels=pixels - 1)
    with pytest.raises(PhotoError) as e:
        load_photo(png_header(500, 300), max_pixels=500 * 300)
    assert not isinstance(e.value, PhotoTooLargeError)


def test_an_icon_does_not_smuggle_a_large_picture_past_the_limit():
    # decoding it would fail
    with pytest.raises(PhotoError) as e:
        load_photo(icon(png_header(11500, 11500)))
    assert isinstance(e.value, PhotoTooLargeError) or "not a picture of a known format" in str(e.value)


def test_postscript_is_not_run(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: calls.append(args))
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: calls.append(args))
    data = encode(PICTURE, "EPS")
    (tmp_path / "picture.eps").write_bytes(data)
    (tmp_path / "picture.jpg").write_bytes(data)
    for photo in (data, tmp_path / "picture.eps", tmp_path / "picture.jpg"):
        with pytest.raises(PhotoError, match="not a picture of a known format"):
            load_photo(photo)
    assert not calls


def test_the_orientation_of_heic_is_not_that_of_its_exif():
    """Whoever turned it, as some programs do, may have left its EXIF as it was."""
    data = turned(PICTURE, 6, "HEIF", quality=95)
    upright = np.asarray(load_photo(data), float)
    assert upright.shape == RGB.shape and np.abs(upright - RGB)[4:12, 28:44].max() < 20
    with Image.open(io.BytesIO(data)) as opened:
        assert load_photo(opened).tobytes() == load_photo(data).tobytes()
    as_stored = load_photo(data.replace(b"irot\3", b"irot\0"))
    assert as_stored.size == (32, 48)


def test_suffixes():
    suffixes = picture_suffixes()
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".avif", ".mpo"} <= suffixes
    assert {".heic", ".heif", ".hif"} <= suffixes
    assert not suffixes & {".eps", ".ps", ".pdf", ".txt", ".mp4", ".svg", ".h5", ".fits"}
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)


def test_the_callers_picture_is_left_open_and_as_it_was(tmp_path):
    path = tmp_path / "moving.gif"
    PICTURE.save(path, save_all=True, append_images=[Image.new("RGB", PICTURE.size, "black")])
    with Image.open(path) as image:
        mode, info = image.mode, dict(image.info)
        first = load_photo(image)
        assert (image.mode, image.info) == (mode, info)
        # still usable: pixels, other frames
        image.seek(1)
        assert image.convert("RGB").getpixel((40, 5)) == (0, 0, 0)
    assert first.getpixel((40, 5)) == (255, 255, 255)

    path = tmp_path / "turned.jpg"
    path.write_bytes(turned(PICTURE, 6, "JPEG"))
    with Image.open(path) as image:
        load_photo(image)
        assert image.size == (32, 48)
        assert image.getexif()[0x0112] == 6
        assert image.getpixel((0, 0))


def test_the_result_is_a_picture_of_its_own():
    image = PICTURE.copy()
    load_photo(image).paste("black", (0, 0, 48, 32))
    assert (np.asarray(image) == RGB).all()


def test_no_file_is_left_open(tmp_path):
    whole = encode(PICTURE, "PNG")
    files = {
        "good.png": whole,
        "good.jpg": encode(PICTURE, "JPEG"),
        "good.tif": encode(PICTURE, "TIFF"),
        "moving.gif": encode(PICTURE, "GIF", save_all=True, append_images=[Image.new("RGB", PICTURE.size)]),
        "cut.png": whole[:60],
        "cut.jpg": encode(PICTURE, "JPEG")[:400],
        "text.jpg": b"nothing",
        "bomb.png": png_header(30000, 30000),
        "large.png": png_header(11500, 11500),
    }
    refused = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
            try:
                load_photo(tmp_path / name)
            except PhotoError:
                refused.add(name)
        gc.collect()
    assert refused == {"cut.png", "cut.jpg", "text.jpg", "bomb.png", "large.png"}
    assert not [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)]


class Stream:
    """What cannot be wound back, such as the answer of a server."""

    def __init__(self, data):
        self._data = data

    def read(self):
        return self._data


def open_files(data, path):
    path.write_bytes(data)
    spooled = tempfile.SpooledTemporaryFile()  # noqa: SIM115
    spooled.write(data)  # and not wound back
    written = io.BytesIO()
    written.write(data)
    yield from (io.BytesIO(data), written, path.open("rb"), path.open("rb", buffering=0), spooled, Stream(data))
    yield from (bytearray(data), memoryview(data))
    yield UploadFile(io.BytesIO(data), filename="photo.jpg")
    yield FileStorage(io.BytesIO(data), filename="photo.jpg")


def test_open_files_and_uploads(tmp_path, estimator):
    for file in open_files(encode(PICTURE, "PNG"), tmp_path / "photo.png"):
        position = file.tell() if hasattr(file, "tell") else None
        # twice, as by someone who looks for faces after showing the photo
        for _ in range(2):
            assert (np.asarray(load_photo(file)) == RGB).all()
        if position is not None:
            assert file.tell() == position
        assert estimator.batch([file]) == [[]]
        if not isinstance(file, (bytearray, memoryview)):
            with pytest.raises(PhotoError, match="put it in"):
                estimator.batch(file)
            if not isinstance(file, (Stream, UploadFile)):
                file.close()


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "photo.png"
    PICTURE.save(path)
    with path.open("rb") as closed:
        pass
    with path.open(encoding="latin-1") as text:
        for file, said in ((closed, "closed file"), (text, "mode 'rb'"), (io.StringIO("text"), "StringIO")):
            with pytest.raises(PhotoError, match=said):
                load_photo(file)
    for empty in (io.BytesIO(), bytearray()):
        with pytest.raises(PhotoError, match="0 bytes"):
            load_photo(empty)
    with pytest.raises(PhotoTooLargeError):
        load_photo(io.BytesIO(png_header(11500, 11500)))
