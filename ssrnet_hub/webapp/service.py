"""What the demo answers to programs: typed, documented, and the same ages as the command's."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional, Union

from ..archives import read_zip
from ..errors import ArchiveError, PhotoError, VideoError
from ..estimator import AgeEstimator, Face
from ..photos import Photo, load_photo
from ..tables import write_csv
from ..tracking import AgeTracker
from ..video import Moment, annotate_frames
from .limits import Limits
from .shelf import Shelf

__all__ = ["Service", "tell"]


def tell(face: Face) -> dict[str, Any]:
    """A face as the service answers it."""
    said = face.to_dict()
    return {
        "age": said["age"],
        "interval": said["interval"],
        "reliable": said["reliable"],
        "box": said["box"],
        "score": said["score"],
        "stages": said["stages"],
    }


class Service:
    """Photos to ages, for whoever asks.

    Errors are `SSRNetHubError`; they name an upload by its own name, not by where it lies.
    """

    def __init__(self, shelf: Shelf, limits: Limits):
        self._shelf, self._limits = shelf, limits

    def look(self, image: Optional[str], weights: Optional[str] = None) -> tuple[Any, list[Face]]:
        """The upright photo, and the faces in it, the largest first."""
        if not image:
            raise PhotoError("There is no photo yet: upload one first.")
        estimator = self._shelf[weights]
        photo = _read(image, Path(image).name, self._limits)
        return photo, estimator(photo)

    def predict(self, image: str, weights: Optional[str] = None) -> dict[str, Any]:
        """Find the faces in a photo and tell their ages.

        Args:
            image: The photo.
            weights: A name of the zoo, or owner/repo or owner/repo@revision on the Hugging Face Hub; the embedded
                default without.

        Returns:
            {"faces": [...]}, the largest first, each with "age" in years; "interval", where the true age is in 9 of 10
            cases, and "reliable", false where this is too little like a face, both null without a calibration;
            "box", x1, y1, x2, y2 in pixels of the upright photo; "score" of the detector from 0 to 1; and "stages",
            each with "p", "eta", "delta", bin "width" and "contribution" in years, which add up to the age.
        """
        return {"faces": [tell(face) for face in self.look(image, weights)[1]]}

    def explain(self, image: str, weights: Optional[str] = None) -> dict[str, Any]:
        """Tell how the network got to the age of every face in a photo.

        Args:
            image: The photo.
            weights: As for predict.

        Returns:
            {"faces": [...]}, as predict answers, each with an "explanation" in words.
        """
        faces = self.look(image, weights)[1]
        return {"faces": [{**tell(face), "explanation": face.explain()} for face in faces]}

    def predict_batch(self, images: list[str], weights: Optional[str] = None) -> dict[str, Any]:
        """Find the faces in many photos and tell their ages.

        Args:
            images: Photos, and zips of photos.
            weights: As for predict.

        Returns:
            {"photos": [...]}, each with its "file", its "faces" as predict answers, and an "error" where it could not
            be read, else null.
        """
        return {"photos": list(self.each(images, weights))}

    def each(self, images: Optional[list[str]], weights: Optional[str] = None) -> Iterator[dict[str, Any]]:
        """What `predict_batch` answers, photo by photo."""
        if not images:
            raise PhotoError("There are no photos yet: upload some first.")
        estimator = self._shelf[weights]
        count = 0
        for path in images:
            for name, photo in self._unpack(path):
                count += 1
                if count > self._limits.max_photos:
                    raise PhotoError(f"These are more than {self._limits.max_photos} photos: send fewer at a time.")
                yield self._row(estimator, name, photo)

    def film(self, video: Optional[str], target: str, weights: Optional[str] = None) -> Iterator[Moment]:
        """Write an annotated copy of a film, moment by moment; as `annotate_frames`."""
        if not video:
            raise VideoError("There is no film yet: upload one first.")
        limits = self._limits
        yield from annotate_frames(
            video, target, self._shelf[weights], max_seconds=limits.max_film_seconds, max_pixels=limits.max_film_pixels
        )

    def watch(self, weights: Optional[str] = None) -> AgeTracker:
        """What follows the faces before a camera, frame by frame."""
        return AgeTracker(self._shelf.quick(weights))

    def _unpack(self, path: str) -> Iterator[tuple[str, Union[Photo, ArchiveError]]]:
        name = Path(path).name
        if Path(path).suffix.lower() != ".zip":
            yield name, path
            return
        limits = self._limits
        try:
            for inner, content in read_zip(path, max_files=limits.max_photos, max_file_size=limits.max_file_size):
                yield f"{name}/{inner}", content
        except ArchiveError as e:
            yield name, e

    def _row(self, estimator: AgeEstimator, name: str, photo: Union[Photo, ArchiveError]) -> dict[str, Any]:
        if isinstance(photo, ArchiveError):
            return {"file": name, "faces": [], "error": str(photo)}
        try:
            faces = estimator(_read(photo, name, self._limits))
        except PhotoError as e:
            return {"file": name, "faces": [], "error": str(e)}
        return {"file": name, "faces": [tell(face) for face in faces], "error": None}


def _read(photo: Photo, name: str, limits: Limits) -> Any:
    try:
        return load_photo(photo, limits.max_pixels)
    except PhotoError as e:
        # where an upload lies is nobody's business
        said = str(e).replace(str(photo), name) if isinstance(photo, str) else str(e).replace("The picture", name, 1)
        raise type(e)(said.replace(", or raise the limit with max_pixels", "")) from e


def to_csv(rows: list[dict[str, Any]]) -> str:
    """What `Service.predict_batch` answers as CSV, a row a face; photos without one have a row as well."""
    file = io.StringIO()
    columns = ["file", "face", "age", "low", "high", "reliable", "x1", "y1", "x2", "y2", "score", "error"]
    write_csv(file, rows, columns)
    return file.getvalue()
