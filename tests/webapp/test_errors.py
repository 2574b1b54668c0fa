"""Errors in the words of the page: whatever a visitor can meet is said in both languages."""

import ast
import json
import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Formatter

import pytest

import ssrnet_hub
from ssrnet_hub import errors
from ssrnet_hub.errors import PhotoError, SSRNetHubError
from ssrnet_hub.webapp import Limits
from ssrnet_hub.webapp.rendering import tell_failure
from ssrnet_hub.webapp.service import NOT_HERE
from ssrnet_hub.webapp.words import words

from ..chromium import start_chromium

PACKAGE = Path(ssrnet_hub.__file__).parent
STATIC = PACKAGE / "webapp" / "static"

MET = [
    *sorted((PACKAGE / "webapp").glob("*.py")),
    *(
        PACKAGE / "images" / f"{name}.py"
        for name in ("archives", "bombs", "decoding", "formats", "loading", "tiff", "videos")
    ),
    *(PACKAGE / "inference" / f"{name}.py" for name in ("tracking", "video")),
]
"""Where the errors are raised that a visitor can meet; those of weights are said by their class."""

STARTS = {("limits.py", "from_environment"), ("middleware.py", "resolve_allowed_hosts")}
"""What only who starts the server meets."""

FROM_PYTHON = {("loading.py", name) for name in ("load_photo", "_read", "_from_array")}
"""Where arrays and open files are refused, which no visitor can send: f-strings are not for visitors there."""

COMMA = "\N{FULLWIDTH COMMA}"

KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def scripts():
    """The page's own modules, in a browser."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=STATIC)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with start_chromium() as browser:
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/page.css")
            yield page
        server.shutdown()


@pytest.fixture(scope="module")
def catalog(scripts):
    return scripts.evaluate(
        "async () => { const {MESSAGES, KINDS} = await import('/errors.js'); return {MESSAGES, KINDS}; }"
    )


def fields(message: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(message) if name is not None]


def plain(message: str) -> str:
    """A template as `SSRNetHubError.message` has it, and as visitors get it."""
    parts = (text + (f"{{{name}}}" if name is not None else "") for text, name, _, _ in Formatter().parse(message))
    return "".join(parts).replace(NOT_HERE, "")


def raised() -> list[tuple[str, str, ast.expr]]:
    """File, function, and first argument of every error of ours that is made where a visitor can meet it."""
    found = []
    for path in MET:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for call in ast.walk(function):
                name = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
                if call_args := (name in KINDS or name == "_EndedError") and call.args:
                    found.append((path.name, function.name, call_args[0]))
    return found


def test_every_error_that_a_visitor_can_meet_is_in_the_catalog(catalog):
    without, messages = [], set()
    for file, function, said in raised():
        if isinstance(said, ast.Constant):
            messages.add(plain(said.value))
            if plain(said.value) not in catalog["MESSAGES"] and (file, function) not in STARTS:
                without.append(f"{file}: {said.value}")
        elif isinstance(said, ast.JoinedStr) and (file, function) not in STARTS | FROM_PYTHON:
            without.append(f"{file}, {function}: an f-string cannot be translated; pass its values by name")
    assert len(messages) > 60
    assert not without
    # sent by the middleware, to a client that no longer listens
    late = {"No client was waiting for the result of this request: send it again."}
    assert not catalog["MESSAGES"].keys() - messages - late


def test_translations_have_the_values_of_their_messages(catalog):
    for message, translation in catalog["MESSAGES"].items():
        # what other libraries say is in English
        assert set(fields(translation)) <= set(fields(message)) - {"reason"}, message
        assert "name" not in fields(message) or "name" in fields(translation), message


def test_every_kind_of_error_is_in_the_catalog(catalog):
    """Of those that loading weights raises: their messages are for whoever made them."""
    never = "BoxError CalibrationError ConversionError DeviceError DivergenceError ExportError LabelsError"
    never += " RuntimeUnavailableError WorkerError"
    assert catalog["KINDS"].keys() == set(errors.__all__) - set(never.split())


def test_gradio_is_told_of_errors_in_one_place():
    """Which puts them into the words of the page."""
    makes = []
    for path in (PACKAGE / "webapp").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            said = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
            if said in ("gr.Error", "gr.Warning", "gr.Info", "gr.Success"):
                makes.append((path.name, said))
    assert makes == [("gate.py", "gr.Error")]


def test_both_languages_have_the_same_words(scripts):
    english, chinese = scripts.evaluate("async () => { const {en, zh} = await import('/say.js'); return [en, zh]; }")
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert set(fields(text)) == set(fields(chinese[key])), key
    english, chinese = (words(language, ["a", "b"], Limits()) for language in ("en", "zh"))
    assert english.keys() == chinese.keys() and all(english.values()) and all(chinese.values())


@pytest.mark.parametrize(
    ("error", "english", "chinese"),
    [
        (
            PhotoError("{name} is damaged: {reason}.", name="<b>$&.jpg", reason="cut off"),
            "<b>$&.jpg is damaged: cut off.",
            f"<b>$&.jpg 已损坏{COMMA}无法读取。",
        ),
        (errors.HubError("no such words"), "no such words", "无法从 Hugging Face Hub 下载。"),
        (errors.WorkerError("no such words"), "no such words", "无法处理该请求。"),
    ],
)
def test_an_error_in_words(scripts, error, english, chinese):
    said = scripts.evaluate(
        """async told => {
          const {sayError} = await import('/errors.js');
          return ['en', 'zh'].map(language => sayError(told, language));
        }""",
        json.loads(json.dumps(tell_failure(error))),
    )
    assert said == [english, chinese]


@pytest.mark.parametrize("kind", [getattr(errors, name) for name in errors.__all__])
def test_what_an_error_is_made_of(kind):
    error = kind("{name!r:.6} has {count:,} of {limit:g}.", name="{name} of a file", count=30_000, limit=2.0)
    again = pickle.loads(pickle.dumps(error))
    assert str(error) == str(again) == "'{name has 30,000 of 2."
    assert error.message == again.message == "{name} has {count} of {limit}."
    assert error.values == again.values == {"name": "'{name", "count": "30,000", "limit": "2"}
    assert str(kind(error.message, **error.values)) == str(error)
    # a text is no template
    assert (str(kind("{name}")), kind("{name}").values) == ("{name}", {})
    assert isinstance(error, SSRNetHubError)
