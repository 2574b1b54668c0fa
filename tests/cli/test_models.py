"""ssrnet-hub models."""

import pytest

import ssrnet_hub
from ssrnet_hub.models.pretrained import ZOO


def test_models(run):
    code, out, err = run("models")
    assert (code, err) == (0, "")
    line = next(line for line in out.splitlines() if line.startswith("ssrnet.utkface"))
    assert "40,531" in line and "default" in line and "in this package" in line
    assert {line.split()[0] for line in out.splitlines()[1:]} == set(ssrnet_hub.list_models(include_hub=True))


@pytest.mark.parametrize("owner", [None, "someone"])
def test_models_of_the_zoo(run, monkeypatch, owner):
    monkeypatch.delenv("SSRNET_HUB_OWNER", raising=False)
    if owner:
        monkeypatch.setenv("SSRNET_HUB_OWNER", owner)
    code, out, _ = run("models")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert set(lines) == set(ZOO)
    for name, line in lines.items():
        assert ZOO[name].license in line
        assert (" gender" in line) is name.startswith("ssrnet_gender")
        if not ZOO[name].embedded:
            assert (f"someone/{name}" if owner else "SSRNET_HUB_OWNER") in line
        assert line == line.rstrip()
    assert out.count("default") == 1
    assert out.count("in this package") == sum(weights.embedded for weights in ZOO.values())
