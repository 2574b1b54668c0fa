"""The demo's endpoints, by Gradio's own client on a real server."""

import asyncio
import json
import random
import re
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import skimage.data
import timm
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from ssrnet_hub import save_pretrained
from ssrnet_hub.cli import main
from ssrnet_hub.images.alignment import Framing
from ssrnet_hub.models.zoo import DEFAULT

from ..demo_server import serve
from ..hub_server import HubServer
from ..pictures import encode, png_header, walk, write_film, write_zip
from .test_security_page import LOOK, META, ask, number_of, upload

SWEEP = 10


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    weights = save_pretrained(timm.create_model("ssrnet"), folder / "weights", extras={"framing": Framing().to_dict()})
    other = save_pretrained(timm.create_model("ssrnet"), folder / "other", extras={"framing": Framing().to_dict()})
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "architecture": "resnet18"}))
    large = save_pretrained(timm.create_model("ssrnet_dex"), folder / "large", extras={"framing": Framing().to_dict()})
    repos = {"age/" + path.name: {"main": path} for path in (weights, other, large)}
    repos["age/private"] = {"main": weights}
    with (
        HubServer(repos, private={"age/private": "hf_reader"}) as hub,
        # a token of the server's own, which visitors must not get to use
        serve(
            folder,
            [sys.executable, "-m", "ssrnet_hub.cli", "demo", "--mcp"],
            HF_ENDPOINT=hub.url,
            HF_HUB_OFFLINE=0,
            HF_TOKEN="hf_reader",
            SSRNET_HUB_DEMO_SWEEP=SWEEP,
            SSRNET_HUB_DEMO_MAX_WEIGHTS_SIZE=300_000,
            SSRNET_HUB_DEMO_MAX_PHOTOS=5,
            SSRNET_HUB_DEMO_QUEUE=200,
        ) as demo,
    ):
        yield demo


@pytest.fixture(scope="module")
def client(demo):
    return demo.client()


@pytest.fixture(scope="module")
def photos(tmp_path_factory, astronaut):
    folder = tmp_path_factory.mktemp("photos")
    astronaut.save(folder / "astronaut.png")
    small = astronaut.crop((130, 20, 330, 220))
    small.save(folder / "small.jpg", quality=95)
    # one to be turned upright, of whose colours some do not count
    exif = Image.Exif()
    exif[0x0112] = 6
    astronaut.rotate(90).convert("RGBA").convert("RGB").save(folder / "turned.jpg", quality=90, exif=exif)
    astronaut.convert("L").save(folder / "grey.png")
    Image.fromarray(skimage.data.cat()).save(folder / "cat.png")
    return folder


def predict_json(capsys, *paths):
    """What the command answers."""
    assert main(["predict", "--json", *map(str, paths)]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(client, *args, api_name="/predict"):
    with pytest.raises(AppError) as e:
        client.predict(*args, api_name=api_name)
    return str(e.value)


def test_endpoints(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    parameters = {name: [p["parameter_name"] for p in endpoint["parameters"]] for name, endpoint in endpoints.items()}
    assert parameters == {
        "/predict": ["image", "weights"],
        "/explain": ["image", "weights"],
        "/predict_batch": ["images", "weights"],
    }
    for endpoint in endpoints.values():
        weights = endpoint["parameters"][1]
        assert weights["parameter_has_default"] and weights["parameter_default"] is None


def test_the_same_as_the_command(client, photos, capsys):
    paths = sorted(photos.iterdir())
    for row in predict_json(capsys, *paths):
        answer = client.predict(handle_file(row["file"]), api_name="/predict")
        assert answer.keys() == {"faces"}
        for said, face in zip(answer["faces"], row["faces"], strict=True):
            assert said.keys() == {"age", "interval", "reliable", "doubts", "box", "score", "turned", "stages"}
            assert said["interval"] == pytest.approx(face["interval"], abs=1e-3)
            assert (said["reliable"], said["doubts"]) == (face["reliable"], face["doubts"])
            assert said["age"] == pytest.approx(face["age"], abs=1e-3)
            assert said["box"] == pytest.approx(face["box"], abs=1e-2)
            for told, stage in zip(said["stages"], face["stages"], strict=True):
                assert told.keys() == stage.keys()
                assert all(told[key] == pytest.approx(stage[key], abs=1e-3) for key in stage)


def test_explain(client, photos, estimator):
    (face,) = client.predict(handle_file(photos / "astronaut.png"), api_name="/explain")["faces"]
    assert face["explanation"] == estimator(photos / "astronaut.png")[0].explain()


def test_batch_with_a_zip_and_a_broken_one(client, photos, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((photos / "small.jpg").read_bytes()[:2000])
    archive = write_zip(
        tmp_path / "many.zip", {f"in/{p.name}": p.read_bytes() for p in [photos / "grey.png", photos / "cat.png"]}
    )
    files = [handle_file(path) for path in (photos / "astronaut.png", broken, archive)]
    rows = client.predict(files, api_name="/predict_batch")["photos"]
    assert [row["file"] for row in rows] == [
        "astronaut.png",
        "broken.jpg",
        "many.zip/in/cat.png",
        "many.zip/in/grey.png",
    ]
    assert [len(row["faces"]) for row in rows] == [1, 0, 0, 1]
    assert [row["error"] is None for row in rows] == [True, False, True, True]
    assert "broken.jpg" in rows[1]["error"] and str(tmp_path) not in rows[1]["error"]
    expected = predict_json(capsys, photos / "astronaut.png", photos / "grey.png")
    assert rows[0]["faces"][0]["age"] == pytest.approx(expected[0]["faces"][0]["age"], abs=1e-3)
    assert rows[3]["faces"][0]["age"] == pytest.approx(expected[1]["faces"][0]["age"], abs=1e-3)


def test_heic_and_a_zip_with_what_cannot_be_read(client, astronaut, estimator, tmp_path):
    photo = tmp_path / "a.HEIC"
    photo.write_bytes(encode(astronaut, "HEIF"))
    (face,) = client.predict(handle_file(photo), api_name="/predict")["faces"]
    assert face["age"] == pytest.approx(estimator(astronaut)[0].age, abs=1.5)
    files = {"a.HEIC": photo.read_bytes(), "__MACOSX/._a.HEIC": b"-", "b.cr2": b"raw", "c/d.CR2": b"raw", "e.psd": b"-"}
    files["f.jxl"] = encode(astronaut, "JPEG")
    rows = client.predict([handle_file(write_zip(tmp_path / "a.zip", files))], api_name="/predict_batch")["photos"]
    assert [(row["file"], len(row["faces"])) for row in rows] == [("a.zip/a.HEIC", 1), ("a.zip/f.jxl", 1), ("a.zip", 0)]
    assert rows[2]["error"] == "3 pictures left out, of formats that cannot be read: 2 .cr2, 1 .psd."


def test_weights_of_a_repository(client, photos):
    photo = handle_file(photos / "small.jpg")
    ours = client.predict(photo, api_name="/predict")["faces"][0]
    theirs = client.predict(photo, "age/weights", api_name="/predict")["faces"][0]
    assert theirs["box"] == ours["box"] and theirs["age"] != ours["age"]
    assert client.predict(photo, "age/weights@main", api_name="/predict")["faces"][0] == theirs
    assert client.predict(photo, DEFAULT, api_name="/predict")["faces"][0] == ours


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("/etc/passwd", "is not available here"),
        ("../weights", "is not available here"),
        ("./weights", "is not available here"),
        ("age/weights/../weights", "is not available here"),
        ("nothing", "is not available here"),
        ("age/private", "is not public"),
        ("age/missing", "is not public"),
        ("age/weights@v9", "no revision"),
        ("age/other", "resnet18"),
        ("age/large", "more than the limit"),
    ],
)
def test_weights_that_are_refused(client, photos, weights, said):
    message = refusal(client, handle_file(photos / "small.jpg"), weights)
    assert said in message and "hf_reader" not in message


def test_a_folder_here_is_not_a_repository(demo, client, photos):
    """Not even one that has the name of a repository, where the server was started."""
    assert (demo.log.parent / "weights").is_dir()
    assert "is not available here" in refusal(
        client, handle_file(photos / "small.jpg"), str(demo.log.parent / "weights")
    )


def damage(data):
    return data[:100] + bytes(range(256)) + data[356:]


BAD = {
    "words.jpg": lambda path, _: path.write_text("no picture"),
    "empty.png": lambda path, _: path.write_bytes(b""),
    "page.html": lambda path, _: path.write_text("<script>alert(1)</script>"),
    "truncated.jpg": lambda path, jpeg: path.write_bytes(jpeg[: len(jpeg) // 2]),
    "100-megapixels.png": lambda path, _: path.write_bytes(png_header(10_000, 10_000)),
    "not-a-photo.zip": lambda path, jpeg: write_zip(path, {"a.jpg": jpeg}),
}
BAD_ARCHIVES = {
    "damaged.zip": lambda path, jpeg: path.write_bytes(damage(write_zip(path, {"a.jpg": jpeg}).read_bytes())),
    "packed.zip": lambda path, jpeg: write_zip(path, {"a.jpg": jpeg}, zipfile.ZIP_LZMA),
    "bomb.zip": lambda path, _: write_zip(path, {"bomb.png": bytes(150_000_000)}),
    "climbs.zip": lambda path, jpeg: write_zip(path, {"../../climbs.jpg": jpeg}),
    "words.zip": lambda path, _: path.write_text("no zip"),
    "too-many.zip": lambda path, jpeg: write_zip(path, {f"{n}.jpg": jpeg for n in range(6)}),
}


@pytest.mark.parametrize("name", BAD)
def test_photos_that_are_refused(client, photos, tmp_path, name):
    path = tmp_path / name
    BAD[name](path, (photos / "small.jpg").read_bytes())
    message = refusal(client, handle_file(path))
    assert name in message and str(tmp_path) not in message and "uploads" not in message
    assert client.predict(handle_file(photos / "small.jpg"), api_name="/predict")["faces"]


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_archives_that_are_refused(demo, client, photos, tmp_path, name):
    path = tmp_path / name
    BAD_ARCHIVES[name](path, (photos / "small.jpg").read_bytes())
    images = [handle_file(path), handle_file(photos / "small.jpg")]
    broken, good = client.predict(images, api_name="/predict_batch")["photos"]
    assert broken["file"].startswith(name) and broken["error"] and not broken["faces"]
    assert str(demo.uploads) not in broken["error"] and good["faces"] and not good["error"]
    assert not list(demo.log.parent.rglob("climbs.jpg"))
    assert client.predict(handle_file(photos / "small.jpg"), api_name="/predict")["faces"]


def test_a_file_of_200_megabytes(demo, client, photos, tmp_path):
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(Exception, match=r"(?i)413|large|exceed"):
        client.predict(handle_file(path), api_name="/predict")
    assert client.predict(handle_file(photos / "small.jpg"), api_name="/predict")["faces"]


def test_files_of_the_server_are_not_handed_out(demo, client):
    for path in ("/etc/passwd", __file__, demo.log):
        for file in (str(path), {"path": str(path), "meta": {"_type": "gradio.FileData"}}):
            with pytest.raises(Exception, match=r".+"):
                client.predict(file, api_name="/predict")


def test_the_queue_answers_everybody(demo, photos, estimator):
    """50 requests from 8 clients at once."""
    paths = [photos / name for name in ("astronaut.png", "small.jpg", "grey.png", "cat.png")]
    expected = {path: [face.age for face in estimator(path)] for path in paths}
    asked, predict = random.Random(0).choices(paths, k=50), number_of(demo, "predict")

    def visit(number):
        for path in asked[number::8]:
            photo = {"path": upload(demo, path), "meta": META}
            answer = ask(demo, predict, [photo, None], f"visitor{number}")
            assert answer["success"], answer["output"]
            ages = [face["age"] for face in answer["output"]["data"][0]["faces"]]
            assert ages == pytest.approx(expected[path], abs=1e-3)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(8)))


def test_memory_does_not_grow(demo, photos):
    """Resident memory after 250 requests is that after 50, but for a twentieth."""
    server, predict = psutil.Process(demo.process.pid), number_of(demo, "predict")
    resident = {}
    for number in range(1, 251):
        # what Gradio's client asks, without its own work
        photo = {"path": upload(demo, photos / "small.jpg"), "meta": META}
        assert ask(demo, predict, [photo, None], "memory")["output"]["data"][0]["faces"]
        if number in (50, 250):
            resident[number] = server.memory_info().rss
    print({count: f"{size / 1e6:.0f} MB" for count, size in resident.items()})
    assert resident[250] <= 1.05 * resident[50]


def test_nothing_is_left_after_the_sweep(demo, photos, tmp_path, astronaut):
    look = [{"path": upload(demo, photos / "small.jpg"), "meta": META}, *LOOK]
    film = {"path": upload(demo, write_film(tmp_path / "walk.mp4", walk(astronaut))), "meta": META}
    assert ask(demo, number_of(demo, "look"), look)["success"]
    answer = ask(demo, number_of(demo, "film"), [film, None])
    # as it is played
    (copy,) = re.findall(r'"path": "([^"]*/ages\.mp4)"', json.dumps(answer["output"]["data"]))
    assert httpx.get(f"{demo.url}gradio_api/file={copy}").status_code == 200
    assert demo.files and Path(copy).is_file()
    deadline = time.monotonic() + 5 * SWEEP + 20
    while (demo.files or list(demo.log.parent.rglob("*.mp4"))) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not demo.files and not list(demo.log.parent.rglob("*.mp4"))
    assert "hf_reader" not in demo.log.read_text()


def test_as_tools_of_a_language_model(demo, photos):
    with (photos / "small.jpg").open("rb") as file:
        (path,) = httpx.post(f"{demo.url}gradio_api/upload", files={"files": file}).json()
    url = f"{demo.url}gradio_api/file={path}"

    async def use():
        async with (
            streamable_http_client(f"{demo.url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name.removeprefix("demo_"): tool for tool in (await session.list_tools()).tools}
            return tools, await session.call_tool(tools["predict"].name, {"image": url})

    tools, answer = asyncio.run(use())
    assert {"predict", "explain", "predict_batch"} == tools.keys()
    assert "estimate their ages" in tools["predict"].description
    # photos come by their address, but not from the server's own network
    assert answer.isError
    assert demo.client().predict(handle_file(photos / "small.jpg"), api_name="/predict")["faces"]
