"""Photos in a zip, from anybody."""

import io
import struct
import tracemalloc
import zipfile

import psutil
import pytest

from ssrnet_hub.errors import ArchiveError
from ssrnet_hub.images.archives import list_zip, read_zip, unzip

from ..pictures import write_zip


def test_the_pictures_in_the_order_of_their_names(tmp_path):
    files = {
        "b/2.JPG": b"two",
        "a.png": b"one",
        "notes.txt": b"-",
        "__MACOSX/a.png": b"-",
        "b/._2.jpg": b"-",
        "c/": b"",
    }
    assert list(read_zip(write_zip(tmp_path / "a.zip", files))) == [("a.png", b"one"), ("b/2.JPG", b"two")]


def test_names_in_utf8_that_do_not_say_so(tmp_path):
    """As macOS and Info-ZIP write them."""
    path = write_zip(tmp_path / "a.zip", {"d/é.png": b"one", "照片.png": b"two", "a.png": b"three"})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = content.find(signature)
        while place >= 0:
            content[place + offset + 1] &= ~8
            place = content.find(signature, place + 1)
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        assert "d/é.png" not in archive.namelist()
    assert list(read_zip(path)) == [("a.png", b"three"), ("d/é.png", b"one"), ("照片.png", b"two")]
    assert list_zip(path) == ["a.png", "d/é.png", "照片.png"] and unzip(path, "照片.png") == b"two"


def test_names_in_code_page_437(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"aZ.png": b"one"})
    # é, which is no UTF-8 by itself
    path.write_bytes(path.read_bytes().replace(b"aZ", b"a\x82"))
    assert list(read_zip(path)) == [("aé.png", b"one")] and unzip(path, "aé.png") == b"one"


@pytest.mark.parametrize("name", ["../a.png", "a/../../b.png", "/etc/a.png", "..\\a.png", "C:\\a.png", "c:/a.png"])
def test_names_that_climb_out(tmp_path, name):
    path = write_zip(tmp_path / "a.zip", {"fine.png": b"-", name: b"-"})
    with pytest.raises(ArchiveError, match="outside of itself"):
        list(read_zip(path))


def test_too_many(tmp_path):
    path = write_zip(tmp_path / "a.zip", {f"{i}.png": b"-" for i in range(4)})
    with pytest.raises(ArchiveError, match=r"4 pictures, more than the limit of 3"):
        list(read_zip(path, max_files=3))


def test_a_bomb_is_not_unpacked(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.png": b"first", "bomb.png": bytes(50_000_000)})
    assert path.stat().st_size < 100_000
    first, (name, error) = read_zip(path, max_file_size=1_000_000)
    assert first == ("a.png", b"first")
    assert name == "bomb.png" and isinstance(error, ArchiveError) and "more than the limit" in str(error)


def test_many_bombs_are_not_unpacked(tmp_path):
    path = write_zip(tmp_path / "a.zip", {f"{i}.png": bytes(1_000_000) for i in range(6)})
    with pytest.raises(ArchiveError, match="6,000,000 bytes, more than the limit of 5,000,000"):
        next(read_zip(path, max_total_size=5_000_000))
    assert len(list(read_zip(path, max_total_size=6_000_000))) == 6


def overwrite(path, changes):
    """Change numbers in the headers of the first entry, by their format and places in its own and in the directory."""
    data = bytearray(path.read_bytes())
    for form, local, central, value in changes:
        for signature, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
            struct.pack_into(form, data, data.index(signature) + offset, value)
    path.write_bytes(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_that_lies_about_its_size(tmp_path, method):
    path = write_zip(tmp_path / "a.zip", {"bomb.png": bytes(80_000_000)}, method)
    overwrite(path, [("<I", 22, 24, 1000)])
    before = psutil.Process().memory_info().rss
    tracemalloc.start()
    ((name, error),) = read_zip(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert name == "bomb.png" and isinstance(error, ArchiveError)
    assert peak < 5_000_000 and psutil.Process().memory_info().rss < before + 50_000_000


def test_a_directory_of_very_many_entries_is_not_read(tmp_path):
    """Each would take some hundred bytes and a few microseconds before it is known that it is no picture."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(20_001):
            archive.writestr(f"{i}", b"")
    with pytest.raises(ArchiveError, match="more than 20,000 entries"):
        next(read_zip(path))


def pieces(path):
    """Names of the pictures that could be unpacked, and what is said of the others."""
    got = dict(read_zip(path))
    broken = {name: str(content) for name, content in got.items() if isinstance(content, ArchiveError)}
    return sorted(got.keys() - broken.keys()), broken


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut off"])
def test_no_zip(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match="cannot be read"):
        list(read_zip(tmp_path / "a.zip"))


def stored(data):
    data[200] ^= 255


def deflated(data):
    data[40:50] = bytes(range(246, 256))


BROKEN = {
    "crc": (zipfile.ZIP_STORED, stored),
    "zlib": (zipfile.ZIP_DEFLATED, deflated),
    "lzma": (zipfile.ZIP_LZMA, deflated),
    "bzip2": (zipfile.ZIP_BZIP2, deflated),
}


@pytest.mark.parametrize(("method", "damage"), BROKEN.values(), ids=BROKEN)
def test_a_damaged_picture_does_not_take_the_others_along(tmp_path, method, damage):
    files = {"a.png": bytes(range(256)) * 20, "b.png": b"fine", "c.png": b"fine"}
    path = write_zip(tmp_path / "a.zip", files, method)
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    others, broken = pieces(path)
    # what zipfile can only unpack as a whole is not unpacked
    lost = files.keys() if method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2) else {"a.png"}
    assert broken.keys() == lost and others == sorted(files.keys() - lost)


@pytest.mark.parametrize(
    "change",
    [
        ("<H", 6, 8, 1),  # encrypted
        ("<H", 6, 8, 1 << 5),  # a patch
        ("<H", 6, 8, 1 << 6),  # strongly encrypted
        ("<H", 8, 10, 9),  # by an unknown method
        ("<H", 8, 10, 98),
        ("<I", 18, 20, 0),  # sizes
        ("<I", 22, 24, 2**31),
        ("<I", 22, 24, 0),
        ("<I", 14, 16, 7),  # the sum
    ],
    ids=str,
)
def test_a_picture_with_an_odd_header_does_not_take_the_others_along(tmp_path, change):
    path = write_zip(tmp_path / "a.zip", {"a.png": bytes(range(256)) * 20, "b.png": b"fine"})
    overwrite(path, [change])
    others, broken = pieces(path)
    assert others == ["b.png"] and broken.keys() == {"a.png"}
    assert len(broken["a.png"]) < 400


@pytest.mark.parametrize(
    ("signature", "form", "offset", "value"),
    [
        (b"PK\x01\x02", "<H", 6, 999),  # needs a zip program that is not there yet
        (b"PK\x01\x02", "<H", 8, 0x800),  # a name in UTF-8 that is none
        (b"PK\x01\x02", "<H", 30, 4),  # an extra field that is cut off
        (b"PK\x05\x06", "<I", 12, 2**31),  # the directory's size
    ],
    ids=["version", "name", "extra", "size"],
)
def test_a_damaged_directory(tmp_path, signature, form, offset, value):
    path = write_zip(tmp_path / "a.zip", {"\xe4\xf6.png": b"-", "b.png": b"-"})
    data = bytearray(path.read_bytes())
    where = data.index(signature)
    struct.pack_into(form, data, where + offset, value)
    if offset == 8:
        data[where + 46 : where + 48] = b"\xff\xfe"
    path.write_bytes(data)
    with pytest.raises(ArchiveError):
        list(read_zip(path))


def test_a_directory_that_says_it_is_elsewhere(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.png": b"-", "b.png": b"-"})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x05\x06") + 16, 2**31)
    path.write_bytes(data)
    others, broken = pieces(path)
    assert not others and broken.keys() == {"a.png", "b.png"}


def test_an_empty_zip(tmp_path):
    file = io.BytesIO()
    zipfile.ZipFile(file, "w").close()
    (tmp_path / "a.zip").write_bytes(file.getvalue())
    assert list(read_zip(tmp_path / "a.zip")) == []


def test_another_zip_under_the_same_name(tmp_path, monkeypatch):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        write_zip(tmp_path / place / "a.zip", {f"{place}.png": place.encode()})
        monkeypatch.chdir(tmp_path / place)
        assert unzip("a.zip", f"{place}.png") == place.encode()
