import dataclasses
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from ssrnet_hub import SSRNetHubError
from ssrnet_hub.inference.visualization import draw_faces, figure_svg, plot_breakdown, plot_errors, plot_ratios


@pytest.fixture(scope="module")
def face(estimator, astronaut):
    return estimator(astronaut)[0]


def test_annotate_marks_the_face_and_leaves_the_photo_alone(astronaut, face):
    before = np.asarray(astronaut).copy()
    marked = np.asarray(draw_faces(astronaut, [face]))
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
    marked = draw_faces(Image.new("RGB", size), [dataclasses.replace(face, box=box)])
    assert marked.size == size
    assert np.asarray(marked).max() == 255


def test_annotate_a_face_without_a_box(astronaut, face):
    with pytest.raises(ValueError, match="without a box"):
        draw_faces(astronaut, [dataclasses.replace(face, box=None)])


def test_breakdown_shows_every_bin_where_the_network_moved_it(face):
    figure = plot_breakdown(face)
    axes = {a.get_label(): a for a in figure.axes}
    so_far = 0.0
    for k, stage in enumerate(face.stages):
        bars = [bar for bar in axes[f"stage {k}"].patches if bar.get_gid() == "bin"]
        assert [bar.get_height() for bar in bars] == pytest.approx(stage.p)
        expected = [so_far + (i + eta) * stage.width for i, eta in enumerate(stage.eta)]
        assert [bar.get_x() for bar in bars] == pytest.approx(expected)
        # and the grid that it moved them on
        grid = [bar for bar in axes[f"stage {k}"].patches if bar.get_gid() == "fixed"]
        assert [bar.get_x() for bar in grid] == pytest.approx([so_far + i * face.V / 3 ** (k + 1) for i in range(3)])
        so_far += stage.contribution
    *steps, age = axes["total"].patches
    assert [bar.get_width() for bar in steps] == pytest.approx([stage.contribution for stage in face.stages])
    assert age.get_width() == pytest.approx(face.raw_age)


def test_breakdown_says_the_same_numbers_in_words_and_in_the_picture(face, tmp_path):
    figure = plot_breakdown(face)
    figure.savefig(tmp_path / "breakdown.svg")
    total = next(a for a in figure.axes if a.get_label() == "total")
    shown = [text.get_text().removesuffix(" years").strip("+-") for text in total.texts]
    assert len(shown) == 4
    for number in shown:
        assert number in face.explain()
    for k, number in enumerate(shown[:3]):
        panel = next(a for a in figure.axes if a.get_label() == f"stage {k}")
        assert number in panel.get_title(loc="left")


def odd_faces(face):
    one = dataclasses.replace(face.stages[0], p=(0.01,) * 101, eta=(0.0,) * 101, contribution=50.0)
    none = dataclasses.replace(face.stages[0], p=(0.0, 0.0, 0.0), contribution=0.0)
    lost = dataclasses.replace(face.stages[1], width=math.inf, contribution=math.nan)
    less = dataclasses.replace(face.stages[1], contribution=-3.0)
    return {
        "of one stage": dataclasses.replace(face, age=50.0, raw_age=50.0, stages=(one,)),
        "of nothing": dataclasses.replace(face, age=0.0, raw_age=0.0, stages=(none,) * 3),
        "without a number": dataclasses.replace(face, age=math.nan, raw_age=math.nan, stages=(face.stages[0], lost)),
        "that goes down": dataclasses.replace(face, stages=(face.stages[0], less, less)),
    }


@pytest.mark.parametrize("width", [9.0, 4.2])
@pytest.mark.parametrize("what", ["of one stage", "of nothing", "without a number", "that goes down"])
def test_breakdown_of_any_face(face, what, width):
    figure = plot_breakdown(odd_faces(face)[what], width=width)
    assert figure.get_figwidth() == width
    assert "<svg" in figure_svg(figure)


def test_breakdown_for_a_page(face):
    svg = figure_svg(plot_breakdown(face), "one-")
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg") and root.get("viewBox") and root.get("width") is None
    assert svg == figure_svg(plot_breakdown(face), "one-")
    # nothing in black, which a dark page would swallow, and text that can be read as such
    assert "#000000" not in svg and "currentColor" in svg and ">stage 1, coarse: " in svg
    other = figure_svg(plot_breakdown(face), "two-")
    ids = [set(re.findall(r'\bid="([^"]*)"', text)) for text in (svg, other)]
    assert ids[0] and not ids[0] & ids[1]
    used = set(re.findall(r'href="#([^"]*)"', svg)) | set(re.findall(r"url\(#([^)]*)\)", svg))
    assert used and used <= ids[0]


def test_annotate_with_labels(astronaut, face):
    plain, labeled = (np.asarray(draw_faces(astronaut, [face], labels)) for labels in (None, ["1: 32"]))
    assert (plain != labeled).any()
    assert (np.asarray(draw_faces(astronaut, [face], [f"{face.age:.0f}"])) == plain).all()
    with pytest.raises(ValueError):
        draw_faces(astronaut, [face], ["1", "2"])


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


def test_ratios_have_a_bar_each_and_say_it():
    figure = plot_ratios({"one": {"theirs": 1.0, "ours": 0.25}, "many": {"theirs": 1.0, "ours": 0.5, "other": 1.75}})
    one, many = figure.axes
    assert [bar.get_width() for bar in one.patches] == [1.0, 0.25]
    assert [bar.get_width() for bar in many.patches] == [1.0, 0.5, 1.75]
    assert [label.get_text() for label in many.get_yticklabels()] == ["theirs", "ours", "other"]
    assert [text.get_text() for text in many.texts] == ["1.00", "0.50", "1.75"]
    assert (one.get_title("left"), many.get_title("left")) == ("one", "many")
    # the longest bar fits in
    assert many.get_xlim()[1] > 1.75
