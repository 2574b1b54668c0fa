"""ssrnet-hub push: the options; what a push does is tested in tests/hub/test_push.py."""

import pytest

from ssrnet_hub import Framing, from_pretrained, save_pretrained
from ssrnet_hub.hub import push
from ssrnet_hub.hub.push import Push
from ssrnet_hub.models.pretrained import new_model
from ssrnet_hub.models.zoo import embedded_folder

SECRET = "hf_secret"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_pretrained(new_model("ssrnet"), tmp_path_factory.mktemp("w"), extras={"framing": Framing().to_dict()})


@pytest.mark.parametrize("spelling", [[], ["--weights"]])
def test_dry_run(run, weights, tmp_path, spelling):
    code, out, err = run("push", *spelling, weights, "--repo", "me/mine", "--dry-run", tmp_path / "files")
    assert code == 0, err
    names = {path.name for path in (tmp_path / "files").iterdir()}
    assert names == {"README.md", "check.safetensors", "config.json", "model.safetensors"}
    assert out.startswith(f"{tmp_path / 'files'} gets:") and all(name in out for name in names)


def test_the_repository_after_the_weights(run, weights, tmp_path, capsys):
    code, out, err = run("push", weights, "me/mine", "--dry-run", tmp_path / "files")
    assert code == 0, err
    assert "nothing was pushed" in out
    with pytest.raises(SystemExit):
        run("push", weights)
    assert "owner/name" in capsys.readouterr().err


def test_copies_of_weights_keep_their_terms(run, tmp_path):
    copy = save_pretrained(from_pretrained("ssrnet.utkface_fairface_aaf"), tmp_path / "copy")
    code, _, err = run("push", copy, "me/mine", "--dry-run", tmp_path / "files")
    assert code == 0, err
    terms = embedded_folder("ssrnet.utkface_fairface_aaf") / "LICENSE"
    assert (tmp_path / "files" / "LICENSE").read_bytes() == terms.read_bytes()


def test_weights_of_the_package(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("push", "ssrnet.utkface_fairface_aaf", "--repo", "me/mine", "--dry-run", "files")
    assert code == 0, err
    assert {"LICENSE", "model.safetensors"} <= {path.name for path in (tmp_path / "files").iterdir()}


@pytest.mark.parametrize("spelling", ["--commit-message", "--message"])
def test_what_is_handed_on(run, weights, monkeypatch, tmp_path, spelling):
    told = {}

    def fake(files, repo_id, **options):
        told.update(options, repo_id=repo_id, files=sorted(path.name for path in files.iterdir()))
        return Push(repo_id, "0" * 40, True, "dev")

    # the Hub itself is in tests/hub/test_push.py
    monkeypatch.setattr(push, "push_repository", fake)
    monkeypatch.setattr("ssrnet_hub.hub.loading.from_pretrained", _load_here(weights))
    (tmp_path / "token").write_text(f"{SECRET}\n")
    options = ("--private", "--revision", "dev", "--create-pr", "--tag", "v1", "--token-file", tmp_path / "token")
    code, out, err = run("push", weights, "--repo", "me/mine", spelling, "what is new", *options)
    assert code == 0, err
    assert told.pop("files") == ["README.md", "check.safetensors", "config.json", "model.safetensors"]
    assert told == {
        "repo_id": "me/mine",
        "commit_message": "what is new",
        "private": True,
        "revision": "dev",
        "create_pr": True,
        "token": SECRET,
        "tag": "v1",
    }
    assert 'revision="v1"' in out and SECRET not in out + err


def _load_here(weights):
    from ssrnet_hub.hub.loading import from_pretrained

    return lambda name, **options: from_pretrained(weights)


@pytest.mark.parametrize("command", ["push", "verify"])
@pytest.mark.parametrize("token", [["--token", SECRET], [f"--token={SECRET}"]])
def test_a_token_on_the_command_line(run, capsys, weights, command, token):
    repo = ["--repo", "me/mine"] if command == "push" else []
    with pytest.raises(SystemExit) as e:
        run(command, weights, *repo, *token)
    said = capsys.readouterr()
    assert e.value.code == 2 and "--token-file" in said.err
    assert SECRET not in said.out + said.err


def test_no_weights(run, capsys):
    with pytest.raises(SystemExit) as e:
        run("push", "--repo", "me/mine")
    assert e.value.code == 2 and "name the weights to push" in capsys.readouterr().err
