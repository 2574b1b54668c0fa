"""The pages that people read, and the code blocks in them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*READMES, *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "site")]

_BLOCK = re.compile(r"(?:<!-- not run: (?P<why>.+?) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        language: As the fence says, such as python or sh.
        code: What is in it.
        not_run: Why it is not run by the tests, if so.
    """

    language: str
    code: str
    not_run: Optional[str]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(block["language"], block["code"], block["why"]) for block in found]


def commands_of(block: Block) -> list[str]:
    """The lines of a block of shell, those that go on joined, without comments."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines) if line]
