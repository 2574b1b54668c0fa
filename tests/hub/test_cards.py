"""Cards and README say what was measured of the weights of the zoo."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import yaml
from huggingface_hub import ModelCard, ModelCardData
from markdown_it import MarkdownIt

from ssrnet_hub import save_pretrained
from ssrnet_hub.errors import ConfigError, OutputError, UnknownModelError
from ssrnet_hub.hub.cards import name_weights, record_calibration, record_exports, record_figures, render_card
from ssrnet_hub.models import zoo
from ssrnet_hub.models.zoo import DEFAULT, ZOO

ROOT = Path(__file__).resolve().parents[2]


def test_rendered_files_are_up_to_date():
    command = [sys.executable, ROOT / "scripts" / "maintain" / "render_cards.py", "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("weights", ZOO.values(), ids=str)
def test_everything_in_the_zoo_was_measured(weights):
    assert json.loads(weights.figures_file.read_text())["sha256"] == weights.sha256
    measured = {(m["dataset"], m["split"], m["detect"]) for m in weights.figures}
    assert measured >= {("utkface", "val", False), *[("fgnet", None, True)] * (not weights.ends)}


FIELDS = {*inspect.signature(ModelCardData).parameters, "model-index"} - {"model_name", "eval_results", "kwargs"}


@pytest.mark.parametrize("name", ZOO)
def test_front_matter(name):
    card, weights = ModelCard.load(ROOT / "cards" / f"{name}.md"), ZOO[name]
    front = yaml.safe_load(card.content.split("---")[1])
    assert front.keys() <= FIELDS
    assert front.keys() >= {"license", "library_name", "pipeline_tag", "tags", "datasets", "metrics", "model-index"}
    assert card.data.model_name == name
    assert card.data.library_name == "ssrnet_hub" and "timm" in card.data.tags
    assert card.data.license == weights.license
    assert (card.data.license == "other") == bool(card.data.license_name and card.data.license_link)
    assert all(result.dataset_split for result in card.data.eval_results)
    stated = [(r.dataset_type, r.metric_value) for r in card.data.eval_results]
    of_ages = [(m["dataset"], m.get("mae", m.get("distance"))) for m in weights.figures if "accuracy" not in m]
    of_gender = [(m["dataset"], m["accuracy"]) for m in weights.figures if "accuracy" in m]
    assert stated == [(name, round(value, 2)) for name, value in of_ages] + of_gender


def test_a_card_names_all_that_weights_learned_from():
    card = (ROOT / "cards" / "dex_resnet10.utkface_fairface_aaf.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["datasets"] == ["utkface", "fairface", "all-age-faces"]
    for text in ("UTKFace is distributed", "FairFace is distributed", "All-Age-Faces is distributed", "YFCC-100M"):
        assert text in card
    assert "Trained from other weights" in card and "dlib-models (CC0-1.0)" in card and "softmax" in card


@pytest.mark.parametrize("name", ZOO)
def test_a_card_says_what_one_has_to_know(name):
    card, weights = (ROOT / "cards" / f"{name}.md").read_text(encoding="utf-8"), ZOO[name]
    for heading in ("Usage", "Input", "Results", "Training", "Limitations and misuse", "License", "Citation"):
        assert f"\n## {heading}\n" in card
    for way in ("AgeEstimator(", "from_pretrained(", 'timm.create_model("hf-hub:'):
        assert way in card
    for figures in weights.figures:
        assert f"`{figures['command']}` on {figures['device']}" in card
    assert card.count("- Code of") == card.count("- Weights:") == card.count("- Training data:") == 1
    if weights.source:
        assert weights.conversion in card and "released in" in card and "an independent\nproject" in card
    assert "None" not in card and "  \n" not in card


def test_card_of_weights_of_ones_own(tmp_path):
    model = timm.create_model("ssrnet_blog")
    card = render_card(save_pretrained(model, tmp_path, extras={"training": {"data": "my chips"}}), "me/mine")
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "unknown" and "model-index" not in front and front.keys() <= FIELDS
    assert 'from_pretrained("me/mine")' in card and "44,805 parameters" in card and "my chips" in card
    assert "have not been evaluated" in card and "UTKFace" not in card


def test_parameters_are_those_of_the_model_that_was_saved(tmp_path):
    model = timm.create_model("ssrnet", stage_bins=(5, 5, 5))
    count = sum(parameter.numel() for parameter in model.parameters())
    card = render_card(save_pretrained(model, tmp_path), "me/mine")
    assert f"regression with\n{count:,} parameters" in card and count != 40_531


@pytest.fixture
def figures_folder(tmp_path, monkeypatch):
    (tmp_path / "scripts" / "maintain").mkdir(parents=True)
    (tmp_path / "ssrnet_hub" / "models").mkdir(parents=True)
    monkeypatch.setattr(zoo, "_FOLDER", tmp_path / "ssrnet_hub" / "models")


def test_nothing_is_recorded_in_an_installed_package(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "_FOLDER", tmp_path / "site-packages" / "ssrnet_hub" / "models")
    figures = {"dataset": "faces", "split": "val", "detect": False, "mae": 6.0}
    for record in (record_figures, record_exports, record_calibration):
        with pytest.raises(OutputError, match="in a clone"):
            record(DEFAULT, figures)
    assert not list(tmp_path.iterdir())


def test_recorded_figures_replace_those_on_the_same_data(figures_folder):
    figures = {"dataset": "faces", "split": "val", "detect": False, "mae": 6.0}
    record_figures(DEFAULT, figures)
    record_figures(DEFAULT, {**figures, "split": "test", "mae": 7.0})
    record_figures(DEFAULT, {**figures, "mae": 5.0})
    assert sorted(m["mae"] for m in ZOO[DEFAULT].figures) == [5.0, 7.0]


def test_figures_of_other_bytes_are_dropped(figures_folder):
    weights = ZOO[DEFAULT]
    weights.figures_file.parent.mkdir()
    weights.figures_file.write_text('{"sha256": "old", "measured": [{"mae": 1}]}')
    assert weights.figures == []
    record_figures(DEFAULT, {"dataset": "faces", "split": None, "detect": True, "mae": 6.0})
    assert [m["mae"] for m in weights.figures] == [6.0]


def test_weights_are_known_by_name_or_by_bytes(tmp_path):
    assert name_weights("ssrnet.imdb") == "ssrnet.imdb"
    assert name_weights(ZOO[DEFAULT].folder) == DEFAULT
    for weights in ("ssrnet.nowhere", save_pretrained(timm.create_model("ssrnet"), tmp_path)):
        with pytest.raises(UnknownModelError):
            name_weights(weights)


AGES = {"mae": 6.0, "mae_interval": [5.5, 6.5], "rmse": 8.0, "cs3": 0.3, "cs5": 0.5, "cs7": 0.7, "bias": -1.0}
HOW = {"n": 90, "missed": 1, "dataset": "faces", "split": None, "detect": True, "command": "measure", "device": "CPU"}


def test_card_of_figures_from_before_there_were_groups(figures_folder):
    record_figures("ssrnet.imdb", {"mae": 6.0, "cs5": 0.5, "bias": -1.0, **HOW})
    card = render_card("ssrnet.imdb")
    assert "| 6.00 | 50.0% | -1.00 | 90 | 1 |" in card
    assert "not measured by age or by group" in card and "RMSE" not in card and "interval" not in card


def test_card_of_figures_by_group(figures_folder):
    part = {"mae": 9.0, "bias": 2.0, "cs5": 0.25, "n": 40}
    groups = {"age": {"0-9": {**part, "mae": 5.0}, "80+": part}}
    changes = {"shift 5 %": 1.25, "half resolution": None, "JPEG quality 40": 2.5}
    more = {"flip": {**AGES, "mae": 5.5}, "robustness": changes, "robustness_missed": {"JPEG quality 40": 3}}
    more |= {"worst_group": {"age": "80+"}, "gap": {"age": 4.0}, "stages": [0.9, 0.08, 0.02]}
    record_figures("ssrnet.imdb", {**AGES, **HOW, "groups": groups, **more})
    card = render_card("ssrnet.imdb")
    for line in (
        "| one forward pass | 6.00 | 5.50 to 6.50 | 8.00 | 30.0% | 50.0% | 70.0% | -1.00 | 90 | 1 |",
        "| mean with the mirror image | 5.50 | 5.50 to 6.50 | 8.00 | 30.0% | 50.0% | 70.0% | -1.00 | 90 | 1 |",
        "| age | 0-9 | 5.00 | +2.00 | 25.0% | 40 |",
        "| age | 80+, the worst | 9.00 | +2.00 | 25.0% | 40 |",
        "| shift 5% | 1.25 |  |",
        "| JPEG quality 40 | 2.50 | 3 |",
        "Gap between the best and the worst group: age 4.00 years.",
        "Share of the variance of predicted ages: stage 1 90.0%, stage 2 8.0%, stage 3 2.0%.",
    ):
        assert f"\n{line}\n" in card
    assert "None" not in card and "half resolution" not in card
    assert "They were not measured by gender or ethnicity." in card and "by age or by group" not in card


def test_card_of_genders_by_group(figures_folder):
    of_all = {"accuracy": 0.75, "balanced_accuracy": 0.7}
    groups = {what: {"a": {"accuracy": 0.5, "n": 40}} for what in ("age", "gender", "ethnicity")}
    record_figures("ssrnet_gender.imdb", {**of_all, **HOW, "groups": groups, "worst_group": {}})
    card = render_card("ssrnet_gender.imdb")
    assert "\n| 75.0% | 70.0% | 90 | 1 |\n" in card and "\n| ethnicity | a | 50.0% | 40 |\n" in card
    assert "Errors differ between groups" in card and "not measured" not in card


def test_card_of_exports(figures_folder):
    files = [
        {"file": "model.onnx", "precision": "float32", "bytes": 1234567, "mae": 5.0, "n": 9, "difference": 2.1e-05},
        {"file": "model_int8.onnx", "precision": "int8", "bytes": 99, "mae": 5.25, "n": 9, "difference": 3.14159},
    ]
    record_figures("ssrnet.imdb", {"mae": 6.0, "cs5": 0.5, "bias": -1.0, **HOW})
    assert "## ONNX" not in render_card("ssrnet.imdb")
    record_exports(
        "ssrnet.imdb", {"files": files, "dataset": "faces", "split": "val", "command": "go", "device": "CPU"}
    )
    # each is kept while the other is recorded
    record_figures("ssrnet.imdb", {"mae": 7.0, "cs5": 0.5, "bias": -1.0, **HOW})
    card = render_card("ssrnet.imdb")
    for line in (
        "| `model.onnx`, float32 | 1,234,567 | 5.000 | +0.000 | 2e-05 |",
        "| `model_int8.onnx`, int8 | 99 | 5.250 | +0.250 | 3.14 |",
        "| 7.00 | 50.0% | -1.00 | 90 | 1 |",
        "`go` on CPU.",
    ):
        assert line in card


def test_card_of_a_calibration(figures_folder):
    levels = {"0.9": {"coverage": 0.9012, "spread": 0.011, "width": 23.46}}
    flags = {"blurred": {"auroc": 0.98765, "flagged": 0.75, "n": 1234}}
    worn = {"noisy": {"coverage": 0.877, "width": 34.58, "flagged": 0.1, "covered_or_flagged": 0.9321}}
    calibration = {"n": 1500, "intervals": levels, "flags": flags, "flagged": 0.0125, "command": "go", "device": "CPU"}
    calibration |= {"bands": {"20-29": {"coverage": 0.8911, "n": 321}}, "worn": worn, "dataset": "utkface"}
    told = {
        "levels": {"0.8": {"coverage": 0.8123, "width": 12.34}},
        "bands": {"0-9": {"coverage": 0.5, "width": 7, "n": 9}},
    }
    told |= {"flagged": 0.02, "mae_reliable": 5.555}
    record_figures("ssrnet.imdb", {**AGES, **HOW, "groups": {}, "worst_group": {}, "intervals": told})
    record_calibration("ssrnet.imdb", calibration)
    card = render_card("ssrnet.imdb")
    for line in (
        "on 1,500 crops of utkface, which the weights were not trained on, within bands",
        "| 0.9 | 90.1% (± 1.1) | 23.5 |",
        "| blurred | 0.988 | 75% | 1,234 |",
        "by predicted age is 20-29 89.1% of 321.",
        "| noisy | 87.7% | 34.6 | 10.0% | 93.2% |",
        "| 0.8 | 81.2% | 12.3 |",
        "| 0.9, ages 0-9 | 50.0% of 9 | 7.0 |",
        "Flagged as unreliable: 2.0%; MAE of the rest 5.55 years.",
        "`go` on CPU.",
    ):
        assert line in card
    record_calibration("ssrnet.imdb", {**calibration, "dataset": "imdb-wiki"})
    assert "on 1,500 crops of imdb-wiki, held out from training, within bands" in render_card("ssrnet.imdb")


@pytest.mark.parametrize(
    "training",
    [
        "my chips",
        5,
        ["a"],
        {"set_aside": "many"},
        {"set_aside": -1},
        {"set_aside": {"mine": "many"}},
        {"teachers": "me"},
        {"minutes": "long"},
        {"minutes": [1]},
        {"command": 5},
        {"command": ["python"]},
        {"data": {"a": 1}},
        {"device": True},
        {"start": "before"},
        {"start": {"start": {"minutes": "long"}}},
        {"average_of": 5},
        {"average_of": "ab"},
        {"average_of": [1]},
        {"average_of": [{"command": {}}]},
        {"average_of": [{}] * 101},
    ],
    ids=lambda training: str(training)[:60],
)
def test_a_training_of_odd_types_is_told(tmp_path, training):
    folder = save_pretrained(timm.create_model("ssrnet"), tmp_path, extras={"training": training})
    with pytest.raises(ConfigError, match=r"config\.json, training"):
        render_card(folder, "me/mine")


ALL = {"data": "d", "set_aside": 5, "minutes": 3, "command": "c", "device": "GPU"}


@pytest.mark.parametrize(
    "training",
    [
        None,
        {},
        {"note": {"of": ["mine"]}},
        *({key: value} for key, value in ALL.items()),
        *({**ALL, key: None} for key in ALL),
        {**ALL, "start": {}},
        {**ALL, "start": {"minutes": 3}},
        {**ALL, "average_of": [{}, {"start": {"command": "s"}}, {"command": "a"}]},
    ],
    ids=str,
)
def test_a_training_of_which_little_is_known(tmp_path, training):
    card = render_card(save_pretrained(timm.create_model("ssrnet"), tmp_path, extras={"training": training}), "me/mine")
    part = card[card.index("## Training") : card.index("## Limitations")]
    assert "None" not in card and "``" not in part and not re.search(r" on [.,]", card)
    assert ("The training is not documented" in part) == (not (training or {}).get("command"))


def test_the_steps_of_a_training(tmp_path):
    """Each once, in the order in which they can be run; teachers of all of them are named."""
    first = {"command": "train a", "minutes": 61.2, "device": "GPU"}
    left = {"command": "train b", "start": first, "teachers": ["vladmandic-face-api-1.7.15.tgz"]}
    right = {"command": "train c", "start": left, "teachers": ["other", "dex_resnet10.fairface"]}
    mean = {"command": "average b c", "average_of": [left, right]}
    training = {"command": "train d", "start": mean, "data": "9 chips", "set_aside": 5}
    folder = save_pretrained(timm.create_model("ssrnet"), tmp_path / "d", extras={"training": training})
    card = render_card(folder, "me/mine")
    assert (
        """
1. `train a`, 61 minutes on GPU
2. `train b`, from the weights of step 1
3. `train c`, from the weights of step 2
4. `average b c`, from the weights of steps 2 and 3
5. `train d`, from the weights of step 4

Names that are not in the package are folders with the weights of earlier steps or teachers. \
In addition to the labels, steps with teachers were trained on the mean of their predictions. The teachers: `other`, \
`dex_resnet10.fairface` and `vladmandic-face-api-1.7.15.tgz`. `dex_resnet10.fairface` is the mean"""
        in card
    )
    assert "so results on these are optimistic. Held out from the split: 5 crops." in card
    assert "Trained from random weights, in 5 steps, on 9 chips." in card
    folder = save_pretrained(timm.create_model("ssrnet"), tmp_path / "a", extras={"training": {**first, "data": "9"}})
    card = render_card(folder, "me/mine")
    assert "Trained from random weights on 9." in card and "\n`train a`, 61 minutes on GPU.\n" in card


@pytest.mark.parametrize(
    "training, steps",
    [
        ({"command": "a", "recipe": {"start": "ssrnet.imdb"}}, "`a`."),
        ({"command": "b", "start": {"data": "others"}}, "`b`."),
        (
            {"start": {"command": "a", "recipe": {"start": "ssrnet.imdb"}}},
            "1. `a`\n2. An unknown command, from the weights of step 1\n",
        ),
        (
            {"command": "c", "average_of": [{"data": "x", "recipe": {"start": "b"}}, *[{"command": "a"}] * 2]},
            "1. An unknown command\n2. `a`\n3. `c`, from the weights of steps 1 and 2\n",
        ),
    ],
)
def test_a_training_that_started_from_other_weights(tmp_path, training, steps):
    training = {**training, "data": "9 chips"}
    card = render_card(save_pretrained(timm.create_model("ssrnet"), tmp_path, extras={"training": training}), "me/mine")
    assert "Trained from other weights" in card and f"## Training\n\n{steps}" in card


def test_what_a_config_says_is_no_markdown(tmp_path):
    evil = "`x`](http://a/b)\n\n# <img src=http://a/c>\n---\n![y](d) \x1b[31m {{ weights }}"
    training = {**dict.fromkeys(("data", "device", "command"), evil), "minutes": 5}
    model = timm.create_model("ssrnet", pretrained_cfg_overlay={"license": evil})
    card = render_card(save_pretrained(model, tmp_path, extras={"training": training}), "me/mine")
    # commonmark's own reading of it
    tokens = MarkdownIt().parse(card.split("---\n", 2)[2])
    inner = [child for token in tokens for child in token.children or ()]
    links = {child.attrs["href"] for child in inner if child.type == "link_open"}
    assert all("a/b" not in link for link in links) and not any(child.type == "image" for child in inner)
    assert not any(token.type.startswith("html") for token in (*tokens, *inner))
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[:2] == ["mine", "Usage"] and len(headings) == 8
    assert "\x1b" not in card
    assert yaml.safe_load(card.split("---\n")[1])["license"].startswith("`x`")
