"""The web page as an attacker meets it: over HTTP, in a browser, with small files and odd requests."""

import asyncio
import base64
import gzip
import json
import os
import random
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import psutil
import pytest
from gradio.routes import App
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from playwright.sync_api import expect

from ssrnet_hub import save_pretrained, webapp
from ssrnet_hub.cli import main
from ssrnet_hub.errors import ConfigError, PhotoError
from ssrnet_hub.images import fetching
from ssrnet_hub.images.alignment import Framing
from ssrnet_hub.inference.detector import MTCNNDetector
from ssrnet_hub.inference.estimator import AgeEstimator
from ssrnet_hub.models.pretrained import new_model
from ssrnet_hub.models.zoo import DEFAULT
from ssrnet_hub.webapp import Limits, gate
from ssrnet_hub.webapp.gate import GatedBlocks, download
from ssrnet_hub.webapp.looks import Looks
from ssrnet_hub.webapp.middleware import _OPEN, resolve_allowed_hosts
from ssrnet_hub.webapp.uploads import Folder, Upload, find_upload

from ..demo_server import Demo, serve
from ..hostile import BOMBS, write_color
from ..hub_server import HubServer
from ..pictures import encode, png_header, write_zip
from .test_page import DESK, browser, choose, options, tab, webcam  # noqa: F401  fixtures
from .test_page import upload as upload_photo

HTTP = httpx.Client(timeout=60, trust_env=False)

FUNCTIONS = range(15)
"""Of the page, by their numbers."""

REFUSED = "This file is not, or no longer, among the uploads of this server: upload it again."
LENGTHS = {"long": 1200, "short": 10}
LOOK = [None, [], 0, True, 0]
"""How to look at a photo: as the page does by default."""

META = {"_type": "gradio.FileData"}
MARKUP = "<img src=http://127.0.0.1:{port}/seen>![](http://127.0.0.1:{port}/seen)"


@pytest.fixture(scope="module")
def elsewhere():
    """Another host, as far as browsers are concerned; the requests that it got."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.seen = seen
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def demo(tmp_path_factory, elsewhere):
    folder = tmp_path_factory.mktemp("demo")
    other = save_pretrained(new_model("ssrnet"), folder / "other", extras={"framing": Framing().to_dict()})
    hostile = save_pretrained(new_model("ssrnet"), folder / "hostile", extras={"framing": Framing().to_dict()})
    config = json.loads((hostile / "config.json").read_text())
    config["architecture"] = MARKUP.format(port=elsewhere.server_port)
    (hostile / "config.json").write_text(json.dumps(config))
    repos = {"age/other": {"main": other}, "age/hostile": {"main": hostile}}
    with (
        HubServer(repos) as hub,
        serve(
            folder,
            [sys.executable, "-m", "ssrnet_hub.cli", "demo", "--mcp"],
            HF_ENDPOINT=hub.url,
            HF_HUB_OFFLINE=0,
            SSRNET_HUB_DEMO_MAX_REQUEST_SIZE=4_000_000,
        ) as demo,
    ):
        yield demo


START = """
import sys
from ssrnet_hub.cli import main
from ssrnet_hub.webapp import middleware
middleware._PATIENCE = 6.0
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def other_demo(tmp_path_factory):
    """A server that has other names, keeps no faces in memory, and waits less for somebody to listen."""
    folder = tmp_path_factory.mktemp("other")
    command = [sys.executable, "-c", START, "demo", "--allowed-host", "one.example", "--host", "0.0.0.0"]
    settings = {"ALLOWED_HOSTS": "two.example, *.three.example", "MAX_KEPT_SIZE": 1}
    with serve(folder, command, **{f"SSRNET_HUB_DEMO_{name}": value for name, value in settings.items()}) as demo:
        yield demo


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, astronaut):
    """A picture with a face that is on the server's disk, and no upload."""
    path = tmp_path_factory.mktemp("foreign") / "secret.png"
    astronaut.save(path)
    return path


def upload(demo: Demo, path: Path) -> str:
    with path.open("rb") as file:
        (uploaded,) = HTTP.post(f"{demo.url}gradio_api/upload", files={"files": file}).raise_for_status().json()
    return uploaded


def start(demo: Demo, number: int, data: list, session: str, **event) -> str:
    body = {"data": data, "fn_index": number, "session_hash": session, **event}
    return HTTP.post(f"{demo.url}gradio_api/queue/join", json=body).raise_for_status().json()["event_id"]


def ask(demo: Demo, number: int, data: list, session: str = "", timeout: float = 120, **event) -> dict:
    """What a function answers: its last message."""
    session = session or f"s{random.getrandbits(60)}"
    event_id = start(demo, number, data, session, **event)
    with HTTP.stream("GET", f"{demo.url}gradio_api/queue/data?session_hash={session}", timeout=timeout) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                message = json.loads(line[5:])
                if message.get("event_id") != event_id:
                    continue
                if message["msg"] == "process_streaming":
                    # of a camera this was one picture
                    HTTP.post(f"{demo.url}gradio_api/stream/{event_id}/close")
                    return message
                if message["msg"] == "process_completed":
                    if isinstance(message["output"].get("error"), str):
                        message["output"]["error"] = shown(demo, message["output"]["error"])
                    return message
    raise AssertionError("the stream ended without an answer")


def shown(demo: Demo, error: str) -> str:
    """An error without the attribute from which the page puts it into words; that is bounded, and no markup either."""
    told = re.fullmatch(r'<span title="([^"<>]*)">([^<>]*)</span>', error)
    if not told:
        return error
    attribute = json.loads(unescape(told[1]))
    assert attribute.keys() == {"kind", "message", "values", "said"} and attribute["said"] == unescape(told[2])
    assert len(told[1]) < 10_000 and str(demo.log.parent) not in told[1] and "/tmp" not in told[1]
    return told[2]


def call(demo: Demo, name: str, data: list, timeout: float = 120) -> tuple[str, object]:
    """The simple way to an endpoint: the event, complete or error, and what came with it."""
    url = f"{demo.url}gradio_api/call/{name}"
    event_id = HTTP.post(url, json={"data": data}).raise_for_status().json()["event_id"]
    text = HTTP.get(f"{url}/{event_id}", timeout=timeout).text
    event, data = re.findall(r"event: (complete|error)\ndata: (.*)", text)[-1]
    return event, json.loads(data)


def config_of(demo: Demo) -> dict:
    return HTTP.get(f"{demo.url}config").json()


def number_of(demo: Demo, name: str) -> int:
    return next(f["id"] for f in config_of(demo)["dependencies"] if f["api_name"] == name)


@contextmanager
def linked(demo: Demo, foreign: Path):
    """A link among the uploads to the picture elsewhere; visitors cannot make one, so this is defense in depth."""
    folder = Path(upload(demo, foreign)).parent.parent
    link = folder / "link.png"
    link.symlink_to(foreign)
    yield folder, link
    link.unlink()


def references(path: Path, folder: Path, own: str) -> list:
    """Ways to refer to a file that is none of one's own."""
    text = str(path)
    return [
        {"path": text},
        {"path": text, "meta": META},
        {"path": text, "meta": {"_type": "other"}},
        {"path": text, "meta": None},
        {"path": text, "meta": META, "is_stream": True},
        {"path": text, "url": "data:image/png;base64,", "meta": META},
        {"path": text, "orig_name": "mine.png", "url": f"http://127.0.0.1/gradio_api/file={own}", "meta": META},
        {"path": None, "url": text},
        {"url": f"file://{text}"},
        {"path": f"file://{text}", "meta": META},
        {"path": os.path.relpath(text), "meta": META},
        {"path": f"{folder}/../../../../../../../../..{text}", "meta": META},
        {"path": f"{text}\0.png", "meta": META},
        {"path": [text], "meta": META},
        {"path": {"path": text, "meta": META}},
        [{"path": text, "meta": META}],
        [{"path": own, "meta": META}, text],
        [{"path": own, "meta": META}, {"path": text}],
        {"value": {"path": text}, "image": {"path": own, "meta": META}},
        {"__type__": "update", "value": {"path": text, "meta": META}},
    ]


# 1: whose files


def test_every_function_is_asked(demo):
    assert {function["id"] for function in config_of(demo)["dependencies"]} == set(FUNCTIONS)


@pytest.mark.parametrize("number", FUNCTIONS)
def test_no_function_reads_other_files(demo, foreign, elsewhere, number):
    function = config_of(demo)["dependencies"][number]
    own, missing, session = upload(demo, foreign), foreign.with_name("missing.png"), f"number{number}"
    with linked(demo, foreign) as (folder, link):
        ways = [*references(foreign, folder, own), {"path": str(link), "meta": META}]
        ways += [{"path": str(folder), "meta": META}, {"path": f"{own}x", "meta": META}]
        for place in range(len(function["inputs"])):
            for way in ways + references(missing, folder, own)[:6]:
                data = [None] * len(function["inputs"])
                data[place] = way
                answer = ask(demo, number, data, session, event_data={"face": 0, "kind": "svg"})
                # of what is there and of what is not the same is said
                assert (answer["success"], answer["output"]["error"]) == (False, REFUSED), (place, way)
            # a mere text is no reference to a file for any component
            for text in (str(foreign), str(missing)):
                data = [None] * len(function["inputs"])
                data[place] = text
                answer = ask(demo, number, data, session, event_data={"face": 0, "kind": "svg"})
                assert not re.search('data:image|"age"|years', json.dumps(answer))
    body = {"data": [{"path": str(foreign)}] * max(len(function["inputs"]), 1), "fn_index": number}
    answer = HTTP.post(f"{demo.url}gradio_api/run/predict", json={**body, "session_hash": session})
    assert answer.status_code >= 400 and "data:image" not in answer.text
    assert not elsewhere.seen


def test_the_call_that_read_any_picture(demo, foreign):
    for name in ("predict", "explain", "predict_batch"):
        for file in ({"path": str(foreign)}, [{"path": str(foreign)}], str(foreign), [str(foreign)]):
            event, said = call(demo, name, [file, None])
            assert event == "error" and str(foreign.parent) not in json.dumps(said)


def test_a_path_without_its_upload(demo, foreign):
    """Whoever forgets `handle_file` is told."""
    for name, value in (("predict", str(foreign)), ("predict", "photo.jpg"), ("predict_batch", ["a.jpg", "b.jpg"])):
        with pytest.raises(AppError, match=r"gradio_client\.handle_file"):
            demo.client().predict(value, api_name=f"/{name}")


def test_what_goes_wrong_is_not_told_in_full(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with GatedBlocks(Limits()) as page:
        gr.Button().click(lambda: open("/nowhere/secret"))  # noqa: PTH123, SIM115
    with pytest.raises(gr.Error, match="see the server log") as e:
        asyncio.run(page.process_api(page.fns[0], []))
    assert "secret" not in str(e.value)


def test_what_is_printed_at_the_start(demo):
    said = demo.log.read_text()
    assert f"Running on {demo.url}" in said and "public link" not in said and "share" not in said


def test_own_uploads_are_read(demo, foreign):
    path = upload(demo, foreign)
    for file in ({"path": path}, {"path": path, "meta": META, "orig_name": "a.png"}, {"url": path}):
        event, (answer,) = call(demo, "predict", [file, None])
        assert event == "complete" and len(answer["faces"]) == 1
    (look,) = ask(demo, number_of(demo, "look"), [{"path": path}, *LOOK])["output"]["data"]
    assert look["picture"].startswith("data:image/jpeg") and len(look["faces"]) == 1
    data = [{"path": path}, None, 0, True]
    (figure,) = ask(demo, number_of(demo, "figure"), data, event_data={"face": 0, "kind": "svg"})["output"]["data"]
    assert figure["content"].startswith("data:image/svg+xml") and figure["name"] == f"face-1-{DEFAULT}.svg"


def test_no_component_that_is_added_gets_other_files(foreign, tmp_path, monkeypatch):
    """Whatever component: also ones that leave out Gradio's checks."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    kinds = (gr.Image, gr.File, gr.Video, gr.Audio, gr.Gallery, gr.ImageEditor, gr.MultimodalTextbox, gr.JSON, gr.HTML)
    got = []
    with GatedBlocks(Limits()) as page:
        for kind in kinds:
            component = kind()
            component.preprocess = lambda payload: payload
            gr.Button().click(got.append, component)
    own = tmp_path / "a" / "own.png"
    own.parent.mkdir()
    own.write_bytes(foreign.read_bytes())
    for function in page.fns.values():
        for way in references(foreign, tmp_path, str(own)):
            with pytest.raises(PhotoError, match="upload it again"):
                asyncio.run(page.preprocess_data(function, [way], None))
        assert asyncio.run(page.preprocess_data(function, [{"path": str(own)}], None)) == [Upload(own)]
        nested = [{"image": {"path": str(own), "meta": META}, "caption": "hello"}]
        assert asyncio.run(page.preprocess_data(function, [nested], None))[0][0]["image"] == Upload(own)


def test_only_what_was_found_among_uploads_is_read(foreign, tmp_path):
    """The second lock: a plain path that a function got by another way."""
    from ssrnet_hub.webapp.model_cache import ModelCache
    from ssrnet_hub.webapp.service import Service

    service = Service(ModelCache(Limits()), Limits())
    for ask_service in (service.predict, service.explain, service.look):
        with pytest.raises(PhotoError, match="must be uploaded"):
            ask_service(str(foreign))
    assert service.predict_batch([str(foreign)])["photos"][0]["faces"] == []
    with pytest.raises(PhotoError):
        find_upload(str(foreign), tmp_path)


def test_examples_are_all_that_is_there_besides_uploads(demo, foreign):
    count = len(list((Path(webapp.__file__).parent / "examples").iterdir()))
    look = number_of(demo, "look")
    assert ask(demo, look, [{"example": count - 1}, *LOOK])["success"]
    for number in (count, -1, True, 0.0, "0", str(foreign), None, [0], {"path": str(foreign)}):
        answer = ask(demo, look, [{"example": number}, *LOOK])
        assert answer["output"]["error"] in ("A photo must be uploaded.", REFUSED), number


def test_the_pages_own_files(demo):
    """Scripts and style sheets, each by its name, for the page alone; nothing else that lies in the package."""
    page = HTTP.get(demo.url).text
    linked = set(re.findall(r"\./(page/\w+\.\w+)", page))
    assert linked >= {"page/early.js", "page/page.css"}
    for path in (*linked, "page/breakdown.js", "page/strings.js"):
        answer = HTTP.get(demo.url + path)
        assert answer.status_code == 200 and re.match(
            "(text|application)/(javascript|css)", answer.headers["content-type"]
        ), path
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-cache"
        assert HTTP.get(demo.url + path, headers={"Origin": "http://evil.example"}).status_code == 403
        assert HTTP.get(demo.url + path, headers={"Host": "evil.example"}).status_code == 400
        assert HTTP.post(demo.url + path).status_code in (404, 405)
    for path in (
        *("page", "page/", "page/nothere.js", "page/early.py", "page/early.js/", "page/EARLY.JS", "page//early.js"),
        *("page/../gate.py", "page/%2e%2e/gate.py", "page/..%2fgate.js", "page/%2e%2e%2fgate.js", "page/early.js%00"),
        *("page/..\\gate.js", "page/examples/1-astronaut.jpg", "page/%0aearly.js"),
    ):
        assert HTTP.get(demo.url + path).status_code == 404, path


# fmt: off
ROUTES = [
    "/", "/assets/{path}", "/config", "/config/", "/favicon.ico", "/gradio_api/api/{api_name}",
    "/gradio_api/api/{api_name}/", "/gradio_api/app_id", "/gradio_api/app_id/", "/gradio_api/call/v2/{api_name}",
    "/gradio_api/call/v2/{api_name}/", "/gradio_api/call/v2/{api_name}/{event_id}", "/gradio_api/call/{api_name}",
    "/gradio_api/call/{api_name}/", "/gradio_api/call/{api_name}/{event_id}", "/gradio_api/cancel",
    "/gradio_api/file={path_or_url}", "/gradio_api/heartbeat/{session_hash}", "/gradio_api/info", "/gradio_api/info/",
    "/gradio_api/login_check", "/gradio_api/login_check/", "/gradio_api/openapi.json", "/gradio_api/queue/data",
    "/gradio_api/queue/join", "/gradio_api/queue/status", "/gradio_api/reset", "/gradio_api/reset/",
    "/gradio_api/run/{api_name}", "/gradio_api/run/{api_name}/", "/gradio_api/startup-events",
    "/gradio_api/stream/{event_id}", "/gradio_api/stream/{event_id}/close", "/gradio_api/theme.css",
    "/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/user", "/gradio_api/user/", "/manifest.json",
    "/robots.txt", "/static/{path}", "/svelte/{path}", "/theme.css",
]
# fmt: on
"""Those of Gradio that the page serves."""


def test_routes():
    with gr.Blocks() as page:
        gr.Textbox()
    paths = App.create_app(page).openapi()["paths"]
    assert sorted(path for path in paths if _OPEN.fullmatch(path)) == sorted(ROUTES)


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/process_recording",
        "gradio_api/component_server",
        "gradio_api/component_server/",
        "gradio_api/deep_link?session_hash=a",
        "gradio_api/proxy=https://example.hf.space/",
        "gradio_api/file=http://127.0.0.1/",
        "gradio_api/file=https://example.org/a.png",
        "gradio_api/file/etc/passwd",
        "gradio_api/custom_component/a/client/b/c",
        "gradio_api/vibe-edit",
        "gradio_api/run-history/connect",
        "monitoring",
        "login",
    ],
)
def test_closed_routes(demo, path):
    for method in ("GET", "POST"):
        answer = HTTP.request(
            method, demo.url + path, files={"video": b"#EXTM3U\n/etc/passwd"} if method == "POST" else None
        )
        assert (answer.status_code, answer.text) == (404, "Not found")


def test_files_are_served_from_the_uploads_alone(demo, foreign):
    own = upload(demo, foreign)
    assert HTTP.get(f"{demo.url}gradio_api/file={own}").status_code == 200
    lock = next(demo.uploads.glob("*.lock"))
    with linked(demo, foreign) as (folder, link):
        for path in (foreign, link, "/etc/passwd", __file__, demo.log, lock, f"{folder}/../../../demo.log"):
            answer = HTTP.get(f"{demo.url}gradio_api/file={path}")
            missing = HTTP.get(f"{demo.url}gradio_api/file={path}-missing")
            assert answer.status_code == missing.status_code == 403


def test_tools_get_no_other_files(demo, foreign):
    """The tools' own client would open what is on the server's disk and upload it."""
    picture = f"data:image/png;base64,{base64.b64encode(foreign.read_bytes()).decode()}"

    async def use(arguments):
        async with (
            streamable_http_client(f"{demo.url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name.removeprefix("demo_"): tool.name for tool in (await session.list_tools()).tools}
            return [await session.call_tool(tools[name], given) for name, given in arguments]

    path = str(foreign)
    files = [path, f"file://{path}", {"path": path, "meta": META}, {"path": path}]
    refused = [("predict", {"image": file}) for file in files] + [("predict_batch", {"images": [f]}) for f in files]
    refused += [("predict", {"image": picture, "weights": {"path": path, "meta": META}})]
    every = [("predict_batch", {"images": [picture, picture]}), ("predict", {"image": picture})]
    *answers, both, taken = asyncio.run(use([*refused, *every]))
    for answer in answers:
        assert answer.isError and "faces" not in answer.content[0].text, answer
    assert not taken.isError and taken.content[0].text.count("'age'") == 1
    assert not both.isError and both.content[0].text.count("'age'") == 2
    # what comes in such a URL lies in the server's own folder, too
    assert not list(demo.uploads.glob("*/file.png")) and list(demo.uploads.glob("ssrnet_hub-*/uploads/*/file.png"))


# a picture within the request, and by its address


def data_url(content: bytes, kind: str = "image/jpeg") -> dict:
    return {"url": f"data:{kind};base64,{base64.b64encode(content).decode()}", "meta": META}


def test_a_picture_within_the_request(demo, astronaut, estimator):
    before = demo.files
    content = encode(astronaut, "JPEG", quality=95)
    (expected,) = estimator(content)
    for name, file in (("predict", data_url(content)), ("explain", data_url(content, "application/octet-stream"))):
        event, (answer,) = call(demo, name, [file, None])
        assert event == "complete" and answer["faces"][0]["age"] == pytest.approx(expected.age, abs=1e-3)
    event, (answer,) = call(demo, "predict_batch", [[data_url(content), data_url(b"no picture")], None])
    assert [len(row["faces"]) for row in answer["photos"]] == [1, 0]
    assert answer["photos"][0]["file"] == "picture 1" and "picture 2" in answer["photos"][1]["error"]
    assert demo.files == before
    for url in ("data:image/png;base64,a", "data:image/png,a", "data:", "data:;base64,!!!!"):
        event, said = call(demo, "predict", [{"url": url}, None])
        assert event == "error" and "damaged" in said["error"]


def test_large_requests(demo):
    body = {"data": [data_url(bytes(3_000_001)), None]}
    for content in (json.dumps(body).encode(), iter([json.dumps(body).encode()])):
        headers = {"content-type": "application/json"}
        answer = HTTP.post(f"{demo.url}gradio_api/call/predict", content=content, headers=headers)
        assert answer.status_code == 413
    event, said = call(demo, "predict", [None, "x" * 2000])
    assert event == "error" and "request is too large" in said["error"]
    deep: list = []
    for _ in range(50):
        deep = [deep]
    assert call(demo, "predict", [deep, None])[0] == "error"
    event, said = call(demo, "predict_batch", [[data_url(b"")] * 201, None])
    assert event == "error" and "More than 200 photos" in said["error"]


@pytest.mark.parametrize("path", ["queue/join", "call/predict", "call/v2/predict", "run/predict", "mcp/", "stream/a"])
@pytest.mark.parametrize("item", ["[]", "{}", "0", '[{"a":[0]}]', '"a,b"'])
def test_requests_of_very_many_values(demo, path, item):
    """They are not even parsed: a million values take seconds in which nobody is answered, and 200 MB."""
    server = psutil.Process(demo.process.pid)
    resident, spent = server.memory_info().rss, sum(server.cpu_times()[:2])
    body = f'{{"fn_index": 0, "session_hash": "many", "data": [{",".join([item] * (3_900_000 // (len(item) + 1)))}]}}'
    for content in (body.encode(), body.encode("utf-16")[:3_900_000], iter([body.encode()])):
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        assert HTTP.post(f"{demo.url}gradio_api/{path}", content=content, headers=headers).status_code == 413
    assert server.memory_info().rss - resident < 60e6 and sum(server.cpu_times()[:2]) - spent < 2


def multipart(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    return b"".join(b"--x\r\n%s\r\n\r\n%s\r\n" % (head.encode(), content) for head, content in parts) + end


FILE = 'Content-Disposition: form-data; name="files"; filename="a.png"'
FIELD = 'Content-Disposition: form-data; name="files"'


def test_uploads_of_what_is_no_file(demo):
    """What has no name of a file would be kept in memory as a text."""
    server = psutil.Process(demo.process.pid)

    def large():
        yield multipart((FIELD, b""), end=b"")[:-2]
        for _ in range(240):
            yield bytes(1_000_000)

    resident, headers = server.memory_info().rss, {"content-type": "multipart/form-data; boundary=x"}
    answer = HTTP.post(f"{demo.url}gradio_api/upload", content=large(), headers=headers)
    assert answer.status_code == 400 and "consist of named files" in answer.text
    assert server.memory_info().rss - resident < 60e6


def test_odd_uploads(demo):
    before = demo.log.read_text()
    for kind, content, taken in (
        ("multipart/form-data; boundary=x", multipart((FIELD, b"a")), False),
        ("multipart/form-data; boundary=x", multipart((FILE, b"a"), (FIELD, b"a")), False),
        ("multipart/form-data; boundary=x", multipart((FILE, b"a"), (FIELD.replace("files", "other"), b"a")), False),
        ("multipart/form-data; boundary=x", multipart(("Content-Type: image/png", b"a")), False),
        ("multipart/form-data; boundary=x", multipart((f"{FILE}\r\nA: {'a' * 20_000}", b"a")), False),
        ("multipart/form-data; boundary=x", b"a" * 1000, False),
        ("multipart/form-data; boundary=x", b"", True),
        ("multipart/form-data; boundary=x", multipart((FILE, b"a"), end=b""), True),
        ("multipart/form-data; boundary=x; charset=none", multipart((FILE, b"a")), True),
        ("multipart/form-data; boundary=" + "x" * 20_000, multipart((FILE, b"a")), False),
        ("multipart/form-data", multipart((FILE, b"a")), False),
        ("application/json", b"[]", False),
        ("multipart/form-data; boundary=x", multipart((FILE.replace("a.png", ""), b"a")), True),
        ("multipart/form-data; boundary=x", multipart((FILE.replace("a.png", ".."), b"a")), False),
        ("multipart/form-data; boundary=x", multipart((FILE.replace("a.png", "a\0/b\0.png"), b"a")), True),
        ("multipart/form-data; boundary=x", multipart((FILE.replace("a.png", "a" * 3000 + ".png"), b"a")), True),
    ):
        answer = HTTP.post(f"{demo.url}gradio_api/upload", content=content, headers={"content-type": kind})
        assert answer.status_code // 100 == (2 if taken else 4), (kind[:100], content[:100], answer.text)
        assert not taken or all(Path(path).is_file() for path in answer.json())
    assert "Traceback" not in demo.log.read_text()[len(before) :]


def test_odd_requests(demo):
    """No traceback, and nothing of what was sent is sent back."""
    before = demo.log.read_text()
    for path, content in (
        ("queue/join", b'{"fn_index": -1, "session_hash": "odd", "data": []}'),
        ("queue/join", b'{"fn_index": 500, "session_hash": "odd", "data": []}'),
        ("queue/join", b'{"fn_index": %s, "session_hash": "odd", "data": []}' % (b"9" * 400)),
        ("queue/join", b'{"fn_index": %s, "session_hash": "odd", "data": []}' % (b"9" * 5000)),
        ("queue/join", b'{"session_hash": "odd", "data": []}'),
        ("queue/join", b'{"fn_index": 0, "data": []}'),
        ("queue/join", b'{"fn_index": 0, "session_hash": "odd", "data": NaN}'),
        ("queue/join", b'{"fn_index": 0, "session_hash": "odd", "data": "%s"}' % (b"sent" * 100_000)),
        ("queue/join", b'{"fn_index": 0, "session_hash": ["odd"], "data": []}'),
        ("queue/join", b'{"fn_index": 0, "session_hash": "odd", "data": %s}' % (b"[" * 5000)),
        ("queue/join", b"\xff"),
        ("queue/join", b""),
        ("queue/join", b"null"),
        ("call/nothere", b'{"data": []}'),
        ("call/v2/nothere", b"{}"),
        ("call/v2/predict", b"{}"),
        ("call/v2/predict", b'{"image": null, "other": 1}'),
        ("call/v2/predict", b"[]"),
        ("run/nothere", b'{"data": []}'),
        ("run/predict", b'{"data": [], "fn_index": -1}'),
        ("cancel", b"{}"),
        ("stream/nothere", b'{"data": []}'),
        ("stream/nothere/close", b""),
        ("reset", b"[NaN]"),
    ):
        headers = {"content-type": "application/json"}
        answer = HTTP.post(f"{demo.url}gradio_api/{path}", content=content, headers=headers)
        assert answer.status_code // 100 == 4, (path, content[:100], answer.text)
        assert len(answer.text) < 500 and "sentsent" not in answer.text
    assert "Traceback" not in demo.log.read_text()[len(before) :]


def test_values_that_no_function_takes(demo, foreign, tmp_path):
    flat = tmp_path / "flat.png"
    Image.new("RGB", (9, 9)).save(flat)
    photo = {"path": upload(demo, foreign), "meta": META}
    for function in config_of(demo)["dependencies"]:
        if function["cancels"]:
            continue
        for count in {0, len(function["inputs"]) - 1, len(function["inputs"]) + 1, 50} - {-1, len(function["inputs"])}:
            answer = ask(demo, function["id"], [photo] * count)
            assert answer["output"]["error"].endswith(f"takes {len(function['inputs'])} values, not {count}.")
    # as many photos as there may be are not too many
    flat = {"path": upload(demo, flat), "meta": META, "orig_name": "a,b.png", "url": None, "size": 1, "mime_type": ""}
    event, (answer,) = call(demo, "predict_batch", [[flat] * 200, None])
    assert event == "complete" and len(answer["photos"]) == 200


BOMB = gzip.compress(bytes(10_000_000))
"""A response body of 10 kB that unpacks to 10 MB."""


@pytest.fixture
def internet(monkeypatch):
    """A server whose address passes for one on the internet."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/endless":
                self.send_response(200)
                self.end_headers()
                with pytest.raises(OSError):
                    while True:
                        self.wfile.write(bytes(100_000))
            elif self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("Location", self.path[4:])
                self.end_headers()
            elif self.path == "/bomb":
                self.send_response(200)
                self.send_header("Content-Encoding", "gzip")
                self.end_headers()
                self.wfile.write(BOMB)
            elif self.path == "/slow":
                self.send_response(200)
                self.end_headers()
                with suppress(OSError):
                    for _ in range(100):
                        self.wfile.write(b"a")
                        time.sleep(0.1)
            elif self.path.startswith(("/photo", "/late")):
                self.server.sent += 1
                time.sleep(self.path == "/late")
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"content")
            else:
                self.send_error(404)

        def log_message(self, *_):
            pass

    real, look_up, mine = fetching.is_public, socket.getaddrinfo, "127.7.7.7"

    def resolve(host, *args, **kwargs):
        return look_up(mine if host in ("example.org", b"example.org") else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(fetching, "is_public", lambda address: address == mine or real(address))
    with ThreadingHTTPServer((mine, 0), Handler) as server:
        server.sent, server.url = 0, f"http://example.org:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_downloads(internet, tmp_path):
    def get(url, max_size=100, **kwargs):
        return asyncio.run(download(url, tmp_path, max_size=max_size, **kwargs))

    url = internet.url
    file = get(f"{url}/photo%20of%2F../me.png?x=1")
    assert isinstance(file, Upload) and Path(file).read_bytes() == b"content"
    assert find_upload(file, tmp_path) == file and Path(file).suffix == ".png"
    assert Path(get(f"{url}/to//photo.png")).name == "photo.png"
    # unpacked, it would exceed the limit
    assert Path(get(f"{url}/bomb", 1_000_000)).read_bytes() == BOMB
    there = set(tmp_path.iterdir())
    with pytest.raises(PhotoError, match="a file of at most 1,000,000 bytes"):
        get(f"{url}/endless", 1_000_000)
    start = time.monotonic()
    with pytest.raises(PhotoError, match="URL is not public"):
        get(f"{url}/slow", max_seconds=0.5)
    assert time.monotonic() < start + 5
    port = internet.server_port
    for refused in (
        f"{url}/missing",
        "http://8.8.8.8:99999/",
        "http://8.8.8.8:99999999999999999999/",
        "http://8.8.8.8:0/",
        f"{url}/to/http://8.8.8.8:99999/",
        f"{url}/to/file:///etc/passwd",
        f"{url}/to/http://127.0.0.1:{port}/photo",
        f"{url}/to//to//to//to//to//to//photo",
        f"http://127.0.0.1:{port}/photo",
        f"http://localhost:{port}/photo",
        f"http://[::1]:{port}/photo",
        f"http://[::ffff:127.0.0.1]:{port}/photo",
        f"http://[64:ff9b::7f00:1]:{port}/photo",
        f"http://2130706433:{port}/photo",
        f"http://0.0.0.0:{port}/photo",
        "http://",
        "http://[",
        "http://169.254.169.254/latest/meta-data",
        "https://example.invalid/",
    ):
        with pytest.raises(PhotoError, match="URL is not public"):
            get(refused)
    # what was refused leaves nothing behind
    assert set(tmp_path.iterdir()) == there


@pytest.mark.parametrize(
    "shape",
    [
        lambda urls: [[{"url": url} for url in urls]] * 20,
        lambda urls: [{"a": {"url": url}, "b": [{"path": url}, None]} for url in urls] * 20,
        lambda urls: [[[{"url": url, "x": 1}] for url in urls], {str(i): {"path": u} for i, u in enumerate(urls * 20)}],
    ],
)
def test_downloads_of_a_request(internet, tmp_path, shape):
    """However a request is nested, it starts no more downloads than it may bring photos."""
    limits = Limits(max_photos=30)
    with pytest.raises(PhotoError, match="More than 30 photos were sent"):
        receive(limits, shape([f"{internet.url}/photo{i}" for i in range(10)]), tmp_path)
    assert internet.sent <= 30
    assert len(receive(limits, [{"url": f"{internet.url}/photo{i}"} for i in range(30)], tmp_path)) == 30
    # and no more bytes than it may upload
    limits, before = Limits(max_upload_size=30), internet.sent
    there = set(tmp_path.iterdir())
    with pytest.raises(PhotoError, match="more than 30 bytes in all"):
        receive(limits, [{"url": f"{internet.url}/photo{i}"} for i in range(30)], tmp_path)
    assert internet.sent == before + 5
    # what it has downloaded before is removed
    assert set(tmp_path.iterdir()) == there


def test_time_of_all_downloads_of_a_request(internet, tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "_SECONDS", 3.0)
    with pytest.raises(PhotoError, match="or take longer than 3 seconds"):
        receive(Limits(), [{"url": f"{internet.url}/late"}] * 30, tmp_path)
    assert internet.sent <= 3 and not list(tmp_path.iterdir())


def receive(limits, value, folder):
    """What a function gets of a value."""
    with GatedBlocks(limits) as blocks:
        button, got = gr.Button(), gr.JSON()
        button.click(lambda files: None, got)
    blocks._folder = folder.resolve()
    (function,) = blocks.fns.values()
    return asyncio.run(blocks.preprocess_data(function, [value], None))[0]


PRIVATE = [
    *("127.0.0.1", "0.0.0.0", "10.0.0.1", "100.64.0.1", "169.254.169.254", "192.0.0.170", "192.168.0.1", "198.18.0.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost"),
    *("::", "::1", "::2", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "fd00::1"),
    *("fe80::1", "fec0::1", "ff0e::1", "5f00::1", "2001:db8::1", "2001:0:7f00:1::", "2002:7f00:1::"),
    *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::7f00:1", "64:ff9b:1::808:808", "100::1", "4000::1"),
]
"""Hosts that are not on the internet, or whose addresses may be translated to such."""


@pytest.mark.parametrize("host", PRIVATE)
def test_hosts_that_are_not_on_the_internet(host, tmp_path):
    name = f"[{host}]" if ":" in host else host
    with pytest.raises(PhotoError, match="URL is not public") as e:
        asyncio.run(download(f"http://{name}/photo.png", tmp_path, max_size=100))
    assert re.search("not a public host|Invalid IPv4 address", str(e.value.__cause__))


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_hosts_on_the_internet(host):
    assert fetching.is_public(host)


def test_addresses_of_the_servers_own_network(demo, elsewhere):
    for url in (f"http://127.0.0.1:{elsewhere.server_port}/a.png", demo.url, "http://localhost/"):
        for file in ({"path": url, "meta": META}, {"path": url}, {"url": url}):
            event, said = call(demo, "predict", [file, None])
            assert event == "error" and "URL is not public" in said["error"]
    assert not elsewhere.seen


# 3: under which names


PATHS = [
    "",
    "config",
    "gradio_api/info",
    "gradio_api/upload",
    "gradio_api/mcp/",
    "gradio_api/queue/join",
    "assets/a.js",
]


@pytest.mark.parametrize("path", PATHS)
def test_pages_of_other_names_are_not_answered(demo, path):
    port = demo.url.split(":")[2].strip("/")
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        ".",
        "a b",
    ):
        for method in ("GET", "POST", "OPTIONS"):
            headers = {"Host": host, "Origin": f"http://{host}", "Access-Control-Request-Method": "POST"}
            answer = HTTP.request(method, demo.url + path, headers=headers)
            assert answer.status_code == 400, host
            assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
def test_pages_of_other_origins_are_not_answered(demo, path):
    port = demo.url.split(":")[2].strip("/")
    for origin in (
        *("http://evil.example", "null", "http://127.0.0.1.evil.example", "file://", "http://[", "x", ""),
        # other programs of this machine
        *("http://localhost:9999", "http://127.0.0.1:9999", "http://127.0.0.1", f"http://localhost:{port}"),
        *(
            f"https://127.0.0.1:{port}",
            f"http://[::1]:{port}",
            f"http://evil@127.0.0.1:{port}",
            f"x://127.0.0.1:{port}",
        ),
        *(f"http://127.0.0.1:{port}.evil.example", "http://127.0.0.1:x"),
    ):
        for method in ("GET", "POST", "OPTIONS"):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            answer = HTTP.request(method, demo.url + path, headers=headers)
            assert answer.status_code == 403, origin
            assert "access-control-allow-origin" not in answer.headers


def test_names_of_this_machine_are_answered(demo):
    port = demo.url.split(":")[2].strip("/")
    for host in ("localhost", "127.0.0.1", "[::1]"):
        for name in (host, f"{host}:{port}", host.upper()):
            headers = {"Host": name, "Origin": f"http://{name}"}
            assert HTTP.get(f"{demo.url}config", headers=headers).status_code == 200


@pytest.mark.parametrize("path", [*PATHS, "monitoring"])
def test_no_other_page_frames_it(demo, path):
    for headers in ({}, {"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        answer = HTTP.get(demo.url + path, headers=headers)
        assert "frame-ancestors 'self' https://huggingface.co" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_allowed_hosts():
    own = ["localhost", "127.0.0.1", "[::1]"]
    assert all(resolve_allowed_hosts(host, []) == own for host in ("127.0.0.1", "localhost", "::1"))
    assert resolve_allowed_hosts("127.0.0.2", []) == [*own, "127.0.0.2"]
    assert resolve_allowed_hosts("0.0.0.0", []) == resolve_allowed_hosts("192.168.1.2", []) == ["*"]
    assert resolve_allowed_hosts("0.0.0.0", ["*.example.org"]) == [*own, "0.0.0.0", "*.example.org"]
    for name in ("http://example.org", "example.org:80", "a*", "*example.org", "a/b", "", "a b"):
        with pytest.raises(ConfigError, match="not a host name"):
            resolve_allowed_hosts("127.0.0.1", [name])


def test_names_that_are_allowed(other_demo):
    demo = other_demo
    codes = {
        name: HTTP.get(f"{demo.url}config", headers={"Host": name, "Origin": f"http://{name}"}).status_code
        for name in ("one.example", "two.example:8080", "a.three.example", "four.example", "127.0.0.1")
    }
    assert list(codes.values()) == [200, 200, 200, 400, 200]
    # a proxy that ends TLS, and one that asks by an address of its own
    for host, origin, code in (
        ("one.example", "https://one.example", 200),
        ("127.0.0.1:7860", "https://one.example", 200),
        ("127.0.0.1:7860", "https://a.three.example", 200),
        ("one.example:8443", "https://one.example:8443", 200),
        ("one.example", "https://one.example:8443", 403),
        ("127.0.0.1:7860", "https://three.example", 403),
        ("127.0.0.1:7860", "http://0.0.0.0", 403),
        ("127.0.0.1:7860", "http://127.0.0.1:9999", 403),
    ):
        answer = HTTP.get(f"{demo.url}config", headers={"Host": host, "Origin": origin})
        assert answer.status_code == code, (host, origin)
    assert "one.example, two.example, *.three.example" in demo.log.read_text()


def test_a_name_that_is_none(capsys):
    assert main(["demo", "--allowed-host", "http://one.example/"]) == 1
    assert capsys.readouterr().err.startswith("error: 'http://one.example/' is not a host name")


def test_a_space_behind_its_proxy(tmp_path, astronaut):
    name = "owner-space.hf.space"
    forwarded = {"Host": name, "X-Forwarded-Host": name, "X-Forwarded-Proto": "https", "Origin": f"https://{name}"}
    environment = {"SYSTEM": "spaces", "SPACE_ID": "owner/space", "SPACE_HOST": name, "GRADIO_SERVER_NAME": "0.0.0.0"}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, str(root / "demo" / "app.py")]
    with serve(
        tmp_path, command, PYTHONPATH=f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", **environment
    ) as demo:
        assert HTTP.get(f"{demo.url}config", headers=forwarded).json()["root"] == f"https://{name}"
        assert HTTP.get(demo.url, headers={**forwarded, "Origin": "https://huggingface.co"}).status_code == 200
        assert "Anyone who can reach this machine" in demo.log.read_text()
        # a client that comes by the proxy
        content = encode(astronaut, "PNG")
        upload = HTTP.post(f"{demo.url}gradio_api/upload", files={"files": ("a.png", content)}, headers=forwarded)
        body = {"data": [{"path": upload.json()[0], "meta": META}, None]}
        url = f"{demo.url}gradio_api/call/predict"
        event = HTTP.post(url, json=body, headers=forwarded).json()["event_id"]
        assert '"age"' in HTTP.get(f"{url}/{event}", headers=forwarded, timeout=60).text


# 4: what is told


def test_errors_are_no_markup(demo, foreign, elsewhere):
    markup = MARKUP.format(port=elsewhere.server_port)
    photo = {"path": upload(demo, foreign), "meta": META}
    weights = [markup, "age/hostile", f"{markup}/{markup}", f"{demo.uploads}/{markup}"]
    answers = [ask(demo, number_of(demo, "look"), [photo, name, *LOOK[1:]]) for name in weights]
    answers += [ask(demo, number_of(demo, "look"), [photo, None, [name], *LOOK[2:]]) for name in weights]
    answers += [ask(demo, number_of(demo, "predict"), [photo, name]) for name in weights]
    for answer in answers:
        said = answer["output"]["error"]
        assert not answer["success"] and not re.search("[<>]", said) and len(said) < 1000
        assert str(demo.log.parent) not in said and "/tmp" not in said


def test_nothing_is_fetched_from_elsewhere(demo, browser, foreign, elsewhere, tmp_path):  # noqa: F811
    markup = MARKUP.format(port=elsewhere.server_port)
    archive = write_zip(tmp_path / "many.zip", {f"{markup}.png": foreign.read_bytes(), f"{markup}.jpg": b"no"})
    asked = []
    page = browser.new_page(**DESK)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(demo.url)
    upload_photo(page, foreign)
    expect(page.locator(".ssr-face")).to_have_count(1)
    options(page)
    for name in ("age/hostile", markup):
        choose(page, ".weights", name)
        expect(page.locator(".toast-body").filter(has_text="<img src=http").first).to_be_visible()
    choose(page, ".weights", DEFAULT)
    tab(page, "batch")
    page.set_input_files("#photos input[type=file]", archive)
    page.get_by_role("button", name="Estimate ages").click()
    expect(page.locator("#files")).to_contain_text("2 photos")
    expect(page.locator("#table")).to_contain_text("<img src=http")
    page.wait_for_timeout(1000)
    # and were there such a picture all the same
    picture = f"http://127.0.0.1:{elsewhere.server_port}/picture"
    page.evaluate("url => document.body.append(Object.assign(new Image(), {src: url}))", picture)
    page.wait_for_timeout(500)
    page.close()
    assert not [url for url in asked if not re.match(rf"{demo.url}|data:|blob:|{picture}", url)]
    assert not elsewhere.seen


# 7: how much


def test_forty_names(demo, foreign):
    photo = {"path": upload(demo, foreign), "meta": META}
    names = [f"age/other@{number}" for number in range(40)]
    for others in (names, [*names[:3], DEFAULT, "age/other"]):
        answer = ask(demo, number_of(demo, "look"), [photo, None, others, *LOOK[2:]])
        assert answer["output"]["error"] == "Compare with at most 3 weights at a time."
    # each once, and not the one that is there
    same = ["age/other", " age/other ", DEFAULT, "", "age/other"]
    (look,) = ask(demo, number_of(demo, "look"), [photo, f" {DEFAULT}", same, *LOOK[2:]])["output"]["data"]
    assert [entry["weights"] for entry in look["faces"][0]["entries"]] == [DEFAULT, "age/other"]
    for others in ("age/other", [["age/other"]], [7], {"a": 1}, [{"a": "b"}]):
        assert not ask(demo, number_of(demo, "look"), [photo, None, others, *LOOK[2:]])["success"]
    for weights in (7, ["age/other"], {"a": 1}, True):
        assert not ask(demo, number_of(demo, "look"), [photo, weights, *LOOK[1:]])["success"]
    for min_face in (1, 401, -20, "40", [40], True):
        assert not ask(demo, number_of(demo, "look"), [photo, None, [], min_face, *LOOK[3:]])["success"]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory, astronaut):
    """A photo of 200 kB with more than a thousand faces."""
    face = astronaut.crop((170, 40, 290, 180)).resize((60, 60))
    image = Image.new("RGB", (2048, 2048))
    for x in range(0, 2048, 60):
        for y in range(0, 2048, 60):
            image.paste(face, (x, y))
    path = tmp_path_factory.mktemp("crowd") / "crowd.webp"
    image.save(path, lossless=True)
    assert path.stat().st_size < 400_000
    return path


def test_faces_are_bounded(crowd, astronaut):
    few = MTCNNDetector(max_faces=10)
    started = time.process_time()
    faces = few(Image.open(crowd).convert("RGB"))
    assert len(faces) == 10 and time.process_time() - started < 30
    # what is found in other photos is the same
    assert few(astronaut) == MTCNNDetector()(astronaut)
    two = Image.new("RGB", (800, 512))
    two.paste(astronaut)
    two.paste(astronaut.resize((256, 256)), (530, 100))
    (only,), (first, _) = MTCNNDetector(max_faces=1)(two), MTCNNDetector()(two)
    assert (only.box, only.score, only.turned) == (first.box, first.score, first.turned)
    # faces that are looked at together are rounded otherwise
    assert np.array(only.landmarks) == pytest.approx(np.array(first.landmarks), abs=1e-3)


def idle(demo: Demo, seconds: float = 2.5) -> bool:
    """Whether the server has nothing to do, by its share of the time that somebody busy gets."""
    server, own = psutil.Process(demo.process.pid), psutil.Process()
    before = [sum(process.cpu_times()[:2]) for process in (server, own)]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass
    theirs, ours = (sum(p.cpu_times()[:2]) - b for p, b in zip((server, own), before, strict=True))
    return theirs < 0.4 * ours


def wait_until_busy(demo: Demo, seconds: float = 60) -> None:
    """Until the server has computed for a second."""
    server, deadline = psutil.Process(demo.process.pid), time.monotonic() + seconds
    before = sum(server.cpu_times()[:2])
    while sum(server.cpu_times()[:2]) < before + 1:
        assert time.monotonic() < deadline, "the server does not work"
        time.sleep(0.1)


def wait_until_idle(demo: Demo, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not idle(demo):
        assert time.monotonic() < deadline, "the server still works"


@pytest.fixture(scope="module")
def batch(tmp_path_factory, crowd):
    """A zip of 30 photos that take minutes."""
    path = tmp_path_factory.mktemp("batch") / "batch.zip"
    return write_zip(path, {f"{number}.webp": crowd.read_bytes() for number in range(30)})


def test_work_ends_when_nobody_listens(other_demo, batch):
    demo, url = other_demo, f"{other_demo.url}gradio_api/queue/data?session_hash="
    photos = [{"path": upload(demo, batch), "meta": META}]
    asked = {"predict_batch": [photos, None], "many": [photos, None, 0, True]}
    # nobody ever
    for name, data in asked.items():
        start(demo, number_of(demo, name), data, f"never-{name}")
    wait_until_busy(demo)
    wait_until_idle(demo, 60)
    for name in asked:
        # who listens too late is told so
        said = HTTP.get(f"{url}never-{name}").text
        assert "process_starts" in said and "No client was waiting for the result" in said
    # somebody for a while
    with ExitStack() as stack:
        for name, data in asked.items():
            start(demo, number_of(demo, name), data, f"once-{name}")
            lines = stack.enter_context(HTTP.stream("GET", f"{url}once-{name}", timeout=60)).iter_lines()
            stack.callback(lines.close)
            assert any("process_starts" in line for line in lines)
        wait_until_busy(demo)
    wait_until_idle(demo, 60)


def test_two_do_not_hold_up_a_third(demo, batch, foreign):
    """Two work through minutes of photos; a third waits for a few of them."""
    zipped, photo = ({"path": upload(demo, path), "meta": META} for path in (batch, foreign))
    many, look = (number_of(demo, name) for name in ("many", "look"))
    photos, ended = [], threading.Event()

    def work(session):
        start(demo, many, [[zipped], None, 0, True], session)
        with HTTP.stream("GET", f"{demo.url}gradio_api/queue/data?session_hash={session}", timeout=300) as stream:
            for line in stream.iter_lines():
                if "process_generating" in line or "process_completed" in line:
                    photos.append(session)
                if ended.is_set():
                    return

    two = [threading.Thread(target=work, args=(f"hostile{number}",)) for number in range(2)]
    for thread in two:
        thread.start()
    while len(set(photos)) < 2:
        time.sleep(0.1)
    before = len(photos)
    assert ask(demo, look, [photo, *LOOK])["success"]
    assert ask(demo, many, [[photo], None, 0, True])["success"]
    assert len(photos) - before <= 10
    ended.set()
    for thread in two:
        thread.join()
    wait_until_idle(demo, 60)


def test_costly_pictures_of_two_do_not_hold_up_a_third(demo, foreign):
    """787 bytes of 40 megapixels, for which nobody listens."""
    costly, photo = (
        data_url(BOMBS["JPEG 2000 of one color"](), "image/jp2"),
        {"path": upload(demo, foreign), "meta": META},
    )
    predict, explain, look = (number_of(demo, name) for name in ("predict", "explain", "look"))
    assert ask(demo, predict, [photo, None])["success"]
    for session in ("costly", "costly too"):
        for number, data in ((predict, []), (predict, []), (explain, []), (look, LOOK[1:])):
            start(demo, number, [costly, None, *data], session)
    started = time.monotonic()
    assert ask(demo, predict, [photo, None])["success"]
    assert time.monotonic() - started < 15


def test_long_films_do_not_hold_up_a_short_one(demo, tmp_path):
    """Three sessions have two films of minutes each: another's of a second is done before any of them."""
    film = number_of(demo, "film")
    files = {name: write_color(tmp_path / f"{name}.mp4", "red", frames=frames) for name, frames in LENGTHS.items()}
    long, short = ({"path": upload(demo, files[name]), "meta": META} for name in LENGTHS)
    messages, ended = Counter(), threading.Event()

    def watch(session):
        with HTTP.stream("GET", f"{demo.url}gradio_api/queue/data?session_hash={session}", timeout=120) as stream:
            for line in stream.iter_lines():
                for name in ("process_starts", "process_completed"):
                    messages[session, name] += name in line
                if ended.is_set():
                    return

    threads = []
    for number in range(3):
        session = f"films{number}"
        for _ in range(2):
            start(demo, film, [long, None], session)
        threads.append(threading.Thread(target=watch, args=(session,)))
        threads[-1].start()
    while sum(messages.values()) < 3:
        time.sleep(0.1)
    try:
        answer = ask(demo, film, [short, None])
        assert answer["success"] and answer["output"]["data"][0]
        assert messages == {(f"films{number}", "process_starts"): 1 for number in range(3)} | dict.fromkeys(
            ((f"films{number}", "process_completed") for number in range(3)), 0
        )
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    wait_until_idle(demo, 60)


def test_a_camera_that_nobody_watches_gives_its_place_back(other_demo, astronaut):
    demo = other_demo
    picture = data_url(encode(astronaut, "JPEG"))
    live = number_of(demo, "live")
    for number in range(15):
        start(demo, live, [picture, None, None], f"camera{number}")
    session = "watched"
    start(demo, live, [picture, None, None], session)
    with HTTP.stream("GET", f"{demo.url}gradio_api/queue/data?session_hash={session}", timeout=60) as stream:
        assert any("person" in line or "process_streaming" in line for line in stream.iter_lines())


# 8: what is kept


def test_a_session_keeps_no_photo(demo, tmp_path):
    Image.new("RGB", (7900, 5000), "white").save(tmp_path / "flat.png")
    assert (tmp_path / "flat.png").stat().st_size < 200_000
    photo = {"path": upload(demo, tmp_path / "flat.png"), "meta": META}
    server, resident = psutil.Process(demo.process.pid), []
    for number in range(5):
        assert ask(demo, number_of(demo, "look"), [photo, *LOOK], f"flat{number}")["success"]
        resident.append(server.memory_info().rss)
    assert resident[-1] - resident[1] < 200e6


def test_requests_without_a_session_leave_none(demo):
    """Nor what was in them."""
    server, picture = psutil.Process(demo.process.pid), data_url(png_header(1, 1) + bytes(2_000_000))
    for _ in range(10):
        call(demo, "predict", [picture, None])
    before = server.memory_info().rss
    for _ in range(60):
        call(demo, "predict", [picture, None])
    assert server.memory_info().rss - before < 60e6


def test_looks_are_bounded(astronaut, estimator):
    faces = estimator(astronaut)
    size = 2 * 8192 + 4 * faces[0].crop.width * faces[0].crop.height
    looks = Looks(3 * size, 60)
    for number in range(5):
        looks.put(Upload(number), "a", faces)
    assert [looks.get(Upload(number), "a") is not None for number in range(5)] == [False, False, True, True, True]
    looks.get(Upload(2), "a")
    looks.put(Upload(5), "a", faces)
    assert (
        looks.get(Upload(2), "a") is faces and looks.get(Upload(3), "a") is None and looks.get(Upload(2), "b") is None
    )
    looks.put(Upload(5), "a", faces * 4)
    assert len(looks) == 0  # more than all of it
    looks = Looks(3 * size, 0.05)
    looks.put(Upload(1), "a", faces)
    time.sleep(0.1)
    assert looks.get(Upload(1), "a") is None and len(looks) == 0


def test_a_figure_of_what_is_not_kept_any_more(other_demo, foreign):
    """The photo is looked at again."""
    demo = other_demo
    photo = {"path": upload(demo, foreign), "meta": META}
    data, number = [photo, None, 0, True], number_of(demo, "figure")
    assert ask(demo, number_of(demo, "look"), [photo, *LOOK], "me")["success"]
    for kind, signature in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        (figure,) = ask(demo, number, data, "me", event_data={"face": 0, "kind": kind})["output"]["data"]
        assert base64.b64decode(figure["content"].partition(",")[2]).startswith(signature)
    before = demo.log.read_text()
    for face in (7, -1, "a", None, 1.5, [0], True):
        answer = ask(demo, number, data, "me", event_data={"face": face, "kind": "svg"})
        assert answer["success"] and answer["output"]["data"] == [None]
    for kind in ("pdf", "", None, ["svg"], {"svg": 1}, "svg/../../x"):
        answer = ask(demo, number, data, "me", event_data={"face": 0, "kind": kind})
        assert answer["success"] and answer["output"]["data"] == [None]
    for weights in (7, [DEFAULT], "../secret"):
        assert not ask(demo, number, data, "me", event_data={"face": 0, "kind": "svg", "weights": weights})["success"]
    assert "Traceback" not in demo.log.read_text()[len(before) :]
    Path(photo["path"]).unlink()
    assert ask(demo, number, data, "me", event_data={"face": 0, "kind": "svg"})["output"]["error"] == REFUSED


# 10: cameras


def test_pictures_of_a_camera_have_the_limits_of_all(demo, foreign, astronaut):
    live, before = number_of(demo, "live"), demo.files
    server = psutil.Process(demo.process.pid)
    resident = server.memory_info().rss
    flat = Image.new("1", (13300, 13300))
    for content, said in (
        (encode(flat, "PNG"), "megapixels, more than the limit of 9.0"),
        (encode(Image.new("RGB", (4000, 3000)), "JPEG", quality=1), "megapixels, more than the limit of 9.0"),
        (encode(astronaut, "PCX"), "not a picture of a known format"),
        (encode(astronaut, "ICO"), "not a picture of a known format"),
        (b"", "no photo"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture of a known format"),
    ):
        answer = ask(demo, live, [data_url(content), None, None])
        if content:
            assert not answer["success"] and said in answer["output"]["error"]
    assert server.memory_info().rss - resident < 150e6
    assert demo.files == before


# 12: how it ends


def test_a_server_removes_what_is_its_own(tmp_path, foreign):
    """When a signal ends it; and what one before left that was killed."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    own = uploads / "ssrnet_hub-notes.txt"
    own.write_text("not of a server")
    with serve(tmp_path) as killed:
        left = Path(upload(killed, foreign))
        killed.process.kill()
        killed.process.wait()
    assert left.is_file()
    with serve(tmp_path) as running:
        assert not left.exists()
        kept = Path(upload(running, foreign))
        before = set(uploads.iterdir())
        with serve(tmp_path) as second:
            # of one that runs nothing is removed
            assert kept.is_file()
            other = Path(upload(second, foreign))
            assert other.parent.parent != kept.parent.parent
            assert ask(second, number_of(second, "look"), [{"path": str(other), "meta": META}, *LOOK])["success"]
            second.process.send_signal(signal.SIGTERM)
            assert second.process.wait(60) == 0
            assert set(uploads.iterdir()) == before
            assert [path.parent for path in tmp_path.rglob("*.png")] == [kept.parent]
        assert call(running, "predict", [{"path": str(kept)}, None])[0] == "complete"
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0
    assert list(uploads.iterdir()) == [own] and not list(tmp_path.rglob("*.png"))


def test_folders(tmp_path):
    one, other = Folder(tmp_path), Folder(tmp_path)
    assert one.uploads != other.uploads and one.uploads.stat().st_mode and one.uploads.parent.stat().st_mode & 0o77 == 0
    kept, old, new = one.uploads / "a" / "kept", one.uploads / "b" / "old", one.uploads / "c" / "new"
    for path in (kept, old, new):
        path.parent.mkdir()
        path.touch()
        if path is kept:
            one.keep()
    time.sleep(0.3)
    new.write_bytes(b"again")
    one.sweep(0.2)
    assert kept.is_file() and new.is_file() and not old.exists()
    other.remove()
    other.remove()
    assert len(list(tmp_path.iterdir())) == 2
    # a link is followed nowhere
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (tmp_path / "ssrnet_hub-xxxxxxxx.lock").touch()
    (tmp_path / "ssrnet_hub-xxxxxxxx").symlink_to(outside)
    (tmp_path / "ssrnet_hub-yyyyyyyy.lock").symlink_to(outside / "file")
    # nor is what only looks like a server's removed
    for name in ("ssrnet_hub-zzzzzzzz", "ssrnet_hub-photos"):
        (tmp_path / f"{name}.lock").touch()
        (tmp_path / name / "work").mkdir(parents=True)
    (tmp_path / "ssrnet_hub-zzzzzzzz" / "photo.jpg").touch()
    # what is left of one that was killed is
    (tmp_path / "ssrnet_hub-abcd_123.lock").touch()
    (tmp_path / "ssrnet_hub-abcd_123" / "uploads" / "a").mkdir(parents=True)
    Folder(tmp_path).remove()
    assert (outside / "file").is_file() and kept.is_file()
    assert (tmp_path / "ssrnet_hub-zzzzzzzz" / "work").is_dir() and (tmp_path / "ssrnet_hub-photos" / "work").is_dir()
    assert not (tmp_path / "ssrnet_hub-abcd_123").exists()


def test_clients_are_answered_as_before(demo, foreign, estimator: AgeEstimator):
    client = Client(demo.url, verbose=False)
    (face,) = client.predict(handle_file(foreign), api_name="/predict")["faces"]
    assert face["age"] == pytest.approx(estimator(foreign)[0].age, abs=1e-3)
