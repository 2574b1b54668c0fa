"""Render model cards, the README's tables, and docs from measurements.

These are in ssrnet_hub/models/eval_results/*.json, benchmarks/*.json, and benchmarks/training/*.csv.

python scripts/maintain/render_cards.py           write files that differ
python scripts/maintain/render_cards.py --check   only list files that differ; exit code 1 if there are any
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from pages import (
    measure_installs,
    render_ablations,
    render_browser,
    render_command,
    render_comparison,
    render_folder,
    render_scaling,
    render_speed,
    render_start,
    render_training,
    summarize_comparison,
    summarize_speed,
    translate_table,
)

from ssrnet_hub.hub.cards import render_card, render_table
from ssrnet_hub.models.zoo import ZOO
from ssrnet_hub.utils.io import replace_file

ROOT = Path(__file__).resolve().parents[2]


def render() -> dict[Path, str]:
    """Return every rendered file with its expected text."""
    texts = {ROOT / "cards" / f"{w.name}.md": render_card(w.name) for w in ZOO.values()}
    docs = ROOT / "docs"
    table, measured = render_table(), (read("cpu"), read("start"), read("folder"))
    speed, speed_zh = (summarize_speed(f"speed{language}.md.jinja", *measured) for language in ("", ".zh-CN"))
    peers, peers_zh = (summarize_comparison(f"peers{language}.md.jinja", read("peers")) for language in ("", ".zh-CN"))
    blocks = {
        ROOT / "README.md": {"zoo": table, "speed": speed, "peers": peers},
        ROOT / "README.zh-CN.md": {"zoo": translate_table(table), "speed": speed_zh, "peers": peers_zh},
        docs / "reference" / "models.md": {"zoo": render_table("../../cards", include_hub=True)},
        docs / "speed.md": {"speed": render_speed(read("cpu")), "start": render_start(read("start"))},
        docs / "tutorials" / "many-photos.md": {"folder": render_folder(read("folder"))},
        docs / "how-to" / "web-page.md": {"browser": render_browser(read("browser"))},
        docs / "experiments.md": {
            log.stem: render_training(log) for log in sorted((ROOT / "benchmarks" / "training").glob("*.csv"))
        },
    }
    for page, parts in blocks.items():
        text = page.read_text(encoding="utf-8")
        for name, part in parts.items():
            text = fill_block(text, name, part)
        texts[page] = text
    sizes = measure_installs(read("peers"))
    for page in (ROOT / "README.md", ROOT / "README.zh-CN.md", docs / "how-to" / "install.md"):
        text = texts.get(page) or page.read_text(encoding="utf-8")
        for name, size in sizes.items():
            text = fill_figure(text, name, size)
        texts[page] = text
    texts[docs / "reference" / "command.md"] = render_command()
    # training the variants takes hours, so the results may not exist yet
    if (ROOT / "benchmarks" / "ablations.json").exists():
        texts[ROOT / "docs" / "ablations.md"] = render_ablations(read("ablations"))
    texts[ROOT / "docs" / "scaling.md"] = render_scaling(read("scaling"))
    texts[ROOT / "docs" / "comparison.md"] = render_comparison(read("peers"))
    return texts


def fill_block(text: str, name: str, part: str) -> str:
    """Replace the text between the comments ``<!-- name -->`` and ``<!-- /name -->``."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    if not rest or end not in rest:
        raise ValueError(f"There is no block {name}.")
    return f"{before}{start}\n{part}\n{end}{after}"


def fill_figure(text: str, name: str, figure: str) -> str:
    """Replace every figure between the comments ``<!-- name -->`` and ``<!-- /name -->``, within a line."""
    text, count = re.subn(rf"(<!-- {name} -->)[^<\n]*(<!-- /{name} -->)", rf"\g<1>{figure}\g<2>", text)
    if not count:
        raise ValueError(f"There is no figure {name}.")
    return text


def read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [(p, t) for p, t in render().items() if not p.exists() or p.read_text(encoding="utf-8") != t]
    for path, text in stale:
        print(f"{'differs' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            with replace_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
