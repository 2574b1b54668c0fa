"""Output in parts: whole whenever one looks, each photo once, whatever ended the job."""

import csv
import json
import os
import shutil

import pyarrow.parquet
import pytest

from ssrnet_hub.batch import output as module
from ssrnet_hub.batch.output import FORMATS, JobOutput
from ssrnet_hub.errors import OutputError

SETTINGS = {"explain": False}

every_format = pytest.mark.parametrize("suffix", FORMATS)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Every write is a part."""
    monkeypatch.setattr(module, "_EVERY", -1.0)


def photo(name, faces=1, error=None):
    face = {"age": 30.25, "raw_age": 30.25, "in_range": True, "interval": [20.04, 41.0], "reliable": True}
    face |= {"box": [1.0, 2.0, 3.0, 4.25], "score": 0.98765, "aligned": True, "gender_score": None}
    return {"file": name, "faces": [face] * faces, "error": error}


def read(path):
    """Names of the photos in a file, a row or object each."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return [row["file"] for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [json.loads(line)["file"] for line in path.read_text(encoding="utf-8").splitlines()]
    return pyarrow.parquet.read_table(path).column("file").to_pylist()


NAMES = ["a.jpg", 'quoted, "b".jpg', "two\nlines\r.jpg", "é.jpg", "none.jpg", "broken.jpg"]
PHOTOS = [photo(name) for name in NAMES[:4]] + [photo("none.jpg", 0), photo("broken.jpg", 0, "is damaged")]


@every_format
def test_parts_are_joined_in_order(tmp_path, suffix):
    output = tmp_path / "deep" / f"out{suffix}"
    parts = JobOutput(output, SETTINGS)
    assert (parts.done, parts.failed) == (set(), set())
    for one in PHOTOS:
        parts.write([one])
        assert not output.exists()
    assert [read(path) for path in parts._files()] == [[name] for name in NAMES]
    parts.finish()
    assert read(output) == NAMES
    assert [path.name for path in output.parent.iterdir()] == [output.name]


@every_format
def test_nothing_to_write(tmp_path, suffix):
    JobOutput(tmp_path / f"out{suffix}", SETTINGS).finish()
    assert read(tmp_path / f"out{suffix}") == []


@every_format
def test_a_job_goes_on(tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    first = JobOutput(output, SETTINGS)
    first.write(PHOTOS[4:])
    first.write(PHOTOS[:1])
    first.close()
    with pytest.raises(OutputError, match=r"(?s)out.*\.parts.*--resume"):
        JobOutput(output, SETTINGS)

    second = JobOutput(output, SETTINGS, resume=True)
    assert second.done == {"none.jpg", "broken.jpg", "a.jpg"} and second.failed == {"broken.jpg"}
    second.write(PHOTOS[1:2])
    second.finish()
    assert read(output) == ["none.jpg", "broken.jpg", "a.jpg", 'quoted, "b".jpg']
    with pytest.raises(OutputError, match=r"out.* already exists.*--resume"):
        JobOutput(output, SETTINGS)

    third = JobOutput(output, SETTINGS, resume=True)
    assert len(third.done) == 4
    third.write(PHOTOS[2:4])
    assert len(read(output)) == 4  # as it was, until all is done
    third.finish()
    assert read(output)[4:] == NAMES[2:4] and len(read(output)) == 6


@every_format
@pytest.mark.parametrize("left", [1, 2, 3], ids="{} parts left".format)
def test_a_job_that_was_killed_while_it_cleaned_up(tmp_path, suffix, left):
    output = tmp_path / f"out{suffix}"
    parts = JobOutput(output, SETTINGS)
    for one in PHOTOS[:3]:
        parts.write([one])
    copy = tmp_path / "copy"
    shutil.copytree(parts._folder, copy, ignore=shutil.ignore_patterns("lock"))
    folder = parts._folder
    parts.finish()
    for path in sorted(copy.glob("0*"))[:-left]:
        path.unlink()
    copy.rename(folder)
    again = JobOutput(output, SETTINGS, resume=True)
    assert again.done == set(NAMES[:3])
    again.write(PHOTOS[3:])
    again.finish()
    assert read(output) == NAMES


@every_format
def test_what_was_half_written_is_not_there(tmp_path, suffix, monkeypatch):
    output = tmp_path / f"out{suffix}"
    parts = JobOutput(output, SETTINGS)
    parts.write(PHOTOS[:1])
    for name in ("write", "join"):
        whole = getattr(FORMATS[suffix], name)

        def cut_off(what, path, columns, whole=whole):
            whole(what, path, columns)
            path.write_bytes(path.read_bytes()[:-5])
            raise KeyboardInterrupt

        monkeypatch.setattr(parts, "_format", parts._format._replace(**{name: cut_off}))
        with pytest.raises(KeyboardInterrupt):
            parts.write(PHOTOS[1:2]) if name == "write" else parts.finish()
        monkeypatch.undo()
        monkeypatch.setattr(module, "_EVERY", -1.0)
        parts._waiting = []
    assert not output.exists() and [read(path) for path in parts._files()] == [["a.jpg"]]
    assert not list(parts._folder.glob(".*"))


def test_two_jobs_at_once(tmp_path):
    first = JobOutput(tmp_path / "out.csv", SETTINGS)
    with pytest.raises(OutputError, match="Another job is writing"):
        JobOutput(tmp_path / "out.csv", SETTINGS, resume=True)
    first.finish()


def test_a_job_that_wrote_nothing_leaves_nothing(tmp_path):
    JobOutput(tmp_path / "out.csv", SETTINGS).close()
    assert not list(tmp_path.iterdir())
    JobOutput(tmp_path / "out.csv", SETTINGS).finish()
    with pytest.raises(OutputError, match="is not what this job would write"):
        JobOutput(tmp_path / "out.csv", {"explain": True}, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_settings_that_are_damaged(tmp_path):
    parts = JobOutput(tmp_path / "out.csv", SETTINGS)
    parts.write(PHOTOS[:1])
    parts.close()
    (tmp_path / "out.csv.parts" / "job.json").write_text("")
    with pytest.raises(OutputError, match=r"job\.json is damaged"):
        JobOutput(tmp_path / "out.csv", SETTINGS, resume=True)


def tree(folder):
    """All that is in a folder, links as they are."""
    there = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    return {n: str(p.readlink()) if p.is_symlink() else p.is_file() and p.read_bytes() for n, p in there.items()}


@pytest.fixture
def left(tmp_path):
    """The folder of a job that was cut off after two parts."""
    parts = JobOutput(tmp_path / "out.csv", SETTINGS)
    parts.write(PHOTOS[:1])
    parts.write(PHOTOS[1:2])
    parts.close()
    return tmp_path / "out.csv.parts"


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "names",
    [
        [],
        ["notes.txt"],
        ["00000000.csv"],
        ["lock"],
        ["job.json"],
        ["2024-holiday.csv", "lock"],
        ["deep/er/photo.jpg"],
    ],
    ids=str,
)
def test_a_folder_of_somebody_else(tmp_path, names, resume):
    folder = tmp_path / "out.csv.parts"
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match=r"out\.csv\.parts is not the folder of a job"):
        JobOutput(tmp_path / "out.csv", SETTINGS, resume=resume)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "2024-holiday.csv",
        "00000000.csv~",
        "00000002.csv",  # of the two that are counted, none
        "00000000.jsonl",
        ".00000002-abcdefgh.csv",
        "0000001.csv",
        "\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661.csv",
        "..csv",
        "new\nline",
        "job.json.bak",
    ],
)
def test_what_somebody_put_beside_the_parts(tmp_path, left, name, resume):
    (left / name).write_text("file,age\n")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="is not the folder of a job: no job wrote") as e:
        JobOutput(tmp_path / "out.csv", SETTINGS, resume=resume)
    assert repr(name) in str(e.value) and "\n" not in str(e.value)
    assert tree(tmp_path) == before
    # nor where the job is another one
    with pytest.raises(OutputError):
        JobOutput(tmp_path / "out.csv", {"explain": True}, resume=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["job.json", "lock", "00000000.csv", "00000001.csv", ".00000000-abcdefgh.csv"])
@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe"])
def test_what_is_no_file_among_the_parts(tmp_path, left, name, kind):
    mine = tmp_path / "mine"
    if (left / name).exists():
        (left / name).rename(mine)
    else:
        mine.write_text("mine")
    if kind == "folder":
        (left / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(left / name)
    else:
        (left / name).symlink_to(mine if kind == "link" else tmp_path / "nowhere")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="is not the folder of a job"):
        JobOutput(tmp_path / "out.csv", SETTINGS, resume=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_is_a_link(tmp_path, left, resume):
    left.rename(tmp_path / "elsewhere")
    for target in ("elsewhere", "nowhere"):
        left.symlink_to(tmp_path / target)
        before = tree(tmp_path)
        with pytest.raises(OutputError, match="or is a link"):
            JobOutput(tmp_path / "out.csv", SETTINGS, resume=resume)
        assert tree(tmp_path) == before
        left.unlink()


@every_format
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe"])
def test_an_output_that_is_no_file(tmp_path, suffix, kind, resume):
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    JobOutput(whole, SETTINGS).finish()
    if kind == "folder":
        output.mkdir()
    elif kind == "pipe":
        os.mkfifo(output)
    else:
        output.symlink_to(whole if kind == "link" else tmp_path / "nowhere")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="choose another file"):
        JobOutput(output, SETTINGS, resume=resume)
    assert tree(tmp_path) == before


def test_what_comes_while_the_job_runs_stays(tmp_path):
    parts = JobOutput(tmp_path / "out.csv", SETTINGS)
    parts.write(PHOTOS[:1])
    (tmp_path / "out.csv.parts" / "notes.txt").write_text("mine")
    (tmp_path / "out.csv.parts" / "00000007.csv").symlink_to(tmp_path / "out.csv.parts" / "notes.txt")
    parts.write(PHOTOS[1:2])
    parts.finish()
    assert read(tmp_path / "out.csv") == NAMES[:2]
    assert {path.name for path in (tmp_path / "out.csv.parts").iterdir()} == {"notes.txt", "00000007.csv"}


def test_a_part_that_is_in_the_way(tmp_path):
    parts = JobOutput(tmp_path / "out.csv", SETTINGS)
    parts.write(PHOTOS[:1])
    mine = tmp_path / "out.csv.parts" / "00000001.csv"
    mine.write_text("mine")
    with pytest.raises(OutputError, match="was not written by this job"):
        parts.write(PHOTOS[1:2])
    with pytest.raises(OutputError, match="was not written by this job"):
        parts.close()
    assert mine.read_text() == "mine"


def test_what_a_kill_leaves_of_a_write_is_removed(tmp_path, left):
    for name in (".00000001-abc_def0.csv", ".job-abc_def0.json"):
        (left / name).write_text("half a ro")
    parts = JobOutput(tmp_path / "out.csv", SETTINGS, resume=True)
    assert parts.done == set(NAMES[:2])
    parts.finish()
    assert read(tmp_path / "out.csv") == NAMES[:2] and [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_a_part_that_was_announced_and_never_written(tmp_path, left):
    state = json.loads((left / "job.json").read_text())
    (left / "job.json").write_text(json.dumps({**state, "parts": 3}))
    parts = JobOutput(tmp_path / "out.csv", SETTINGS, resume=True)
    parts.write(PHOTOS[2:])
    parts.finish()
    assert read(tmp_path / "out.csv") == NAMES


@pytest.mark.parametrize(
    "change",
    [{"parts": -1}, {"parts": 1e400}, {"parts": True}, {"parts": "2"}, {"job": "other"}, {"settings": []}, {"more": 1}],
    ids=str,
)
def test_a_state_that_is_none(tmp_path, left, change):
    state = json.loads((left / "job.json").read_text())
    (left / "job.json").write_text(json.dumps({**state, **change}))
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="is not the folder of a job"):
        JobOutput(tmp_path / "out.csv", SETTINGS, resume=True)
    assert tree(tmp_path) == before


def test_a_count_beyond_all_bounds(tmp_path, left):
    state = json.loads((left / "job.json").read_text())
    (left / "job.json").write_text(json.dumps({**state, "parts": 10**400}))
    parts = JobOutput(tmp_path / "out.csv", SETTINGS, resume=True)
    assert parts.done == set(NAMES[:2])
    parts.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_a_refused_job_leaves_the_one_that_was_cut_off(tmp_path, left):
    before = tree(tmp_path)
    for settings, resume in (({"explain": True}, True), (SETTINGS, False)):
        with pytest.raises(OutputError):
            JobOutput(tmp_path / "out.csv", settings, resume=resume)
        assert tree(tmp_path) == before
    (tmp_path / "out.csv").write_text("not ours")
    with pytest.raises(OutputError, match="is not what this job would write"):
        JobOutput(tmp_path / "out.csv", SETTINGS, resume=True)
    assert tree(tmp_path) == {**before, "out.csv": b"not ours"}


def test_a_name_with_a_zero_byte(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        JobOutput(tmp_path / "a\0.csv", SETTINGS)


def test_a_full_disk(tmp_path, monkeypatch):
    parts = JobOutput(tmp_path / "out.csv", SETTINGS)

    def fail(photos, path, columns):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts, "_format", parts._format._replace(write=fail))
    with pytest.raises(OutputError, match=r"cannot be written.*No space left"):
        parts.write(PHOTOS[:1])


def test_other_settings(tmp_path):
    parts = JobOutput(tmp_path / "out.csv", {"explain": False, "gender": "a"})
    parts.write(PHOTOS[:1])
    parts.close()
    with pytest.raises(OutputError, match="gender 'a', now None") as e:
        JobOutput(tmp_path / "out.csv", {"explain": False}, resume=True)
    assert "explain" not in str(e.value)
    JobOutput(tmp_path / "out.csv", {"explain": False, "gender": "a"}, resume=True).finish()


@every_format
@pytest.mark.parametrize(
    "content", [b"", b"file,age\na.jpg,3\n", b'{"name": 1}\n', b"[1]\n", b"\xff\xfe"], ids=range(5)
)
def test_an_output_of_something_else(tmp_path, suffix, content):
    if suffix == ".jsonl" and not content:
        pytest.skip("no lines are a JSONL file")
    (tmp_path / f"out{suffix}").write_bytes(content)
    for _ in range(2):  # the first leaves no lock behind
        with pytest.raises(OutputError, match="is not what this job would write"):
            JobOutput(tmp_path / f"out{suffix}", SETTINGS, resume=True)
    assert (tmp_path / f"out{suffix}").read_bytes() == content


@pytest.mark.parametrize("name", ["out", "out.txt", "out.json"])
def test_an_output_of_another_kind(tmp_path, name):
    with pytest.raises(OutputError, match=r"\.csv, \.jsonl, \.parquet"):
        JobOutput(tmp_path / name, SETTINGS)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        JobOutput(tmp_path / "file" / "out.csv", SETTINGS)


def test_rows_of_parquet_have_types(tmp_path):
    parts = JobOutput(tmp_path / "out.parquet", {"explain": True})
    parts.write([{**PHOTOS[0], "faces": [{**PHOTOS[0]["faces"][0], "explanation": "stage 1 says 30"}]}, PHOTOS[5]])
    parts.finish()
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    first, second = table.to_pylist()
    assert first["face"] == 1 and first["age"] == 30.25 and (first["low"], first["high"]) == (20.0, 41.0)
    assert first["reliable"] is True and first["y2"] == 4.2 and first["explanation"] == "stage 1 says 30"
    assert second["error"] == "is damaged" and second["age"] is None
    assert {str(field.type) for field in table.schema} == {"string", "int32", "double", "bool"}


def test_parquet_is_joined_to_large_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ROW_GROUP", 4)
    parts = JobOutput(tmp_path / "out.parquet", SETTINGS)
    for number in range(10):
        parts.write([photo(f"{number}.jpg")])
    parts.finish()
    assert read(tmp_path / "out.parquet") == [f"{number}.jpg" for number in range(10)]
    assert pyarrow.parquet.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3


@every_format
def test_a_job_that_starts_anew(tmp_path, suffix):
    output, others = tmp_path / f"out{suffix}", {**SETTINGS, "device": "cuda"}
    parts = JobOutput(output, SETTINGS)
    parts.write([photo("a"), photo("b")])
    parts.finish()
    parts = JobOutput(output, SETTINGS, resume=True)
    parts.write([photo("z")])
    parts.close()
    # of other settings, so that no job goes on with it
    parts = JobOutput(output, others, overwrite=True)
    assert not parts.done and not parts._files()
    parts.write([photo("c")])
    parts.close()
    assert read(output) == ["a", "b"]
    # goes on with the new job, not with what it replaces
    parts = JobOutput(output, others, resume=True)
    assert parts.done == {"c"}
    parts.write([photo("d")])
    parts.finish()
    assert read(output) == ["c", "d"] and list(tmp_path.iterdir()) == [output]
    # and from then on with both
    parts = JobOutput(output, others, resume=True)
    assert parts.done == {"c", "d"}
    parts.close()


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_no_output_is_not_overwritten(tmp_path, kind):
    output = tmp_path / "out.csv"
    output.symlink_to(tmp_path / "other.csv") if kind == "link" else output.mkdir()
    with pytest.raises(OutputError, match="choose another file"):
        JobOutput(output, SETTINGS, overwrite=True)


def test_a_folder_of_somebody_else_is_not_overwritten(tmp_path):
    (tmp_path / "out.csv.parts").mkdir()
    (tmp_path / "out.csv.parts" / "mine.csv").write_text("mine")
    with pytest.raises(OutputError, match="not the folder of a job"):
        JobOutput(tmp_path / "out.csv", SETTINGS, overwrite=True)
    assert (tmp_path / "out.csv.parts" / "mine.csv").read_text() == "mine"
