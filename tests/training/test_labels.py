"""Labels files in, files out."""

import math
import os
import stat
from pathlib import Path

import pytest

from ssrnet_hub import SSRNetHubError
from ssrnet_hub.errors import LabelsError
from ssrnet_hub.training.labels import Label, read_boxes, read_labels
from ssrnet_hub.utils.io import replace_file


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
    path = write('gender,age,split,file,note,ethnicity\nfemale,3,train,a.jpg,"x, y",other\n,4,val,b.jpg,,\n')
    assert read_labels(path) == [
        Label(path.parent / "a.jpg", 3, "train", "female", "other"),
        Label(path.parent / "b.jpg", 4, "val", None, None),
    ]


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
        ("name;years\na;1\n", "no column file, age"),
        ("file,age\na,old\n", "age is not a number.*old"),
        ("file,age\na,\n", "age is not a number"),
        ("file,age\na\n", "age is not a number"),
    ],
)
def test_refused(write, text, said):
    path = write(text)
    with pytest.raises(LabelsError, match=said) as e:
        read_labels(path)
    assert str(path) in str(e.value)
    assert isinstance(e.value, SSRNetHubError)


@pytest.mark.parametrize("age", ["nan", "inf", "-inf", "1e400", "1e300", "-1", "201", "1" * 5000])
def test_age_must_be_one_that_people_have(write, age):
    with pytest.raises(LabelsError, match="age is not a number"):
        read_labels(write(f"file,age\na,1\nb,{age}\n"))


def test_ranges_of_ages(write):
    path = write("file,age_min,age_max,split\na.jpg,20,29,val\nb.jpg,0,2,val\nc.jpg,70,,val\n")
    first, second, last = read_labels(path, "val", ranges=True)
    # both ends are in the range: someone is 29 until the day they are 30
    assert [label.age_range for label in (first, second, last)] == [(20, 30), (0, 3), (70, math.inf)]
    assert math.isnan(first.age) and first.path == path.parent / "a.jpg"
    with pytest.raises(LabelsError, match="no column age"):
        read_labels(path)


def test_ages_count_for_more_than_ranges(write):
    (label,) = read_labels(write("file,age,age_min,age_max\na.jpg,25,20,29\n"), ranges=True)
    assert (label.age, label.age_range) == (25, None)


@pytest.mark.parametrize("ends", ["29,20", "x,29", ",29", "-1,2", "20,201", "nan,3"])
def test_no_range(write, ends):
    with pytest.raises(LabelsError, match="not a number from 0 to"):
        read_labels(write(f"file,age_min,age_max\na.jpg,{ends}\n"), ranges=True)


def test_a_range_has_two_ends(write):
    with pytest.raises(LabelsError, match="no column age_max"):
        read_labels(write("file,age_min\na.jpg,3\n"), ranges=True)


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


# boxes in


def test_boxes(write):
    path = write(
        "score,x2,y2,file,x1,y1,error\n"
        "1,3,4,a.jpg,1,2,\n.9,7,8.5,b.jpg,5,-6,\n,,,none.jpg,,,\n.8,30,40,a.jpg,10,20,\n,,,broken.jpg,,,no picture\n"
    )
    boxes = read_boxes(path)
    assert boxes == {
        Path("a.jpg"): [("1", "2", "3", "4"), ("10", "20", "30", "40")],
        Path("b.jpg"): [("5", "-6", "7", "8.5")],
        Path("none.jpg"): [],
        Path("broken.jpg"): [],
    }
    assert list(boxes) == list(map(Path, ("a.jpg", "b.jpg", "none.jpg", "broken.jpg")))
    assert read_boxes(str(path)) == boxes


def test_boxes_are_not_checked_yet(write):
    path = write("file,x1,y1,x2,y2\na,1,,3,wide\nb,1\nc\nd,9,9,0,0,0,0\n")
    assert list(read_boxes(path).values()) == [
        [("1", "", "3", "wide")],
        [("1", "", "", "")],
        [],
        [("9", "9", "0", "0")],
    ]


def test_files_with_boxes_are_in_the_working_folder_or_else_beside_the_csv(write, tmp_path, monkeypatch):
    path = write("file,x1,y1,x2,y2\nboth,1,2,3,4\nbeside,1,2,3,4\nsub/beside,1,2,3,4\nneither,1,2,3,4\n")
    working = tmp_path / "working"
    (path.parent / "sub").mkdir()
    working.mkdir()
    for file in (working / "both", *(path.parent / name for name in ("both", "beside", "sub/beside"))):
        file.touch()
    monkeypatch.chdir(working)
    names = [Path("both"), path.parent / "beside", path.parent / "sub" / "beside", Path("neither")]
    assert list(read_boxes(path)) == names
    monkeypatch.chdir(path.parent)
    assert list(read_boxes(path.name)) == list(map(Path, ("both", "beside", "sub/beside", "neither")))
    path.write_text(f"file,x1,y1,x2,y2\n{working / 'both'},1,2,3,4\n")
    assert list(read_boxes(path)) == [working / "both"]


def test_a_photo_with_boxes_that_is_named_in_several_ways_is_one(write, monkeypatch):
    path = write("placeholder")
    (path.parent / "a.jpg").touch()
    monkeypatch.chdir(path.parent)
    names = ("a.jpg", path.parent / "a.jpg", "./a.jpg", path.parent / "sub" / ".." / "a.jpg")
    path.write_text("".join(("file,x1,y1,x2,y2\n", *(f"{name},{i},2,3,4\n" for i, name in enumerate(names)))))
    assert read_boxes(path) == {Path("a.jpg"): [(str(i), "2", "3", "4") for i in range(4)]}


def test_boxes_as_spreadsheets_write_them(write):
    path = write('"file","x1","y1","x2","y2"\r\n"é, 写.jpg","1","2","3","4"\r\n\r\n', "utf-8-sig")
    assert read_boxes(path) == {Path("é, 写.jpg"): [("1", "2", "3", "4")]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column file, x1, y1, x2, y2"),
        ("file,x1,y1,width,height\na,1,2,3,4\n", r"no column x2, y2\..*file, x1, y1, x2, y2"),
        ("x1,y1,x2,y2\n1,2,3,4\n", "no column file"),
        ("file;x1;y1;x2;y2\na;1;2;3;4\n", "no column file"),
        ("file,x1,y1,x2,y2\na,1,2,3,4\n,1,2,3,4\n", "without a file"),
    ],
)
def test_no_boxes(write, text, said):
    path = write(text)
    with pytest.raises(LabelsError, match=said) as e:
        read_boxes(path)
    assert str(path) in str(e.value)


def test_no_file_of_boxes(tmp_path, write):
    assert read_boxes(write("file,x1,y1,x2,y2\n")) == {}
    for path in (tmp_path / "none.csv", tmp_path, write("file,x1,y1,x2,y2\né,1,2,3,4\n", "utf-16")):
        with pytest.raises(LabelsError, match="cannot be read"):
            read_boxes(path)


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
