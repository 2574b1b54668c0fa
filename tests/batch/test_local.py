"""Many photos: the ages of each alone, in order, and each once, whoever is killed."""

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet
import pytest
from PIL import Image

from ssrnet_hub.batch import local as jobs
from ssrnet_hub.batch.local import Predictor, Task, count_cores, predict_files
from ssrnet_hub.batch.records import describe_photo, to_rows
from ssrnet_hub.cli import main
from ssrnet_hub.errors import DeviceError, OutputError, WeightsNotFoundError

from ..pictures import write_nasty


@pytest.fixture(scope="module")
def head(astronaut):
    return astronaut.crop((130, 10, 330, 250))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, head):
    """Forty photos of several sizes with a face, none and two, and some that cannot be read."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(35):
        width = 60 + 20 * (number % 5)
        image = Image.new("RGB", (2 * width, width * 6 // 5), (number, 100, 90))
        for place in range(number % 3):
            image.paste(head.resize((width, width * 6 // 5)), (place * width, 0))
        image.save(folder / f"{number:02}.png")
    write_nasty(folder, head.resize((100, 120)))
    return folder


@pytest.fixture(scope="module")
def tasks(folder):
    return [Task(path.name, path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def expected(tasks):
    """What each photo is answered alone."""
    annotator = Predictor()
    return [annotator([task])[0] for task in tasks]


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_same(found, expected):
    """The same photos in the same order with the same faces, but for rounding."""
    assert [photo["file"] for photo in found] == [photo["file"] for photo in expected]
    for a, b in zip(found, expected, strict=True):
        assert a["error"] == b["error"]
        assert len(a["faces"]) == len(b["faces"])
        for face, other in zip(a["faces"], b["faces"], strict=True):
            assert face["age"] == pytest.approx(other["age"], abs=0.02)
            np.testing.assert_allclose(face["box"], other["box"], atol=0.1)


def test_photos_together_are_as_each_alone(tasks, expected):
    assert_same(Predictor()(tasks), expected)
    assert {photo["error"] is None for photo in expected} == {True, False}
    assert {len(photo["faces"]) for photo in expected} == {0, 1, 2}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_writes_all_in_order(tmp_path, tasks, expected, workers):
    told = []
    counts = predict_files(tasks, tmp_path / "out.jsonl", workers=workers, report=told.extend)
    found = read_jsonl(tmp_path / "out.jsonl")
    assert_same(found, expected)
    assert found == told
    assert counts == (len(tasks), 5)


def test_a_table_has_a_row_a_face(tmp_path, tasks, expected):
    predict_files(tasks, tmp_path / "out.csv", workers=1, explain=True)
    predict_files(tasks, tmp_path / "out.parquet", workers=1, explain=True)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [row for photo in expected for row in to_rows(photo)]
    assert [(row["file"], row["face"]) for row in rows] == [(r["file"], str(r.get("face") or "")) for r in wanted]
    assert all("stage 1 says" in row["explanation"] for row in rows if row["face"])
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["file"], row["face"], row["error"]) for row in table] == [
        (row["file"], row.get("face"), row.get("error")) for row in wanted
    ]


def test_boxes_and_errors_of_a_task(tmp_path, head, estimator):
    head.save(tmp_path / "a.png")
    tasks = [
        Task("boxed", tmp_path / "a.png", [(10, 10, 190, 230)]),
        Task("searched", tmp_path / "a.png"),
        Task("none", tmp_path / "none.png", None, "there is none"),
        Task("outside", tmp_path / "a.png", [(500, 500, 600, 600)]),
        Task("content", (tmp_path / "a.png").read_bytes()),
    ]
    boxed, searched, none, outside, content = Predictor(explain=True)(tasks)
    assert boxed == describe_photo("boxed", estimator(head, boxes=[(10, 10, 190, 230)]), None, True)
    assert searched["faces"] == content["faces"] and len(searched["faces"]) == 1 and not searched["error"]
    assert none == {"file": "none", "faces": [], "pages": None, "error": "there is none"}
    assert "outside" in outside["error"] and not outside["faces"]


def test_no_photos(tmp_path):
    assert predict_files([], tmp_path / "out.jsonl") == (0, 0)
    assert (tmp_path / "out.jsonl").read_bytes() == b""


@pytest.mark.parametrize("workers", [1, 2])
def test_weights_that_are_not_there(tmp_path, tasks, workers):
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsNotFoundError, match=r"config\.json"):
        predict_files(tasks, tmp_path / "out.csv", workers=workers, model=str(tmp_path / "empty"))


def interrupt(photos):
    raise KeyboardInterrupt


def test_an_interrupted_job_keeps_what_it_has(tmp_path, tasks, expected):
    output = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        predict_files(tasks, output, workers=1, report=interrupt)
    assert not output.exists()
    with pytest.raises(OutputError, match="--resume"):
        predict_files(tasks, output, workers=1)
    done = []
    counts = predict_files(tasks, output, workers=1, resume=True, begin=done.append)
    assert done == [16] and counts == (len(tasks), 5)
    assert_same(read_jsonl(output), expected)


def test_a_job_with_boxes_is_another_one(tmp_path, tasks):
    with pytest.raises(KeyboardInterrupt):
        predict_files(tasks, tmp_path / "out.csv", workers=1, report=interrupt)
    boxed = [task._replace(boxes=[(10, 10, 190, 230)]) for task in tasks]
    with pytest.raises(OutputError, match="other settings: boxes None, now True"):
        predict_files(boxed, tmp_path / "out.csv", workers=1, resume=True)


def test_photos_that_came_later_are_added(tmp_path, tasks, expected):
    output = tmp_path / "out.jsonl"
    predict_files(tasks[5:], output, workers=1)
    predict_files(tasks, output, workers=1, resume=True)
    assert_same(read_jsonl(output), expected[5:] + expected[:5])


def test_names_that_are_not_utf8(tmp_path, tasks, expected):
    odd = [tasks[0]._replace(file="caf\udce9.png"), *tasks[1:3]]
    for _ in range(2):
        predict_files(odd, tmp_path / "out.jsonl", workers=1, resume=True)
        rows = read_jsonl(tmp_path / "out.jsonl")
        assert [row["file"] for row in rows] == ["caf\\udce9.png", tasks[1].file, tasks[2].file]
    assert rows[0]["faces"] == expected[0]["faces"]


# workers that die


def test_a_worker_that_is_killed(tmp_path, tasks, expected, monkeypatch):
    # work is left when the first photos are reported
    monkeypatch.setattr("ssrnet_hub.batch.local._CHUNK", 2)
    killed = []

    def kill_one(photos):
        if not killed:
            worker = random.choice(workers_of(os.getpid()))
            worker.kill()
            killed.append(worker)

    predict_files(tasks, tmp_path / "out.jsonl", workers=2, report=kill_one)
    assert killed
    assert_same(read_jsonl(tmp_path / "out.jsonl"), expected)


def test_a_worker_that_is_killed_between_results(tmp_path, tasks, expected, monkeypatch):
    """The pool knows before the next photos are sent to it."""
    monkeypatch.setattr("ssrnet_hub.batch.local._CHUNK", 1)
    killed = []

    def kill_all(photos):
        if not killed:
            for worker in workers_of(os.getpid()):
                worker.kill()
                killed.append(worker)
            # until the thread of the pool has seen it; to wait for the workers would take their ends away from it
            time.sleep(3)

    predict_files(tasks, tmp_path / "out.jsonl", workers=2, report=kill_all)
    assert killed
    assert_same(read_jsonl(tmp_path / "out.jsonl"), expected)


def workers_of(process):
    """The processes that multiprocessing spawned, without its resource tracker."""
    children = psutil.Process(process).children()
    return [child for child in children if any("spawn_main" in part for part in child.cmdline())]


DEADLY = """
import os, sys
from pathlib import Path
from ssrnet_hub.batch import local as jobs

open_source = jobs.open_source

def deadly(photo, *args):
    if Path(photo).name == "07.png":
        os.kill(os.getpid(), 9)
    return open_source(photo, *args)

jobs.open_source = deadly

if __name__ == "__main__":
    tasks = [jobs.Task(path.name, path) for path in sorted(Path(sys.argv[1]).iterdir())]
    print(*jobs.predict_files(tasks, sys.argv[2], workers=2))
"""


def test_a_photo_that_kills_its_worker(tmp_path, folder, expected):
    script = tmp_path / "deadly.py"
    script.write_text(DEADLY)
    output = tmp_path / "out.jsonl"
    said = subprocess.run([sys.executable, script, folder, output], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [str(len(expected)), "6"]
    found = read_jsonl(output)
    assert "ended the process" in found[7]["error"] and not found[7]["faces"]
    found[7] = expected[7]
    assert_same(found, expected)


def test_a_program_without_a_guard(tmp_path, tasks):
    script = tmp_path / "unguarded.py"
    script.write_text(DEADLY.replace('if __name__ == "__main__":', "if True:"))
    folder = tasks[0].photo.parent
    said = subprocess.run([sys.executable, script, folder, tmp_path / "out.csv"], capture_output=True, text=True)
    assert said.returncode and "WorkerError" in said.stderr and 'guarded by if __name__ == "__main__"' in said.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["unguarded.py"]


def test_a_name_that_is_no_utf8(tmp_path, head):
    photo = os.fsdecode(bytes(tmp_path) + b"/broken\xff\r.jpg")
    Path(photo).write_bytes(b"no picture")
    for suffix in (".csv", ".parquet"):
        assert main(["predict", photo, "--output", str(tmp_path / f"out{suffix}")]) == 1
        assert names_in(tmp_path / f"out{suffix}") == [f"{tmp_path}/broken\\udcff\r.jpg"]


def test_a_device_that_is_none(tmp_path, tasks):
    with pytest.raises(DeviceError):
        predict_files(tasks[:1], tmp_path / "out.csv", device="banana")
    assert not list(tmp_path.iterdir())


# kills of the whole job


def names_in(path: Path) -> list[str]:
    """Names of the photos in a file that has to be whole."""
    if path.suffix == ".jsonl":
        text = path.read_text(encoding="utf-8")
        assert not text or text.endswith("\n")
        return [json.loads(line)["file"] for line in text.splitlines()]
    if path.suffix == ".parquet":
        rows = pyarrow.parquet.read_table(path).to_pylist()
    else:
        with path.open(newline="", encoding="utf-8") as file:
            text = file.read()
        assert text.endswith("\n")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        assert all(None not in row and None not in row.values() for row in rows)
    return list(dict.fromkeys(row["file"] for row in rows))


@pytest.mark.parametrize(("suffix", "rounds"), [(".csv", 3), (".parquet", 1)])
def test_a_job_that_is_killed_again_and_again(tmp_path, head, suffix, rounds):
    """Killed at a random moment and resumed: each photo exactly once, and whole files at every moment."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(120):
        head.resize((200 + number % 3, 250)).save(photos / f"{number:03}.png")
    names = sorted(map(str, photos.iterdir()))
    output = tmp_path / f"out{suffix}"
    command = [sys.executable, "-m", "ssrnet_hub.cli", "predict", photos, "--output", output, "--resume"]

    def parts_of(output):
        return set(tmp_path.glob(f"{output.name}.parts/[0-9]*"))

    kills = 0
    while kills < rounds or not output.exists():
        if output.exists():
            # it was faster than the kill, or the first
            assert sorted(names_in(output)) == names
            output.unlink()
        before = parts_of(output)
        job = subprocess.Popen([*command, "--workers", str(1 + kills % 2)], stderr=subprocess.PIPE, text=True)
        children: list[psutil.Process] = []
        if kills < rounds:
            while parts_of(output) <= before and job.poll() is None:
                time.sleep(0.005)
            time.sleep(random.uniform(0, 0.5))
            children = workers_of(job.pid) if job.poll() is None else []
            job.send_signal(signal.SIGKILL)
        _, said = job.communicate()
        assert job.returncode in (0, -signal.SIGKILL), said
        if job.returncode:
            kills += 1
            seen = [name for path in parts_of(output) for name in names_in(path)]
            assert seen and len(seen) == len(set(seen))
            # its workers do not outlive it
            psutil.wait_procs(children, timeout=20)
            assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert sorted(names_in(output)) == names
    assert "120 photos" in said
    assert {path.name for path in tmp_path.iterdir()} == {"photos", output.name}


def test_cores():
    assert 1 <= count_cores() <= os.cpu_count()
    assert jobs._default_workers("cpu") == jobs._default_workers(None) == count_cores()
    assert jobs._default_workers("cuda") == min(4, count_cores())
