"""Write cards/*.md and README's tables from what was measured: ssrnet_hub/figures/*.json and benchmarks/cpu.json.

python scripts/render_cards.py           write what differs
python scripts/render_cards.py --check   only say what differs; exit code 1 if anything does
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from ssrnet_hub.cards import render_card, render_table
from ssrnet_hub.files import replace_file
from ssrnet_hub.zoo import ZOO

ROOT = Path(__file__).resolve().parent.parent


def render() -> dict[Path, str]:
    """Every rendered file with the text it should have."""
    texts = {ROOT / "cards" / f"{w.name}.md": render_card(w.name) for w in ZOO.values()}
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    speed = json.loads((ROOT / "benchmarks" / "cpu.json").read_text(encoding="utf-8"))
    for name, table in (("zoo", render_table()), ("speed", render_speed(speed))):
        block = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        text = re.sub(f"<!-- {name} -->.*<!-- /{name} -->", lambda _, block=block: block, text, flags=re.DOTALL)
    texts[readme] = text
    return texts


def render_speed(measured: dict[str, Any]) -> str:
    """README's tables of what ``scripts/benchmark.py`` measured."""
    batches = {key: rows for key, rows in measured["model"].items() if key.startswith("batch")}
    lines = [
        f"| from a face to its age, ms (share of the first) | {' | '.join(batches)} |",
        "|---" * (1 + len(batches)) + "|",
    ]
    for name in next(iter(batches.values())):
        cells = [f"{rows[name]['ms']:.3g} ({rows[name]['ratio']:.2f})" for rows in batches.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    photos, film = measured["photos"], measured["film"]
    lines += [
        "",
        f"| from {photos['photos']} photos to ages | seconds | share of the first | faces |",
        "|---|---|---|---|",
    ]
    for name, row in photos["ways"].items():
        lines.append(f"| {name} | {row['ms'] / 1000:.2f} | {row['ratio']:.2f} | {row['faces']} |")
    lost = f"{photos['sure_faces_lost']} of the {photos['sure_faces']} faces that the first is sure of are lost"
    rates = ", ".join(f"{row['frames_a_second']:.0f} ({name})" for name, row in film["ways"].items())
    best = batches["batch 64"]["ssrnet, runtime onnx"]["share_of_matrix_product"]
    start = measured["start"]
    slower = start["import ssrnet_hub"]["ratio"]
    lines += [
        "",
        f"By the default {lost}. Frames a second of a film of {'x'.join(map(str, film['size']))}, faces looked for in "
        f"each: {rates}. At batch 64 ONNX Runtime reaches {best:.0%} of the rate of a matrix product on this machine, "
        f"{measured['matrix_product_gflops']:.0f} GFLOP/s. `import ssrnet_hub` takes {slower:.2f} times as long as "
        f"`import timm`; the first age needs {start['the first age']['peak_mb']} MB, of which `import timm` alone has "
        f"{start['import timm']['peak_mb']}.",
        "",
        f"`{measured['command']}` on {measured['device']}, contestants taking turns, medians.",
    ]
    return "\n".join(lines)


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
