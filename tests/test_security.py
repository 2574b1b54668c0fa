"""SECURITY.md says what is so."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from ssrnet_hub.webapp import Limits

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_limits():
    said = dict(re.findall(r"^\| `([A-Z_]+)` \| ([\d,]+) \|", PAGE, flags=re.MULTILINE))
    assert said == {field.name.upper(): f"{field.default:,}" for field in fields(Limits)}


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE))))
def test_tests_that_are_named_are_there(file):
    cells = re.findall(rf"`{file}`: ((?:`test_\w+`(?:, )?)+)", PAGE)
    named = {name for cell in cells for name in re.findall(r"`(test_\w+)`", cell)}
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert named and named <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
