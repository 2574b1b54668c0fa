"""Photos to ages on a cluster of Ray of two cores, one of whose workers is killed."""

import tempfile
import threading
import time

import psutil
import pyarrow.parquet
import pytest
from PIL import Image

from ssrnet_hub.batch.local import Predictor, Task
from ssrnet_hub.batch.records import to_rows
from ssrnet_hub.cli import main
from ssrnet_hub.errors import OutputError

ray = pytest.importorskip("ray")
distributed = pytest.importorskip("ssrnet_hub.batch.ray_data")


@pytest.fixture(scope="module")
def cluster():
    """A cluster on this machine; its address is not looked up anywhere else."""
    # pytest's folders have names too long for Ray's sockets
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=folder)
        ray.shutdown()


@pytest.fixture(scope="module")
def paths(tmp_path_factory, astronaut):
    folder = tmp_path_factory.mktemp("photos")
    head = astronaut.crop((130, 10, 330, 250))
    for number in range(80):
        image = Image.new("RGB", (80 + number % 5, 96)) if number % 7 == 0 else head.resize((80 + number % 5, 96))
        image.save(folder / f"{number:03}.png")
    (folder / "damaged.png").write_bytes((folder / "001.png").read_bytes()[:500])
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(paths):
    """What each photo is answered without Ray: faces and errors."""
    photos = Predictor()([Task(str(path), path) for path in paths])
    return sorted((row["file"], row.get("face"), row.get("error")) for photo in photos for row in to_rows(photo))


def read(folder):
    rows = pyarrow.parquet.read_table(folder).to_pylist()
    return sorted((row["file"], row["face"], row["error"]) for row in rows)


def kill_an_actor(killed):
    """Kill a worker that is looking at photos, as soon as there is one."""
    while not killed:
        for process in psutil.process_iter(["cmdline"]):
            name = " ".join(process.info["cmdline"] or ())
            if name.startswith("ray::") and "Actor" in name and "MapBatches" in name and "submit" in name:
                process.kill()
                killed.append(name)
                return
        time.sleep(0.01)


def test_each_photo_is_there_once_although_a_worker_is_killed(cluster, tmp_path, paths, expected):
    killed = []
    killer = threading.Thread(target=kill_an_actor, args=(killed,), daemon=True)
    killer.start()
    counts = distributed.predict_ray(paths, tmp_path / "out.parquet")
    assert killed
    assert read(tmp_path / "out.parquet") == expected
    assert counts == (len(paths), 1)
    with pytest.raises(OutputError, match="already exists"):
        distributed.predict_ray(paths, tmp_path / "out.parquet")


def test_a_dataset_of_files(cluster, tmp_path, paths):
    few = [str(path) for path in paths[:20]]
    dataset = ray.data.read_binary_files(few, include_paths=True)
    counts = distributed.predict_ray(dataset, tmp_path / "out", concurrency=1, explain=True)
    rows = pyarrow.parquet.read_table(tmp_path / "out").to_pylist()
    assert counts == (20, 0)
    assert sorted({row["file"] for row in rows}) == few
    assert all("stage 1 says" in row["explanation"] for row in rows if row["face"])


def test_photos_without_a_face(cluster, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "empty.png")
    assert distributed.predict_ray([tmp_path / "empty.png"], tmp_path / "out", concurrency=1) == (1, 0)


def test_the_command(cluster, tmp_path, paths, monkeypatch, capsys):
    # the test has joined the cluster already
    monkeypatch.setattr(ray, "init", lambda address, **kwargs: None)
    output = tmp_path / "out.parquet"
    arguments = ["predict", *map(str, [*paths[:5], paths[-1]]), "--engine", "ray", "--output", str(output)]
    assert main(arguments) == 1
    assert "6 photos, 1 of them not read" in capsys.readouterr().err
    assert len({row[0] for row in read(output)}) == 6
    with pytest.raises(SystemExit):
        main([*arguments, "--resume"])


@pytest.mark.parametrize("output", ["folder", "file", "link", "file://folder"])
def test_an_output_that_is_there(tmp_path, output):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    name = output.removeprefix("file://")
    with pytest.raises(OutputError, match="already exists"):
        distributed.predict_ray([tmp_path / "a.png"], output.replace(name, str(tmp_path / name)))
    assert (tmp_path / "folder" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "link").is_symlink()
