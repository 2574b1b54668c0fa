"""Measure how many frames per second the demo's Camera tab shows in Chromium with a 640x480 camera."""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import skimage.data
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from ssrnet_hub.webapp import launch

_COUNT = """seconds => new Promise(done => {
  let frames = 0, last = '';
  const look = () => {
    const now = document.querySelector('#seen img')?.src;
    if (now && now !== last) { frames++; last = now; }
  };
  new MutationObserver(look).observe(document.querySelector('#seen'), {subtree: true, childList: true});
  setTimeout(() => done(frames / seconds), 1000 * seconds);
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    _, url, _ = launch(prevent_thread_lock=True, quiet=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        film = Path(folder, "camera.mjpeg")
        write_camera(film)
        flags = ["--no-sandbox", *camera_flags(film)]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(permissions=["camera"])
        page.goto(url)
        page.get_by_role("tab", name="Camera").click()
        page.locator("#camera").get_by_text("Click to Access Webcam").click()
        page.locator("#camera").get_by_text("Record").click()
        page.locator("#seen img[alt*=years]").wait_for()
        rate = page.evaluate(_COUNT, args.seconds)
        browser.close()
    print(f"{rate:.1f} frames per second at 640x480, on {os.cpu_count()} CPU cores ({torch.get_num_threads()} threads)")


def camera_flags(film: Path) -> list[str]:
    """Return Chromium flags for a fake camera that plays a film, without asking for permission."""
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    return [*flags, f"--use-file-for-fake-video-capture={film}"]


def write_camera(path: Path) -> None:
    """Write the film of the fake camera: scikit-image's astronaut, moving back and forth."""
    astronaut = Image.fromarray(skimage.data.astronaut()).crop((0, 0, 512, 480))
    with path.open("wb") as file:
        for step in (*range(15), *range(15, 0, -1)):
            frame = Image.new("RGB", (640, 480), "grey")
            frame.paste(astronaut, (50 + 2 * step, 0))
            frame.save(file, "JPEG", quality=92)


if __name__ == "__main__":
    main()
