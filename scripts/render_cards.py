"""Write cards/*.md and README's zoo table from the measured figures in ssrnet_hub/figures/*.json.

python scripts/render_cards.py           write what differs
python scripts/render_cards.py --check   only say what differs; exit code 1 if anything does
"""

import argparse
import re
import sys
from pathlib import Path

from ssrnet_hub.cards import render_card, render_table
from ssrnet_hub.files import replace_file
from ssrnet_hub.zoo import ZOO

ROOT = Path(__file__).resolve().parent.parent


def render() -> dict[Path, str]:
    """Every rendered file with the text it should have."""
    texts = {ROOT / "cards" / f"{w.name}.md": render_card(w.name) for w in ZOO.values()}
    readme = ROOT / "README.md"
    table = f"<!-- zoo -->\n{render_table()}\n<!-- /zoo -->"
    texts[readme] = re.sub(
        r"<!-- zoo -->.*<!-- /zoo -->", lambda _: table, readme.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    return texts


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
