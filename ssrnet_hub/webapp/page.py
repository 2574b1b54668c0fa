"""Layout and events of the page. It computes nothing itself."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, NamedTuple, Optional, Union

import gradio as gr
from gradio.i18n import I18nData
from gradio.utils import get_upload_folder

from ..errors import PhotoError, UnknownModelError
from ..hub.cards import render_card
from ..images.formats import picture_suffixes
from ..inference.estimator import Face
from ..inference.tracking import AgeTracker
from ..inference.video import Moment
from ..models.zoo import DEFAULT
from .gate import GatedBlocks, current_visitor, has_listener
from .limits import Limits
from .looks import Looks
from .model_cache import ModelCache, Search
from .rendering import tell_figure, tell_files, tell_frame, tell_look, tell_moments, tell_row, thumbnail
from .service import Sent, Service
from .turns import ONE_EACH
from .uploads import Upload, find_upload
from .words import words

__all__ = ["HEAD", "STATIC", "THEME", "Built", "build", "make_page"]

STATIC = Path(__file__).parent / "static"
HEAD = """
<link rel="stylesheet" href="./page/page.css">
<script src="./page/early.js"></script>
<script type="module" src="./page/gradio.js"></script>
<link rel="modulepreload" href="./page/photo.js">
"""
"""Files that the page loads in addition to Gradio's, from `STATIC`."""

_EXAMPLES = sorted((Path(__file__).parent / "examples").glob("*.jpg"))
_FONTS = ("system-ui", "sans-serif")  # system fonts: none is downloaded
THEME = gr.themes.Soft(
    primary_hue="blue", secondary_hue="blue", neutral_hue="slate", font=_FONTS, font_mono="monospace"
).set(
    # of more contrast than the theme's own, by WCAG AA
    block_label_text_color="*primary_800",
    block_title_text_color="*primary_800",
    body_text_color_subdued="*neutral_500",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    # as blue as the primary one in the dark otherwise
    button_secondary_background_fill_dark="*neutral_700",
    button_secondary_background_fill_hover_dark="*neutral_600",
)
_REQUESTS, _FILMS, _CAMERAS = 8, 6, 12
"""Concurrent requests of each kind, videos, and cameras; each photo and frame waits for its turn."""

_MAX_MIN_FACE = 400
"""Largest choice for the smallest face, pixels."""


class Seen(NamedTuple):
    """The photo a visitor looks at, and the key of its faces; None if they are not kept."""

    key: Optional[Hashable]
    photo: Sent


@dataclass
class Watch:
    """Whom a visitor's camera sees."""

    weights: str
    tracker: AgeTracker
    started: float = field(default_factory=monotonic)


class _Answers:
    """Handlers of the page's events. `GatedBlocks` reports errors."""

    def __init__(self, service: Service, models: ModelCache, limits: Limits, looks: Looks, work: Optional[Path]):
        self._service, self._models, self._limits, self._looks, self._work = service, models, limits, looks, work
        self._uploads = Path(get_upload_folder()).resolve()

    def look(
        self,
        photo: Union[Sent, dict[str, Any], None],
        weights: Optional[str],
        others: Optional[list[str]],
        min_face: Optional[float],
        rotated: Optional[bool],
        number: Optional[float] = None,
    ) -> Optional[dict[str, Any]]:
        """Handle a new photo or example, or other settings for the current one; the reply has the number, too."""
        if not photo:
            return None
        seen, search = self._seen(photo), _search(min_face, rotated)
        weights = self._models.tidy(weights)
        compared = self._compared(weights, others)
        known = self._looks.get(seen.key, (weights, search))
        faces, drawn, size = self._service.look(seen.photo, weights, search, known)
        self._keep(seen, weights, search, faces)
        told = {weights: faces}
        for name in compared:
            if not faces or not has_listener():
                break
            # the same detector finds the same faces in the same order
            told[name] = self._faces(seen, name, search)
        return {**tell_look(told, drawn, size, self._limits.max_faces), "number": number}

    def figure(
        self,
        photo: Union[Sent, dict[str, Any], None],
        weights: Optional[str],
        min_face: Optional[float],
        rotated: Optional[bool],
        event: gr.EventData,
    ) -> Optional[dict[str, str]]:
        """The breakdown of a face, as the command draws it, to be saved."""
        if not photo:
            return None
        asked, kind = (getattr(event, name, None) for name in ("weights", "kind"))
        index = getattr(event, "face", None)
        weights = self._models.tidy(weights if asked is None else asked)
        faces = self._faces(self._seen(photo), weights, _search(min_face, rotated))
        if type(index) is not int or not 0 <= index < len(faces) or kind not in ("png", "svg"):
            return None
        return tell_figure(faces[index], f"face-{index + 1}-{weights.replace('/', '-')}", kind)

    def _seen(self, photo: Any) -> Seen:
        if isinstance(photo, Upload):
            return Seen(photo, find_upload(photo, self._uploads))
        if isinstance(photo, bytes):
            return Seen(None, photo)
        number = photo.get("example") if isinstance(photo, dict) else None
        if type(number) is not int or not 0 <= number < len(_EXAMPLES):
            raise PhotoError("A photo must be uploaded.")
        return Seen(number, _EXAMPLES[number].read_bytes())

    def _compared(self, weights: str, others: Any) -> list[str]:
        """The names to compare with, each once."""
        if not isinstance(others or [], list):
            raise UnknownModelError("The weights to compare with must be a list of names.")
        names = dict.fromkeys(self._models.tidy(name) for name in others or ())
        names.pop(weights, None)
        if len(names) > self._limits.max_compared:
            raise UnknownModelError("Compare with at most {limit} weights at a time.", limit=self._limits.max_compared)
        return list(names)

    def _faces(self, seen: Seen, weights: str, search: Search) -> Sequence[Face]:
        """The faces of a photo, looked for again where they are not kept any more."""
        faces = self._looks.get(seen.key, (weights, search))
        if faces is None:
            faces = self._service.faces(seen.photo, weights, search)
            self._keep(seen, weights, search, faces)
        return faces

    def _keep(self, seen: Seen, weights: str, search: Search, faces: Sequence[Face]) -> None:
        if seen.key is not None:
            self._looks.put(seen.key, (weights, search), faces)

    def many(
        self,
        photos: Optional[list[Sent]],
        weights: str,
        min_face: Optional[float],
        rotated: Optional[bool],
        progress: gr.Progress = gr.Progress(),  # noqa: B008  as Gradio wants it
    ) -> Iterator[dict[str, Any]]:
        """Photos and zips to a table and files, photo by photo."""
        rows: list[dict[str, Any]] = []
        told: list[dict[str, Any]] = []
        for row, picture, error in self._service.each_with_picture(photos, weights, _search(min_face, rotated)):
            rows.append(row)
            told.append(tell_row(row, picture, error))
            progress((len(rows), max(len(rows), len(photos or ()))), desc=row["file"][-100:])
            yield {"rows": told}
        yield {"rows": told, "files": tell_files(rows)}

    def live(self, picture: Optional[Sent], weights: str, watch: Optional[Watch]) -> tuple[Any, ...]:
        """The next picture of a camera."""
        if picture is None:
            return None, None
        weights, now = self._models.tidy(weights), monotonic()
        if watch is None or watch.weights != weights or now - watch.started > self._limits.max_live_seconds:
            watch = Watch(weights, self._service.watch(weights))
        frame, people = self._service.follow(watch.tracker, picture, monotonic() - watch.started)
        return tell_frame(frame, people), watch

    def film(
        self,
        video: Optional[Sent],
        weights: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  as Gradio wants it
    ) -> Iterator[tuple[Any, ...]]:
        """A film to its annotated copy and the ages over time; its frames on the way there."""
        seen: list[Moment] = []
        with TemporaryDirectory(dir=self._work) as folder:
            # Gradio has made its own copy before it requests more
            copy = str(Path(folder, "ages.mp4"))
            for moment in self._service.film(video, copy, weights):
                if moment is not None:
                    seen.append(moment)
                    progress(moment.progress, desc=f"{moment.seconds:.1f} s")
                yield None, None
            yield copy, tell_moments(seen)


def _search(min_face: Any, rotated: Any) -> Search:
    """Detector settings from the options; 0 is the detector's default."""
    if min_face and not (type(min_face) in (int, float) and 12 <= min_face <= _MAX_MIN_FACE):
        raise PhotoError("The smallest face must be from 12 to {limit} pixels.", limit=_MAX_MIN_FACE)
    return Search(min_face or None, rotated is False)


def make_page(limits: Optional[Limits] = None) -> gr.Blocks:
    """The page with its endpoints, not started yet; see `launch`."""
    return build(limits or Limits.from_environment()).page


class Built(NamedTuple):
    """The page, not started, and what is behind it."""

    page: gr.Blocks
    service: Service
    looks: Looks
    i18n: gr.I18n


class _Parts(NamedTuple):
    """What the tabs share."""

    answers: _Answers
    limits: Limits
    say: Callable[[str], I18nData]
    weights: gr.Dropdown
    min_face: gr.Slider
    rotated: gr.Checkbox

    def html(self, script: str, *events: str, **options: Any) -> gr.HTML:
        """A component of our own: ``mount`` of a module puts the value into words, in the language of its label."""
        run = f"import(new URL('./page/{script}.js', document.baseURI)).then(it => it.mount("
        run += "element, props, {trigger, watch, upload}))"
        for event in events:
            # Gradio looks for the names of events in the script
            run += f"; '{event}'"
        return gr.HTML(html_template="", js_on_load=run, label=self.say("language"), apply_default_css=False, **options)


def build(limits: Limits, work: Optional[Path] = None) -> Built:
    """Build the page.

    Args:
        limits: Limits on requests.
        work: Folder for temporary files. Default: the system's.
    """
    looks = Looks(limits.max_kept_size, limits.sweep)
    models = ModelCache(limits, work)
    service = Service(models, limits, has_listener, current_visitor)
    answers = _Answers(service, models, limits, looks, work)
    english, chinese = (words(language, models.names, limits) for language in ("en", "zh"))
    i18n = gr.I18n(**{"en": english, "zh-CN": chinese, "zh-TW": chinese})

    def say(key: str) -> I18nData:
        return i18n(f"ssrnet_{key}")

    with GatedBlocks(limits, title=english["ssrnet_title"], analytics_enabled=False) as page:
        # first of all: Gradio's client takes the parameters of /predict for those of whatever function comes first
        _add_endpoints(service)
        gr.Markdown(say("intro"), elem_id="intro")
        options = _make_options(models, limits, say)
        parts = _Parts(answers, limits, say, options.weights, options.min_face, options.rotated)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab(say("photo"), id="photo", elem_id="tab-photo"):
                _add_photo(parts, options.others)
            with gr.Tab(say("camera"), id="camera", elem_id="tab-camera"):
                _add_live(parts)
            with gr.Tab(say("video"), id="video", elem_id="tab-video"):
                _add_film(parts)
            with gr.Tab(say("batch"), id="batch", elem_id="tab-batch"):
                _add_many(parts)
            with gr.Tab(say("about"), id="about", elem_id="tab-about"):
                gr.Markdown(say("about_text"), elem_id="about")
        with gr.Accordion(say("options"), open=False, elem_id="options"):
            for component in options:
                component.render()
        opened: list[Any] = [tabs, options.weights]
        page.load(None, opened, opened, js=_OPEN_LINK, api_visibility="private")
        options.weights.change(None, options.weights, js=_KEEP_LINK, api_visibility="private")
    with page.route("Model card", "/card", show_in_navbar=False):
        gr.Markdown(_card(DEFAULT), elem_id="card")
    # not api_open: requests that pass by the queue would pass by its limits
    page.queue(max_size=limits.queue, default_concurrency_limit=_REQUESTS, api_open=False)
    return Built(page, service, looks, i18n)


# Gradio inserts the scripts of `HEAD` without an order: the page may be loaded before them
_OPEN_LINK = """async (tabs, weights) => {
  await import(new URL('./page/early.js', document.baseURI));
  return window.ssrnet.openLink(weights);
}"""
_KEEP_LINK = "weights => window.ssrnet.keepWeights(weights)"


class _Options(NamedTuple):
    """The settings of all tabs; only photos are compared."""

    weights: gr.Dropdown
    others: gr.Dropdown
    min_face: gr.Slider
    rotated: gr.Checkbox


def _make_options(models: ModelCache, limits: Limits, say: Callable[[str], I18nData]) -> _Options:
    own: dict[str, Any] = {"allow_custom_value": True, "render": False}
    weights = gr.Dropdown(
        models.names,
        value=models.names[0],
        label=say("weights"),
        info=say("weights_info"),
        elem_classes="weights",
        **own,
    )
    others = gr.Dropdown(
        models.names,
        label=say("compare"),
        info=say("compare_info"),
        multiselect=True,
        max_choices=limits.max_compared,
        elem_id="others",
        **own,
    )
    min_face = gr.Slider(
        0, _MAX_MIN_FACE, 0, step=20, label=say("min_face"), info=say("min_face_info"), elem_id="min-face", render=False
    )
    # an empty field would be compared with None
    min_face.preprocess = lambda payload: payload  # type: ignore[method-assign]
    rotated = gr.Checkbox(True, label=say("rotated"), info=say("rotated_info"), elem_id="rotated", render=False)
    return _Options(weights, others, min_face, rotated)


def _add_photo(parts: _Parts, others: gr.Dropdown) -> None:
    answers, first = parts.answers, {"example": 0}
    photo = parts.html(
        "photo",
        value=first,
        suffixes=sorted(picture_suffixes()),
        examples=[{"name": path.stem[2:], "picture": thumbnail(path)} for path in _EXAMPLES],
        elem_id="photo",
    )
    # what a visitor sees first
    result = parts.html("result", "save", value=answers.look(first, None, None, None, None), elem_id="result")
    saved = parts.html("save", elem_id="saved")
    number = gr.Number(0, visible=False)
    settings: list[Any] = [photo, parts.weights, parts.min_face, parts.rotated]
    quietly: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    looked = gr.on(
        [photo.change, parts.weights.change, others.change, parts.min_face.release, parts.rotated.change],
        answers.look,
        [photo, parts.weights, others, parts.min_face, parts.rotated, number],
        result,
        js="(...values) => [...values.slice(0, -1), window.ssrnet.ask()]",
        # after an error, Gradio drops events that were deferred until the reply
        trigger_mode="multiple",
        **quietly,
    )
    looked.failure(None, js="() => window.ssrnet.failed()", api_visibility="private")
    result.save(answers.figure, settings, saved, **quietly)


def _add_live(parts: _Parts) -> None:
    watch = gr.State(time_to_live=3600)
    with gr.Row(equal_height=False):
        with gr.Column():
            camera = gr.Image(
                label=parts.say("camera"),
                sources=["webcam"],
                streaming=True,
                webcam_options=gr.WebcamOptions(constraints={"video": {"width": 640, "height": 480}}),
                elem_id="camera",
            )
        with gr.Column():
            seen = parts.html("camera", elem_id="seen")
            gr.Markdown(parts.say("camera_note"))
    camera.stream(
        parts.answers.live,
        [camera, parts.weights, watch],
        [seen, watch],
        stream_every=0.1,
        time_limit=parts.limits.max_live_seconds,
        concurrency_limit=_CAMERAS,
        show_progress="hidden",
        api_visibility="private",
    )


def _add_film(parts: _Parts) -> None:
    with gr.Row(equal_height=False):
        with gr.Column():
            film = gr.Video(label=parts.say("video_label"), sources=["upload"], height=320, elem_id="film")
            with gr.Row():
                start = gr.Button(parts.say("track"), variant="primary", elem_id="film-start")
                stop = gr.Button(parts.say("stop"), elem_id="film-stop")
        with gr.Column():
            copy = gr.Video(label=parts.say("video_ages"), interactive=False, autoplay=True, height=320, elem_id="copy")
    ages = parts.html("video", elem_id="ages")
    running = start.click(
        parts.answers.film,
        [film, parts.weights],
        [copy, ages],
        show_progress_on=copy,
        concurrency_limit=_FILMS,
        concurrency_id=ONE_EACH,
        api_visibility="private",
    )
    stop.click(None, cancels=running, api_visibility="private")


def _add_many(parts: _Parts) -> None:
    photos = gr.File(
        label=parts.say("photos_label"),
        file_count="multiple",
        file_types=[*sorted(picture_suffixes()), ".zip"],
        elem_id="photos",
        height=180,
    )
    with gr.Row():
        start = gr.Button(parts.say("estimate"), variant="primary", elem_id="batch-start")
        stop = gr.Button(parts.say("stop"), elem_id="batch-stop")
    table = parts.html("batch", elem_id="table")
    running = start.click(
        parts.answers.many,
        [photos, parts.weights, parts.min_face, parts.rotated],
        table,
        api_visibility="private",
    )
    stop.click(None, cancels=running, api_visibility="private")


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema without references: as a part of another they would lead nowhere."""

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(schema["$defs"][node["$ref"].removeprefix("#/$defs/")])
        return {key: resolve(value) for key, value in node.items() if key != "$defs"}

    return resolve(schema)


def _add_endpoints(service: Service) -> None:
    """Add the endpoints for the Gradio client and MCP."""

    with gr.Row(visible=False):
        image = gr.Image(label="image", type="filepath", image_mode=None)
        images = gr.File(label="images", file_count="multiple")
        # Gradio makes it a part of a tool's
        schema = _resolved(images.api_info())
        images.api_info = lambda: schema  # type: ignore[method-assign]
        weights = gr.Textbox(None, label="weights")
        answered = gr.JSON(label="answer")
        for ask, given in ((service.predict, image), (service.explain, image), (service.predict_batch, images)):
            gr.Button().click(ask, [given, weights], answered, api_name=ask.__name__)


def _card(name: str) -> str:
    """Model card without its front matter."""
    return render_card(name).split("---\n", 2)[2]
