import dataclasses

import numpy as np
import pytest
from PIL import Image

from ssrnet_hub import SSRNetHubError
from ssrnet_hub.plots import annotate, plot_breakdown, plot_errors


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


def test_pictures_of_errors_show_the_ages():
    predicted, true = [4.0, 33, 25, 90], [2.0, 30, 39, 80]
    figures = plot_errors(predicted, true)
    axes = {name: figure.axes[0] for name, figure in figures.items()}
    assert axes["scatter"].collections[0].get_offsets().tolist() == [list(p) for p in zip(true, predicted, strict=True)]
    assert [tick.get_text() for tick in axes["errors"].get_xticklabels()] == ["0-9\n1", "30-39\n2", "80+\n1"]
    # errors 2, 3, -14, 10
    years, share = axes["cs"].lines[0].get_data()
    cs = dict(zip(years.tolist(), share, strict=True))
    assert [cs[limit] for limit in (0, 1.9, 2, 3, 9.9, 10, 14, 20)] == [0, 0, 0.25, 0.5, 0.5, 0.75, 1, 1]


def test_the_same_errors_make_the_same_files(tmp_path):
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 90, 50)
    for folder in ("a", "b"):
        plot_errors(true + 3, true, tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["cs.svg", "errors.svg", "scatter.svg"]
    for name in files:
        content = (tmp_path / "a" / name).read_text()
        assert content == (tmp_path / "b" / name).read_text() and "<svg" in content and "<dc:date>" not in content


def test_pictures_of_errors_need_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SSRNetHubError, match=r"scatter\.svg cannot be written"):
        plot_errors([1], [2], tmp_path / "file")
