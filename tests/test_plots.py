import dataclasses

import numpy as np
import pytest
from PIL import Image

from ssrnet_hub.plots import annotate, plot_breakdown


@pytest.fixture(scope="module")
def face(estimator, astronaut):
    return estimator(astronaut)[0]


def test_annotate_marks_the_face_and_leaves_the_photo_alone(astronaut, face):
    before = np.asarray(astronaut).copy()
    marked = np.asarray(annotate(astronaut, [face]))
    assert (np.asarray(astronaut) == before).all()
    rows, columns = np.nonzero((marked != before).any(2))
    x1, _, x2, y2 = face.box
    # the frame around the box, and the label above it
    assert columns.min() == pytest.approx(x1, abs=3)
    assert columns.max() == pytest.approx(x2, abs=3)
    assert rows.max() == pytest.approx(y2, abs=3)


@pytest.mark.parametrize("size", [(20, 20), (4000, 300)])
def test_annotate_at_the_edge_and_at_any_size(face, size):
    box = (0.0, 0.0, float(size[0]), float(size[1]))
    marked = annotate(Image.new("RGB", size), [dataclasses.replace(face, box=box)])
    assert marked.size == size
    assert np.asarray(marked).max() == 255


def test_breakdown_shows_every_bin_where_the_network_moved_it(face):
    figure = plot_breakdown(face)
    axes = {a.get_label(): a for a in figure.axes}
    so_far = 0.0
    for k, stage in enumerate(face.stages):
        bars = axes[f"stage {k}"].patches
        assert [bar.get_height() for bar in bars] == pytest.approx(stage.p)
        expected = [so_far + (i + eta) * stage.width for i, eta in enumerate(stage.eta)]
        assert [bar.get_x() for bar in bars] == pytest.approx(expected)
        so_far += stage.contribution
    assert sum(bar.get_width() for bar in axes["total"].patches) == pytest.approx(face.raw_age)


def test_breakdown_says_the_same_numbers_in_words_and_in_the_picture(face, tmp_path):
    figure = plot_breakdown(face)
    figure.savefig(tmp_path / "breakdown.svg")
    total = next(a for a in figure.axes if a.get_label() == "total")
    shown = [float(text.get_text()) for text in total.texts]
    for number in shown:
        assert f"{number:.1f}" in face.explain()
