"""Make the pictures of README.md from scikit-image's astronaut (NASA, public domain)."""

from pathlib import Path

import skimage.data

from ssrnet_hub import AgeEstimator
from ssrnet_hub.files import replace_file
from ssrnet_hub.plots import plot_breakdown

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    (face,) = AgeEstimator()(skimage.data.astronaut())
    with replace_file(ROOT / "docs" / "breakdown.png") as path:
        plot_breakdown(face).savefig(path, dpi=110)


if __name__ == "__main__":
    main()
