"""predict --output: many photos."""

import csv
import io
import json
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from ssrnet_hub.batch.records import from_cell

from ..pictures import write_nasty
from .helpers import FORMULAS


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_names_that_would_be_formulas_in_a_job(run, formulas, suffix):
    output = Path(f"out{suffix}")
    assert run("predict", ".", "--output", output, "--workers", "1")[0] == 1
    if suffix == ".csv":
        with output.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        assert not {cell[:1] for row in rows for cell in (row["file"], row["error"])} & set("=+-@\t\r\n")
        assert sorted(from_cell(row["file"]) for row in rows) == sorted([*FORMULAS, "=broken.png"])
    elif suffix == ".jsonl":
        names = [json.loads(line)["file"] for line in output.read_text().splitlines()]
        assert sorted(names) == sorted([*FORMULAS, "=broken.png"])
    else:
        names = pyarrow.parquet.read_table(output).column("file").to_pylist()
        assert sorted(names) == sorted([*FORMULAS, "=broken.png"])
    # a job that goes on knows them all
    before = output.read_bytes()
    code, _, err = run("predict", ".", "--output", output, "--workers", "1", "--resume")
    assert code == 1 and f"{len(FORMULAS) + 1} photos, 1 of them" in err
    if suffix != ".parquet":
        assert output.read_bytes() == before


def test_output_is_what_csv_prints(run, folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "ages.csv"
    code, out, err = run("predict", folder, "--output", output, "--workers", "1")
    assert (code, out) == (0, "") and f"{output}: 4 photos" in err
    _, printed, _ = run("predict", folder, "--csv")
    rows, expected = (list(csv.DictReader(io.StringIO(text))) for text in (output.read_text(), printed))
    assert [(row["file"], row["face"], row["reliable"]) for row in rows] == [
        (row["file"], row["face"], row["reliable"]) for row in expected
    ]
    for row, other in zip(rows, expected, strict=True):
        assert float(row["age"] or 0) == pytest.approx(float(other["age"] or 0), abs=0.02)

    code, out, err = run("predict", folder, "--output", output)
    assert code == 1 and "already exists" in err and "--resume" in err
    before = output.read_text()
    code, out, err = run("predict", folder, "--output", output, "--resume")
    assert code == 0 and "4 photos" in err and output.read_text() == before


def test_output_with_photos_that_cannot_be_read(run, tmp_path, photo):
    (tmp_path / "photos").mkdir()
    _, bad = write_nasty(tmp_path / "photos", photo)
    missing = tmp_path / "none.jpg"
    output = tmp_path / "ages.jsonl"
    code, _, err = run("predict", tmp_path / "photos", missing, "--output", output, "--workers", "1", "--explain")
    assert code == 1
    assert err.count("error: ") == len(bad) + 1 and f"{len(bad) + 1} of them not read" in err
    found = {Path(one["file"]).name: one for one in map(json.loads, output.read_text().splitlines())}
    assert {name for name, one in found.items() if one["error"]} == {*bad, "none.jpg"}
    assert all("stage 1 says" in face["explanation"] for one in found.values() for face in one["faces"])
    # what failed then is not tried again, and is not forgotten
    code, _, err = run("predict", tmp_path / "photos", missing, "--output", output, "--resume", "--explain")
    assert code == 1 and f"{len(bad) + 1} of them not read" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--output", "a.csv", "--csv"],
        ["--output", "a.csv", "--annotate", "copies"],
        ["--output", "a.parquet", "--engine", "ray", "--resume"],
        ["--output", "a.parquet", "--engine", "ray", "--boxes", "boxes.csv"],
        ["--output", "a.parquet", "--engine", "ray", "--overwrite"],
        ["--output", "a.csv", "--resume", "--overwrite"],
        ["--overwrite"],
        ["--resume"],
        ["--workers", "2"],
        ["--engine", "ray"],
        ["--output", "a.csv", "--address", "auto"],
        ["--output", "a.csv", "--workers", "0"],
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together(run, arguments):
    with pytest.raises(SystemExit) as e:
        run("predict", "photo.jpg", *arguments)
    assert e.value.code == 2


def test_output_that_is_overwritten(run, folder):
    output = folder / "ages.csv"
    output.write_text("mine")
    code, _, err = run("predict", folder / "a.png", "--output", output)
    assert code == 1 and "--overwrite" in err and output.read_text() == "mine"
    code, _, err = run("predict", folder / "a.png", "--output", output, "--overwrite")
    assert code == 0, err
    assert len(output.read_text().splitlines()) == 2
    code, _, err = run("predict", folder / "none.png", "--output", output, "--overwrite", "--min-score", "0.5")
    assert code == 0 and "none.png" in output.read_text() and "a.png" not in output.read_text()
    assert not list(folder.glob("*.parts"))


def test_output_of_another_kind(run, folder):
    code, _, err = run("predict", folder, "--output", folder / "ages.txt")
    assert code == 1 and ".csv, .jsonl, .parquet" in err


def test_ray_that_is_not_installed(run, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = run("predict", folder, "--output", folder / "out.parquet", "--engine", "ray")
    assert code == 1 and "ssrnet_hub[ray]" in err


def test_parquet_without_pyarrow(run, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, _, err = run("predict", folder, "--output", folder / "out.parquet")
    assert code == 1 and "ssrnet_hub[parquet]" in err


def test_interrupting_a_job(run, folder, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("ssrnet_hub.cli.photos.predict_files", interrupt)
    code, _, err = run("predict", folder, "--output", folder / "ages.csv")
    assert code == 130 and "--resume" in err
