"""The page: what a visitor sees, and what happens on a click. It computes nothing itself."""

import html
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, NamedTuple, Optional

import gradio as gr
from gradio.utils import get_upload_folder

from ..batch.records import to_cell
from ..errors import SSRNetHubError, UnknownModelError
from ..hub.cards import render_card
from ..images.formats import picture_suffixes
from ..inference.estimator import Face
from ..inference.tracking import AgeTracker
from ..inference.video import Moment
from ..models.zoo import DEFAULT
from .gate import GatedBlocks, is_heard, who_asks
from .limits import Limits
from .looks import Looks
from .model_cache import ModelCache
from .rendering import offer_files, say_doubts, say_turned, show_ages, show_breakdowns, show_faces, show_frame
from .service import Sent, Service, tell_error
from .turns import ONE_EACH
from .uploads import Upload, find_upload

__all__ = ["THEME", "Built", "build", "make_page"]

_EXAMPLES = Path(__file__).parent / "examples"
_FONTS = ("system-ui", "sans-serif")  # of the visitor's own machine: none is fetched
THEME = gr.themes.Soft(
    primary_hue="blue", secondary_hue="blue", neutral_hue="slate", font=_FONTS, font_mono="monospace"
)
_REQUESTS, _FILMS, _CAMERAS = 8, 6, 12
"""Requests of one kind, films and cameras that are answered at a time; each photo and frame waits for its turn."""

_PICK = """
element.addEventListener('click', event => {
  const face = event.target.closest('[data-face]');
  if (face) trigger('click', {face: Number(face.dataset.face)});
});
"""
# browsers give a picture of a format that they do not know no type, and Gradio takes only what has one
_TAKE = """
() => {
  const suffixes = SUFFIXES;
  const untyped = file => !file.type && suffixes.some(suffix => file.name.toLowerCase().endsWith(suffix));
  const typed = files => {
    const transfer = new DataTransfer();
    for (const f of files) transfer.items.add(untyped(f) ? new File([f], f.name, {type: 'image/unknown'}) : f);
    return transfer;
  };
  document.addEventListener('drop', event => {
    const files = [...event.dataTransfer.files];
    if (!event.target.closest('#photo') || !files.some(untyped)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const init = {dataTransfer: typed(files), bubbles: true, cancelable: true};
    event.target.dispatchEvent(new DragEvent('drop', init));
  }, true);
  document.addEventListener('change', event => {
    if (event.target.matches('#photo input[type=file]')) event.target.files = typed(event.target.files).files;
  }, true);
  document.addEventListener('click', event => {
    if (event.target.matches('#photo input[type=file]')) event.target.accept = ['image/*', ...suffixes].join();
  }, true);
}
"""
_INTRO = """# How old does a face look?
A network with only **40,531 parameters** estimates the age of a face in three stages, from coarse to fine, and adds
them up. See the estimate, and how the network arrived at it. *It is off by years, is not proof of age, and must not be
used to make decisions about people.*"""


@dataclass
class Visit:
    """What a visitor is looking at: which photo by which weights, and by which others."""

    photo: Optional[Upload] = None
    weights: str = DEFAULT
    others: list[str] = field(default_factory=list)
    scale: float = 1.0
    picked: int = 0


@dataclass
class Watch:
    """Whom a visitor's camera sees."""

    weights: str
    tracker: AgeTracker
    started: float = field(default_factory=monotonic)


@contextmanager
def _plainly() -> Iterator[None]:
    """Tell the visitor what is wrong, without a traceback; the page shows it as HTML."""
    try:
        yield
    except SSRNetHubError as e:
        raise gr.Error(html.escape(tell_error(e), quote=False), print_exception=False) from e


class _Answers:
    """What the parts of the page ask for."""

    def __init__(self, service: Service, models: ModelCache, limits: Limits, looks: Looks, work: Optional[Path]):
        self._service, self._models, self._limits, self._looks, self._work = service, models, limits, looks, work
        self._uploads = Path(get_upload_folder()).resolve()

    def look(self, photo: Optional[Sent], weights: Optional[str], others: Optional[list[str]]) -> tuple[Any, ...]:
        """A new photo, or other weights for the one that is there."""
        if not photo:
            return Visit(), None, "", ""
        with _plainly():
            visit = Visit(photo if isinstance(photo, Upload) else None, self._models.tidy(weights))
            visit.others = self._compared(visit.weights, others)
            faces, drawn, visit.scale = self._service.look(photo, visit.weights)
            if visit.photo:
                self._looks.put(visit.photo, visit.weights, faces)
            if not faces:
                gr.Info("No face was found in this photo. Faces smaller than 20 pixels are not detected.")
            elif len(faces) == self._limits.max_faces:
                gr.Info(f"Only the {len(faces)} largest faces are shown.")
            return visit, drawn, show_faces(faces, visit.picked), self._breakdown(visit, faces)

    def compare(self, visit: Optional[Visit], others: Optional[list[str]]) -> tuple[Visit, str]:
        """Other weights beside those that are there."""
        visit = visit or Visit()
        with _plainly():
            visit.others = self._compared(visit.weights, others)
            return visit, self._breakdown(visit, self._faces(visit))

    def pick_row(self, visit: Optional[Visit], event: gr.EventData) -> tuple[Any, ...]:
        """A click on the row of a face."""
        return self._pick(visit or Visit(), lambda _: getattr(event, "face", None))

    def pick_box(self, visit: Optional[Visit], event: gr.SelectData) -> tuple[Any, ...]:
        """A click into the photo: the smallest box that it is in."""
        visit = visit or Visit()

        def find(faces: Sequence[Face]) -> Optional[int]:
            try:
                x, y = (v / visit.scale for v in event.index)
            except (TypeError, ValueError, OverflowError):  # not of our page
                return None
            hit = [
                ((x2 - x1) * (y2 - y1), index)
                for index, (x1, y1, x2, y2) in enumerate(face.box for face in faces if face.box)
                if x1 <= x <= x2 and y1 <= y <= y2
            ]
            return min(hit)[1] if hit else None

        return self._pick(visit, find)

    def _pick(self, visit: Visit, choose: Callable[[Sequence[Face]], Any]) -> tuple[Any, ...]:
        with _plainly():
            faces = self._faces(visit)
            index = choose(faces)
            if isinstance(index, int) and 0 <= index < len(faces):
                visit.picked = index
            return visit, show_faces(faces, visit.picked), self._breakdown(visit, faces)

    def _compared(self, weights: str, others: Any) -> list[str]:
        """The names to compare with, each once."""
        if not isinstance(others or [], list):
            raise UnknownModelError("The weights to compare with are a list of names.")
        names = dict.fromkeys(self._models.tidy(name) for name in others or ())
        names.pop(weights, None)
        if len(names) > self._limits.max_compared:
            raise UnknownModelError(f"Compare with {self._limits.max_compared} weights at a time, at most.")
        return list(names)

    def _faces(self, visit: Visit, weights: Optional[str] = None) -> Sequence[Face]:
        """The faces of a visitor's photo, looked for again where they are not kept any more."""
        if visit.photo is None:
            return []
        weights = weights or visit.weights
        faces = self._looks.get(visit.photo, weights)
        if faces is None:
            faces = self._service.faces(find_upload(visit.photo, self._uploads), weights)
            self._looks.put(visit.photo, weights, faces)
        return faces

    def _breakdown(self, visit: Visit, faces: Sequence[Face]) -> str:
        if not faces:
            return ""
        picked = [(visit.weights, faces[visit.picked])]
        for name in visit.others if visit.photo else ():
            if not is_heard():
                break
            # the same detector finds the same faces in the same order
            picked.append((name, self._faces(visit, name)[visit.picked]))
        return show_breakdowns(picked, visit.picked + 1)

    def many(
        self,
        photos: Optional[list[Sent]],
        weights: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  as Gradio wants it
    ) -> Iterator[tuple[Any, ...]]:
        """Photos and zips to a table and files, photo by photo."""
        rows: list[dict[str, Any]] = []
        with _plainly():
            for row in self._service.each(photos, weights):
                rows.append(row)
                progress((len(rows), max(len(rows), len(photos or ()))), desc=row["file"][-100:])
                yield _table(rows), gr.skip()
        yield _table(rows), offer_files(rows)

    def live(self, picture: Optional[Sent], weights: str, watch: Optional[Watch]) -> tuple[Any, ...]:
        """The next picture of a camera."""
        if picture is None:
            return "", None
        with _plainly():
            weights, now = self._models.tidy(weights), monotonic()
            if watch is None or watch.weights != weights or now - watch.started > self._limits.max_live_seconds:
                watch = Watch(weights, self._service.watch(weights))
            frame, people = self._service.follow(watch.tracker, picture, monotonic() - watch.started)
            return show_frame(frame, people), watch

    def film(
        self,
        video: Optional[Sent],
        weights: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  as Gradio wants it
    ) -> Iterator[tuple[Any, ...]]:
        """A film to its annotated copy and the ages over time; its frames on the way there."""
        seen: list[Moment] = []
        with _plainly(), TemporaryDirectory(dir=self._work) as folder:
            # Gradio has a copy of its own before it comes back for more
            copy = str(Path(folder, "ages.mp4"))
            for moment in self._service.film(video, copy, weights):
                if moment is not None:
                    seen.append(moment)
                    progress(moment.progress, desc=f"{moment.seconds:.1f} seconds processed")
                yield None, ""
            yield copy, show_ages(seen)


def _table(rows: list[dict[str, Any]]) -> list[list[Any]]:
    lines = []
    for row in rows:
        # visitors copy it into spreadsheets
        file = to_cell(row["file"])
        for number, face in enumerate(row["faces"], start=1):
            age = "NaN" if face["age"] is None else f"{face['age']:.1f}"
            ends = "{:.0f} to {:.0f}".format(*face["interval"]) if face["interval"] else ""
            remark = say_doubts(face["doubts"])
            lines.append([file, number, age, ends, f"{face['score']:.0%}{say_turned(face['turned'])}", remark])
        if not row["faces"]:
            lines.append([file, "", "", "", "", to_cell(row["error"] or "no face found")])
    return lines


def make_page(limits: Optional[Limits] = None) -> gr.Blocks:
    """The page with its endpoints, not started yet; see `launch`."""
    return build(limits or Limits.from_environment()).page


class Built(NamedTuple):
    """The page, not started, and what is behind it."""

    page: gr.Blocks
    service: Service
    looks: Looks


def build(limits: Limits, work: Optional[Path] = None) -> Built:
    """Make the page.

    Args:
        limits: What visitors may ask for.
        work: Where files lie that are worked on; the system's folder for temporary files without.
    """
    looks = Looks(limits.max_kept_size, 2 * limits.sweep)
    models = ModelCache(limits, work)
    service = Service(models, limits, is_heard, who_asks)
    answers = _Answers(service, models, limits, looks, work)
    with GatedBlocks(limits, title="How old does a face look?", analytics_enabled=False) as page:
        gr.Markdown(_INTRO)
        with gr.Tab("Photo"):
            _add_photo(answers, models, limits)
        with gr.Tab("Live"):
            _add_live(answers, models, limits)
        with gr.Tab("Video"):
            _add_film(answers, models, limits)
        with gr.Tab("Many photos"):
            _add_many(answers, models, limits)
        with gr.Tab("About"):
            gr.Markdown(_about(models, limits))
            with gr.Accordion(f"Model card of {DEFAULT}", open=False):
                gr.Markdown(_card(DEFAULT))
        _add_endpoints(service)
        page.load(None, js=_TAKE.replace("SUFFIXES", json.dumps(sorted(picture_suffixes()))), api_visibility="private")
    # not api_open: requests that pass by the queue would pass by its limits
    page.queue(max_size=limits.queue, default_concurrency_limit=_REQUESTS, api_open=False)
    return Built(page, service, looks)


def _add_photo(answers: _Answers, models: ModelCache, limits: Limits) -> None:
    visit = gr.State(time_to_live=3600)
    with gr.Row(equal_height=False):
        with gr.Column():
            photo = gr.Image(
                label="Photo",
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard", "webcam"],
                height=420,
                elem_id="photo",
            )
            with gr.Row():
                weights = _choose_weights(models)
                others = gr.Dropdown(
                    models.names,
                    label="Compare with",
                    multiselect=True,
                    max_choices=limits.max_compared,
                    allow_custom_value=True,
                    elem_id="others",
                )
            if _EXAMPLES.is_dir():
                gr.Examples(sorted(map(str, _EXAMPLES.iterdir())), photo, label="Examples")
        with gr.Column():
            drawn = gr.Image(
                label="Faces (click one)",
                interactive=False,
                format="jpeg",
                height=420,
                buttons=["download", "fullscreen"],
                elem_id="drawn",
            )
            faces = gr.HTML(js_on_load=_PICK, elem_id="faces")
    breakdown = gr.HTML(elem_id="breakdown")
    shown = [visit, drawn, faces, breakdown]
    quietly: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
    gr.on([photo.change, weights.change], answers.look, [photo, weights, others], shown, **quietly)
    others.change(answers.compare, [visit, others], [visit, breakdown], **quietly)
    drawn.select(answers.pick_box, visit, [visit, faces, breakdown], **quietly)
    faces.click(answers.pick_row, visit, [visit, faces, breakdown], **quietly)


def _add_live(answers: _Answers, models: ModelCache, limits: Limits) -> None:
    watch = gr.State(time_to_live=3600)
    with gr.Row(equal_height=False):
        with gr.Column():
            camera = gr.Image(
                label="Camera",
                sources=["webcam"],
                streaming=True,
                webcam_options=gr.WebcamOptions(constraints={"video": {"width": 640, "height": 480}}),
                elem_id="camera",
            )
            weights = _choose_weights(models)
        with gr.Column():
            seen = gr.HTML("Start your camera to see your face and its estimated age here.", elem_id="seen")
            gr.Markdown(
                "Ages are averaged over the last seconds and settle while you hold still. No frames are stored."
            )
    camera.stream(
        answers.live,
        [camera, weights, watch],
        [seen, watch],
        stream_every=0.1,
        time_limit=limits.max_live_seconds,
        concurrency_limit=_CAMERAS,
        show_progress="hidden",
        api_visibility="private",
    )


def _add_film(answers: _Answers, models: ModelCache, limits: Limits) -> None:
    with gr.Row(equal_height=False):
        with gr.Column():
            film = gr.Video(
                label=f"Video of at most {limits.max_film_seconds} seconds",
                sources=["upload"],
                height=360,
                elem_id="film",
            )
            weights = _choose_weights(models)
            with gr.Row():
                start = gr.Button("Follow the faces", variant="primary")
                stop = gr.Button("Stop", elem_id="film-stop")
        with gr.Column():
            copy = gr.Video(label="Video with ages", interactive=False, autoplay=True, height=360, elem_id="copy")
    ages = gr.HTML(elem_id="ages")
    running = start.click(
        answers.film,
        [film, weights],
        [copy, ages],
        concurrency_limit=_FILMS,
        concurrency_id=ONE_EACH,
        api_visibility="private",
    )
    stop.click(None, cancels=running, api_visibility="private")


def _add_many(answers: _Answers, models: ModelCache, limits: Limits) -> None:
    with gr.Row():
        photos = gr.File(
            label=f"Up to {limits.max_photos} photos, or zips of photos",
            file_count="multiple",
            file_types=[*sorted(picture_suffixes()), ".zip"],
            elem_id="photos",
        )
        with gr.Column():
            weights = _choose_weights(models)
            start = gr.Button("Estimate ages", variant="primary")
            stop = gr.Button("Stop")
    table = gr.Dataframe(
        headers=["file", "face", "age", "90% interval", "confidence", "note"],
        interactive=False,
        wrap=True,
        elem_id="table",
    )
    files = gr.HTML(elem_id="files")
    running = start.click(answers.many, [photos, weights], [table, files], api_visibility="private")
    stop.click(None, cancels=running, api_visibility="private")


def _choose_weights(models: ModelCache) -> gr.Dropdown:
    return gr.Dropdown(
        models.names,
        value=models.names[0],
        label="Weights",
        info="A name, or owner/repo on the Hugging Face Hub",
        allow_custom_value=True,
        elem_classes="weights",
    )


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
    """What programs call, by the Gradio client or as tools."""

    def answer(ask: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        @wraps(ask)
        def plainly(*args: Any) -> dict[str, Any]:
            with _plainly():
                return ask(*args)

        return plainly

    with gr.Row(visible=False):
        image = gr.Image(label="image", type="filepath", image_mode=None)
        images = gr.File(label="images", file_count="multiple")
        # Gradio makes it a part of a tool's
        schema = _resolved(images.api_info())
        images.api_info = lambda: schema  # type: ignore[method-assign]
        weights = gr.Textbox(None, label="weights")
        answered = gr.JSON(label="answer")
        for ask, given in ((service.predict, image), (service.explain, image), (service.predict_batch, images)):
            gr.Button().click(answer(ask), [given, weights], answered, api_name=ask.__name__)


def _about(models: ModelCache, limits: Limits) -> str:
    return f"""
**About.** [SSR-Net](https://www.ijcai.org/proceedings/2018/0150.pdf) (IJCAI 2018) uses *soft stagewise regression*:
stage 1 has three bins of about 34 years each, and stages 2 and 3 divide these into three finer bins each. Every stage
weights its bins (height **p**), shifts them (**eta**), and scales them (**delta**). The age is the sum of the three
stages.

**Weights.** {", ".join(models.names)}. The default ships with the package. Its model card below shows for whom
errors are largest; its license allows non-commercial research. Other weights are loaded from public repositories on the
Hugging Face Hub, as safetensors files of at most {limits.max_weights_size / 1e6:.0f} MB.

**Limits.** Photos of at most {limits.max_pixels / 1e6:.0f} megapixels and {limits.max_file_size / 1e6:.0f} MB. The
output is an estimate of apparent age, off by years, and more so on old scans and on faces unlike the training data. Do
not use it to make decisions about people, such as whether they may enter, buy, work, or get help. Ask people before you
estimate their age.

**Privacy.** Uploads and results are deleted from this server within {2 * limits.sweep / 60:.0f} minutes. Nothing is
kept, counted, or sent elsewhere.

**API.** The endpoints for `gradio_client` are `/predict`, `/explain`, and `/predict_batch`; see *Use via API* below.
"""


def _card(name: str) -> str:
    """The card of weights without what it says to machines."""
    return render_card(name).split("---\n", 2)[2]
