"""Every test runs offline, on its own home of the Hugging Face libraries; reference data comes from $SSRNET_SHARED."""

import os
import tempfile
from pathlib import Path

# read by huggingface_hub when it is imported, so before everything else
_HOME = tempfile.TemporaryDirectory(prefix="ssrnet-hub-tests-")
for name in ("SSRNET_HUB_OWNER", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
    os.environ.pop(name, None)
os.environ["HF_HOME"] = _HOME.name
# tests run side by side, and on batches too small to share
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{_HOME.name}/hypothesis"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import pytest
import skimage.data
import torch
from PIL import Image

import ssrnet_hub

SLOW = (
    "batch/test_local.py",
    "batch/test_ray_data.py",
    "browser/",
    "cli/",
    "docs/test_site.py",
    "docs/test_snippets.py",
    "hub/test_convert.py",
    "hub/test_hub_server.py",
    "hub/test_push.py",
    "test_fuzz.py",
    "test_wheel.py",
    "training/test_loop.py",
    "training/test_train_script.py",
    "webapp/",
)
"""Tests that drive a browser, start or kill processes, or train."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data; set in CI, where its absence is a failure."""
    folder = os.environ.get("SSRNET_SHARED")
    if not folder:
        pytest.skip("reference data: SSRNET_SHARED is not set")
    if not Path(folder).is_dir():
        pytest.fail(f"SSRNET_SHARED is {folder}, which is no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    """A photo with one face, 512x512; public domain (NASA)."""
    return Image.fromarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def estimator() -> ssrnet_hub.AgeEstimator:
    """The default estimator. Read-only."""
    return ssrnet_hub.AgeEstimator()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
