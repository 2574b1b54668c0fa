"""Files of others with whatever in them: what comes out is an error of ours, at no great cost."""

import contextlib
import copy
import io
import json
import math
import re
import shutil
import struct
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from ssrnet_hub import AgeEstimator, Framing, SSRNetHubError, from_pretrained
from ssrnet_hub.errors import ArchiveError, ConfigError, LabelsError
from ssrnet_hub.hub.cards import render_card
from ssrnet_hub.hub.convert import convert_torch
from ssrnet_hub.images.archives import read_zip
from ssrnet_hub.inference.detector import MTCNNDetector
from ssrnet_hub.inference.intervals import Intervals
from ssrnet_hub.inference.reliability import Reliability
from ssrnet_hub.models import zoo
from ssrnet_hub.training.labels import read_boxes, read_labels
from ssrnet_hub.training.recipe import read_recipe

from .demo_server import Demo, serve

DEFAULT = zoo.embedded_folder(zoo.DEFAULT)
CONFIG = json.loads((DEFAULT / "config.json").read_text(encoding="utf-8"))
CALIBRATION = CONFIG["ssrnet_hub"]["calibration"]
MEMORY = 300_000_000

pytestmark = pytest.mark.filterwarnings("ignore:This model has no framing:UserWarning")


def fuzz(examples, phases=tuple(Phase)):
    """The same examples every time, and nothing kept of them."""
    return settings(
        phases=phases,
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# what is put in the place of something

NUMBERS = st.one_of(
    st.integers(-5, 5000),
    st.floats(),
    st.sampled_from([10**400, -(10**400), 2**63, 1e300, -0.0, 1e-300, math.inf, -math.inf, math.nan, 10**4000]),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(st.characters(), max_size=20))
DEEP = st.integers(1, 300).map(lambda depth: json.loads("[" * depth + "]" * depth))
JUNK = st.one_of(
    LEAVES,
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8
    ),
    DEEP,
    st.integers(1, 100_000).map(lambda count: "C" * count),
    st.integers(1, 5000).map(lambda count: [1] * count),
)


def places(value, place=()):
    """Every place in a value, but for those deep in long lists."""
    if place:
        yield place
    if isinstance(value, dict) or (isinstance(value, list) and len(value) <= 10):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*place, key))


@st.composite
def changed(draw, value, most=3):
    """A value with something else, something less or something more in a few places."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        *outer, key = draw(st.sampled_from(list(places(value))))
        part = value
        for step in outer:
            part = part[step]
        what = draw(st.sampled_from(["other", "other", "near", "less", "more", "element"]))
        if what == "less":
            del part[key]
        elif what == "more" and isinstance(part, dict):
            part[draw(st.text(max_size=8))] = draw(JUNK)
        elif what == "near" and isinstance(part[key], (int, float)):
            part[key] = part[key] * draw(st.integers(-20, 20))
        elif what == "element" and isinstance(part[key], list) and part[key]:
            index = draw(st.integers(0, len(part[key]) - 1))
            part[key][index] = draw(JUNK)
        else:
            part[key] = draw(JUNK)
        if not list(places(value)):
            break
    return value


@st.composite
def damaged(draw, content):
    """Bytes, of which some are other ones, more or fewer."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not content:
            break
        start = draw(st.integers(0, len(content) - 1))
        end = start + draw(st.sampled_from([0, 1, 2, 4, 8, 30]))
        content[start:end] = draw(st.binary(max_size=12))
    return bytes(content)


@pytest.fixture(autouse=True)
def memory():
    """No example takes much memory, not even for a moment."""
    with contextlib.suppress(OSError):
        # from here on Linux keeps the peak
        Path("/proc/self/clear_refs").write_text("5")
    before = psutil.Process().memory_info().rss
    yield
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    after = 1024 * int(peak[1]) if peak else psutil.Process().memory_info().rss
    assert after < before + MEMORY


@pytest.fixture(scope="module")
def detector():
    return MTCNNDetector()


@pytest.fixture(scope="module")
def crop(astronaut):
    return astronaut.crop((180, 60, 270, 180))


@pytest.fixture(scope="module", autouse=True)
def warm(detector, crop):
    """What is imported and compiled at the first use is no cost of an example."""
    AgeEstimator(detector=detector, runtime="eager").crops([crop])[0].to_json()
    render_card(DEFAULT, "me/mine")


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(DEFAULT, tmp_path, dirs_exist_ok=True)
    return tmp_path


def use(folder, detector, crop):
    """All that is done with weights; whether they were taken."""
    with contextlib.suppress(SSRNetHubError):
        render_card(folder, "me/mine").encode()
    try:
        model = from_pretrained(folder)
        (face,) = AgeEstimator(model, detector, runtime="eager").crops([crop])
    except SSRNetHubError as e:
        assert len(str(e)) < 5000
        return False
    json.loads(face.to_json(allow_nan=False))
    face.explain()
    return True


@fuzz(100)
@given(config=changed({**CONFIG, "ssrnet_hub": {**CONFIG["ssrnet_hub"], "calibration": CALIBRATION}}))
def test_configs(folder, detector, crop, config):
    (folder / "config.json").write_text(json.dumps(config))
    use(folder, detector, crop)


@fuzz(100)
@given(
    args=changed(
        {
            "model_args": {
                **CONFIG["model_args"],
                "stage_bins": [3, 3, 3],
                "V": 101,
                "lambda_d": 1.0,
                "layout": ["CP", "CP", "CPC"],
                "chs": [32, 32, 32, 32],
                "fused_chs": 10,
                "pool_sizes": [1, 4, 8],
                "hidden": 5,
                "drop_rate": 0.2,
                "norm_eps": 1e-3,
                "dynamic_range": True,
                "deep_first": True,
            }
        }
    ),
    name=st.sampled_from(zoo.list_architectures()),
)
def test_arguments_of_models(folder, args, name):
    """On their own: what is within bounds must be buildable in no time, whether the weights fit or not."""
    (folder / "config.json").write_text(json.dumps({**CONFIG, **args, "architecture": name}))
    with pytest.raises(SSRNetHubError):
        (folder / "model.safetensors").unlink(missing_ok=True)
        from_pretrained(folder)


@fuzz(100)
@given(content=damaged((zoo.embedded_folder("ssrnet_gender.fairface") / "config.json").read_bytes()))
def test_configs_of_damaged_bytes(folder, detector, crop, content):
    (folder / "config.json").write_bytes(content)
    use(folder, detector, crop)


WEIGHTS = (DEFAULT / "model.safetensors").read_bytes()
HEADER = 8 + struct.unpack("<Q", WEIGHTS[:8])[0]


@fuzz(50)
@given(header=damaged(WEIGHTS[:HEADER]))
def test_weights(folder, header):
    (folder / "model.safetensors").write_bytes(header + WEIGHTS[HEADER:])
    with contextlib.suppress(SSRNetHubError):
        from_pretrained(folder)


@fuzz(30)
@given(content=damaged(WEIGHTS[:HEADER]))
def test_pickles_that_are_none(tmp_path, content):
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(SSRNetHubError):
        convert_torch(tmp_path / "model.bin", tmp_path / "out")


@fuzz(300)
@given(config=changed(CALIBRATION["intervals"]) | JUNK)
def test_intervals(config):
    with contextlib.suppress(ConfigError):
        intervals = Intervals.from_dict(config)
        assert np.isfinite([intervals.bounds(age, 0.9) for age in (-1e9, 0, 30, 1e9)]).all()
        assert Intervals.from_dict(json.loads(json.dumps(intervals.to_dict(), allow_nan=False))) == intervals


@fuzz(300)
@given(config=changed({"mean": [0.5, 1.0], "precision": [[1.0, 0.5], [0.5, 2.0]], "threshold": 1.5}) | JUNK)
def test_reliabilities(config):
    with contextlib.suppress(ConfigError):
        reliability = Reliability.from_dict(config)
        with np.errstate(all="raise"):
            assert math.isfinite(reliability.score(np.full(len(reliability.mean), 1e3)))


@fuzz(300)
@given(config=changed(Framing().to_dict()) | JUNK)
def test_framings(config):
    picture = Image.new("RGB", (300, 200))
    with contextlib.suppress(ConfigError):
        framing = Framing.from_dict(config)
        for landmarks in (None, ((50, 50), (90, 50), (70, 70), (55, 90), (85, 90))):
            assert framing.crop(picture, (40, 30, 100, 110), landmarks).size == (framing.size, framing.size)


RECIPE = b"""architecture: ssrnet
model_args: {stage_bins: [3, 3, 3], V: 101}
epochs: 10
lr: 0.004
mixed_precision: "no"
seed: 0
"""


@fuzz(200)
@given(
    content=damaged(RECIPE)
    | st.tuples(st.just(RECIPE), st.text(max_size=40)).map(
        lambda parts: parts[0] + parts[1].encode("utf-8", "surrogatepass")
    )
)
def test_recipes(tmp_path, content):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with contextlib.suppress(ConfigError):
        read_recipe(tmp_path / "recipe.yaml")


@fuzz(200)
@given(content=damaged(b'file,age,split,x1,y1,x2,y2\na.jpg,30,train,1,2,3,4\n"b\n.jpg",4,val,,,,\n'))
def test_labels_and_boxes(tmp_path, content):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    for read in (read_labels, read_boxes):
        with contextlib.suppress(LabelsError):
            read(path)


@st.composite
def zips(draw):
    file = io.BytesIO()
    names = st.sampled_from(["a.png", "b/c.jpg", "../d.png", "e.txt", "\xe4.png", "__MACOSX/a.png", "f/"]) | st.text(
        max_size=8
    )
    with zipfile.ZipFile(file, "w") as archive:
        for name in draw(st.lists(names, max_size=4)):
            method = draw(
                st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
            )
            content = draw(st.binary(max_size=60)) * draw(st.sampled_from([1, 1, 1, 20_000]))
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            info.compress_type = method
            archive.writestr(info, content)
    content = file.getvalue()
    return draw(st.just(content) | damaged(content))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@fuzz(300)
@given(content=zips())
def test_zips(tmp_path, content):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with contextlib.suppress(ArchiveError):
        for name, picture in read_zip(path, max_files=10, max_file_size=1_000_000):
            assert isinstance(name, str) and isinstance(picture, (bytes, ArchiveError))
            assert len(picture if isinstance(picture, bytes) else str(picture)) <= 1_000_000


# what visitors send to the page


@dataclass(frozen=True)
class Page:
    """A running page; ``secret`` is a photo on its machine that nobody uploaded, ``uploaded`` one that somebody did."""

    demo: Demo
    client: httpx.Client
    functions: dict[int, int]
    secret: Path
    uploaded: str
    started: int

    def ask(self, function: int, data: list, session: str) -> str:
        """All that the page says to a call of one of its functions by number."""
        content = json.dumps({"data": data, "fn_index": function, "session_hash": session})
        kind = {"Content-Type": "application/json"}
        joined = self.client.post("gradio_api/queue/join", content=content, headers=kind)
        if joined.status_code != 200:
            return f"{joined.status_code} {joined.text}"
        said = [joined.text]
        with self.client.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                said.append(line)
                # what streams goes on until the visitor leaves
                if re.search("process_(completed|streaming|generating)|heartbeat|close_stream|unexpected", line):
                    break
        return "\n".join(said)

    def call(self, name: str, data: list) -> str:
        """All that the page says to a call of one of its endpoints."""
        kind = {"Content-Type": "application/json"}
        called = self.client.post(f"gradio_api/call/{name}", content=json.dumps({"data": data}), headers=kind)
        if called.status_code != 200:
            return f"{called.status_code} {called.text}"
        return called.text + self.client.get(f"gradio_api/call/{name}/{called.json()['event_id']}").text


@pytest.fixture(scope="module")
def page(tmp_path_factory, astronaut):
    folder = tmp_path_factory.mktemp("page")
    secret = folder / "private" / "secret.png"
    secret.parent.mkdir()
    astronaut.crop((130, 20, 330, 220)).save(secret)
    (secret.parent / "film.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{secret}\n")
    with (
        serve(folder, SSRNET_HUB_DEMO_MAX_PHOTOS=5) as demo,
        httpx.Client(base_url=demo.url, timeout=60, trust_env=False) as client,
    ):
        with secret.open("rb") as file:
            (uploaded,) = client.post("gradio_api/upload", files={"files": file}).json()
        functions = {f["id"]: len(f["inputs"]) for f in client.get("config").json()["dependencies"]}
        page = Page(demo, client, functions, secret, uploaded, 0)
        assert '"age"' in page.call("predict", [{"path": uploaded, "meta": {"_type": "gradio.FileData"}}, None])
        yield replace(page, started=psutil.Process(demo.process.pid).memory_info().rss)


META = st.sampled_from([{"_type": "gradio.FileData"}, {"_type": "x"}, {}, None, "x", []])


@st.composite
def file_data(draw, page):
    """What stands for a file in a call, of which little is as it should be."""
    secret, uploads = str(page.secret), str(page.demo.uploads)
    theirs = [
        secret,
        f"file:{secret}",
        f"file://{secret}",
        f"/proc/self/root{secret}",
        f"{uploads}/../private/secret.png",
        f"{page.uploaded}/../../../private/secret.png",
        str(page.secret.parent / "film.m3u8"),
        "private/secret.png",
        "/etc/passwd",
        "/proc/self/environ",
        uploads,
        "",
        "a\0b",
        "x" * 5000,
    ]
    path = draw(JUNK if draw(st.integers(0, 4)) == 0 else st.sampled_from([secret] * 5 + theirs))
    fields = {"path": path, "url": path, "orig_name": path, "mime_type": "image/png", "size": 1, "is_stream": False}
    keys = draw(st.sets(st.sampled_from(sorted(fields)), max_size=3))
    file = {key: fields[key] for key in {"path", *keys}}
    if draw(st.booleans()):
        file["meta"] = draw(META)
    shapes = [
        file,
        file,
        file,
        [file],
        [file],
        {"video": file},
        {"image": file},
        path,
        [[file]],
        {"path": file},
        [path, file],
    ]
    return draw(st.sampled_from(shapes))


def assert_nothing_is_told(page, said, sent):
    """No photo was read that was not uploaded, and no error tells where anything lies, unless the visitor said so."""
    assert not re.search(r'"age|data:image|data-face|ssr-face', said), said[:2000]
    assert "Traceback" not in said and "site-packages" not in said, said[:2000]
    for place in (page.demo.uploads, page.secret.parent, Path(zoo.__file__).parent):
        assert str(place) not in said or str(place) in json.dumps(sent), said[:2000]


# to find a smaller request would take many of them
@fuzz(100, phases=[Phase.generate])
@given(data=st.data())
def test_files_that_visitors_name(page, data):
    one, other = data.draw(file_data(page)), data.draw(st.none() | file_data(page))
    weights = data.draw(st.sampled_from([None, zoo.DEFAULT, "", "a/b"]) | JUNK)
    if data.draw(st.booleans()):
        sent = [one, weights]
        said = page.call(data.draw(st.sampled_from(["predict", "explain", "predict_batch"])), sent)
    else:
        number = data.draw(st.sampled_from(sorted(page.functions)))
        sent = [one, weights, other, None][: page.functions[number]]
        said = page.ask(number, sent, f"s{data.draw(st.integers(0, 10**9))}")
    assert_nothing_is_told(page, said, sent)


def test_the_page_is_as_it_was_after_all_that(page):
    process = psutil.Process(page.demo.process.pid)
    photo = {"path": page.uploaded, "meta": {"_type": "gradio.FileData"}}
    said = page.call("predict", [photo, None])
    assert '"age"' in said, said[:2000]
    assert process.memory_info().rss < page.started + MEMORY
