"""What people read is idiomatic American English."""

import re
import subprocess
import sys

import pytest

from .pages import PAGES, ROOT, name_of

TEXTS = sorted(
    {
        *(page for page in PAGES if "zh-CN" not in page.name),
        *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "NOTICE", "demo/README.md")),
        *(ROOT / "cards").glob("*.md"),
        *(ROOT / "ssrnet_hub" / "cli").glob("*.py"),
        *(ROOT / "ssrnet_hub" / "webapp" / f"{name}.py" for name in ("limits", "page", "rendering", "service")),
        *(ROOT / "ssrnet_hub" / "inference" / f"{name}.py" for name in ("estimator", "tracking", "video")),
        *(ROOT / "ssrnet_hub" / name for name in ("errors.py", "batch/local.py", "batch/ray_data.py")),
        *(ROOT / "ssrnet_hub" / "hub").glob("*.*"),
        *(ROOT / "ssrnet_hub" / "models" / f"{name}.py" for name in ("dex", "layers", "ssrnet", "zoo")),
        *(ROOT / "ssrnet_hub" / "inference" / f"{name}.py" for name in ("intervals", "reliability", "visualization")),
        *(ROOT / "scripts" / "maintain" / "templates").iterdir(),
    }
)

PHRASES = {
    r"\btells? the ages?\b|\btell their ages\b": "estimates the age",
    r"\btoo little like a face\b|\btoo unlike one\b": "out-of-distribution flag and score",
    r"\bis given to another\b": "work from failed workers is retried",
    r"\bare lost\b|\bsure of\b": "no confident baseline detection is missed",
    r"\bhas one part less\b": "runs the ablations",
    r"\bfor faces that are none\b": "produces false positives",
    r"\bdo not compare\b": "are not comparable",
    r"\bhalf of what lies between\b": "half the range across seeds",
    r"\bthe seeds (do not )?make\b": "within seed variation",
    r"\bleft the numbers\b": "loss is NaN or infinite",
    r"\bin the world\b": "training augmentations",
    r"\basked for longest ago\b|\bgo first\b": "LRU eviction",
    r"\btell as well\b|\bas well a score\b": "also predict",
    r"\boutlasts?\b": "progress survives interruption",
    r"\bthe first free one\b": "default: first free port",
    r"\b9 of 10 (times|cases)\b": "90% interval",
    r"\bhow to make it again\b": "cannot save",
    r"\bthat was cut off\b|\bwas cut off\b": "contains an interrupted job",
    r"; [^;(]{1,60} without(\)|\"|$)": "default: ...",
    r"\bmay be given several times\b": "repeatable",
    r"\bset aside, and not\b": "held out",
    r"\bis told plainly\b|\bin so many words\b": "is reported",
    r"\bwhat came of it\b|\bwhat became of\b": "the results",
    r"\bReckoned\b|\breckons?\b": "estimated",
    r"\bgo(es)? on (with|after|from|where)\b": "continues",
    r"\bstarts? anew\b": "starts over",
    r"\b(a|per) second a\b|\b(an object|a row) a (photo|face)\b": "per",
    r"\bno proof of\b": "not proof of",
    r"\bgoes with --": "requires --",
    r"\d %(?!\})": "no space before the percent sign",
    r"\bchips as they are\b": "aligned crops",
    r"\bhanded out\b": "distributed",
    r"\bis told\b|\btells (levels|us|you)\b": "is reported, supports",
    r"\bonce (it|this|they) (is|are) asked for\b|\bwas asked for\b": "on first access, was requested",
    r"\bof theirs\b|\bof a file of yours\b|\bnot theirs\b": "their own",
    r"\bwhat came\b|\bwhat arrived\b": "name it",
    r"\b(is|are) none of\b|\b(is|holds|names) no (folder|repository|recipe|photos|number|state dict)\b": "is not a",
    r"\ball the same\b": "anyway, or nothing",
    r"\bfor timm's sake\b|\bfor the sake of\b": "for compatibility with",
    r"\bat odds with\b|\bnot alike\b": "inconsistent, differs",
    r"\b[Ff]resh (prediction )?(stages|ones)\b": "new",
    r"\bWhere to[;:]": "Target folder",
    r"\bSay that\b|\bas it says\b|\bwhat it says of\b": "warn, describe",
    r"\banswers (what|that|every)\b": "returns, outputs",
    r"\bas JSON has\b|\bhas not:": "JSON-serializable; is not in",
    r"\b(takes|take) \d+ (faces|weights|held-out)\b|\b(faces|weights) or more\b": "needs at least",
    r"\bis of another\b|\bare of (\{|\d)": "from another; have ... features",
    r"\bcannot be (made|started from)\b": "cannot be created",
    r"\bis no (proof|picture|SSR)|\bthat are no\b": "is not a",
    r"\bone that does not say\b": "without",
    r"\blet .{1,40} read red\b|\bread blue, green, red\b": "BGR, RGB",
}
"""What nobody would write, and what one would."""


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_phrases(path):
    text = path.read_text(encoding="utf-8")
    found = [
        f"{number}: {line.strip()[:160]!r}: {better}"
        for number, line in enumerate(text.splitlines(), 1)
        for phrase, better in PHRASES.items()
        if re.search(phrase, line)
    ]
    assert not found, "\n".join(found)


def test_the_phrases_are_found():
    said = "tell their ages; what they have done outlasts a kill, in 9 of 10 cases, of a job that was cut off"
    assert sum(bool(re.search(phrase, said)) for phrase in PHRASES) == 4


def test_american_spelling():
    """Typos are looked for in all files by `dev.py check`; here it is British spelling, where people read."""
    command = [sys.executable, "-m", "codespell_lib", "--builtin", "clear,rare,en-GB_to_en-US", *map(str, TEXTS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
