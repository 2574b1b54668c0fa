"""README: short, and the same in both languages."""

import re
from collections import Counter

import pytest

from .pages import PAGES, READMES, ROOT, blocks_of, commands_of, name_of


def prose_of(page):
    """The text without code blocks and comments."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"<!--.*?-->", "", text)


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_it_is_short(page):
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 150


def test_both_have_the_same_figures():
    figures = [Counter(re.findall(r"\d[\d,.]*\d|\d", prose_of(page))) for page in READMES]
    assert figures[0] == figures[1] and figures[0].total() > 60


TRANSLATIONS = [page for page in PAGES if page.stem.endswith(".zh-CN")]


@pytest.mark.parametrize("translation", TRANSLATIONS, ids=name_of)
def test_a_translation_has_the_same_code(translation):
    pages = translation.with_name(translation.name.replace(".zh-CN", "")), translation
    code = [
        [(commands_of(block) if block.language == "sh" else block.code, block.not_run) for block in blocks_of(page)]
        for page in pages
    ]
    assert code[0] == code[1] and len(code[0]) > 4


def test_both_have_the_same_names():
    inline = [set(re.findall(r"`[^`]+`", prose_of(page))) for page in READMES]
    assert inline[0] == inline[1]


def test_both_link_to_the_same_places():
    own = {"README.md", "README.zh-CN.md", "docs/tutorials/first-photo.zh-CN.md"}
    links = [set(re.findall(r"\]\(([^)]+)\)", prose_of(page))) - own for page in READMES]
    assert links[0] == links[1]
    missing = [link for link in links[0] if not link.startswith("https://") and not (ROOT / link).exists()]
    assert not missing
