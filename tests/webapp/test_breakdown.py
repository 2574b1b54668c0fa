"""The breakdown that moves, on a page without anything else: what it shows is what Python says."""

import json
import re
import shutil
import threading
import tomllib
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

import ssrnet_hub
from ssrnet_hub import AgeEstimator
from ssrnet_hub.inference.stages import rounded_contributions

from ..chromium import keep, start_chromium

STATIC = Path(ssrnet_hub.__file__).parent / "webapp" / "static"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SIZES = [(390, 844), (768, 1024), (1280, 900)]
DOUBTS = ("blurred", "small", "covered", "turned", "profile", "cut off", "not a face", "uncertain")
MINUS, COLON = "\N{MINUS SIGN}", "\N{FULLWIDTH COLON}"
LIMIT = 60_000  # a machine that has other work to do is slow, not wrong

INDEX = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>breakdown</title><link rel="icon" href="data:,"><link rel="stylesheet" href="breakdown.css">
<link rel="stylesheet" href="page.css"><main><h1>Age</h1><div id="age"></div><div id="breakdown"></div></main>
<script type="module" src="page.js"></script></html>"""
CSS = """
:root { color-scheme: light dark }
body { margin: 16px; font: 16px system-ui; background: light-dark(#fff, #121212) }
#age { max-width: 22rem; margin-bottom: 1rem }
"""
SCRIPT = """
import * as breakdown from './breakdown.js';
import * as stages from './stages.js';
const element = document.querySelector('#breakdown');
window.show = (entries, options) => {
  window.known = [...entries];
  document.querySelector('#age').replaceChildren(breakdown.ageBar(entries[0]?.face, options));
  window.shown = breakdown.mountBreakdown(element, entries, options);
};
window.inTenths = stages.inTenths;
"""


class Quiet(SimpleHTTPRequestHandler):
    def end_headers(self):
        # as a page has it that lets nothing in: no style or script but from files
        self.send_header("Content-Security-Policy", "default-src 'self'; img-src data:")
        super().end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(STATIC, folder, dirs_exist_ok=True)
    for name, text in (("index.html", INDEX), ("page.css", CSS), ("page.js", SCRIPT)):
        (folder / name).write_text(text)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with start_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def windows(browser, url):
    """A window of each kind, and what went wrong in it: to open one takes longer than most tests."""
    wrong: list[str] = []

    @cache
    def window(options: str) -> Page:
        page = browser.new_context(**json.loads(options)).new_page()
        page.set_default_timeout(LIMIT)
        page.on("request", lambda r: r.url.startswith((url, "data:")) or wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        return page

    return window, wrong


@pytest.fixture
def visit(windows, url):
    """Opens the page with entries; errors, complaints and what was asked of other machines fail the test."""
    window, wrong = windows
    wrong.clear()

    def open_page(entries, settings=None, **options) -> Page:
        options = {"viewport": {"width": 1280, "height": 900}, **options}
        page = window(json.dumps(options))
        page.set_viewport_size(options["viewport"])
        page.mouse.move(0, 0)
        page.goto(url)
        page.evaluate("([entries, options]) => show(entries, options)", [entries, settings or {}])
        return page

    yield open_page
    assert not wrong


@pytest.fixture(scope="module")
def faces(astronaut):
    """One face as two networks see it, by their weights; one of them with a score of gender."""
    estimators = {
        "ssrnet.utkface_fairface_aaf": AgeEstimator("ssrnet.utkface_fairface_aaf", gender="ssrnet_gender.fairface"),
        "ssrnet_wide.utkface_fairface_aaf": AgeEstimator("ssrnet_wide.utkface_fairface_aaf"),
    }
    return {name: estimator(astronaut)[0] for name, estimator in estimators.items()}


@pytest.fixture(scope="module")
def entries(faces):
    return [{"weights": name, "face": json.loads(face.to_json())} for name, face in faces.items()]


def facts(face, k, i):
    """What is said of a bin."""
    stage, start = face.stages[k], sum(stage.contribution for stage in face.stages[:k])
    fixed = face.V
    for before in face.stages[: k + 1]:
        fixed /= len(before.p)
    left, grid = start + (i + stage.eta[i]) * stage.width, start + i * fixed
    totals = [
        *accumulate((p * (j + eta) * stage.width for j, (p, eta) in enumerate(zip(stage.p, stage.eta, strict=True))))
    ]
    before, after = ([start, *(start + total for total in totals)][j] for j in (i, i + 1))
    return {
        "p": f"{stage.p[i]:.3f}",
        "eta": f"{stage.eta[i]:+.3f}",
        "delta": f"{stage.delta:+.3f}",
        "fixed": f"{grid:.1f} to {grid + fixed:.1f} years",
        "moved": f"{left:.1f} to {left + stage.width:.1f} years",
        "share": f"{round(round(after, 1) - round(before, 1), 1) + 0.0:.1f} years",
    }


def told(page: Page) -> dict[str, str]:
    pairs = page.locator("[data-fact]").evaluate_all("nodes => nodes.map(n => [n.dataset.fact, n.textContent])")
    return {name: text.replace(MINUS, "-") for name, text in pairs}


def bin_of(page: Page, entry: int, k: int, i: int) -> Locator:
    return page.locator(f"[data-entry='{entry}'][data-stage='{k}'][data-bin='{i}']")


def number(text: str) -> float:
    return float(re.search(r"[-+]?[\d.]+", text.replace(MINUS, "-"))[0])


def slide(page: Page, to: str) -> None:
    page.get_by_role("slider").press(to)


def every_bin(faces):
    return [
        (entry, k, i)
        for entry, face in enumerate(faces.values())
        for k, stage in enumerate(face.stages)
        for i in range(len(stage.p))
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_size_light_and_dark(visit, faces, entries, width, height, scheme):
    touch = {"has_touch": True, "is_mobile": True} if width < 1000 else {}
    page = visit(entries[:1], viewport={"width": width, "height": height}, color_scheme=scheme, **touch)
    for count in (1, 2):
        page.evaluate("entries => shown.update(entries)", entries[:count])
        expect(page.locator(".ssrnet-stages")).to_have_count(count)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for figure, label, face in zip(
            page.locator(".ssrnet-figures figure").all(),
            page.locator(".ssrnet-total-label").all(),
            faces.values(),
            strict=False,
        ):
            says = [number(text) for text in figure.locator(".ssrnet-says").all_text_contents()]
            assert says == rounded_contributions(face.stages)
            assert round(sum(says), 1) == number(label.text_content()) == round(face.age, 1)
        keep(page, f"breakdown-{count}-{width}-{scheme}")
    color = page.locator(".ssrnet-title").first.evaluate("element => getComputedStyle(element).fill")
    assert (min(map(int, re.findall(r"\d+", color))) > 150) == (scheme == "dark")
    for target in (page.locator(".ssrnet-play"), page.get_by_role("slider"), *page.locator(".ssrnet-hit").all()):
        box = target.bounding_box()
        assert box["height"] >= 44 and box["width"] >= 44
    slide(page, "Home")
    keep(page, f"breakdown-grid-{width}-{scheme}")


def test_pointing_at_a_bin_says_what_python_says(visit, faces, entries):
    page = visit(entries)
    for (entry, k, i), face in zip(every_bin(faces), [f for f in faces.values() for _ in range(9)], strict=True):
        bin_of(page, entry, k, i).locator(".ssrnet-cell").hover()
        expect(bin_of(page, entry, k, i)).to_have_attribute("aria-pressed", "true")
        assert told(page) == facts(face, k, i)
        # for who does not see it
        label = bin_of(page, entry, k, i).get_attribute("aria-label")
        assert all(facts(face, k, i)[name] in label for name in ("p", "fixed", "moved"))
        expect(page.locator("[aria-live=polite]")).to_contain_text(f"Stage {k + 1}, bin {i}")
        expect(page.locator("[aria-live=polite]")).to_contain_text(entries[entry]["weights"])
    # the bars themselves as well
    page.locator(".ssrnet-bar").nth(1).hover()
    assert told(page) == facts(faces["ssrnet.utkface_fairface_aaf"], 0, 1)


def test_shares_add_up_to_the_stages(visit, faces, entries):
    page = visit(entries[:1])
    face = faces["ssrnet.utkface_fairface_aaf"]
    for k, contribution in enumerate(rounded_contributions(face.stages)):
        shares = []
        for i in range(3):
            bin_of(page, 0, k, i).focus()
            shares.append(number(told(page)["share"]))
        assert round(sum(shares), 1) == contribution
    terms = face.explain().split(":")[0]
    expect(page.locator(".ssrnet-now")).to_have_text(
        f"{' + '.join(re.findall(r'[0-9.]+(?=,|$)', terms))} = {face.age:.1f} years"
    )


def test_touching_a_bin(visit, faces, entries):
    page = visit(entries, **PHONE)
    face = list(faces.values())
    for entry, k, i in every_bin(faces):
        node = bin_of(page, entry, k, i)
        node.evaluate("node => node.scrollIntoView({block: 'center'})")
        node.locator(".ssrnet-hit").tap()
        assert told(page) == facts(face[entry], k, i)


def test_every_bin_by_the_keyboard(visit, faces, entries):
    page, face = visit(entries[:1]), faces["ssrnet.utkface_fairface_aaf"]
    focused = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Play"
    page.keyboard.press("Tab")
    expect(page.get_by_role("slider")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    for k in range(3):
        for i in range(3):
            expect(bin_of(page, 0, k, i)).to_be_focused()
            assert told(page) == facts(face, k, i)
            page.keyboard.press("ArrowRight")
    expect(bin_of(page, 0, 2, 2)).to_be_focused()
    for key, k, i in (("ArrowUp", 1, 2), ("ArrowLeft", 1, 1), ("ArrowDown", 2, 1), ("Home", 0, 0), ("End", 2, 2)):
        page.keyboard.press(key)
        expect(bin_of(page, 0, k, i)).to_be_focused()
    assert page.locator(".ssrnet-bin[tabindex='0']").count() == 1
    # another size is drawn anew, with the focus where it was
    page.set_viewport_size({"width": 500, "height": 900})
    expect(page.locator(".ssrnet-stages")).to_have_attribute("width", "468")
    expect(bin_of(page, 0, 2, 2)).to_be_focused()


def drawn(page: Page, entry: int, k: int):
    """Left end and width of the bars and of the cells of a stage, pixels."""
    read = "nodes => nodes.map(n => [Number(n.getAttribute('x')), Number(n.getAttribute('width'))])"
    bins = page.locator(f"[data-entry='{entry}'][data-stage='{k}']")
    return [bins.locator(kind).evaluate_all(read) for kind in (".ssrnet-bar", ".ssrnet-cell")]


def test_the_slider_goes_from_the_fixed_grid_to_the_age(visit, faces, entries):
    page = visit(entries)
    expect(page.get_by_role("slider", name="From the fixed grid to the age")).to_have_value("3")
    for entry, face in enumerate(faces.values()):
        fixed = face.V
        for k, stage in enumerate(face.stages):
            fixed /= len(stage.p)
            bars, cells = drawn(page, entry, k)
            scale = cells[0][1] / fixed
            for i, (left, width) in enumerate(bars):
                assert left == pytest.approx(cells[0][0] + (i + stage.eta[i]) * stage.width * scale, abs=0.1)
                assert width == pytest.approx(stage.width * scale, abs=0.1)
    slide(page, "Home")
    for entry in range(2):
        for k in range(3):
            bars, cells = drawn(page, entry, k)
            assert bars == [pytest.approx(cell, abs=0.02) for cell in cells]
    assert [number(text) for text in page.locator(".ssrnet-total-label").all_text_contents()] == [0, 0]
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuetext", re.compile("Fixed grid"))
    # the first stage alone
    for _ in range(20):
        slide(page, "ArrowRight")
    expect(page.get_by_role("slider")).to_have_value("1")
    firsts = [rounded_contributions(face.stages)[0] for face in faces.values()]
    assert [number(text) for text in page.locator(".ssrnet-total-label").all_text_contents()] == firsts
    slide(page, "End")
    ages = [round(face.age, 1) for face in faces.values()]
    assert [number(text) for text in page.locator(".ssrnet-total-label").all_text_contents()] == ages


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_play(visit, faces, entries, motion):
    page = visit(entries[:1], {"autoplay": True}, reduced_motion=motion)
    slider = page.get_by_role("slider")
    if motion == "reduce":
        expect(slider).to_have_value("3")  # nothing moves unasked
        page.get_by_role("button", name="Play").click()
    seen = page.evaluate(
        """() => new Promise(done => {
          const seen = new Set(), look = () => {
            seen.add(document.querySelector('.ssrnet-slider').value);
            if (document.querySelector('.ssrnet-playing')) requestAnimationFrame(look); else done([...seen]);
          };
          look();
        })"""
    )
    assert set(seen) <= {"0", "0.5", "1", "1.5", "2", "2.5", "3"} or motion != "reduce"
    assert len(seen) > 3
    expect(slider).to_have_value("3")
    expect(page.locator(".ssrnet-total-label")).to_have_text(f"{faces['ssrnet.utkface_fairface_aaf'].age:.1f} years")
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    assert float(slider.input_value()) < 3


def test_one_axis_for_all_weights(visit, entries):
    page = visit(entries)
    expect(page.locator(".ssrnet-sum")).to_have_count(1)
    assert page.locator(".ssrnet-row").all_text_contents() == [entry["weights"] for entry in entries]
    for k in range(3):
        assert drawn(page, 0, k)[1] == drawn(page, 1, k)[1]
    ticks = [
        figure.locator(".ssrnet-stages > svg")
        .first.locator(".ssrnet-tick-label:not(.ssrnet-hidden)")
        .all_text_contents()
        for figure in page.locator(".ssrnet-figures figure").all()
    ]
    assert ticks[0] == ticks[1] and ticks[0][-1] == "100"


def test_in_chinese(visit, faces, entries):
    page, face = visit(entries[:1], **PHONE), faces["ssrnet.utkface_fairface_aaf"]
    for language in ("zh", "zh-CN", "zh-Hans", "zh-TW"):
        page.evaluate("([entries, options]) => show(entries, options)", [entries[:1], {"language": language}])
        expect(page.locator(".ssrnet-age-value")).to_have_text(f"{face.age:.1f} 岁")
        expect(page.locator(".ssrnet-total-label")).to_have_text(f"{face.age:.1f} 岁")
        expect(page.get_by_role("button", name="播放")).to_be_visible()
    interval = "{:.0f} 至 {:.0f} 岁".format(*face.interval())
    expect(page.locator(".ssrnet-age")).to_contain_text(f"90% 预测区间{COLON}{interval}")
    labels = page.locator("[aria-label]").evaluate_all("nodes => nodes.map(node => node.ariaLabel)")
    text = " ".join([page.locator("main").inner_text(), *labels])
    # but for names and the page's own title
    assert set(re.findall(r"[A-Za-z]+", text)) <= {"Age", "ssrnet", "utkface", "fairface", "aaf", "bin", "p"}
    keep(page, "breakdown-zh")
    page.evaluate("entries => shown.update(entries, {language: 'fr'})", entries)
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    expect(page.locator(".ssrnet-breakdown")).to_have_attribute("lang", "en")


def test_both_languages_have_the_same_strings(visit, entries):
    keys = visit(entries).evaluate(
        "async () => Object.values((await import('./strings.js')).STRINGS).map(w => Object.entries(w).map(([k, v]) => "
        "[k, [...new Set(v.match(/\\{\\w+\\}/g))].sort()]).sort())"
    )
    assert len(keys) == 2 and keys[0] == keys[1]


def test_age_bar(visit, faces, entries):
    face, page = faces["ssrnet.utkface_fairface_aaf"], visit(entries)
    low, high = face.interval()
    bar = page.locator(".ssrnet-age")
    expect(bar.locator(".ssrnet-age-value")).to_have_text(f"{face.age:.1f} years")
    expect(bar).to_contain_text(f"90% interval: {low:.0f} to {high:.0f} years")
    expect(bar.get_by_role("img")).to_have_attribute(
        "aria-label",
        f"{face.age:.1f} years; 90% interval {low:.0f} to {high:.0f} years, on an axis from 0 to 100 years",
    )
    whole = bar.locator(".ssrnet-age-track").bounding_box()
    part = bar.locator(".ssrnet-age-interval").bounding_box()
    assert (part["x"] - whole["x"]) / whole["width"] == pytest.approx(low / 100, abs=0.01)
    assert part["width"] / whole["width"] == pytest.approx((high - low) / 100, abs=0.01)
    expect(bar.locator(".ssrnet-age-doubts")).to_have_count(0)


def age_bar(page: Page, face, language="en") -> str:
    page.evaluate("([face, language]) => show([{face}], {language})", [face, language])
    return page.locator(".ssrnet-age").inner_text()


def test_doubts_are_put_into_words(visit, entries):
    page = visit(entries)
    face = {"age": 30.0, "interval": None, "stages": []}
    for language, generic in (("en", "Not reliable"), ("zh", "结果不可靠")):
        said = {age_bar(page, {**face, "doubts": [doubt]}, language) for doubt in DOUBTS}
        assert len(said) == len(DOUBTS) and all(re.search(rf"{generic}[:{COLON}]", text) for text in said)
        assert age_bar(page, {**face, "doubts": ["<b>new</b>"]}, language).endswith(generic)
        assert generic not in age_bar(page, {**face, "doubts": []}, language)
    assert age_bar(page, {**face, "doubts": ["blurred", "?", "profile"]}).endswith("Not reliable: blurred, in profile")
    assert "no number" in age_bar(page, {**face, "age": None, "doubts": None})


HOSTILE = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script>"
STAGE = {"p": [0.2, 0.8, 0.1], "eta": [0.1, 0.2, -0.3], "delta": 0.5, "width": 22.4, "contribution": 30.0}


def test_nothing_becomes_html(visit, entries):
    hostile = {
        "age": HOSTILE,
        "interval": [HOSTILE, HOSTILE],
        "doubts": [HOSTILE, {"a": HOSTILE}],
        "stages": [dict.fromkeys(STAGE, HOSTILE), {**STAGE, "p": [HOSTILE] * 3, "eta": [HOSTILE]}],
        "V": HOSTILE,
    }
    page = visit([{"weights": HOSTILE, "face": hostile}, {**entries[0], "weights": HOSTILE}], {"language": HOSTILE})
    expect(page.locator("figcaption").first).to_contain_text(HOSTILE)
    expect(page.locator(".ssrnet-details")).to_contain_text(HOSTILE)
    assert page.locator("main img, main script").count() == 0
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize(
    "stages",
    [
        pytest.param(None, id="none"),
        pytest.param([], id="no stages"),
        pytest.param([None, 1, "a", {}], id="no numbers"),
        pytest.param([{**STAGE, "width": None, "contribution": None}, STAGE], id="without bound"),
        pytest.param([{**STAGE, "p": [], "eta": []}, STAGE], id="no bins"),
        pytest.param([{**STAGE, "eta": [0.1]}], id="few etas"),
        pytest.param([{**STAGE, "p": [1e300, None, -1.0], "eta": [-1e300, 0, 1e5]}], id="huge"),
        pytest.param([STAGE, {**STAGE, "contribution": -50.0, "width": 1e-9}], id="below zero"),
        pytest.param([{**STAGE, "width": 0.0, "delta": -1.0}], id="no width"),
        pytest.param(
            [{"p": [0.01] * 101, "eta": [0.0] * 101, "delta": 0.0, "width": 1.0, "contribution": 50.5}], id="dex"
        ),
        pytest.param([STAGE] * 6, id="six"),
        pytest.param([{**STAGE, "p": [0.5] * 100_000}] * 1000, id="many"),
    ],
)
def test_other_stages(visit, entries, stages):
    odd = {"weights": "odd", "face": {"age": None, "interval": [50, 20], "doubts": None, "stages": stages}}
    page = visit([odd], **PHONE)
    page.evaluate("entries => known.push(...entries)", entries)
    for numbers in ([0], [0, 1], [1, 0], [], [1, 2]):
        page.evaluate("numbers => shown.update(numbers.map(number => known[number]))", numbers)
        if page.get_by_role("slider").is_visible():
            page.get_by_role("slider").focus()
            for key in ("Home", "ArrowRight", "End"):
                page.keyboard.press(key)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert not re.search("NaN|undefined|Infinity|null", page.locator("#breakdown").evaluate("e => e.outerHTML"))


def test_many_bins_are_reached_by_finger_and_key(visit):
    dex = {"p": [0.01] * 101, "eta": [0.0] * 101, "delta": 0.0, "width": 1.0, "contribution": 50.5}
    page = visit([{"weights": "dex", "face": {"age": 50.5, "V": 101, "stages": [dex]}}], **PHONE)
    expect(page.locator(".ssrnet-bin")).to_have_count(101)
    for i in (0, 37, 100):
        bin_of(page, 0, 0, i).locator(".ssrnet-hit").tap()
        expect(page.locator(".ssrnet-details-title")).to_have_text(f"Stage 1, bin {i}")
    page.keyboard.press("ArrowLeft")
    expect(bin_of(page, 0, 0, 99)).to_be_focused()
    keep(page, "breakdown-many-bins")


def test_the_files_are_part_of_the_package():
    project = tomllib.loads((STATIC.parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["ssrnet_hub"]
    package = STATIC.parents[1]
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    assert set(STATIC.iterdir()) <= packed


def test_rounds_as_python(visit, entries):
    values = [0.25, 0.75, -0.25, 1.25, 0.05, 0.15, 2.675, -0.04, 99.95, 1e5, 24.055591583251953, 0.35]
    said = visit(entries).evaluate("values => values.map(inTenths)", values)
    assert [number(text) for text in said] == [round(value, 1) for value in values]


def test_update_and_destroy(visit, entries):
    page = visit(entries[:1])
    bin_of(page, 0, 1, 1).focus()
    page.evaluate("entries => shown.update(entries, {number: 7})", entries[1:])
    expect(page.locator("figcaption").first).to_have_text("Face 7 · ssrnet_wide.utkface_fairface_aaf")
    expect(bin_of(page, 0, 1, 1)).to_be_focused()
    page.evaluate("shown.destroy()")
    assert page.locator("#breakdown").inner_html() == ""
