"""Labels files in, files out."""

import os
import stat

import pytest

from ssrnet_hub import SSRNetHubError
from ssrnet_hub.data import Label, read_labels
from ssrnet_hub.errors import LabelsError
from ssrnet_hub.files import replace_file


@pytest.fixture
def write(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "faces" / "labels.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_columns(write):
    path = write("file,age\na.jpg,3\nsub/b c.png,41.5\n")
    assert read_labels(path) == [Label(path.parent / "a.jpg", 3.0), Label(path.parent / "sub" / "b c.png", 41.5)]
    assert read_labels(str(path)) == read_labels(path)


def test_further_columns_and_their_order(write):
    path = write('gender,age,split,file,note\nf,3,train,a.jpg,"x, y"\nm,4,val,b.jpg,\n')
    assert read_labels(path) == [Label(path.parent / "a.jpg", 3, "train"), Label(path.parent / "b.jpg", 4, "val")]


def test_split(write):
    path = write("file,age,split\na,1,train\nb,2,val\nc,3,train\n")
    assert [label.path.name for label in read_labels(path, "train")] == ["a", "c"]
    assert [label.path.name for label in read_labels(path, "val")] == ["b"]
    assert len(read_labels(path)) == 3


@pytest.mark.parametrize("text", ["file,age\r\né.jpg,1\r\n", "file,age\n\né.jpg,1\n\n", '"file","age"\n"é.jpg","1"'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_as_spreadsheets_write_it(write, text, encoding):
    path = write(text, encoding)
    assert read_labels(path) == [Label(path.parent / "é.jpg", 1.0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "age"),
        ("file\na\n", "no column age"),
        ("age\n1\n", "no column file"),
        ("name;years\na;1\n", "no column age, file"),
        ("file,age\na,old\n", "age is no number.*old"),
        ("file,age\na,\n", "age is no number"),
        ("file,age\na\n", "age is no number"),
    ],
)
def test_refused(write, text, said):
    path = write(text)
    with pytest.raises(LabelsError, match=said) as e:
        read_labels(path)
    assert str(path) in str(e.value)
    assert isinstance(e.value, SSRNetHubError)


@pytest.mark.parametrize("age", ["nan", "inf", "-inf"])
def test_age_must_be_a_finite_number(write, age):
    with pytest.raises(LabelsError, match="age is no number"):
        read_labels(write(f"file,age\na,1\nb,{age}\n"))


def test_unknown_split_names_those_there_are(write):
    with pytest.raises(LabelsError, match=r"no rows of split 'test'.*train, val"):
        read_labels(write("file,age,split\na,1,val\nb,2,train\n"), "test")


def test_unknown_split_where_a_row_is_cut_short(write):
    with pytest.raises(LabelsError, match=r"no rows of split 'test'.*train"):
        read_labels(write("file,age,split\na,1,train\nb,2\n"), "test")


def test_split_of_a_file_without_splits(write):
    with pytest.raises(LabelsError, match="no column split"):
        read_labels(write("file,age\na,1\n"), "val")


def test_no_labels_file(tmp_path, write):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(LabelsError, match="cannot be read"):
            read_labels(path)
    with pytest.raises(LabelsError, match="cannot be read"):
        read_labels(write("file,age\né,1\n", "utf-16"))


# files out


def test_replace_file(tmp_path):
    path = tmp_path / "new" / "result.json"
    with replace_file(path) as temporary:
        assert temporary.parent == path.parent and temporary != path
        assert temporary.suffix == ".json"  # what writes it may go by that
        temporary.write_text("one")
        assert not path.exists()
    with replace_file(str(path)) as temporary:
        temporary.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("old", [True, False])
def test_crash_leaves_the_old_file_and_nothing_else(tmp_path, old):
    path = tmp_path / "result.json"
    if old:
        path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replace_file(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [p.read_text() for p in tmp_path.iterdir()] == (["old"] if old else [])


@pytest.mark.skipif(os.name == "nt", reason="file modes of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_replaced_file_is_as_readable_as_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        with replace_file(tmp_path / "result") as temporary:
            temporary.write_text("x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result").stat().st_mode) == 0o666 & ~umask
