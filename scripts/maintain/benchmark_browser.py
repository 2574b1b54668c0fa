"""Measure the page in the browser: benchmarks/browser.json.

pages: compared with @vladmandic/face-api and its WebAssembly backend; both are served compressed and run in the same
Chromium, on one thread each. camera: frames per second of a 640x480 camera. parity: differences from Python.
Requires npm, which downloads the peer, and the photos in SSRNET_SHARED.
"""

import argparse
import functools
import gzip
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ssrnet_hub import AgeEstimator
from ssrnet_hub.images.alignment import iou
from ssrnet_hub.utils.metrics import describe_device
from ssrnet_hub.utils.version import __version__

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "scripts" / "maintain")]

import build_browser  # noqa: E402
import live_rate  # noqa: E402

RECORD = ROOT / "benchmarks" / "browser.json"
PEER = {"@vladmandic/face-api": "1.7.15", "@tensorflow/tfjs-backend-wasm": "4.22.0"}
MODELS = ("ssd_mobilenetv1", "face_landmark_68", "age_gender")

# measured within the page, since polling from outside is up to a second late
_TIME = """addEventListener('change', ({ target }) => {
  if (target.id !== 'file') return;
  const start = performance.now();
  const status = document.querySelector('#status');
  globalThis.answered = new Promise((resolve) => new MutationObserver((_, observer) => {
    // both pages first show another status, and this one only once they are done
    if (!/found/.test(status.textContent)) return;
    observer.disconnect();
    const now = performance.now();
    resolve({ sinceChosen: (now - start) / 1000, sinceOpened: now / 1000 });
  }).observe(status, { childList: true, characterData: true, subtree: true }));
}, { capture: true });
"""

_WATCH = """seconds => new Promise((resolve) => {
  const drawn = document.querySelector('#drawn');
  const ages = [];
  new MutationObserver(() => ages.push(drawn.dataset.ages)).observe(drawn, { attributeFilter: ['data-frame'] });
  setTimeout(() => resolve(ages), 1000 * seconds);
})"""

_ESTIMATE = """async photo => {
  const { createEstimator } = await import(new URL('src/estimator.js', location.href));
  globalThis.estimator ??= createEstimator();
  const bytes = Uint8Array.from(atob(photo), (character) => character.charCodeAt(0));
  const faces = await (await globalThis.estimator)(new Blob([bytes]));
  return faces.map(({ crop, ...face }) => face);
}"""

_PEER_PAGE = """<!doctype html>
<input type="file" id="file"><p id="status"></p>
<script type="module">
  import * as faceapi from './face-api.esm.js';
  const { tf, nets } = faceapi;
  async function load() {
    tf.setWasmPaths('./wasm/');
    if (!(await tf.setBackend('wasm'))) throw new Error('There is no WebAssembly backend.');
    await tf.ready();
    const used = [nets.ssdMobilenetv1, nets.faceLandmark68Net, nets.ageGenderNet];
    await Promise.all(used.map((net) => net.loadFromUri('./model')));
  }
  const ready = load();
  const status = document.querySelector('#status');
  document.querySelector('#file').addEventListener('change', async ({ target }) => {
    status.textContent = 'Looking';
    const photo = await faceapi.bufferToImage(target.files[0]);
    target.value = '';
    await ready;
    const faces = await faceapi.detectAllFaces(photo).withFaceLandmarks().withAgeAndGender();
    status.textContent = `${faces.length} faces found: ${faces.map(({ age }) => age.toFixed(1))}`;
  });
</script>
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=("pages", "camera", "parity"), help="default: all three")
    parser.add_argument("--rounds", type=int, default=5, help="fresh visits of each page (default: 5)")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of the camera test (default: 10)")
    parser.add_argument("--parity", type=Path, metavar="FOLDER", help="photos to compare with Python (default: ours)")
    parser.add_argument("--most", type=int, default=100, help="maximum number of photos from FOLDER (default: 100)")
    parser.add_argument("--record", action="store_true", help=f"write the results to {RECORD.relative_to(ROOT)}")
    args = parser.parse_args()
    shared = Path(os.environ.get("SSRNET_SHARED", ""), "data")
    photos = sorted((shared / "photos").glob("*.jpg"))
    others = sorted((shared / "fairface_photos" / "images").glob("*"))
    compared = sorted(args.parity.iterdir())[: args.most] if args.parity else photos + others[: args.most]
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = build_browser.build(None, Path(temporary, "ours"))
        film = Path(temporary, "camera.mjpeg")
        live_rate.write_camera(film)
        path, flags = shutil.which("chromium"), ["--no-sandbox", *live_rate.camera_flags(film)]
        chromium = playwright.chromium.launch(executable_path=path, args=flags)
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "pages": lambda: measure(
                chromium,
                {"ssrnet-hub": folder, "face-api": build_peer(Path(temporary, "peer"))},
                [*photos, *others[: 20 - len(photos)]],
                args.rounds,
            ),
            "camera": lambda: measure_camera(chromium, folder, args.seconds),
            "parity": lambda: measure_parity(chromium, folder, compared),
        }
        figures = {name: measures[name]() for name in args.only or measures}
        version = chromium.version
        chromium.close()
    ours = json.loads((build_browser.SOURCE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    results = {
        "command": "python scripts/maintain/benchmark_browser.py --record",
        "device": describe_device("cpu"),
        "versions": {"ssrnet_hub": __version__, "chromium": version, **ours, **PEER},
    }
    if RECORD.exists():
        before = json.loads(RECORD.read_text(encoding="utf-8"))
        # keep earlier results only if they are of the same versions and device
        if all(before[key] == value for key, value in results.items()):
            figures = {**{name: before[name] for name in measures if name in before}, **figures}
    results |= figures
    print(json.dumps(results, indent=2))
    if args.record:
        RECORD.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def build_peer(folder: Path) -> Path:
    """Build a page with the peer that does the same as ours, from the files of its packages."""
    folder.mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        names = [f"{name}@{version}" for name, version in PEER.items()]
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
        subprocess.run([shutil.which("npm") or "npm", "install", *quiet, *names], cwd=temporary, check=True)
        face_api, backend = (Path(temporary, "node_modules", name) for name in PEER)
        shutil.copy(face_api / "dist" / "face-api.esm.js", folder)
        shutil.copytree(
            backend / "dist", folder / "wasm", ignore=lambda _, names: [n for n in names if ".wasm" not in n]
        )
        (folder / "model").mkdir()
        for path in (face_api / "model").iterdir():
            if path.name.startswith(MODELS) and "tiny" not in path.name:
                shutil.copy(path, folder / "model")
    (folder / "index.html").write_text(_PEER_PAGE, encoding="utf-8")
    return folder


class Handler(SimpleHTTPRequestHandler):
    """Serves files compressed, and counts what it sends."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return
        packed = compress(path)
        self.server.sent += len(packed)  # type: ignore[attr-defined]
        self.send_response(200)
        types = {".mjs": "text/javascript", ".wasm": "application/wasm"}
        self.send_header("Content-Type", types.get(path.suffix) or self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed)))
        self.send_header("Cache-Control", "max-age=600")
        self.end_headers()
        self.wfile.write(packed)

    def log_message(self, *args: Any) -> None:
        pass


@functools.cache
def compress(path: Path) -> bytes:
    return gzip.compress(path.read_bytes(), 9)


@contextmanager
def visit(chromium: Browser, folder: Path) -> Iterator[tuple[Page, ThreadingHTTPServer]]:
    """Open a page in a new context, from a server of its own, so that nothing is cached for its address."""
    for path in folder.rglob("*"):
        if path.is_file():
            compress(path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    server.sent = 0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    context = chromium.new_context(service_workers="block", permissions=["camera"])
    context.add_init_script(_TIME)
    page = context.new_page()
    page.set_default_timeout(180_000)
    page.goto(f"http://127.0.0.1:{server.server_port}/", wait_until="domcontentloaded")
    yield page, server
    context.close()
    server.shutdown()
    server.server_close()


def measure(chromium: Browser, pages: dict[str, Path], photos: list[Path], rounds: int) -> dict[str, Any]:
    """Visit the pages in turns: time the first result with a cold cache and, in the last round, all photos."""
    first: dict[str, list[float]] = {name: [] for name in pages}
    figures: dict[str, dict[str, Any]] = {name: {} for name in pages}
    for turn in range(1 + rounds):
        for name, folder in pages.items():
            with visit(chromium, folder) as (page, server):
                seconds = answer(page, photos[0])["sinceOpened"]
                if turn:
                    first[name].append(seconds)
                figures[name]["compressed_bytes"] = server.sent  # type: ignore[attr-defined]
                if turn == rounds:
                    times = [answer(page, photo)["sinceChosen"] for photo in photos]
                    figures[name]["photo_seconds"] = {
                        "median": round(statistics.median(times), 3),
                        "total": round(sum(times), 3),
                        "each": {photo.name: round(value, 3) for photo, value in zip(photos, times, strict=True)},
                    }
    for name, folder in pages.items():
        figures[name]["bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        figures[name]["first_answer_seconds"] = round(statistics.median(first[name]), 3)
    return {"photos": len(photos), "rounds": rounds, "each": figures}


def answer(page: Page, photo: Path) -> dict[str, float]:
    """Return the seconds from choosing a photo, and from opening the page, to the photo's ages."""
    page.set_input_files("#file", photo)
    return page.evaluate("answered")


def measure_camera(chromium: Browser, folder: Path, seconds: float) -> dict[str, Any]:
    """Measure the frames shown per second, with boxes and ages, and the share of frames with an age."""
    with visit(chromium, folder) as (page, _):
        page.locator("#camera").click()
        # wait until everything is compiled
        expect(page.locator("#drawn")).to_have_attribute("data-ages", re.compile(r"\d"), timeout=180_000)
        page.wait_for_timeout(2000)
        ages = page.evaluate(_WATCH, seconds)
    return {
        "size": [640, 480],
        "seconds": seconds,
        "pictures_per_second": round(len(ages) / seconds, 1),
        "with_an_age": round(sum(map(bool, ages)) / max(len(ages), 1), 3),
    }


def measure_parity(chromium: Browser, folder: Path, photos: list[Path]) -> dict[str, Any]:
    with visit(chromium, folder) as (page, _):
        return compare(page, photos)


def estimate(page: Page, photo: bytes) -> list[dict[str, Any]]:
    """Run the JavaScript estimator on an encoded photo, which the browser decodes."""
    return page.evaluate(_ESTIMATE, b64encode(photo).decode())


def compare(page: Page, photos: list[Path]) -> dict[str, Any]:
    """Compare the estimator of the open page with Python.

    Faces are the same if their boxes have an IoU of at least 0.9; ages and doubts are compared on those only.
    """
    estimator = AgeEstimator()
    found, expected, stages_off = 0, 0, 0.0
    same: list[tuple[float, bool]] = []
    for photo in photos:
        faces = estimate(page, photo.read_bytes())
        wanted = estimator(photo)
        found, expected = found + len(faces), expected + len(wanted)
        for face in faces:
            total = sum(stage["contribution"] for stage in face["stages"])
            stages_off = max(stages_off, abs(total - face["raw_age"]))
        for known in wanted:
            shared = [iou(np.array(known.box), other["box"]) for other in faces]
            if max(shared, default=0) >= 0.9:
                other = faces.pop(int(np.argmax(shared)))
                same.append((abs(other["age"] - known.age), other["doubts"] == list(known.doubts or [])))
    years = [difference for difference, _ in same]
    return {
        "photos": len(photos),
        "faces": {"python": expected, "page": found},
        "same_box": round(len(same) / max(expected, found, 1), 4),
        "same_doubts": round(float(np.mean([doubts for _, doubts in same])), 4),
        "years": {"mean": round(float(np.mean(years)), 4), "quantile_98": round(float(np.quantile(years, 0.98)), 4)},
        "stages_off": round(stages_off, 6),
    }


if __name__ == "__main__":
    sys.exit(main())
