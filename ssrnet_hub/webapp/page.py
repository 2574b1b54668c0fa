"""The page: what a visitor sees, and what happens on a click. It computes nothing itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, Optional, Union

import gradio as gr
from PIL import Image

from ..cards import render_card
from ..errors import SSRNetHubError
from ..estimator import Face
from ..photos import picture_suffixes
from ..plots import annotate
from ..tracking import AgeTracker
from ..video import Moment
from ..zoo import DEFAULT
from .limits import Limits
from .service import Service
from .shelf import Shelf
from .views import CSS, UNLIKE_A_FACE, offer_files, show_ages, show_breakdowns, show_faces, show_frame

__all__ = ["launch", "make_page"]

_EXAMPLES = Path(__file__).parent / "examples"
_FONTS = ("system-ui", "sans-serif")  # of the visitor's own machine: none is fetched
_THEME = gr.themes.Soft(
    primary_hue="blue", secondary_hue="blue", neutral_hue="slate", font=_FONTS, font_mono="monospace"
)
_PICK = """
element.addEventListener('click', event => {
  const face = event.target.closest('[data-face]');
  if (face) trigger('click', {face: Number(face.dataset.face)});
});
"""
_INTRO = """# How old does a face look?
A network of only **40,531 numbers** looks at a face three times, from coarse to fine, and adds up what it sees. Here
is its answer, and how it got there. *An estimate, off by years: no proof of age, and nothing to decide
about a person by.*"""


@dataclass
class Visit:
    """What a visitor is looking at."""

    photo: Optional[Image.Image] = None
    path: str = ""
    weights: str = DEFAULT
    faces: list[Face] = field(default_factory=list)
    picked: int = 0
    others: dict[str, list[Face]] = field(default_factory=dict)


@dataclass
class Watch:
    """Whom a visitor's camera sees."""

    weights: str
    tracker: AgeTracker
    started: float = field(default_factory=monotonic)


@contextmanager
def _plainly() -> Iterator[None]:
    """Tell the visitor what is wrong, without a traceback."""
    try:
        yield
    except SSRNetHubError as e:
        raise gr.Error(str(e), print_exception=False) from e


def _untouched(component: Any) -> Any:
    """Hand on uploads as they lie on disk: what they are is for `load_photo` to find out."""

    def preprocess(payload: Any) -> Union[str, list[str], None]:
        files = getattr(payload, "root", payload)
        return [file.path for file in files] if isinstance(files, list) else files and files.path

    component.preprocess = preprocess
    return component


class _Answers:
    """What the parts of the page ask for."""

    def __init__(self, service: Service, shelf: Shelf):
        self._service, self._shelf = service, shelf

    def look(self, path: Optional[str], weights: str, others: list[str]) -> tuple[Any, ...]:
        """A new photo, or other weights for the one that is there."""
        if not path:
            return self._show(Visit())
        with _plainly():
            photo, faces = self._service.look(path, weights)
            visit = Visit(photo, path, weights, faces)
            self._compare(visit, others)
        if not faces:
            gr.Info("No face was found in this photo. Faces smaller than 20 pixels are not looked for.")
        return self._show(visit)

    def compare(self, visit: Optional[Visit], others: list[str]) -> tuple[Visit, str]:
        visit = visit or Visit()
        with _plainly():
            self._compare(visit, others)
        return visit, self._breakdown(visit)

    def pick_row(self, visit: Visit, event: gr.EventData) -> tuple[Any, ...]:
        """A click on the row of a face."""
        return self._pick(visit, int(event.face))

    def pick_box(self, visit: Visit, event: gr.SelectData) -> tuple[Any, ...]:
        """A click into the photo: the smallest box that it is in."""
        x, y = event.index
        hit = [
            ((x2 - x1) * (y2 - y1), index)
            for index, (x1, y1, x2, y2) in enumerate(face.box for face in visit.faces)
            if x1 <= x <= x2 and y1 <= y <= y2
        ]
        return self._pick(visit, min(hit)[1] if hit else visit.picked)

    def _pick(self, visit: Visit, index: int) -> tuple[Any, ...]:
        if 0 <= index < len(visit.faces):
            visit.picked = index
        return visit, show_faces(visit.faces, visit.picked), self._breakdown(visit)

    def _compare(self, visit: Visit, others: list[str]) -> None:
        names = [name for name in others or () if name != visit.weights]
        visit.others = {
            name: visit.others.get(name) or self._shelf[name](visit.photo) for name in names if visit.photo is not None
        }

    def _show(self, visit: Visit) -> tuple[Any, ...]:
        drawn = visit.photo and annotate(visit.photo, visit.faces)
        return visit, drawn, show_faces(visit.faces, visit.picked), self._breakdown(visit)

    def _breakdown(self, visit: Visit) -> str:
        if not visit.faces:
            return ""
        said = {visit.weights: visit.faces, **visit.others}
        # the same detector finds the same faces in the same order
        with _plainly():
            return show_breakdowns([(name, faces[visit.picked]) for name, faces in said.items()], visit.picked + 1)

    def many(
        self,
        paths: Optional[list[str]],
        weights: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  as Gradio wants it
    ) -> Iterator[tuple[Any, ...]]:
        """Photos and zips to a table and files, photo by photo."""
        rows: list[dict[str, Any]] = []
        with _plainly():
            for row in self._service.each(paths, weights):
                rows.append(row)
                progress((len(rows), max(len(rows), len(paths or ()))), desc=row["file"])
                yield _table(rows), gr.skip()
        yield _table(rows), offer_files(rows)

    def live(self, frame: Optional[Image.Image], weights: str, watch: Optional[Watch]) -> tuple[Any, ...]:
        """The next picture of a camera."""
        if frame is None:
            return "", None
        with _plainly():
            if watch is None or watch.weights != weights:
                watch = Watch(weights, self._service.watch(weights))
            people = watch.tracker(frame, monotonic() - watch.started)
        return show_frame(frame, people), watch

    def film(
        self,
        path: Optional[str],
        weights: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  as Gradio wants it
    ) -> Iterator[tuple[Any, ...]]:
        """A film to its annotated copy and the ages over time; its frames on the way there."""
        seen: list[Moment] = []
        with _plainly(), TemporaryDirectory() as folder:
            # Gradio has a copy of its own before it comes back for more
            copy = str(Path(folder, "ages.mp4"))
            for moment in self._service.film(path, copy, weights):
                seen.append(moment)
                progress(moment.progress, desc=f"{moment.seconds:.1f} seconds seen")
                # not gr.skip(): what Gradio keeps for a component after one, its sweep does not find
                yield None, ""
            yield copy, show_ages(seen)


def _table(rows: list[dict[str, Any]]) -> list[list[Any]]:
    lines = []
    for row in rows:
        for number, face in enumerate(row["faces"], start=1):
            age = "no number" if face["age"] is None else f"{face['age']:.1f}"
            ends = "{:.0f} to {:.0f}".format(*face["interval"]) if face["interval"] else ""
            remark = UNLIKE_A_FACE if face["reliable"] is False else ""
            lines.append([row["file"], number, age, ends, f"{face['score']:.0%}", remark])
        if not row["faces"]:
            lines.append([row["file"], "", "", "", "", row["error"] or "no face found"])
    return lines


def make_page(limits: Optional[Limits] = None) -> gr.Blocks:
    """The page with its endpoints, not started yet; see `launch`."""
    limits = limits or Limits.from_environment()
    shelf = Shelf(limits)
    service = Service(shelf, limits)
    answers = _Answers(service, shelf)
    with gr.Blocks(
        title="How old does a face look?", analytics_enabled=False, delete_cache=(limits.sweep,) * 2
    ) as page:
        gr.Markdown(_INTRO)
        with gr.Tab("Photo"):
            _add_photo(answers, shelf)
        with gr.Tab("Live"):
            _add_live(answers, shelf, limits)
        with gr.Tab("Film"):
            _add_film(answers, shelf, limits)
        with gr.Tab("Many photos"):
            _add_many(answers, shelf, limits)
        with gr.Tab("About"):
            gr.Markdown(_about(shelf, limits))
            with gr.Accordion(f"The card of {DEFAULT}: figures, training, licences", open=False):
                gr.Markdown(_card(DEFAULT))
        _add_endpoints(service)
    return page.queue(max_size=limits.queue, default_concurrency_limit=2)


def _add_photo(answers: _Answers, shelf: Shelf) -> None:
    visit = gr.State(time_to_live=3600)
    with gr.Row(equal_height=False):
        with gr.Column():
            photo = _untouched(
                gr.Image(
                    label="your photo",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard", "webcam"],
                    height=420,
                    elem_id="photo",
                )
            )
            with gr.Row():
                weights = _choose_weights(shelf)
                others = gr.Dropdown(
                    shelf.names,
                    label="compare with",
                    multiselect=True,
                    max_choices=3,
                    allow_custom_value=True,
                    elem_id="others",
                )
            if _EXAMPLES.is_dir():
                gr.Examples(sorted(map(str, _EXAMPLES.iterdir())), photo, label="or one of these")
        with gr.Column():
            drawn = gr.Image(
                label="the faces: click one",
                interactive=False,
                format="jpeg",
                height=420,
                buttons=["download", "fullscreen"],
                elem_id="drawn",
            )
            faces = gr.HTML(js_on_load=_PICK, elem_id="faces")
    breakdown = gr.HTML(elem_id="breakdown")
    shown = [visit, drawn, faces, breakdown]
    quietly = {"api_visibility": "private", "show_progress": "minimal"}
    gr.on([photo.change, weights.change], answers.look, [photo, weights, others], shown, **quietly)
    others.change(answers.compare, [visit, others], [visit, breakdown], **quietly)
    drawn.select(answers.pick_box, visit, [visit, faces, breakdown], **quietly)
    faces.click(answers.pick_row, visit, [visit, faces, breakdown], **quietly)


def _add_live(answers: _Answers, shelf: Shelf, limits: Limits) -> None:
    watch = gr.State(time_to_live=3600)
    with gr.Row(equal_height=False):
        with gr.Column():
            camera = gr.Image(
                label="your camera",
                sources=["webcam"],
                streaming=True,
                type="pil",
                webcam_options=gr.WebcamOptions(constraints={"video": {"width": 640, "height": 480}}),
                elem_id="camera",
            )
            weights = _choose_weights(shelf)
        with gr.Column():
            seen = gr.HTML("Start your camera: your face appears here, with its age.", elem_id="seen")
            gr.Markdown("An age is a mean of the last seconds: it settles while you hold still. No picture is kept.")
    camera.stream(
        answers.live,
        [camera, weights, watch],
        [seen, watch],
        stream_every=0.1,
        time_limit=limits.max_live_seconds,
        concurrency_limit=4,
        show_progress="hidden",
        api_visibility="private",
    )


def _add_film(answers: _Answers, shelf: Shelf, limits: Limits) -> None:
    with gr.Row(equal_height=False):
        with gr.Column():
            film = _untouched(
                gr.Video(
                    label=f"a film of at most {limits.max_film_seconds} seconds",
                    sources=["upload"],
                    include_audio=False,
                    height=360,
                    elem_id="film",
                )
            )
            weights = _choose_weights(shelf)
            with gr.Row():
                start = gr.Button("Follow the faces", variant="primary")
                stop = gr.Button("Stop", elem_id="film-stop")
        with gr.Column():
            copy = gr.Video(label="with ages", interactive=False, autoplay=True, height=360, elem_id="copy")
    ages = gr.HTML(elem_id="ages")
    running = start.click(answers.film, [film, weights], [copy, ages], api_visibility="private")
    stop.click(None, cancels=running, api_visibility="private")


def _add_many(answers: _Answers, shelf: Shelf, limits: Limits) -> None:
    with gr.Row():
        photos = _untouched(
            gr.File(
                label=f"up to {limits.max_photos} photos, or zips of photos",
                file_count="multiple",
                file_types=[*sorted(picture_suffixes()), ".zip"],
                elem_id="photos",
            )
        )
        with gr.Column():
            weights = _choose_weights(shelf)
            start = gr.Button("Tell the ages", variant="primary")
            stop = gr.Button("Stop")
    table = gr.Dataframe(
        headers=["file", "face", "age", "9 of 10 times", "confidence", "remark"],
        interactive=False,
        wrap=True,
        elem_id="table",
    )
    files = gr.HTML(elem_id="files")
    running = start.click(answers.many, [photos, weights], [table, files], api_visibility="private")
    stop.click(None, cancels=running, api_visibility="private")


def _choose_weights(shelf: Shelf) -> gr.Dropdown:
    return gr.Dropdown(
        shelf.names,
        value=shelf.names[0],
        label="weights",
        info="a name, or owner/repo on the Hugging Face Hub",
        allow_custom_value=True,
        elem_classes="weights",
    )


def _add_endpoints(service: Service) -> None:
    """What programs call, by the Gradio client or as tools."""

    def answer(ask: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        @wraps(ask)
        def plainly(*args: Any) -> dict[str, Any]:
            with _plainly():
                return ask(*args)

        return plainly

    with gr.Row(visible=False):
        image = _untouched(gr.Image(label="image", type="filepath", image_mode=None))
        images = _untouched(gr.File(label="images", file_count="multiple"))
        weights = gr.Textbox(None, label="weights")
        answered = gr.JSON(label="answer")
        for ask, given in ((service.predict, image), (service.explain, image), (service.predict_batch, images)):
            gr.Button().click(answer(ask), [given, weights], answered, api_name=ask.__name__)


def _about(shelf: Shelf, limits: Limits) -> str:
    return f"""
**What it is.** [SSR-Net](https://www.ijcai.org/proceedings/2018/0150.pdf) (IJCAI 2018), *soft stagewise regression*:
stage 1 sorts the face into three bins of about 34 years each, stage 2 into three within those, stage 3 into three
more; each stage weighs its bins (the height **p**), shifts them (**eta**) and stretches them (**delta**). The age is
the sum of the three.

**Weights.** {", ".join(shelf.names)}. The default is part of the package; its card, below, says for whom the error is
largest and under which licence it may be used (research, not commerce). Others come from public repositories on the
Hugging Face Hub, as safetensors of at most {limits.max_weights_size / 1e6:.0f} MB.

**Limits.** Photos of at most {limits.max_pixels / 1e6:.0f} megapixels and {limits.max_file_size / 1e6:.0f} MB. It
tells how old a face *looks*, off by years, more so on old scans and on faces unlike those it was trained on. It must
not decide about a person: who may enter, buy, work or get help. Ask people before you estimate their age.

**Privacy.** Uploads and answers are deleted from this server at most {2 * limits.sweep / 60:.0f} minutes after they
came. Nothing is kept, counted or sent elsewhere.

**For programs.** `gradio_client` finds `/predict`, `/explain` and `/predict_batch` here; see *Use via API* below.
"""


def _card(name: str) -> str:
    """The card of weights without what it says to machines."""
    return render_card(name).split("---\n", 2)[2]


def launch(limits: Optional[Limits] = None, **options: Any) -> Any:
    """Make the page and serve it; ``options`` as for `gradio.Blocks.launch`."""
    limits = limits or Limits.from_environment()
    page = make_page(limits)
    return page.launch(
        theme=_THEME,
        css=CSS,
        max_file_size=limits.max_file_size,
        run_history=False,
        enable_monitoring=False,
        footer_links=["api", "settings"],
        **options,
    )
