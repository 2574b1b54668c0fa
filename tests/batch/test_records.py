"""Tables that no spreadsheet takes for a program, and what is read back from them."""

import csv
import io
import itertools
import re

import pytest

from ssrnet_hub.batch.records import COLUMNS, from_cell, to_cell, write_csv
from ssrnet_hub.errors import PhotoError

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=cmd|' /C calc'!A0", "\uff1d1", '"=1"']


def cells(text):
    """What a spreadsheet that splits at semicolons makes of text amid a row, without the quotes around it."""
    return re.split(r"[;\t\r\n]", text)


def is_formula(cell):
    return cell.lstrip('"')[:1] in {*"=+-@\uff1d\uff0b\uff0d\uff20"}


@pytest.mark.parametrize("text", FORMULAS)
def test_what_would_be_a_formula_is_quoted(text):
    for start in ("", "a;", "a\n"):
        assert not any(map(is_formula, cells(to_cell(start + text))))
    assert to_cell(text)[0] == "'"


@pytest.mark.parametrize(
    "text", ["", "a.png", "'quoted'.png", "a=b.png", "a-b", "a, -b.png", "1.5", "'", "it's", "a; b"]
)
def test_other_text_is_left(text):
    assert to_cell(text) == from_cell(text) == text


def test_every_text_is_read_back():
    for length in range(6):
        for text in map("".join, itertools.product("'\"=-;\tx", repeat=length)):
            cell = to_cell(text)
            assert from_cell(cell) == text
            assert not any(map(is_formula, cells(cell)))
            assert cell.replace("'", "") == text.replace("'", "")


@pytest.mark.parametrize("text", ["-dash.png", "=1.png", "'a.png", "''a", "a;=1"])
def test_what_others_wrote_is_read_as_it_is(text):
    assert from_cell(text) == text


def test_a_csv(tmp_path):
    photos = [{"file": text, "faces": [], "error": f"{text} is damaged"} for text in FORMULAS]
    face = {"age": -1.5, "interval": [-2.0, 3.0], "box": [-1.0, -2.0, 3.0, 4.0], "explanation": "-"}
    photos.append({"file": "a.png", "faces": [face], "error": None})
    file = io.StringIO(newline="")
    write_csv(file, photos, list(COLUMNS))
    rows = list(csv.DictReader(io.StringIO(file.getvalue(), newline=""), strict=True))
    assert [from_cell(row["file"]) for row in rows] == [*FORMULAS, "a.png"]
    assert [from_cell(row["error"]) for row in rows[:-1]] == [photo["error"] for photo in photos[:-1]]
    texts = [row[name] for row in rows for name, kind in COLUMNS.items() if kind is str]
    assert not any(is_formula(cell) for text in texts for cell in cells(text))
    # numbers are none
    assert (rows[-1]["age"], rows[-1]["low"], rows[-1]["x1"], rows[-1]["explanation"]) == ("-1.5", "-2.0", "-1.0", "'-")


def test_the_page_and_what_it_saves():
    from ssrnet_hub.webapp.rendering import tell_row
    from ssrnet_hub.webapp.service import to_csv

    rows = [{"file": "=1.png", "faces": [], "error": "=1.png is damaged"}]
    told = tell_row(rows[0], error=PhotoError("{name} is damaged", name="=1.png"))
    assert (told["file"], told["error"]["said"]) == ("'=1.png", "'=1.png is damaged")
    assert told["error"]["values"] == {"name": "'=1.png"}
    (row,) = csv.DictReader(io.StringIO(to_csv(rows)))
    assert (row["file"], row["error"]) == ("'=1.png", "'=1.png is damaged")
