"""The ablations' page says of each part what the runs say, neither more nor less."""

import runpy
from pathlib import Path

import pytest

PAGES = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "maintain" / "pages.py"))


@pytest.mark.parametrize(
    "full, other, verdict",
    [
        ([8.0, 8.2], [8.3, 8.5], "worth it"),
        ([8.0, 8.2], [7.7, 7.9], "not worth it with this recipe"),
        ([8.0, 8.2], [8.1, 8.6], "within seed variation"),
        ([8.0, 8.2], [8.2, 8.4], "within seed variation"),
    ],
)
def test_verdict(full, other, verdict):
    assert PAGES["judge"]({"val_mae": full}, {"val_mae": other}) == verdict


def variant(title, maes, architecture="ssrnet", ratio=1.0, **model_args):
    return {
        "title": title,
        "architecture": architecture,
        "model_args": model_args,
        "parameters": 12345,
        "val_mae": maes,
        "mean": sum(maes) / len(maes),
        "learning": {"ms": 10.0, "ratio": ratio},
        "answering": {"ms": 5.0, "ratio": ratio / 2},
    }


def test_browser():
    row = {"first_answer_seconds": 2.5, "photo_seconds": {"median": 0.25, "total": 12.0}, "compressed_bytes": 5_750_000}
    measured = {
        "command": "python benchmark.py",
        "device": "a CPU",
        "versions": {"@some/face-api": "1.2.3"},
        "pages": {"photos": 20, "each": {"ssrnet-hub": row, "face-api": row}},
    }
    said = PAGES["render_browser"](measured)
    assert "| this page | 2.50 | 0.25 | 12.00 | 5.75 |\n| `@some/face-api` 1.2.3 | 2.50" in said
    assert said.endswith("`python benchmark.py` on a CPU, one thread each.")
    measured["camera"] = {"size": [640, 480], "pictures_per_second": 14.25, "with_an_age": 0.996}
    years = {"mean": 0.0004, "quantile_98": 0.0025}
    measured["parity"] = {"photos": 9, "faces": {"page": 7, "python": 8}, "same_box": 0.875, "years": years}
    said = PAGES["render_browser"](measured)
    assert "A camera of 640x480 is answered 14.2 times a second; 99.6% of these pictures" in said
    assert "In 9 photos, the page finds 7 faces and Python 8; 87.5% are the same" in said
    assert "differ by 0.0004 years on average, and 98% of them by at most 0.003." in said


def test_ablations_page():
    measured = {
        "command": "python scripts/maintain/ablations.py",
        "data": "faces",
        "device": "a CPU",
        "versions": {"torch": "2.15"},
        "recipe": "scripts/recipes/some.yaml",
        "epochs": 7,
        "variants": [
            variant("the whole", [8.0, 8.2]),
            variant("without range", [9.0, 9.2], dynamic_range=False, ratio=0.9),
            variant("one stage", [7.0, 7.4], "ssrnet_dex", ratio=0.7),
            variant("one number", [8.1, 8.5], "ssrnet_dex", stage_bins=[2]),
        ],
    }
    page = PAGES["render_ablations"](measured)
    assert "7 epochs\nfrom random weights, with 2 seeds, on faces's split train" in page
    assert "| the whole | 12,345 | 8.10 ± 0.10 | 8.00, 8.20 |  | 1.00 | 0.50 |" in page
    assert "| one stage | 12,345 | 7.20 ± 0.20 | 7.00, 7.40 | -0.90 | 0.70 | 0.35 |" in page
    n = "12,345 parameters"
    assert f"**The dynamic range**: worth it; 8.10 years and {n} with it, 9.10 and 12,345 with without range." in page
    assert f"**The stages**: not worth it with this recipe; 8.10 years and {n} with them, 7.20 and 12,345" in page
    assert f"within seed variation; 8.10 years and {n} with them, 8.30 and 12,345" in page
    assert page.endswith("`python scripts/maintain/ablations.py` on a CPU.\n")
