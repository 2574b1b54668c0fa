"""Photos in a zip, from anybody."""

import io
import struct
import zipfile

import pytest

from ssrnet_hub.archives import read_zip
from ssrnet_hub.errors import ArchiveError

from .pictures import write_zip


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


@pytest.mark.parametrize("name", ["../a.png", "a/../../b.png", "/etc/a.png", "..\\a.png", "C:\\a.png", "c:/a.png"])
def test_names_that_climb_out(tmp_path, name):
    path = write_zip(tmp_path / "a.zip", {"fine.png": b"-", name: b"-"})
    with pytest.raises(ArchiveError, match="climbs out"):
        list(read_zip(path))


def test_too_many(tmp_path):
    path = write_zip(tmp_path / "a.zip", {f"{i}.png": b"-" for i in range(4)})
    with pytest.raises(ArchiveError, match=r"4 pictures, more than the limit of 3"):
        list(read_zip(path, max_files=3))


def test_a_bomb_is_not_unpacked(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.png": b"first", "bomb.png": bytes(50_000_000)})
    assert path.stat().st_size < 100_000
    with pytest.raises(ArchiveError, match="more than the limit"):
        next(read_zip(path, max_file_size=1_000_000))


def test_a_bomb_that_lies_about_its_size(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"bomb.png": bytes(5_000_000)})
    data = bytearray(path.read_bytes())
    # the size unpacked, in the file's own header and in the directory
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, 1000)
    path.write_bytes(data)
    with pytest.raises(ArchiveError):
        list(read_zip(path, max_file_size=1_000_000))


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut off"])
def test_no_zip(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match="cannot be read"):
        list(read_zip(tmp_path / "a.zip"))


def test_damaged_content(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.png": bytes(range(256)) * 20}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="cannot be read"):
        list(read_zip(path))


def test_encrypted(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.png": b"secret"})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="cannot be read"):
        list(read_zip(path))


def test_an_empty_zip(tmp_path):
    file = io.BytesIO()
    zipfile.ZipFile(file, "w").close()
    (tmp_path / "a.zip").write_bytes(file.getvalue())
    assert list(read_zip(tmp_path / "a.zip")) == []
