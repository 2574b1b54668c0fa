"""Cards and README say what was measured of the weights that are shipped."""

import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from ssrnet_hub.cards import read_figures, record_figures, weights_digest
from ssrnet_hub.errors import UnknownModelError
from ssrnet_hub.zoo import embedded_folder, list_models

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = [name for name in list_models() if embedded_folder(name)]


def test_rendered_files_are_up_to_date():
    command = [sys.executable, ROOT / "scripts" / "render_cards.py", "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", EMBEDDED)
def test_figures_are_of_the_shipped_weights(name):
    record = read_figures(ROOT / "cards" / "results" / f"{name}.json")
    assert record["sha256"] == weights_digest(name)
    assert {(m["dataset"], m["split"]) for m in record["measured"]} >= {("utkface", "val"), ("fgnet", None)}


@pytest.mark.parametrize("name", EMBEDDED)
def test_front_matter(name):
    card = ModelCard.load(ROOT / "cards" / f"{name}.md")
    assert card.data.model_name == name
    assert card.data.library_name == "timm"
    record = read_figures(ROOT / "cards" / "results" / f"{name}.json")
    stated = [result.metric_value for result in card.data.eval_results]
    assert stated == [round(m["mae"], 2) for m in record["measured"]]


def test_recorded_figures_replace_those_on_the_same_data(tmp_path):
    path = tmp_path / "figures.json"
    figures = {"dataset": "faces", "split": "val", "detect": False, "mae": 6.0}
    record_figures(path, "ssrnet.utkface", figures)
    record_figures(path, "ssrnet.utkface", {**figures, "split": "test", "mae": 7.0})
    record_figures(path, "ssrnet.utkface", {**figures, "mae": 5.0})
    assert sorted(m["mae"] for m in read_figures(path)["measured"]) == [5.0, 7.0]


def test_figures_of_other_bytes_are_dropped(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text('{"weights": "ssrnet.utkface", "sha256": "old", "measured": [{"mae": 1}]}')
    record_figures(path, "ssrnet.utkface", {"dataset": "faces", "split": None, "detect": True, "mae": 6.0})
    assert [m["mae"] for m in read_figures(path)["measured"]] == [6.0]


def test_only_embedded_weights_have_figures(tmp_path):
    with pytest.raises(UnknownModelError):
        record_figures(tmp_path / "figures.json", "ssrnet.nowhere", {})
