"""Nothing is sent anywhere, by our dependencies either: no device id, no queue of events, no request."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from ssrnet_hub import from_pretrained, save_pretrained
from ssrnet_hub.inference.onnx_export import export_onnx

from ..demo_server import serve
from ..hub_server import HubServer
from ..programs import run_program

ROOT = Path(__file__).resolve().parents[2]

_SWITCHES = re.compile(
    # what says that this is no user's machine, on which telemetry keeps quiet by itself
    "CI|GITHUB_ACTIONS|TF_BUILD|TRAVIS|CIRCLECI|APPVEYOR|TEAMCITY_VERSION|JENKINS_URL|CODEBUILD_BUILD_ID"
    # and what switches it off
    "|.*TELEMETRY.*|.*ANALYTICS.*|.*USAGE_STATS.*|DO_NOT_TRACK|HF_HUB_OFFLINE|HF_HOME|XDG_.*"
)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def environment(home):
    """Of a user who never said anything about telemetry, with an empty home."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not _SWITCHES.fullmatch(name)}
    return {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "PYTHONPATH": str(ROOT)}


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run(environment, *arguments, cwd=None):
    done = subprocess.run([sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_with_pytorch(environment, code):
    done = run_program("-c", code, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environment_would_show_it(environment, home):
    run(environment, "-c", "import onnxruntime")
    assert any("onnxruntime" in name for name in files(home))


@pytest.mark.parametrize("workers", [None, 2])
def test_predict(environment, home, tmp_path, astronaut, workers):
    for name in ("a.png", "b.png"):
        astronaut.crop((130, 10, 330, 250)).save(tmp_path / name)
    command = ["-m", "ssrnet_hub.cli", "predict", tmp_path / "a.png", tmp_path / "b.png", "--runtime", "onnx"]
    if workers:
        command += ["--output", tmp_path / "ages.csv", "--workers", str(workers)]
    run(environment, *command)
    assert files(home) == []


def test_the_snippet_of_the_docs(environment, home, tmp_path):
    export_onnx(
        from_pretrained(), tmp_path / "exported" / "onnx" / "model.onnx", faces=torch.zeros(1, 96, 96, 3).byte()
    )
    page = (ROOT / "docs" / "how-to" / "export.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (snippet,) = [snippet for snippet in snippets if "onnxruntime" in snippet]
    assert "1" in run(environment, "-c", f"{snippet}\nprint(len(age))", cwd=tmp_path)
    assert files(home) == []


def test_imported_before_us(environment):
    """What it queues, it queues at random: here it is only seen to be told."""
    code = """
import onnxruntime
onnxruntime.disable_telemetry_events = lambda: print("told")
import ssrnet_hub.inference.onnx_export
"""
    assert run_with_pytorch(environment, code).split() == ["told"]
    assert run_with_pytorch({**environment, "ORT_DISABLE_TELEMETRY": "0"}, code) == ""


def test_what_a_user_has_set_is_left(environment):
    code = "import os, ssrnet_hub; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['RAY_USAGE_STATS_ENABLED'])"
    environment |= {"ORT_DISABLE_TELEMETRY": "0", "RAY_USAGE_STATS_ENABLED": "1"}
    assert run(environment, "-c", code).split() == ["0", "1"]


def test_ray(environment):
    pytest.importorskip("ray")
    code = """
from ssrnet_hub.batch import ray_data
from ray._common.usage.usage_lib import usage_stats_enabled
print(usage_stats_enabled())
"""
    assert run(environment, "-c", code).split()[-1] == "False"


def test_loading_from_the_hub_asks_for_the_weights_alone(environment, tmp_path):
    folder = save_pretrained(from_pretrained(), tmp_path / "weights")
    with HubServer({"owner/weights": {"main": folder}}) as hub:
        environment |= {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        run_with_pytorch(environment, "import ssrnet_hub; ssrnet_hub.from_pretrained('owner/weights')")
        asked = {path for _, path in hub.requests}
    assert asked and all("owner/weights" in path for path in asked)


def test_the_tools_of_the_page(environment, tmp_path, monkeypatch):
    """Gradio answers them by a client of its own, whose makers are told of every start of it."""
    for name in set(os.environ) - set(environment):
        monkeypatch.delenv(name)

    async def use(url):
        async with streamable_http_client(f"{url}gradio_api/mcp/") as (read, write, _), ClientSession(read, write) as s:
            await s.initialize()
            tool = next(tool.name for tool in (await s.list_tools()).tools if tool.name.endswith("predict"))
            return await s.call_tool(tool, {"image": "http://127.0.0.1:1/none.png"})

    command = [sys.executable, "-m", "ssrnet_hub.cli", "demo", "--mcp"]
    with HubServer() as hub:
        with serve(tmp_path, command, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE=0) as demo:
            assert asyncio.run(use(demo.url)).isError
        assert hub.requests == []
