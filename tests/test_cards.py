"""Cards and README say what was measured of the weights of the zoo."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from huggingface_hub import ModelCard

from ssrnet_hub import save_pretrained, zoo
from ssrnet_hub.cards import name_weights, record_figures
from ssrnet_hub.errors import UnknownModelError
from ssrnet_hub.zoo import ZOO

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = [name for name, weights in ZOO.items() if weights.embedded]


def test_rendered_files_are_up_to_date():
    command = [sys.executable, ROOT / "scripts" / "render_cards.py", "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("weights", ZOO.values(), ids=str)
def test_everything_in_the_zoo_was_measured(weights):
    assert json.loads(weights.figures_file.read_text())["sha256"] == weights.sha256
    measured = {(m["dataset"], m["split"], m["detect"]) for m in weights.figures}
    assert measured >= {("utkface", "val", False), *[("fgnet", None, True)] * (not weights.ends)}


@pytest.mark.parametrize("name", EMBEDDED)
def test_front_matter(name):
    card = ModelCard.load(ROOT / "cards" / f"{name}.md")
    assert card.data.model_name == name
    assert card.data.library_name == "timm"
    stated = [result.metric_value for result in card.data.eval_results]
    assert stated == [round(m["mae"], 2) for m in ZOO[name].figures]


@pytest.fixture
def figures_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "_FOLDER", tmp_path)


def test_recorded_figures_replace_those_on_the_same_data(figures_folder):
    figures = {"dataset": "faces", "split": "val", "detect": False, "mae": 6.0}
    record_figures("ssrnet.utkface", figures)
    record_figures("ssrnet.utkface", {**figures, "split": "test", "mae": 7.0})
    record_figures("ssrnet.utkface", {**figures, "mae": 5.0})
    assert sorted(m["mae"] for m in ZOO["ssrnet.utkface"].figures) == [5.0, 7.0]


def test_figures_of_other_bytes_are_dropped(figures_folder):
    weights = ZOO["ssrnet.utkface"]
    weights.figures_file.parent.mkdir()
    weights.figures_file.write_text('{"weights": "ssrnet.utkface", "sha256": "old", "measured": [{"mae": 1}]}')
    assert weights.figures == []
    record_figures("ssrnet.utkface", {"dataset": "faces", "split": None, "detect": True, "mae": 6.0})
    assert [m["mae"] for m in weights.figures] == [6.0]


def test_weights_are_known_by_name_or_by_bytes(tmp_path):
    assert name_weights("ssrnet.imdb") == "ssrnet.imdb"
    assert name_weights(ZOO["ssrnet.utkface"].folder) == "ssrnet.utkface"
    for weights in ("ssrnet.nowhere", save_pretrained(timm.create_model("ssrnet"), tmp_path)):
        with pytest.raises(UnknownModelError):
            name_weights(weights)
