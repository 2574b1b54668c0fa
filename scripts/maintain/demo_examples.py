"""Make the demo's example photos from scikit-image's astronaut (NASA, public domain) and its cat (CC0)."""

from pathlib import Path

import skimage.data
from PIL import Image

from ssrnet_hub.utils.io import replace_file

FOLDER = Path(__file__).resolve().parents[2] / "ssrnet_hub" / "webapp" / "examples"


def make_examples() -> dict[str, Image.Image]:
    """Return the examples by file name, which determines their order."""
    astronaut = Image.fromarray(skimage.data.astronaut())
    bicubic = Image.Resampling.BICUBIC
    collage = Image.new("RGB", (900, 512), "white")
    for size, at in ((512, (0, 0)), (256, (540, 40)), (128, (720, 340))):
        collage.paste(astronaut.resize((size, size), bicubic), at)
    return {
        "1-astronaut.jpg": astronaut,
        "2-three-sizes.jpg": collage,
        "3-grey.jpg": astronaut.convert("L"),
        "4-rotated.jpg": astronaut.rotate(20, bicubic, fillcolor="white"),
        "5-cat-without-a-face.jpg": Image.fromarray(skimage.data.cat()),
    }


def main() -> None:
    for name, image in make_examples().items():
        with replace_file(FOLDER / name) as path:
            image.save(path, "JPEG", quality=88)


if __name__ == "__main__":
    main()
