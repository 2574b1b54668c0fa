"""ssrnet-hub models."""

import json

import pytest

from ssrnet_hub.models.zoo import DEFAULT, ZOO


def test_models(run):
    code, out, err = run("models")
    assert (code, err) == (0, "")
    line = next(line for line in out.splitlines() if line.startswith(DEFAULT))
    assert "248,853" in line and "default" in line and "in this package" in line
    assert {line.split()[0] for line in out.splitlines()[1:]} == set(ZOO)


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
        assert {"other": "research-use-only"}.get(ZOO[name].license, ZOO[name].license) in line
        assert (" gender" in line) is name.startswith("ssrnet_gender")
        if not ZOO[name].embedded:
            assert (f"someone/{name}" if owner else "SSRNET_HUB_OWNER") in line
        assert line.split()[3] == ("yes" if owner or ZOO[name].embedded else "no")
        assert line == line.rstrip()
    assert out.count("default") == 1
    assert out.count("in this package") == sum(weights.embedded for weights in ZOO.values())


@pytest.mark.parametrize("owner", [None, "someone"])
def test_models_as_json(run, monkeypatch, owner):
    monkeypatch.delenv("SSRNET_HUB_OWNER", raising=False)
    if owner:
        monkeypatch.setenv("SSRNET_HUB_OWNER", owner)
    code, out, err = run("models", "--json")
    assert (code, err) == (0, "")
    entries = {entry.pop("name"): entry for entry in json.loads(out)}
    assert set(entries) == set(ZOO)
    assert entries[DEFAULT] == {
        "architecture": "ssrnet_wide",
        "task": "age",
        "parameters": 248_853,
        "license": "other",
        "default": True,
        "available": True,
        "embedded": True,
        "repo_id": owner and f"someone/{DEFAULT}",
    }
    official = entries["ssrnet_gender.wiki"]
    assert (official["task"], official["embedded"], official["available"]) == ("gender", False, bool(owner))
