"""Store weights in float16: python scripts/maintain/to_float16.py DIR.

Values keep the 8 significant bits of bfloat16, so that the wheel compresses them by a quarter.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ssrnet_hub.utils.io import replace_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder with model.safetensors")
    path = parser.parse_args().folder / "model.safetensors"
    tensors = load_file(path)
    rounded = {
        name: value.to(torch.bfloat16).to(torch.float16) if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    with replace_file(path) as part:
        save_file(rounded, part)


if __name__ == "__main__":
    main()
