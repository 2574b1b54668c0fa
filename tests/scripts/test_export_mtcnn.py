"""The detector's graphs are what the script makes of facenet-pytorch's networks."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "maintain"))
import export_mtcnn  # noqa: E402

FOLDER = ROOT / "ssrnet_hub" / "inference" / "mtcnn"


@pytest.fixture(scope="module")
def files():
    return dict(export_mtcnn.make_files())


def test_the_folder_has_these_files_alone(files):
    # the last one is trained by train_cut_faces.py
    assert {path.name for path in FOLDER.iterdir()} == {*files, "cut_faces.onnx"}
    assert (FOLDER / "LICENSE").read_bytes() == files["LICENSE"]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3_000_000


@pytest.mark.parametrize("name", export_mtcnn.GRAPHS)
def test_the_graphs_are_what_the_script_writes(files, name):
    kept, made = onnx.load(FOLDER / name).graph, onnx.load_model_from_string(files[name]).graph
    for part in ("node", "input", "output"):
        assert [str(value) for value in getattr(kept, part)] == [str(value) for value in getattr(made, part)]
    assert [value.name for value in kept.initializer] == [value.name for value in made.initializer]
    for value, same in zip(kept.initializer, made.initializer, strict=True):
        np.testing.assert_allclose(numpy_helper.to_array(value), numpy_helper.to_array(same), rtol=1e-6, atol=1e-9)


def test_the_same_bytes_each_time(files):
    assert dict(export_mtcnn.make_files()) == files
