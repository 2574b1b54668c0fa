"""Functions that are called once a module has been imported."""

import sys

import pytest

from ssrnet_hub.utils import after_import


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that nobody has imported yet."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    (tmp_path / "awaited.py").write_text("ready = True")
    yield "awaited"
    sys.modules.pop("awaited", None)


def test_a_module_that_is_imported_later(module):
    called = []
    after_import.run(module, lambda: called.append(sys.modules[module].ready))
    assert not called
    __import__(module)
    __import__(module)
    assert called == [True]


def test_a_module_that_was_imported_before(module):
    __import__(module)
    called = []
    after_import.run(module, lambda: called.append(True))
    assert called == [True]


def test_two_functions(module):
    called = []
    for number in range(2):
        after_import.run(module, lambda number=number: called.append(number))
    __import__(module)
    assert sorted(called) == [0, 1]


def test_a_module_that_is_not_there(module):
    after_import.run("missing_module", lambda: pytest.fail("called"))
    with pytest.raises(ModuleNotFoundError):
        __import__("missing_module")
