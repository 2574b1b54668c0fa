"""Chips that are kept for calibration."""

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from ssrnet_hub import from_pretrained
from ssrnet_hub.errors import LabelsError
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.training.labels import Label, read_labels, set_aside
from ssrnet_hub.training.loop import train

from .runs import QUICK, weights_of


def rows(*names):
    return [Label(Path("folder", name), age=age) for age, name in enumerate(names)]


def test_set_aside_is_the_smallest_digests():
    names = [f"{i}.png" for i in range(20)]
    chosen = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:6]
    others, aside = set_aside(rows(*names), 6)
    assert [label.path.name for label in aside] == sorted(chosen, key=names.index)
    assert [label.path.name for label in others] == [name for name in names if name not in chosen]


def test_set_aside_known_answer():
    # SHA-256 of these names begins with 92b3, 7a11 and 509b
    labels = rows("c.jpg", "b.jpg", "a.jpg")
    assert set_aside(labels, 1) == (labels[:2], labels[2:])
    assert set_aside(labels, 2) == (labels[:1], labels[1:])


def test_set_aside_does_not_depend_on_the_order_or_on_other_rows():
    labels = rows(*[f"{i}.png" for i in range(30)])
    others, aside = set_aside(labels, 7)
    assert len(aside) == 7 and len(others) == 23
    assert not set(others) & set(aside)
    for again in (labels[::-1], labels[11:] + labels[:11], others[::2] + aside):
        assert set(set_aside(again, 7)[1]) == set(aside)


def test_set_aside_does_not_depend_on_folders_and_ages():
    labels = rows(*[f"{i}.png" for i in range(30)])
    moved = [replace(label, path=Path("elsewhere", label.path.name), age=1.0) for label in labels]
    assert [x.path.name for x in set_aside(moved, 7)[1]] == [x.path.name for x in set_aside(labels, 7)[1]]


def test_nothing_set_aside():
    labels = rows("b.png", "a.png")
    assert set_aside(labels, 0) == (labels, [])


@pytest.mark.parametrize("count", [2, 3])
def test_too_many_set_aside(count):
    with pytest.raises(LabelsError, match=f"2 rows.*{count}"):
        set_aside(rows("b.png", "a.png"), count)


def test_set_aside_chips_are_never_trained_on(labels, tmp_path):
    recipe = replace(QUICK, epochs=1, set_aside=10)
    train(labels, tmp_path / "out", recipe)
    extras = get_extras(from_pretrained(tmp_path / "out"))["training"]
    assert extras["set_aside"] == 10
    assert extras["data"].startswith("21 ")

    # the same without their pictures and with other ages
    train_rows = [replace(label, age=99.0) for label in read_labels(labels, "train")]
    aside = {label.path.name for label in set_aside(train_rows, 10)[1]}
    with labels.open(newline="") as file:
        lines = list(csv.DictReader(file))
    folder = tmp_path / "cut"
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        for line in lines:
            if line["file"] in aside:
                line["age"] = "99"
            else:
                (folder / line["file"]).write_bytes((labels.parent / line["file"]).read_bytes())
            writer.writerow(line)
    train(folder / "labels.csv", tmp_path / "again", recipe)
    assert weights_of(tmp_path / "again") == weights_of(tmp_path / "out")
    assert get_extras(from_pretrained(tmp_path / "again"))["training"]["median_age"] == extras["median_age"]
