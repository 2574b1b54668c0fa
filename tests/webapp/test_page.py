"""The web page as a person meets it: a real browser on a real server with the real weights.

The pictures that the tests take of it go to the folder that SSRNET_SCREENSHOTS names.
"""

import json
import os
import re
import runpy
import shutil
import subprocess
import tarfile
import tempfile
from base64 import b64encode
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from time import sleep

import pytest
import skimage.data
from PIL import Image
from playwright.sync_api import ConsoleMessage, Locator, Page, expect

from ssrnet_hub import save_pretrained
from ssrnet_hub.images.alignment import Framing
from ssrnet_hub.models.pretrained import new_model
from ssrnet_hub.models.zoo import DEFAULT

from ..chromium import keep, start_chromium
from ..demo_server import serve
from ..hub_server import HubServer
from ..pictures import encode, walk, write_film, write_zip

write_camera = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "maintain" / "live_rate.py"))[
    "write_camera"
]

expect.set_options(timeout=60_000)  # a machine that has other work to do is slow, not wrong

DESK = {"viewport": {"width": 1280, "height": 900}, "locale": "en-US"}
SIZES = [(390, 844), (768, 1024), (1280, 900)]
TABS = ["photo", "camera", "video", "batch", "about"]
AXE = "4.10.3"

GRADIOS_OWN = {
    ("aria-prohibited-attr", "copy"),
    # of the list of uploaded files: the links to them, and a button within a button
    ("color-contrast", "photos"),
    ("nested-interactive", "photos"),
}
"""What axe finds in Gradio's own parts, serious or critical, by rule and part. It may only shrink."""

CONSOLE = re.compile(r"Method not implemented\.|Failed to load resource: .* 503 ")
"""Warnings and errors in the console by Gradio's client, and by the browser where the server is busy."""

NAMES = re.compile(r"[\w./@-]*[./_][\w./@-]*")
"""Of files and weights."""
ENGLISH = re.compile(r"\b[A-Za-z]?[a-z]+(?:[,;:]? [a-z]+)+\b")
CHINESE = re.compile(r"[\u4e00-\u9fff]")

KEEP_CAMERAS = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
window.cameras = [];
navigator.mediaDevices.getUserMedia = async wanted => {
  const stream = await ask(wanted);
  window.cameras.push(...stream.getTracks());
  return stream;
};
"""
CAMERAS_ON = "window.cameras.filter(camera => camera.readyState === 'live').length"

OTHER = "age/other"


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
def webcam_age(webcam, estimator):
    """How old she is there."""
    with Image.open(webcam) as frame:
        return estimator(frame)[0].age


@pytest.fixture(scope="module")
def browser(webcam):
    with start_chromium(webcam) as browser:
        yield browser


def is_ours(said: ConsoleMessage) -> bool:
    """Whether the page warns of something that is not Gradio's, nor of what comes after its camera or visitor left."""
    late = re.search("/stream/|session_hash=none", said.location.get("url", ""))
    return said.type in ("warning", "error") and not CONSOLE.match(said.text) and not late


@pytest.fixture(scope="module")
def visitors():
    """Those who left, by their settings: their browsers have the scripts of the page, which saves a second."""
    return defaultdict(list)


@pytest.fixture
def visit(browser, demo, visitors):
    """Opens the page in a window; what it asks of other machines, and what the console warns of, fail the test."""
    contexts, wrong = [], []

    def open_page(address: str = "", **options) -> Page:
        settings = {**DESK, **options}
        left = visitors[json.dumps(settings, sort_keys=True)]
        context = left.pop() if left else browser.new_context(**settings)
        contexts.append((left, context))
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.add_init_script(KEEP_CAMERAS)
        page.on("request", lambda r: re.match(rf"{demo.url}|data:|blob:", r.url) or wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: is_ours(said) and wrong.append(f"{said.text} {said.location.get('url')}"))
        page.goto(demo.url + address)
        # the example is there with the page
        expect(faces(page).first).to_be_attached(timeout=60_000)
        return page

    yield open_page
    for left, context in contexts:
        for page in context.pages:
            page.close()
        context.clear_cookies()
        left.append(context)
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
    expect(page.locator("#photo input[type=file]")).to_be_attached()
    page.locator("input[type=file]").first.set_input_files(path)
    answered(page)


def answered(page: Page) -> None:
    """Wait until a photo of one's own is answered: the example that is there before has faces, too."""
    expect(page.locator(".ssr-invite")).to_be_hidden()
    expect(page.locator("#result [aria-busy]")).to_have_count(0)


def faces(page: Page):
    return page.locator(".ssr-face")


def heading(page: Page):
    """Which face the breakdown is of."""
    return page.locator(".ssr-heading")


def bins(page: Page):
    return page.locator(".ssrnet-bin")


def tab(page: Page, name: str) -> None:
    page.locator(f"#tab-{name}-button:visible").click()


def options(page: Page) -> None:
    page.locator("#options").get_by_role("button").first.click()


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core, from npm, once per machine."""
    file = Path(tempfile.gettempdir(), f"ssrnet-hub-axe-core-{AXE}.js")
    if not file.exists():
        npm = shutil.which("npm")
        with tempfile.TemporaryDirectory() as folder:
            packed = npm and subprocess.run([npm, "pack", f"axe-core@{AXE}"], cwd=folder, capture_output=True)
            if not packed or packed.returncode:
                why = f"axe-core is not there: {packed.stderr.decode()[-300:] if packed else 'npm is not installed'}"
                pytest.fail(why) if os.environ.get("SSRNET_TEST_BROWSER") else pytest.skip(why)
            with tarfile.open(Path(folder, f"axe-core-{AXE}.tgz")) as archive:
                content = archive.extractfile("package/axe.min.js").read()
            other = file.with_name(f"{file.name}.{os.getpid()}")
            other.write_bytes(content)
            other.replace(file)
    return file.read_text(encoding="utf-8")


def violations(page: Page) -> dict[tuple[str, str], str]:
    """What axe finds, serious or critical: by rule, and by what it is in, where that is not ours."""
    found = page.evaluate(
        """async () => {
          const {violations} = await axe.run(document, {resultTypes: ['violations'], preload: false});
          const serious = violations.filter(({impact}) => ['serious', 'critical'].includes(impact));
          const own = '#photo, #result, #seen, #ages, #table, #intro, #about';
          return serious.flatMap(({id, nodes}) => nodes.map(({target, html}) => {
            const at = document.querySelector(target[0]);
            const part = at?.closest(own) ? 'ours' : at?.closest('[id]:not([id^=component], [id*=" "])')?.id ?? '';
            return [id, part, `${target[0]}: ${html.slice(0, 300)}`];
          }));
        }"""
    )
    return {(rule, part): where for rule, part, where in found}


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_the_answer_at_first_sight(visit, photos, axe, locale):
    """One page in two languages, of three sizes, light and dark."""
    page = visit(locale=locale, has_touch=True)
    chinese = locale == "zh-CN"
    years, title = ("岁", "这张脸看起来几岁") if chinese else ("years", "How old does a face look")
    expect(page.locator("h1")).to_contain_text(title)
    expect(page.get_by_role("tab", name="批量" if chinese else "Batch").first).to_be_attached()
    # an example, computed when the server started, and a line that invites a photo
    expect(faces(page)).to_have_count(1)
    expect(page.locator(".ssrnet-age-value")).to_have_text(re.compile(rf"^\d+\.\d {years}$"))
    expect(page.locator(".ssr-invite")).to_be_visible()
    keep(page, f"example-{locale}")
    upload(page, photos / "two.png")
    expect(faces(page)).to_have_count(2)
    page.evaluate(axe)
    found: dict[tuple[str, str], str] = {}
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.evaluate("scrollTo(0, 0)")
            for part in (".ssrnet-age-value", ".ssrnet-age-bar"):
                box = page.locator(part).first.bounding_box()
                assert box["y"] >= 0 and box["y"] + box["height"] <= height, (width, part)
                assert box["x"] >= 0 and box["x"] + box["width"] <= width, (width, part)
            # one picture
            assert page.locator("#result img:visible").count() == 1 + 2
            for number in (2, 1):
                page.locator(f".ssr-face[data-face='{number}']").tap()
                expect(heading(page)).to_contain_text(re.compile(rf"(Face|人脸) {number}"))
            # nothing sticks out
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            keep(page, f"photo-{locale}-{width}x{height}-{scheme}")
        for scheme in ("light", "dark") if not chinese and width != 768 else ():
            page.emulate_media(color_scheme=scheme)
            for name in TABS if width == 1280 else ["photo"]:
                if width == 1280:
                    tab(page, name)
                page.wait_for_timeout(300)  # tabs and colors fade in
                found |= violations(page)
                if name != "photo":
                    keep(page, f"{name}-{scheme}")
    assert not {rule: where for rule, where in found.items() if rule[1] == "ours"}
    assert found.keys() <= GRADIOS_OWN, found


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_axe_finds_nothing_where_there_are_answers(visit, photos, film, axe, locale):
    page = visit(locale=locale)
    upload(page, photos / "two.png")
    tab(page, "batch")
    page.set_input_files("#photos input[type=file]", [photos / n for n in ("two.png", "broken.jpg", "cat.png")])
    page.locator("#batch-start").click()
    expect(page.locator("#files")).to_be_visible()
    tab(page, "video")
    page.set_input_files("#film input[type=file]", film)
    expect(page.locator("#film video")).to_be_visible()
    page.locator("#film-start").click()
    expect(page.locator("#ages figcaption")).to_be_visible()
    expect(page.locator("#copy video")).to_be_visible()
    page.evaluate(axe)
    found: dict[tuple[str, str], str] = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for name in TABS:
            tab(page, name)
            page.wait_for_timeout(300)  # tabs and colors fade in
            found |= violations(page)
            keep(page, f"{name}-filled-{locale}-{scheme}")
    assert not {rule: where for rule, where in found.items() if rule[1] == "ours"}
    assert found.keys() <= GRADIOS_OWN, "\n".join(map(str, found.items()))


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_what_goes_wrong_is_said_in_the_language_of_the_page(visit, demo, photos, tmp_path, locale):
    chinese = locale == "zh-CN"
    page = visit(locale=locale)
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans" if chinese else "en")

    def check(said: str) -> None:
        if chinese:
            assert not ENGLISH.search(NAMES.sub("", said)), said
        else:
            assert not CHINESE.search(said)

    def says(part: Locator, english: str, translated: str) -> None:
        expect(part).to_contain_text(translated if chinese else english)
        check(part.inner_text())

    def toast(english: str, translated: str) -> None:
        says(page.locator(".toast-wrap"), english, translated)
        close = page.locator("[data-testid=toast-close]").first
        expect(close).to_have_attribute("aria-label", "关闭" if chinese else "Close")
        close.click()
        expect(page.locator(".toast-body")).to_have_count(0)

    def send(content: bytes, name: str) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    photo = page.locator("input[type=file]").first
    photo.set_input_files(photos / "broken.jpg")
    toast("broken.jpg is not a picture of a known format", "broken.jpg 不是支持的图片格式")
    photo.set_input_files(send(b"", "empty.png"))
    toast("empty.png is empty: 0 bytes.", "empty.png 是空文件")
    photo.set_input_files(send(encode(Image.new("1", (7000, 6000)), "PNG"), "huge.png"))
    toast("huge.png has 7000x6000 = 42.0 megapixels, more than the limit of 40.0.", "共 42.0 百万像素")
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(101_000_000)
    photo.set_input_files(tmp_path / "large.jpg")
    toast("exceed the maximum allowed size", "超过大小上限")
    photo.set_input_files(photos / "cat.png")
    answered(page)
    says(page.locator(".ssr-status"), "No face was found", "没有检测到人脸")
    # the browser refuses the camera: that of the tests asks nobody
    page.evaluate(
        """() => {
          navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('denied', 'NotAllowedError'); };
        }"""
    )
    page.get_by_role("button", name="拍照" if chinese else "Camera", exact=True).click()
    says(page.locator(".ssr-note"), "does not let the page use the camera", "不允许页面使用摄像头")
    with page.expect_response("**/queue/join*"):
        page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={"detail": "Queue is full."}))
        page.locator(".ssr-example").nth(1).click()
    toast("currently busy", "服务器正忙")
    page.unroute("**/queue/join*")
    # the settings
    options(page)
    choose(page, ".weights", "../secret")
    toast("'../secret' is not available here", "没有权重 '../secret'")
    choose(page, ".weights", "age/none")
    toast("age/none is not on the Hugging Face Hub", "Hugging Face Hub 上没有 age/none")
    choose(page, ".weights", DEFAULT)
    expect(faces(page)).to_have_count(3)
    box = page.locator("#min-face input[type=number]")
    box.fill("5")
    box.blur()
    toast("from 12 to 400 pixels", "12 至 400 像素")
    box.fill("0")
    box.blur()
    # the server has forgotten the photo
    upload(page, photos / "two.png")
    expect(faces(page)).to_have_count(2)
    for file in demo.uploads.rglob("two.png"):
        file.unlink()
    page.locator("#rotated input").click()
    toast("upload it again", "请重新上传")
    # many photos, one of them broken, and zips
    tab(page, "batch")
    page.locator("#batch-start").click()
    toast("There are no photos yet", "还没有照片")
    archive = write_zip(tmp_path / "raw.zip", {"a.CR2": b"raw", "b.jpg": b"no photo"})
    sent = [photos / "cat.png", photos / "broken.jpg", archive, send(b"no zip", "broken.zip")]
    page.set_input_files("#photos input[type=file]", sent)
    page.locator("#batch-start").click()
    says(page.locator("#files"), "5 photos, 4 of them could not be read. Save:", "其中 4 张无法读取。保存")
    for english, translated in (
        ("no face found", "未检测到人脸"),
        ("broken.jpg is not a picture", "broken.jpg 不是支持的图片格式"),
        ("1 picture left out, of formats that cannot be read: 1 .cr2.", "略过 1 张无法读取的图片"),
        ("The zip cannot be read", "压缩包无法读取"),
    ):
        says(page.locator("#table"), english, translated)
    tab(page, "video")
    page.locator("#film-start").click()
    toast("There is no video yet", "还没有视频")
    page.set_input_files("#film input[type=file]", send(b"no film", "fake.mp4"))
    # the browser says so before the server does
    toast("Video not playable", "浏览器无法播放该视频")
    page.locator("#film-start").click()
    toast("fake.mp4 is not a video", "fake.mp4 不是视频")
    tab(page, "camera")
    page.locator("#camera").get_by_text("点击开启摄像头" if chinese else "Click to Access Webcam").click()
    says(page.locator("#seen"), "does not let the page use the camera", "不允许页面使用摄像头")
    for name in TABS:
        tab(page, name)
        check(page.locator("body").inner_text())


def test_from_a_photo_to_the_breakdown_of_each_face(visit, photos, estimator):
    page = visit()
    upload(page, photos / "two.png")
    expect(faces(page)).to_have_count(2)
    expected = estimator(photos / "two.png")
    # from left to right as they stand, with their numbers
    for card, face in zip(faces(page).all(), expected, strict=True):
        expect(card).to_contain_text(f"{face.age:.1f} years")
        expect(card).to_contain_text("{:.0f} to {:.0f}".format(*face.interval()))
    assert [card.get_attribute("data-face") for card in faces(page).all()] == ["1", "2"]
    expect(page.locator(".ssr-photo > img")).to_be_visible()
    expect(heading(page)).to_contain_text("Face 1")
    bins(page).first.focus()
    first = page.locator(".ssrnet-details").inner_text()
    assert f"{expected[0].stages[0].p[0]:.3f}" in first
    # by the keyboard
    faces(page).nth(1).focus()
    page.keyboard.press("Enter")
    expect(heading(page)).to_contain_text("Face 2")
    expect(faces(page).nth(1)).to_have_attribute("aria-pressed", "true")
    expect(faces(page).nth(0)).to_have_attribute("aria-pressed", "false")
    assert "Face 2; " in faces(page).nth(1).get_attribute("aria-label")
    # into the first one's box, in the picture
    box, (x1, y1, x2, y2) = page.locator(".ssr-photo").bounding_box(), expected[0].box
    scale = box["width"] / 800
    page.locator(".ssr-photo").click(position={"x": (x1 + x2) / 2 * scale, "y": (y1 + y2) / 2 * scale})
    expect(heading(page)).to_contain_text("Face 1")
    for kind, start in (("SVG", b"<?xml"), ("PNG", b"\x89PNG")):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Save figure as {kind}").click()
        assert download.value.suggested_filename == f"face-1-{DEFAULT}.{kind.lower()}"
        assert Path(download.value.path()).read_bytes().startswith(start)


def test_from_left_to_right(visit, photos, astronaut):
    """The larger face, which has the number 1, stands to the right."""
    photo = Image.new("RGB", (800, 512), "white")
    photo.paste(astronaut.resize((256, 256)), (0, 100))
    photo.paste(astronaut, (288, 0))
    photo.save(photos / "right.png")
    page = visit()
    upload(page, photos / "right.png")
    assert [card.get_attribute("data-face") for card in faces(page).all()] == ["2", "1"]


def choose(page: Page, where: str, text: str) -> None:
    box = page.locator(f"{where} input").first
    box.click()
    box.fill(text)
    box.press("Enter")
    box.blur()


def test_other_weights(visit, photos):
    page = visit(f"?tab=about&weights={OTHER}")
    # as the address says
    expect(page.locator("#about")).to_be_visible()
    page.locator("#tab-photo-button:visible").click()
    expect(page.locator(".ssr-save")).to_contain_text("PNG")
    assert page.url.endswith(f"/?weights={OTHER.replace('/', '%2F')}")
    upload(page, photos / "two.png")
    expect(faces(page)).to_have_count(2)
    before = faces(page).first.inner_text()
    options(page)
    choose(page, ".weights", DEFAULT)
    expect(faces(page).first).not_to_have_text(before, use_inner_text=True)
    assert "weights" not in page.url
    choose(page, "#others", OTHER)
    expect(page.locator(".ssrnet-figures > *")).to_have_count(2)
    expect(page.locator(".ssrnet-figures")).to_contain_text(OTHER)
    keep(page, "compare")
    faces(page).nth(1).click()
    expect(heading(page)).to_contain_text("Face 2")
    expect(page.locator(".ssrnet-figures > *")).to_have_count(2)
    # no such weights: what is there stays
    choose(page, ".weights", "../secret")
    expect(page.locator(".toast-body")).to_contain_text("is not available here")
    expect(page.locator("#result [aria-busy]")).to_have_count(0)
    expect(faces(page)).to_have_count(2)


def test_the_smallest_face(visit, photos):
    page = visit()
    upload(page, photos / "two.png")
    expect(faces(page)).to_have_count(2)
    options(page)
    box = page.locator("#min-face input[type=number]")
    for _ in range(20):
        # just after the options open, Gradio does not listen yet
        box.fill("200")
        box.blur()
        with suppress(AssertionError):
            expect(faces(page)).to_have_count(1, timeout=3000)
            break
    expect(faces(page)).to_have_count(1)


def says_interval(photos, estimator):
    """Between which ages the first face of two.png is."""
    return "{:.0f} to {:.0f}".format(*estimator(photos / "two.png")[0].interval())


def test_three_photos_one_of_them_broken(visit, photos, estimator):
    page = visit()
    tab(page, "batch")
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
    # a picture of each that could be read, and how many faces there are of each age
    expect(table.locator("td img")).to_have_count(2)
    expect(table.locator(".ssr-histogram svg")).to_have_attribute(
        "aria-label", re.compile("years: 2|years: 1.*years: 1")
    )
    keep(page, "many")


@pytest.fixture(scope="module")
def phone(photos, astronaut):
    """Photos as phones have them, of which the browser knows no type."""
    (photos / "IMG_1.HEIC").write_bytes(encode(astronaut, "HEIF"))
    (photos / "IMG_2.AVIF").write_bytes(encode(astronaut, "AVIF"))
    return [photos / "IMG_1.HEIC", photos / "IMG_2.AVIF"]


def test_heic_and_avif(visit, phone):
    page = visit()
    for photo in phone:
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Upload photo").click()
        assert {"image/*", ".heic", ".avif"} <= set(chooser.value.element.get_attribute("accept").split(","))
        chooser.value.set_files(photo)
        answered(page)
        expect(faces(page)).to_have_count(1)


def test_scripts_in_any_order(browser, demo):
    # Gradio inserts them at run time, so none waits for another
    context, wrong = browser.new_context(**DESK), []
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.route("**/page/early.js", lambda route: (sleep(2), route.continue_()))
    page.goto(f"{demo.url}?tab=about")
    expect(page.locator("#about")).to_be_visible(timeout=60_000)
    expect(faces(page).first).to_be_attached(timeout=60_000)
    context.close()
    assert not wrong


def drop(page: Page, photo: Path) -> None:
    """Drop a photo onto the page, without a type, as of a format that the browser does not know."""
    page.evaluate(
        """([name, content]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt())], name));
          document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""",
        [photo.name, b64encode(photo.read_bytes()).decode()],
    )


def test_a_photo_that_is_dropped_on_a_page_that_just_came(browser, demo, phone, estimator):
    """It waits until the page listens."""
    page = browser.new_page(**DESK)
    page.goto(demo.url, wait_until="commit")
    page.wait_for_function("window.ssrnet")
    drop(page, phone[0])
    answered(page)
    expect(faces(page)).to_have_count(1)
    # and of two, one right after the other, the last one counts
    drop(page, phone[0])
    drop(page, phone[1])
    answered(page)
    expect(faces(page)).to_contain_text(f"{estimator(phone[1])[0].age:.1f} years")
    page.close()


def test_the_end_of_answers_is_no_broken_connection(visit):
    """Or Gradio's client would tell what is asked for at that moment that the connection broke, and give it up."""
    page = visit()
    outcome = page.evaluate(
        """async () => {
          const stop = new AbortController();
          const answers = await fetch(new Request('gradio_api/queue/data?session_hash=none', {signal: stop.signal}));
          const read = answers.text();
          stop.abort();
          return read.then(() => 'read to its end', error => error.name);
        }"""
    )
    assert outcome != "AbortError"


def test_heic_among_many_photos(visit, phone, photos):
    page = visit()
    tab(page, "batch")
    archive = write_zip(photos / "phone.zip", {"a.heic": phone[0].read_bytes(), "b.CR2": b"raw", "c.CR2": b"raw"})
    page.set_input_files("#photos input[type=file]", [*phone, archive])
    page.get_by_role("button", name="Estimate ages").click()
    expect(page.locator("#files")).to_contain_text("4 photos, 1 of them could not be read")
    expect(page.locator("#table")).to_contain_text("2 pictures left out, of formats that cannot be read: 2 .cr2")


def test_a_photo_without_a_face(visit, photos):
    page = visit()
    upload(page, photos / "cat.png")
    expect(page.locator(".ssr-status")).to_contain_text("No face was found")
    expect(page.locator(".ssr-below")).to_be_hidden()
    expect(faces(page)).to_have_count(0)
    expect(page.locator(".ssr-photo > img")).to_be_visible()


def test_a_broken_photo(visit, photos):
    page = visit()
    upload(page, photos / "broken.jpg")
    expect(page.locator(".toast-body")).to_contain_text("broken.jpg")
    # the example is still there, and on with another
    expect(faces(page)).to_have_count(1)
    upload(page, photos / "two.png")
    expect(faces(page)).to_have_count(2)


def test_an_example(visit):
    page = visit()
    page.get_by_role("button", name="Example: three sizes").click()
    expect(faces(page)).to_have_count(3)
    expect(page.get_by_role("button", name="Example: three sizes")).to_have_attribute("aria-pressed", "true")


def test_by_webcam(visit, webcam_age):
    page = visit(permissions=["camera"])
    camera = page.get_by_role("button", name="Camera", exact=True)
    camera.click()
    expect(page.get_by_role("button", name="Take photo")).to_be_enabled()
    assert page.evaluate(CAMERAS_ON) == 1
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("dialog")).to_have_count(0)
    assert page.evaluate(CAMERAS_ON) == 0
    expect(page.locator(".ssr-invite")).to_be_visible()
    camera.click()
    page.get_by_role("button", name="Take photo").click()
    answered(page)
    assert page.evaluate(CAMERAS_ON) == 0
    expect(page.locator("dialog")).to_have_count(0)
    # she moves: a picture in between may show her twice
    age = float(re.search(r"([\d.]+) years", faces(page).first.inner_text())[1])
    assert age == pytest.approx(webcam_age, abs=6)
    keep(page, "webcam")


def test_pasted(visit, photos):
    page = visit()
    content = b64encode((photos / "two.png").read_bytes()).decode()
    page.evaluate(
        """content => {
          const transfer = new DataTransfer();
          const bytes = Uint8Array.from(atob(content), c => c.charCodeAt());
          transfer.items.add(new File([bytes], 'two.png', {type: 'image/png'}));
          document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true}));
        }""",
        content,
    )
    answered(page)
    expect(faces(page)).to_have_count(2)


def next_pictures(page: Page, count: int) -> list[str]:
    """Who is in the next pictures of the camera."""
    return page.evaluate(
        """count => new Promise(done => {
          const image = document.querySelector('#seen img'), told = [];
          new MutationObserver((_, observer) => {
            if (told.push(image.alt) < count) return;
            observer.disconnect();
            done(told);
          }).observe(image, {attributeFilter: ['src']});
        })""",
        count,
    )


def test_live(visit, demo, webcam_age):
    before, page = demo.files, visit(permissions=["camera"])
    sent = []
    page.on("request", lambda request: "/stream/" in request.url and sent.append(request.url))
    tab(page, "camera")
    camera = page.locator("#camera")
    camera.get_by_text("Click to Access Webcam").click()
    camera.get_by_text("Record").click()
    expect(page.locator("#seen img")).to_have_attribute("alt", re.compile(r"^person 1: \d+ years$"))
    # while she moves, she stays the same person, once a busy machine lets pictures through often enough
    for _ in range(5):
        told = [re.fullmatch(r"person (\d+): (\d+) years", text) for text in next_pictures(page, 6)]
        if all(told) and len({person[1] for person in told}) == 1:
            break
    else:
        pytest.fail(f"not followed: {told}")
    ages = [float(person[2]) for person in told]
    assert max(ages) - min(ages) <= 3
    assert ages == pytest.approx([webcam_age] * len(ages), abs=6)
    keep(page, "live")
    # stopped, no picture is sent or comes any more
    camera.get_by_text("Stop").click()
    expect(camera.get_by_text("Record")).to_be_visible()
    page.wait_for_timeout(1000)
    count, picture = len(sent), page.locator("#seen img").get_attribute("src")
    page.wait_for_timeout(1500)
    assert (len(sent), page.locator("#seen img").get_attribute("src")) == (count, picture)
    # and the place is free: a visitor has six
    for _ in range(6):
        camera.get_by_text("Record").click()
        next_pictures(page, 1)
        camera.get_by_text("Stop").click()
        expect(camera.get_by_text("Record")).to_be_visible()
    # no picture comes to the server's disk
    assert demo.files == before


def test_film(visit, film):
    page = visit()
    tab(page, "video")
    page.set_input_files("#film input[type=file]", film)
    expect(page.locator("#film video")).to_be_visible()
    page.get_by_role("button", name="Track faces").click()
    expect(page.locator("#ages figcaption")).to_contain_text("2 people", timeout=60_000)
    assert page.locator("#ages [data-person] path").count() == 2
    video = page.locator("#copy video")
    expect(video).to_be_visible()
    page.wait_for_function("document.querySelector('#copy video').readyState >= 2")
    assert page.evaluate("document.querySelector('#copy video').duration") == pytest.approx(1.0, abs=0.1)
    # the line follows what is played, and a click goes there
    page.evaluate("document.querySelector('#copy video').pause()")
    chart = page.locator("#ages svg")
    box = chart.bounding_box()
    chart.click(position={"x": box["width"] * 0.7, "y": box["height"] / 2})
    page.wait_for_function("document.querySelector('#copy video').currentTime > 0.4")
    expect(chart).to_have_attribute("aria-valuetext", re.compile(r"^0\.[4-9] s, person \d: \d+ years"))
    keep(page, "film")


def test_film_stopped(visit, long_film):
    page = visit()
    tab(page, "video")
    page.set_input_files("#film input[type=file]", long_film)
    page.get_by_role("button", name="Track faces").click()
    expect(page.locator("#copy")).to_contain_text(re.compile(r"\d\.\d s"))
    page.locator("#film-stop").click()
    expect(page.locator("#copy")).not_to_contain_text(re.compile(r"\d\.\d s"))
    expect(page.locator("#ages figcaption")).to_have_count(0)


def test_no_film(visit, photos, tmp_path):
    page = visit()
    tab(page, "video")
    fake = tmp_path / "fake.mp4"
    fake.write_bytes(b"no film")
    page.set_input_files("#film input[type=file]", fake)
    page.get_by_role("button", name="Track faces").click()
    expect(page.locator(".toast-body")).to_contain_text("fake.mp4 is not a video")


def test_visitors_do_not_see_each_other(visit, photos):
    one, other = visit(), visit()
    upload(one, photos / "two.png")
    expect(faces(one)).to_have_count(2)
    expect(other.locator(".ssr-invite")).to_be_visible()
    expect(faces(other)).to_have_count(1)
    upload(other, photos / "cat.png")
    expect(faces(other)).to_have_count(0)
    faces(one).nth(1).click()
    expect(heading(one)).to_contain_text("Face 2")


def test_about(visit):
    page = visit()
    tab(page, "about")
    expect(page.get_by_text("Nothing is kept")).to_be_visible()
    keep(page, "about")
