import pytest

from ssrnet_hub.training.loop import train

from .runs import QUICK, noise, write_labels


@pytest.fixture(scope="session")
def labels(tmp_path_factory):
    chips = [(noise(), age, "train" if age <= 31 else "val") for age in range(1, 41)]
    return write_labels(tmp_path_factory.mktemp("noise"), chips)


@pytest.fixture(scope="session")
def trained(labels, tmp_path_factory):
    """The folder that training wrote and what it answered."""
    output = tmp_path_factory.mktemp("trained") / "new"
    return output, train(labels, output, QUICK)
