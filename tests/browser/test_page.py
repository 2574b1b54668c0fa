"""The page as a visitor meets it: headless Chromium, the built folder, a server of nothing but files."""

import json
import re
import runpy
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread

import pytest
import skimage.data
from PIL import Image, ImageCms
from playwright.sync_api import Page, expect

from ssrnet_hub.images.loading import load_photo

from ..pictures import encode
from .conftest import ROOT, SOURCE, start

BENCHMARK = runpy.run_path(str(ROOT / "scripts" / "maintain" / "benchmark_browser.py"))
estimate = BENCHMARK["estimate"]


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#file", path)


def faces(page: Page):
    return page.locator("#faces button")


@pytest.fixture(scope="module")
def two(tmp_path_factory, astronaut) -> Path:
    """A photo with two faces."""
    picture = Image.new("RGB", (800, 512), "white")
    picture.paste(astronaut, (0, 0))
    picture.paste(astronaut.resize((256, 256)), (530, 100))
    path = tmp_path_factory.mktemp("photos") / "two.png"
    picture.save(path)
    return path


def test_the_same_faces_and_ages_as_python(page, shared):
    paths = sorted((shared / "data" / "photos").glob("*.jpg"))
    paths += sorted((shared / "data" / "fairface_photos" / "images").iterdir())[:20]
    said = BENCHMARK["compare"](page, paths)
    assert said["faces"]["python"] > 50 and said["same_box"] >= 0.99 and said["same_doubts"] == 1
    assert said["years"]["quantile_98"] <= 0.3 and said["years"]["mean"] <= 0.05
    assert said["stages_off"] < 1e-3


def test_from_a_photo_to_the_breakdown_of_each_face(page, two, estimator):
    upload(page, two)
    expect(faces(page)).to_have_count(2)
    expect(page.locator("#status")).to_have_text("2 faces found.")
    expected = estimator(two)
    for card, face in zip(faces(page).all(), expected, strict=True):
        low, high = face.interval()
        expect(card).to_contain_text(f"{face.age:.1f} years")
        expect(card).to_contain_text(f"{low:.0f} to {high:.0f} years")
    equation = page.locator("#breakdown .ssrnet-now")
    expect(equation).to_contain_text(f"= {expected[0].age:.1f} years")
    faces(page).nth(1).click()
    expect(equation).to_contain_text(f"= {expected[1].age:.1f} years")
    expect(faces(page).nth(1)).to_have_attribute("aria-pressed", "true")
    # into the first one's box, in the picture
    x1, y1, x2, y2 = expected[0].box
    drawn = page.locator("#drawn")
    scale = drawn.bounding_box()["width"] / 800
    drawn.click(position={"x": (x1 + x2) / 2 * scale, "y": (y1 + y2) / 2 * scale})
    expect(equation).to_contain_text(f"= {expected[0].age:.1f} years")


def test_what_browsers_decode(page, astronaut, estimator):
    """EXIF orientation, color profiles, transparency and gray pictures are as in Python."""
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    rotated = Image.Exif()
    rotated[0x0112] = 6
    clear = astronaut.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    photos = {
        "upright": encode(astronaut.rotate(90), "JPEG", quality=95, exif=rotated.tobytes()),
        "profile": encode(astronaut, "PNG", icc_profile=_swapped_profile()),
        "damaged profile": encode(astronaut, "JPEG", quality=95, icc_profile=wide),
        "clear": encode(clear, "PNG"),
        "gray": encode(astronaut.convert("L"), "JPEG", quality=95),
        "palette": encode(astronaut.quantize(64), "PNG"),
        "WebP": encode(astronaut, "WEBP", lossless=True),
    }
    for name, photo in photos.items():
        (face,) = estimate(page, photo)
        (expected,) = estimator(photos[name])
        assert face["age"] == pytest.approx(expected.age, abs=0.3), name
        assert face["box"] == pytest.approx(expected.box, abs=1), name


def _swapped_profile() -> bytes:
    """The profile of sRGB with the primaries of red and blue swapped: who applies it sees other colors."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"????", b"bXYZ", 1)


@pytest.mark.parametrize(("content", "said"), [(b"", "cannot be read"), (b"\xff\xd8\xff no photo", "cannot be read")])
def test_what_is_no_photo(page, tmp_path, two, content, said):
    (tmp_path / "broken.jpg").write_bytes(content)
    upload(page, two)
    expect(faces(page)).to_have_count(2)
    upload(page, tmp_path / "broken.jpg")
    expect(page.locator("#status")).to_contain_text(said)
    expect(page.locator("#answer")).to_be_hidden()
    Image.fromarray(skimage.data.cat()).save(tmp_path / "cat.png")
    upload(page, tmp_path / "cat.png")
    expect(page.locator("#status")).to_have_text("No face was found.")


def test_paste_and_drop(page, two):
    give = """([content, kind]) => {
      const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], 'two.png', { type: 'image/png' }));
      const event = kind === 'paste'
        ? new ClipboardEvent('paste', { clipboardData: data })
        : new DragEvent('drop', { dataTransfer: data, cancelable: true });
      document.dispatchEvent(event);
    }"""
    for kind in ("paste", "drop"):
        page.evaluate(give, [b64encode(two.read_bytes()).decode(), kind])
        expect(page.locator("#status")).to_have_text("Looking for faces…")
        expect(faces(page)).to_have_count(2)


FETCH = """url => fetch(url, { method: 'POST', body: 'photo', mode: 'no-cors' }).then(() => 'sent', () => 'refused')"""
SOCKET = """url => new Promise((done) => {
  try {
    const socket = new WebSocket(url.replace('http', 'ws'));
    [socket.onopen, socket.onerror] = [() => done('sent'), () => done('refused')];
  } catch {
    done('refused');
  }
})"""


@contextmanager
def other_host() -> Iterator[tuple[str, list[str]]]:
    """The address of another server, and what it was asked."""
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def handle_one_request(self):
            asked.append(self.rfile.readline())
            self.close_connection = True

    listener = HTTPServer(("127.0.0.1", 0), Listener)
    Thread(target=listener.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listener.server_port}/", asked
    listener.shutdown()
    listener.server_close()


def test_nothing_is_sent_and_it_works_without_a_server(browser, site, two, estimator):
    server = start(site)
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("body[data-ready]")).to_be_visible()
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    (files,) = re.findall(r"self.FILES = (.*);", (site / "files.js").read_text(encoding="utf-8"))
    sent, before = [], len(server.asked)
    context.on("request", lambda request: request.url.startswith(("data:", "blob:")) or sent.append(request.url))
    upload(page, two)
    expect(faces(page)).to_have_count(2)
    assert not sent and len(server.asked) == before
    server.stop()
    page.reload()
    expect(page.locator("body[data-ready]")).to_be_visible()
    upload(page, two)
    expect(faces(page)).to_have_count(2)
    expect(faces(page).first).to_contain_text(f"{estimator(two)[0].age:.1f} years")
    kept = "caches.keys().then(async ([name]) => (await (await caches.open(name)).keys()).map(({ url }) => url))"
    assert {f"{server.url}{name}".removesuffix("./") for name in json.loads(files)} == set(page.evaluate(kept))
    # what the service worker answers has the policy as well
    with other_host() as (url, asked):
        (worker,) = page.workers
        assert page.evaluate(FETCH, url) == worker.evaluate(FETCH, url) == "refused"
    assert not asked
    context.close()


def test_the_policy_keeps_photos_here(opened, page):
    """Neither the page nor its thread reaches another server, by whatever a script may try."""
    (worker,) = page.workers
    with other_host() as (url, asked):
        for code in (FETCH, SOCKET):
            assert page.evaluate(code, url) == worker.evaluate(code, url) == "refused"
        page.evaluate("url => { navigator.sendBeacon(url, 'photo'); new Image().src = url; }", url)
        page.wait_for_timeout(300)
    assert not asked
    # what was refused is told as a request
    opened[1].clear()


def test_a_phone_in_the_dark_and_in_chinese(page, two, estimator):
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    page.select_option("#language", "zh-CN")
    upload(page, two)
    expect(faces(page)).to_have_count(2)
    expect(page.locator("#status")).to_have_text("检测到 2 张人脸。")
    expect(faces(page).first).to_contain_text(f"{estimator(two)[0].age:.1f} 岁")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", background)[:3])) < 64
    page.select_option("#language", "en")
    expect(page.locator("#status")).to_have_text("2 faces found.")
    expect(page.locator("#breakdown .ssrnet-play")).to_have_text("Play")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(page, two, scheme):
    page.emulate_media(color_scheme=scheme)
    upload(page, two)
    expect(faces(page)).to_have_count(2)
    page.evaluate((SOURCE / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
    said = "({ violations }) => violations.map(({ id, nodes }) => [id, nodes[0].html])"
    assert page.evaluate(f"axe.run().then({said})") == []


def test_by_the_keyboard(page, two):
    upload(page, two)
    expect(faces(page)).to_have_count(2)
    page.locator("h1").click()
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        outlined = page.evaluate(
            "getComputedStyle(document.activeElement.closest('#choose') ?? document.activeElement).outlineStyle"
        )
        assert outlined != "none" or "ssrnet-bin" in seen[-1]
        if faces(page).nth(1).evaluate("button => button === document.activeElement"):
            break
    assert seen[:3] == ["language", "file", "camera"]
    page.keyboard.press("Enter")
    expect(faces(page).nth(1)).to_have_attribute("aria-pressed", "true")


def test_camera(page, estimator, astronaut):
    page.locator("#camera").click()
    drawn = page.locator("#drawn")
    expect(drawn).to_have_attribute("data-ages", re.compile(r"^\d+\.\d$"))
    # it goes on: the next ones come from following the face, and from another search
    first = int(drawn.get_attribute("data-frame"))
    expect(drawn).not_to_have_attribute("data-frame", re.compile(f"^({'|'.join(str(first + k) for k in range(6))})$"))
    (face,) = estimator(astronaut)
    assert float(drawn.get_attribute("data-ages")) == pytest.approx(face.age, abs=5)
    expect(page.locator("#camera")).to_have_text("Stop the camera")
    page.locator("#camera").click()
    expect(page.locator("#camera")).to_have_text("Start the camera")
    expect(page.locator("#answer")).to_be_hidden()
    stopped = drawn.get_attribute("data-frame")
    page.wait_for_timeout(500)
    assert drawn.get_attribute("data-frame") == stopped


def test_several_threads(browser, site, two, estimator):
    """Where the host isolates the page, as the Space does, the networks' runtime starts threads of its own."""
    server = start(site, {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"})
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    page.goto(server.url)
    assert page.evaluate("crossOriginIsolated")
    # chosen before anything has come
    upload(page, two)
    expect(faces(page).first).to_contain_text(f"{estimator(two)[0].age:.1f} years")
    context.close()
    server.stop()


def test_the_example_of_the_package(builder, browser, two, estimator, tmp_path):
    """What its README says, in a page that finds packages by an import map."""
    package = builder["build"](None, tmp_path / "package", package=True)
    (tmp_path / "node_modules").symlink_to(SOURCE / "node_modules")
    (example,) = re.findall(r"```js\n(.*?)```", (package / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names = {
        "ssrnet-hub": "/package/src/estimator.js",
        "onnxruntime-web/wasm": "/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
    }
    (tmp_path / "index.html").write_text(
        f"""<!doctype html><link rel="icon" href="data:,"><img src="two.png" id="imageOrCanvas">
        <script type="importmap">{json.dumps({"imports": names})}</script>
        <script type="module">{example} globalThis.ages = faces.map(({{ age }}) => age);</script>"""
    )
    (tmp_path / "two.png").write_bytes(two.read_bytes())
    server = start(tmp_path)
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(server.url)
    page.wait_for_function("globalThis.ages", timeout=180_000)
    expected = [face.age for face in estimator(two)]
    assert page.evaluate("ages") == pytest.approx(expected, abs=0.05) and len(said) == 2
    context.close()
    server.stop()


def test_a_large_photo(page, astronaut, estimator):
    """What is larger than the search looks at is reduced for it, and faces are cut out of all pixels."""
    photo = encode(astronaut.resize((3000, 3000), Image.Resampling.BICUBIC), "JPEG", quality=90)
    (face,) = estimate(page, photo)
    (expected,) = estimator(load_photo(BytesIO(photo)))
    assert face["age"] == pytest.approx(expected.age, abs=0.3) and face["box"] == pytest.approx(expected.box, abs=2)
