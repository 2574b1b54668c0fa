"""scripts/train.py, in processes of its own."""

import ast
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import chain

import pytest
import torch

from ssrnet_hub import from_pretrained
from ssrnet_hub.cli.train import RECIPES
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.training.recipe import read_recipe

from ..programs import run_program
from .runs import FILES, ROOT, read_log, trains, weights_of

DRIVER = '''
"""scripts/train.py that notes which chips it trains on, and is killed: FOLDER NAME CALLS SCRIPT [ARGUMENTS]."""

import json
import os
import runpy
import signal
import sys
from pathlib import Path

from ssrnet_hub.training import loop as training

folder, name, calls, script = sys.argv[1:5]
sys.argv[:5] = [script]
rank = int(os.environ.get("RANK", 0))
left = int(calls)


def counted(*args, **kwargs):
    global left
    left -= 1
    if not left and rank == 0:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            # of torchrun, which would else start to clean up; the other process loses its partner
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)


def noted(self, groups):
    with Path(folder, f"{rank}.jsonl").open("a") as file:
        print(json.dumps(sum(groups, [])), file=file)
    return getitems(self, groups)


function = getattr(training, name)
setattr(training, name, counted)
getitems = training.Chips.__getitems__
training.Chips.__getitems__ = noted
runpy.run_path(script, run_name="__main__")
'''

SCRIPT = "scripts/train.py"
CHANGES = {"epochs": 3, "batch_size": 8, "set_aside": 10, "seed": 7}


@pytest.fixture(scope="module")
def runs(labels, tmp_path_factory):
    """What the script printed, run again and again: by one process and by two, cut off and not."""
    top = tmp_path_factory.mktemp("runs")
    (top / "driver.py").write_text(DRIVER)
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    changes = [f"--{name.replace('_', '-')}={value}" for name, value in CHANGES.items()]

    def driver(folder, name="measure", calls=0):
        (top / folder).mkdir(exist_ok=True)
        return (top / "driver.py", top / folder, name, calls, SCRIPT)

    def run(output, *start):
        command = [*start, "--labels", labels, "--output", top / output, "--cpu", *changes]
        # they run side by side
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return run_program(*command, cwd=ROOT, env=env)

    def one():
        answers = [run("one", *driver("seen-one", "save_pretrained", 1))]
        assert not list((top / "one").glob("*.*")), "nothing is written yet"
        answers.append(run("one", *driver("seen-one", "write_log", 2)))
        assert (top / "one" / "state.pt").exists()
        return [*answers, run("one", SCRIPT, "--resume")]

    def two():
        answers = [run("two", *torchrun, *driver("seen-cut", "write_log", 2))]
        assert (top / "two" / "state.pt").exists()
        return [*answers, run("two", *torchrun, "-m", "ssrnet_hub.cli", "train", "--resume")]

    def whole():
        return [run("whole", *torchrun, *driver("seen"))]

    with ThreadPoolExecutor() as pool:
        running = {function.__name__: pool.submit(function) for function in (one, two, whole)}
    return top, {name: answers.result() for name, answers in running.items()}


def test_train_script(runs, labels):
    top, answers = runs
    done = answers["one"][-1]
    assert done.returncode == 0, done.stderr
    extras = get_extras(from_pretrained(top / "one"))["training"]
    # of the recipe that is the default, and what was to be otherwise
    recipe = read_recipe(RECIPES / "ssrnet.utkface.yaml", **CHANGES)
    assert extras["recipe"] == asdict(recipe)
    assert extras["command"] == (
        f"ssrnet-hub train --recipe ssrnet.utkface --labels {labels.parent.name}/labels.csv"
        " --output DIR --epochs 3 --batch-size 8 --set-aside 10 --seed 7"
    )
    assert ast.literal_eval(done.stdout.splitlines()[-1])["epoch"] == 3


def test_killed_script_goes_on(runs, labels, tmp_path):
    top, answers = runs
    assert [done.returncode for done in answers["one"]] == [-9, -9, 0], answers["one"][-1].stderr
    assert re.findall(r"epoch (\d)  loss", answers["one"][-1].stdout) == ["2", "3"]
    recipe = read_recipe(RECIPES / "ssrnet.utkface.yaml", **CHANGES)
    unbroken = trains(labels, tmp_path / "unbroken", recipe)
    assert weights_of(top / "one") == weights_of(unbroken)
    assert sorted(path.name for path in (top / "one").glob("[!.]*")) == FILES
    assert [line["epoch"] for line in read_log(top / "one")] == ["1", "2", "3"]


def test_two_processes(runs):
    top, answers = runs
    (done,) = answers["whole"]
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (top / "whole").iterdir()) == FILES
    assert len(list((top / "whole" / "tensorboard").iterdir())) == 1
    assert [line["epoch"] for line in read_log(top / "whole")] == ["1", "2", "3"]
    model = from_pretrained(top / "whole")
    assert model(torch.randn(2, 3, 64, 64)).isfinite().all()
    # 21 chips are two batches, for both
    assert model.state_dict()["stream1.0.0.bn.num_batches_tracked"] == 6
    assert get_extras(model)["training"]["device"].endswith(", 2 processes")
    assert weights_of(top / "whole") != weights_of(top / "one")


def test_two_processes_share_the_chips(runs):
    top, _ = runs
    seen = [[json.loads(line) for line in (top / "seen" / f"{rank}.jsonl").open()] for rank in (0, 1)]
    assert [len(batches) for batches in seen] == [6, 6]
    assert {len(batch) for batches in seen for batch in batches} == {5, 6}
    for epoch in range(3):
        of_both = [batch for batches in seen for batch in batches[2 * epoch : 2 * epoch + 2]]
        assert sorted(chain(*of_both)) == list(range(21))


def test_two_killed_processes_go_on(runs):
    top, answers = runs
    killed, done = answers["two"]
    assert (killed.returncode, done.returncode) == (-9, 0), done.stderr
    assert re.findall(r"epoch (\d)  loss", done.stdout) == ["2", "3"]
    assert weights_of(top / "two") == weights_of(top / "whole")
    assert sorted(path.name for path in (top / "two").glob("[!.]*")) == FILES
    assert [line["epoch"] for line in read_log(top / "two")] == ["1", "2", "3"]
