"""--record, for those who keep the package: never in an installed one."""

import csv

import pytest
from PIL import Image

from ssrnet_hub.models import zoo


@pytest.fixture
def labels(tmp_path):
    Image.new("RGB", (128, 128)).save(tmp_path / "0.png")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "age", "split"), ("0.png", 30, "val")])
    return tmp_path / "labels.csv"


@pytest.mark.parametrize("command", ["evaluate", "calibrate", "export"])
def test_figures_are_kept_in_a_clone_alone(run, monkeypatch, tmp_path, labels, command):
    site = tmp_path / "site-packages" / "ssrnet_hub" / "models"
    monkeypatch.setattr(zoo, "_FOLDER", site)
    output = ["--output", tmp_path / "out"] if command != "evaluate" else []
    code, out, err = run(command, "--labels", labels, "--record", *output)
    assert (code, out) == (1, "") and err.startswith("error: Results are recorded in a clone")
    assert not site.exists() and not (tmp_path / "out").exists()
