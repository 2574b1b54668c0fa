"""The demo's API: typed, documented, and with the same ages as the command."""

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Optional, TypeVar, Union

from PIL import Image

from ..batch.records import write_csv
from ..errors import ArchiveError, PhotoError, SSRNetHubError, VideoError
from ..images.archives import read_zip
from ..images.decoding import Decoder
from ..images.formats import Sieve
from ..inference.estimator import AgeEstimator, Face
from ..inference.tracking import AgeTracker, Sighting
from ..inference.video import Moment, annotate_frames
from ..inference.visualization import draw_faces
from .limits import Limits
from .model_cache import ModelCache, Search
from .turns import Turns, Visitor
from .uploads import Upload

__all__ = ["Look", "Sent", "Service", "tell", "tell_error", "to_csv", "without_folders"]

T = TypeVar("T")

Sent = Union[Upload, bytes]
"""A file as it reaches the service: an upload, or what was inside of a request or a zip."""

NOT_HERE = ", or raise the limit with max_pixels"
"""Advice in errors that visitors cannot follow."""

_SEARCH = Search()

_DRAWN_PIXELS = 2_000_000
"""Largest picture that is drawn for the page, width x height."""

_THUMBNAIL = (96, 96)
"""Largest picture of a photo among many, width and height."""


class Look(NamedTuple):
    """What was found in a photo.

    Attributes:
        faces: The largest first.
        drawn: The photo with a box and the age of each face, reduced where it is large.
        size: Width and height of the photo, pixels.
    """

    faces: Sequence[Face]
    drawn: Image.Image
    size: tuple[int, int]


def tell(face: Face) -> dict[str, Any]:
    """A face as returned by the API."""
    said = face.to_dict()
    return {
        "age": said["age"],
        "interval": said["interval"],
        "reliable": said["reliable"],
        "doubts": said["doubts"],
        "box": said["box"],
        "score": said["score"],
        "turned": said["turned"],
        "stages": said["stages"],
    }


def without_folders(text: str) -> str:
    """Remove the server's paths from a text."""
    roots = {tempfile.gettempdir(), os.environ.get("GRADIO_TEMP_DIR", tempfile.gettempdir())}
    roots |= {os.path.realpath(root) for root in roots}
    folders = "|".join(re.escape(root) for root in sorted(roots, key=len, reverse=True))
    return re.sub(rf"(?:{folders})[\\/](?:[^\s\\/'\"]+[\\/])*", "", text)


def tell_error(error: Exception) -> str:
    """Message of an error, without the server's paths and truncated."""
    said = without_folders(str(error))
    return said if len(said) <= 500 else f"{said[:499]}…"


class Service:
    """Estimates ages for visitors.

    A few photos and video frames are processed at a time, taking turns between visitors: a hundred photos of one do not
    delay the single photo of another.

    Errors are `SSRNetHubError`, and name uploads by file name only.

    Args:
        models: The weights.
        limits: Limits on requests.
        has_listener: Returns whether somebody still waits for the current result; otherwise the work ends.
        visitor: Returns the current visitor.
    """

    def __init__(
        self,
        models: ModelCache,
        limits: Limits,
        has_listener: Callable[[], bool] = lambda: True,
        visitor: Callable[[], Visitor] = lambda: Visitor("", ""),
    ):
        self._models, self._limits, self._has_listener = models, limits, has_listener
        self._turns = Turns(limits.workers, "photos", visitor, has_listener)
        # pictures of cameras do not wait for photos
        self._quick_turns = Turns(limits.workers, "cameras", visitor, has_listener)
        # at most 25 bytes a pixel are needed, for gray of 16 bits; the rest is the process itself
        self._decoder = Decoder(limits.max_decode_seconds, (1 << 30) + 32 * limits.max_pixels)

    def look(
        self,
        photo: Sent,
        weights: Optional[str] = None,
        search: Search = _SEARCH,
        faces: Optional[Sequence[Face]] = None,
    ) -> Look:
        """The faces in a photo, unless they are known, and a picture of them."""
        return self._turns.take(self._draw, self._models.searching(weights, search), photo, faces)

    def faces(self, photo: Optional[Sent], weights: Optional[str] = None, search: Search = _SEARCH) -> list[Face]:
        """The faces in a photo, the largest first."""
        if not photo:
            raise PhotoError("There is no photo yet: upload one first.")
        return self._turns.take(self._search, self._models.searching(weights, search), photo)

    def predict(self, image: Sent, weights: Optional[str] = None) -> dict[str, Any]:
        """Detect the faces in a photo and estimate their ages.

        Args:
            image: The photo.
            weights: A name from the zoo, or owner/repo or owner/repo@revision on the Hugging Face Hub. Default: the
                embedded weights.

        Returns:
            {"faces": [...]}, largest first, each with "age" in years; the 90% "interval", the flag "reliable" and the
            list of reasons "doubts", all null without a calibration; "box", x1, y1, x2, y2 in pixels of the upright
            photo; "score" of the detector from 0 to 1; "turned", the rotation of the face in degrees counterclockwise,
            0, 90, 180, or 270; and "stages", each with "p", "eta", "delta", bin "width", and "contribution" in years,
            which add up to the age.
        """
        return {"faces": [tell(face) for face in self.faces(image, weights)]}

    def explain(self, image: Sent, weights: Optional[str] = None) -> dict[str, Any]:
        """Explain how the network arrived at the age of every face in a photo.

        Args:
            image: The photo.
            weights: As in predict.

        Returns:
            {"faces": [...]}, as in predict, each with an "explanation" in words.
        """
        faces = self.faces(image, weights)
        return {"faces": [{**tell(face), "explanation": face.explain()} for face in faces]}

    def predict_batch(self, images: list[Sent], weights: Optional[str] = None) -> dict[str, Any]:
        """Detect the faces in many photos and estimate their ages.

        Args:
            images: Photos, and zips of photos.
            weights: As in predict.

        Returns:
            {"photos": [...]}, each with its "file", its "faces" as in predict, and an "error" if it could not be read,
            else null.
        """
        return {"photos": list(self.each(images, weights))}

    def each(self, images: Optional[Sequence[Sent]], weights: Optional[str] = None) -> Iterator[dict[str, Any]]:
        """Yield the results of `predict_batch` photo by photo, as long as somebody waits."""
        for row, *_ in self.each_with_picture(images, weights):
            yield row

    def each_with_picture(
        self, images: Optional[Sequence[Sent]], weights: Optional[str] = None, search: Search = _SEARCH
    ) -> Iterator[tuple[dict[str, Any], Optional[Image.Image], Optional[SSRNetHubError]]]:
        """As `each`, with a small picture of each photo that could be read, or the error otherwise."""
        if not images:
            raise PhotoError("There are no photos yet: upload some first.")
        if isinstance(images, (Upload, bytes)):
            images = [images]
        estimator = self._models.searching(weights, search)
        count = 0
        for number, sent in enumerate(images, start=1):
            for name, photo in self._unpack(sent, number):
                count += 1
                if count > self._limits.max_photos:
                    raise PhotoError(
                        "More than {limit} photos were sent: send fewer at a time.", limit=self._limits.max_photos
                    )
                if not self._has_listener():
                    return
                yield self._turns.take(self._row, estimator, name, photo)

    def film(self, video: Optional[Sent], target: str, weights: Optional[str] = None) -> Iterator[Optional[Moment]]:
        """Write an annotated copy of a film, moment by moment; as `annotate_frames`, but the faces have no crops."""
        if not video:
            raise VideoError("There is no video yet: upload one first.")
        if not isinstance(video, Upload):
            raise VideoError("A video must be uploaded.")
        limits = self._limits
        moments = annotate_frames(
            video,
            target,
            self._models[weights],
            max_seconds=limits.max_film_seconds,
            max_pixels=limits.max_film_pixels,
            max_frames=limits.max_film_frames,
            max_total_pixels=limits.max_film_total_pixels,
            timeout=limits.max_film_work_seconds,
            decoder=self._decoder,
        )
        try:
            while (moment := self._turns.take(next, moments, _OVER)) is not _OVER:
                yield moment and moment._replace(people=[_without_crop(sighting) for sighting in moment.people])
        finally:
            moments.close()

    def watch(self, weights: Optional[str] = None) -> AgeTracker:
        """Create the tracker of a camera, for `follow`."""
        return AgeTracker(self._models.quick(weights))

    def follow(self, tracker: AgeTracker, picture: Sent, seconds: float) -> tuple[Image.Image, list[Sighting]]:
        """Process the next frame of a camera; returns it upright, and the people in it.

        Args:
            tracker: Tracker of the camera, from `watch`.
            picture: Frame from the camera.
            seconds: Time of the frame.
        """

        def step() -> tuple[Image.Image, list[Sighting]]:
            frame = self._read(picture, "The camera's picture", self._limits.max_film_pixels)
            return frame, tracker(frame, seconds)

        return self._quick_turns.take(step)

    def close(self) -> None:
        """Take no more work; what is begun is done, and what waits is not."""
        for turns in (self._turns, self._quick_turns):
            turns.close()

    def _unpack(self, sent: Sent, number: int) -> Iterator[tuple[str, Union[Sent, ArchiveError]]]:
        if not isinstance(sent, Upload) or Path(sent).suffix.lower() != ".zip":
            yield Path(sent).name if isinstance(sent, Upload) else f"picture {number}", sent
            return
        name, sieve = Path(sent).name, Sieve()
        try:
            for inner, content in read_zip(
                sent, sieve, max_files=self._limits.max_photos, max_file_size=self._limits.max_file_size
            ):
                yield f"{name}/{inner}", content
            if sieve.left_out:
                yield name, sieve.error()
        except ArchiveError as e:
            yield name, e

    def _draw(self, estimator: AgeEstimator, photo: Sent, faces: Optional[Sequence[Face]]) -> Look:
        image = self._read(photo)
        faces = estimator(image) if faces is None else faces
        size = image.size
        if image.width * image.height > _DRAWN_PIXELS:
            ratio = (_DRAWN_PIXELS / (image.width * image.height)) ** 0.5
            image.thumbnail((max(image.width * ratio, 1), max(image.height * ratio, 1)))
        scale = image.width / size[0]
        return Look(faces, draw_faces(image, [_scaled(face, scale) for face in faces]), size)

    def _search(self, estimator: AgeEstimator, photo: Sent) -> list[Face]:
        return estimator(self._read(photo))

    def _row(
        self, estimator: AgeEstimator, name: str, photo: Union[Sent, ArchiveError]
    ) -> tuple[dict[str, Any], Optional[Image.Image], Optional[SSRNetHubError]]:
        try:
            if isinstance(photo, ArchiveError):
                raise photo
            image = self._read(photo, name)
            faces = estimator(image)
        except (PhotoError, ArchiveError) as e:
            return {"file": name, "faces": [], "error": tell_error(e)}, None, e
        image.thumbnail(_THUMBNAIL)
        return {"file": name, "faces": [tell(face) for face in faces], "error": None}, image, None

    def _read(self, photo: Sent, name: str = "The picture", max_pixels: Optional[int] = None) -> Image.Image:
        """The one place where the page reads a picture."""
        if not isinstance(photo, (Upload, bytes)):
            raise PhotoError("A photo must be uploaded.")
        try:
            return self._decoder.load_photo(photo, max_pixels or self._limits.max_pixels)
        except PhotoError as e:
            values = {**e.values, "name": name} if e.values and isinstance(photo, bytes) else e.values
            raise type(e)(e.message.replace(NOT_HERE, ""), **values) from e


def _scaled(face: Face, scale: float) -> Face:
    assert face.box
    x1, y1, x2, y2 = (scale * v for v in face.box)
    return replace(face, box=(x1, y1, x2, y2))


_NOTHING = Image.new("RGB", (1, 1))
_OVER: Any = object()


def _without_crop(sighting: Sighting) -> Sighting:
    # those of a film would fill the memory
    return replace(sighting, face=replace(sighting.face, crop=_NOTHING))


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Format the result of `Service.predict_batch` as CSV, with a row per face and per photo without a face."""
    file = io.StringIO()
    columns = [
        "file",
        "face",
        "age",
        "low",
        "high",
        "reliable",
        "doubts",
        "x1",
        "y1",
        "x2",
        "y2",
        "score",
        "turned",
        "error",
    ]
    write_csv(file, rows, columns)
    return file.getvalue()
