"""The benchmark's own arithmetic; what it measures is no matter of tests."""

import runpy
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        # as when it is started
        patch.syspath_prepend(SCRIPT.parent)
        return runpy.run_path(str(SCRIPT))


def test_contestants_take_turns(benchmark, monkeypatch):
    now, calls = [0.0], []

    def run(name, seconds):
        def go():
            calls.append(name)
            now[0] += seconds

        return go

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    rows = benchmark["take_turns"]({"a": run("a", 0.25), "b": run("b", 0.5)}, 3, warm_up=1)
    # the first run of each turn is not timed
    assert calls == ["a", "a", "b", "b"] * 4
    assert rows["a"] == {"ms": 250.0, "ms_quartiles": [250.0, 250.0], "ratio": 1.0}
    assert rows["b"] == {"ms": 500.0, "ms_quartiles": [500.0, 500.0], "ratio": 2.0}
    calls.clear()
    benchmark["take_turns"]({"a": run("a", 0.25), "b": run("b", 0.5)}, 2, warm_up=0, settle=False)
    assert calls == ["a", "b"] * 2


def test_spread_is_of_the_quarters(benchmark):
    assert benchmark["spread"]([5, 1, 2, 4, 3]) == {"ms": 3.0, "ms_quartiles": [2.0, 4.0]}


def test_plain_way_finds_the_same_face(benchmark, astronaut, tmp_path, estimator):
    import timm
    from facenet_pytorch import MTCNN

    astronaut.save(tmp_path / "photo.png")
    ((box, score, age),) = benchmark["run_plain"](
        tmp_path / "photo.png", MTCNN(keep_all=True), timm.create_model("ssrnet_blog").eval()
    )
    (face,) = estimator(astronaut)
    assert benchmark["iou"](box, face.box) > 0.8
    assert score > 0.95 and np.isfinite(age)


def test_sizes_are_those_of_files(benchmark):
    from ssrnet_hub.models.zoo import DEFAULT, ZOO

    sizes = benchmark["measure_sizes"]()
    assert sizes["model.safetensors"] == (ZOO[DEFAULT].folder / "model.safetensors").stat().st_size
    assert 150_000 < sizes["model.onnx"] < 1_200_000
