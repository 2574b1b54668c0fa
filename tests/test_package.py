"""The package itself: its names, and what importing it imports."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import ssrnet_hub

from .programs import run_program


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_type_checkers_see_the_names_where_they_are():
    block = next(node for node in ast.parse(inspect.getsource(ssrnet_hub)).body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == ssrnet_hub._HOMES
    at_once = {"SSRNetHubError", "__version__"}
    assert sorted(seen) == sorted(set(ssrnet_hub.__all__) - at_once) and not at_once & set(seen)


@pytest.mark.parametrize("name", ssrnet_hub.__all__)
def test_every_name_is_there(name):
    assert name in dir(ssrnet_hub) and getattr(ssrnet_hub, name) is not None
    if home := ssrnet_hub._HOMES.get(name):
        assert getattr(ssrnet_hub, name) is getattr(import_module(f"ssrnet_hub.{home}"), name)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'AgeEstimators'"):
        _ = ssrnet_hub.AgeEstimators


def test_importing_the_package_imports_no_library():
    libraries = "torch", "torchvision", "timm", "numpy", "PIL", "huggingface_hub", "onnxruntime", "matplotlib"
    assert python(f"import sys, ssrnet_hub; print([name for name in {libraries} if name in sys.modules])") == "[]"


@pytest.mark.parametrize(
    "imports",
    [
        "ssrnet_hub, timm",
        "timm, ssrnet_hub",
        "ssrnet_hub, importlib.util; importlib.util.find_spec('timm'); import timm",
        "ssrnet_hub.models.ssrnet, timm",
    ],
)
def test_timm_knows_the_models_once_the_package_was_imported(imports):
    strict = "import warnings; warnings.filterwarnings('error', category=UserWarning)"
    use = "print(timm.create_model('ssrnet.utkface_fairface_aaf', pretrained=True).V, ssrnet_hub.models.zoo.DEFAULT)"
    done = run_program("-c", f"{strict}\nimport {imports}\n{use}")
    assert done.stdout.strip() == "101.0 ssrnet_wide.utkface_fairface_aaf", done.stderr
