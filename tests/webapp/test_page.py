"""The web page as a person meets it: a real browser on a real server with the real weights.

The pictures that the tests take of it go to the folder that SSRNET_SCREENSHOTS names.
"""

import json
import os
import re
import runpy
import shutil
import time
from base64 import b64encode
from pathlib import Path

import pytest
import skimage.data
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from ssrnet_hub import save_pretrained
from ssrnet_hub.images.alignment import Framing
from ssrnet_hub.models.pretrained import new_model

from ..demo_server import serve
from ..hub_server import HubServer
from ..pictures import encode, walk, write_film, write_zip

write_camera = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "maintain" / "live_rate.py"))[
    "write_camera"
]

expect.set_options(timeout=60_000)  # a machine that has other work to do is slow, not wrong

DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
OTHER = "age/other"
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    other = save_pretrained(new_model("ssrnet"), folder / "other", extras={"framing": Framing().to_dict()})
    with (
        HubServer({OTHER: {"main": other}}) as hub,
        serve(folder, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE=0) as demo,
    ):
        yield demo


@pytest.fixture(scope="module")
def webcam(tmp_path_factory):
    """A film of the astronaut, as chromium plays it for a camera."""
    path = tmp_path_factory.mktemp("webcam") / "webcam.mjpeg"
    write_camera(path)
    return path


@pytest.fixture(scope="module")
def browser(webcam):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        if os.environ.get("SSRNET_TEST_BROWSER"):
            pytest.fail("SSRNET_TEST_BROWSER is set, and there is no chromium: apt-get install chromium")
        pytest.skip("no chromium is installed: apt-get install chromium")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    camera += [f"--use-file-for-fake-video-capture={webcam}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*QUIET, *camera])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, demo, request):
    """Opens the page in a window; what its visitors asked of other machines, and errors in it, fail the test."""
    contexts, wrong = [], []

    def open_page(**options) -> Page:
        context = browser.new_context(**{**DESK, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda r: re.match(rf"{demo.url}|data:|blob:", r.url) or wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(demo.url)
        expect(page.locator("#photo")).to_be_visible(timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture(scope="module")
def photos(tmp_path_factory, astronaut):
    folder = tmp_path_factory.mktemp("photos")
    astronaut.save(folder / "astronaut.png")
    two = Image.new("RGB", (800, 512), "white")
    two.paste(astronaut, (0, 0))
    two.paste(astronaut.resize((256, 256)), (530, 100))
    two.save(folder / "two.png")
    Image.fromarray(skimage.data.cat()).save(folder / "cat.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory, astronaut):
    """A second of two people who walk past each other."""
    return write_film(tmp_path_factory.mktemp("film") / "walk.mp4", walk(astronaut))


@pytest.fixture(scope="module")
def long_film(tmp_path_factory, astronaut):
    return write_film(tmp_path_factory.mktemp("film") / "walks.mp4", walk(astronaut) * 60)


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#photo input[type=file]", path)


def keep(page: Page, name: str) -> None:
    folder = os.environ.get("SSRNET_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(600)  # pictures fade in
        page.screenshot(path=Path(folder, f"{name}.png"), full_page=True)


def faces(page: Page):
    return page.locator(".ssr-face")


def captions(page: Page) -> list[str]:
    return page.locator(".ssr-breakdown figcaption").all_inner_texts()


def test_from_a_photo_to_the_breakdown_of_each_face(visit, photos, estimator):
    page = visit()
    upload(page, photos / "two.png")
    expect(faces(page)).to_have_count(2)
    expected = [f"{face.age:.1f}" for face in estimator(photos / "two.png")]
    for card, age in zip(faces(page).all(), expected, strict=True):
        expect(card).to_contain_text(age)
    # the picture with boxes, and the breakdown of the first
    expect(page.locator("#drawn img")).to_be_visible()
    expect(page.locator(".ssr-breakdown figcaption span")).to_have_text(f"face 1, ssrnet.utkface: {expected[0]} years")
    expect(page.locator(".ssr-breakdown figcaption small")).to_contain_text(says_interval(photos, estimator))
    first = page.locator(".ssr-wide svg").inner_html()
    said = estimator(photos / "two.png")[0].explain()
    assert said.split(":")[0].split(",")[0] in re.sub(r"\s+", " ", page.locator(".ssr-wide").inner_text())
    keep(page, "photo")
    faces(page).nth(1).click()
    expect(page.locator(".ssr-breakdown figcaption span")).to_have_text(f"face 2, ssrnet.utkface: {expected[1]} years")
    assert page.locator(".ssr-wide svg").inner_html() != first
    expect(faces(page).nth(1)).to_have_attribute("aria-pressed", "true")
    # into the first one's box, in the picture
    image = page.locator("#drawn img")
    box, scale = image.bounding_box(), min(image.bounding_box()["width"] / 800, image.bounding_box()["height"] / 512)
    x1, y1, x2, y2 = estimator(photos / "two.png")[0].box
    left, top = (box["width"] - 800 * scale) / 2, (box["height"] - 512 * scale) / 2
    image.click(position={"x": left + (x1 + x2) / 2 * scale, "y": top + (y1 + y2) / 2 * scale})
    expect(page.locator(".ssr-breakdown figcaption span")).to_have_text(f"face 1, ssrnet.utkface: {expected[0]} years")
    assert page.locator(".ssr-wide svg").inner_html() == first


def test_by_the_keyboard(visit, photos):
    page = visit()
    upload(page, photos / "two.png")
    faces(page).nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".ssr-breakdown figcaption")).to_contain_text("face 2")


def choose(page: Page, where: str, text: str) -> None:
    box = page.locator(f"{where} input").first
    box.click()
    box.fill(text)
    box.press("Enter")
    box.blur()


def test_other_weights(visit, photos):
    page = visit()
    upload(page, photos / "astronaut.png")
    expect(page.locator(".ssr-breakdown figcaption")).to_contain_text("ssrnet.utkface")
    before = faces(page).inner_text()
    choose(page, ".weights", OTHER)
    expect(page.locator(".ssr-breakdown figcaption")).to_contain_text(OTHER)
    assert faces(page).inner_text() != before


def test_compare(visit, photos):
    page = visit()
    upload(page, photos / "two.png")
    expect(faces(page)).to_have_count(2)
    choose(page, "#others", OTHER)
    expect(page.locator(".ssr-breakdown")).to_have_count(2)
    ours, theirs = captions(page)
    assert "ssrnet.utkface" in ours and OTHER in theirs and ours.startswith("face 1") and theirs.startswith("face 1")
    keep(page, "compare")
    faces(page).nth(1).click()
    expect(page.locator(".ssr-breakdown figcaption").first).to_contain_text("face 2")
    assert all(text.startswith("face 2") for text in captions(page))


def test_weights_that_are_not_there(visit, photos):
    page = visit()
    upload(page, photos / "astronaut.png")
    expect(faces(page)).to_have_count(1)
    choose(page, ".weights", "../secret")
    expect(page.locator(".toast-body")).to_contain_text("is not available here")


def says_interval(photos, estimator):
    """Between which ages the first face of two.png is."""
    return "{:.0f} to {:.0f}".format(*estimator(photos / "two.png")[0].interval())


def test_three_photos_one_of_them_broken(visit, photos, estimator):
    page = visit()
    page.get_by_role("tab", name="Many photos").click()
    page.set_input_files("#photos input[type=file]", [photos / n for n in ("two.png", "broken.jpg", "cat.png")])
    page.get_by_role("button", name="Estimate ages").click()
    expect(page.locator("#files")).to_contain_text("3 photos, 1 of them could not be read")
    table = page.locator("#table")
    for text in (
        "two.png",
        "broken.jpg",
        "cat.png",
        "no face found",
        "90% interval",
        says_interval(photos, estimator),
    ):
        expect(table).to_contain_text(text)
    with page.expect_download() as download:
        page.get_by_role("link", name="ages.json").click()
    rows = json.loads(Path(download.value.path()).read_text())
    assert [(row["file"], len(row["faces"]), row["error"] is None) for row in rows] == [
        ("two.png", 2, True),
        ("broken.jpg", 0, False),
        ("cat.png", 0, True),
    ]
    with page.expect_download() as download:
        page.get_by_role("link", name="ages.csv").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 1 + 2 + 1 + 1
    keep(page, "many")


@pytest.fixture(scope="module")
def phone(photos, astronaut):
    """Photos as phones have them, of which the browser knows no type."""
    (photos / "IMG_1.HEIC").write_bytes(encode(astronaut, "HEIF"))
    (photos / "IMG_2.AVIF").write_bytes(encode(astronaut, "AVIF"))
    return [photos / "IMG_1.HEIC", photos / "IMG_2.AVIF"]


@pytest.mark.parametrize("number", [0, 1])
def test_heic_and_avif(visit, phone, number):
    page = visit()
    with page.expect_file_chooser() as chooser:
        page.locator("#photo").get_by_text("Click to Upload").click()
    assert {"image/*", ".heic", ".avif"} <= set(chooser.value.element.get_attribute("accept").split(","))
    chooser.value.set_files(phone[number])
    expect(faces(page)).to_have_count(1)


@pytest.mark.parametrize("number", [0, 1])
def test_heic_and_avif_that_are_dropped(visit, phone, number):
    page = visit()
    photo = phone[number]
    transfer = page.evaluate_handle(
        """([name, content]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt())], name));
          return transfer;
        }""",
        [photo.name, b64encode(photo.read_bytes()).decode()],
    )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for _ in range(30):
        # a page that has just come does not listen yet
        page.dispatch_event("#photo button", "drop", {"dataTransfer": transfer})
        page.wait_for_timeout(1000)
        if any("/upload" in url for url in asked):
            break
    expect(faces(page)).to_have_count(1)


def test_heic_among_many_photos(visit, phone, photos):
    page = visit()
    page.get_by_role("tab", name="Many photos").click()
    archive = write_zip(photos / "phone.zip", {"a.heic": phone[0].read_bytes(), "b.CR2": b"raw", "c.CR2": b"raw"})
    page.set_input_files("#photos input[type=file]", [*phone, archive])
    page.get_by_role("button", name="Estimate ages").click()
    expect(page.locator("#files")).to_contain_text("4 photos, 1 of them could not be read")
    expect(page.locator("#table")).to_contain_text("2 pictures left out, of formats that cannot be read: 2 .cr2")


def test_a_photo_without_a_face(visit, photos):
    page = visit()
    upload(page, photos / "cat.png")
    expect(page.locator(".toast-body")).to_contain_text("No face was found")
    expect(faces(page)).to_have_count(0)
    expect(page.locator("#drawn img")).to_be_visible()


def test_a_broken_photo(visit, photos):
    page = visit()
    upload(page, photos / "broken.jpg")
    expect(page.locator(".toast-body")).to_contain_text("broken.jpg")
    # and on with another
    page = visit()
    upload(page, photos / "astronaut.png")
    expect(faces(page)).to_have_count(1)


def test_an_example(visit):
    page = visit()
    page.locator(".gallery-item, .gallery button").nth(1).click()
    expect(faces(page)).to_have_count(3)


def test_by_webcam(visit):
    page = visit(permissions=["camera"])
    page.locator("#photo").get_by_label("Capture from camera").click()
    page.locator("#photo").get_by_text("Click to Access Webcam").click()
    page.locator("#photo").get_by_label("capture photo").click()
    expect(faces(page)).to_have_count(1)
    keep(page, "webcam")


def test_live(visit, demo):
    before, page = demo.files, visit(permissions=["camera"])
    page.get_by_role("tab", name="Live").click()
    page.locator("#camera").get_by_text("Click to Access Webcam").click()
    page.locator("#camera").get_by_label("start recording").or_(page.locator("#camera").get_by_text("Record")).click()
    seen = page.locator("#seen img")
    expect(seen).to_have_attribute("alt", re.compile(r"^person 1: \d+ years$"))
    picture = "document.querySelector('#seen img').src"
    page.wait_for_function(f"first => {picture} !== first", arg=page.evaluate(picture))
    # who it is stays the same, once a busy machine lets pictures through often enough
    for _ in range(5):
        person = seen.get_attribute("alt").partition(":")[0]
        page.wait_for_timeout(1500)
        if seen.get_attribute("alt").partition(":")[0] == person:
            break
    else:
        pytest.fail(f"{person} was not recognized 1.5 seconds later")
    keep(page, "live")
    # no picture comes to the server's disk
    assert demo.files == before


def test_film(visit, film):
    page = visit()
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#film input[type=file]", film)
    expect(page.locator("#film video")).to_be_visible()
    page.get_by_role("button", name="Follow the faces").click()
    expect(page.locator("#ages figcaption")).to_contain_text("2 people", timeout=60_000)
    assert page.locator("#ages .ssr-wide svg [id*=person]").count() >= 2
    video = page.locator("#copy video")
    expect(video).to_be_visible()
    page.wait_for_function("document.querySelector('#copy video').readyState >= 2")
    assert page.evaluate("document.querySelector('#copy video').duration") == pytest.approx(1.0, abs=0.1)
    keep(page, "film")


def test_film_stopped(visit, long_film):
    page = visit()
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#film input[type=file]", long_film)
    page.get_by_role("button", name="Follow the faces").click()
    expect(page.locator("#copy")).to_contain_text("seconds processed")
    page.locator("#film-stop").click()
    expect(page.locator("#copy")).not_to_contain_text("seconds processed")
    expect(page.locator("#ages figcaption")).to_have_count(0)


def test_nothing_is_left_after_the_sweep(browser, photos, film, tmp_path):
    with serve(tmp_path, SSRNET_HUB_DEMO_SWEEP=15) as demo:
        page = browser.new_page(**DESK)
        page.goto(demo.url)
        upload(page, photos / "astronaut.png")
        expect(faces(page)).to_have_count(1, timeout=60_000)
        page.get_by_role("tab", name="Video").click()
        page.set_input_files("#film input[type=file]", film)
        page.get_by_role("button", name="Follow the faces").click()
        expect(page.locator("#copy video")).to_be_visible(timeout=60_000)
        assert list(demo.uploads.rglob("ages.mp4"))
        page.close()
        deadline = time.monotonic() + 60
        while (demo.files or list(tmp_path.rglob("*.mp4"))) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not demo.files and not list(tmp_path.rglob("*.mp4"))


def test_no_film(visit, photos, tmp_path):
    page = visit()
    page.get_by_role("tab", name="Video").click()
    fake = tmp_path / "fake.mp4"
    fake.write_bytes(b"no film")
    page.set_input_files("#film input[type=file]", fake)
    page.get_by_role("button", name="Follow the faces").click()
    expect(page.locator(".toast-body")).to_contain_text("fake.mp4 is not a video")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(visit, photos, scheme):
    page = visit(**PHONE, color_scheme=scheme)
    upload(page, photos / "two.png")
    expect(faces(page)).to_have_count(2)
    expect(page.locator(".ssr-narrow svg")).to_be_visible()
    expect(page.locator(".ssr-wide svg")).to_be_hidden()
    # nothing sticks out
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep(page, f"phone-{scheme}")
    faces(page).nth(1).tap()
    expect(page.locator(".ssr-breakdown figcaption")).to_contain_text("face 2")


def test_in_the_dark(visit, photos):
    page = visit(color_scheme="dark")
    upload(page, photos / "astronaut.png")
    expect(faces(page)).to_have_count(1)
    colour = page.locator(".ssr-wide svg text").first.evaluate("element => getComputedStyle(element).fill")
    assert min(map(int, re.findall(r"\d+", colour)[:3])) > 150  # light, on the dark page
    keep(page, "dark")


def test_visitors_do_not_see_each_other(visit, photos):
    one, other = visit(), visit()
    upload(one, photos / "two.png")
    expect(faces(one)).to_have_count(2)
    expect(faces(other)).to_have_count(0)
    upload(other, photos / "astronaut.png")
    expect(faces(other)).to_have_count(1)
    faces(one).nth(1).click()
    expect(one.locator(".ssr-breakdown figcaption")).to_contain_text("face 2")
    expect(other.locator(".ssr-breakdown figcaption")).to_contain_text("face 1")


def test_about(visit):
    page = visit()
    page.get_by_role("tab", name="About").click()
    expect(page.get_by_text("Nothing is kept")).to_be_visible()
    keep(page, "about")
