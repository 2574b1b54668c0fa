"""Films: people followed through them, their copies, and films that are refused."""

import av
import numpy as np
import pytest
from PIL import Image

from ssrnet_hub import AgeEstimator
from ssrnet_hub.errors import VideoError
from ssrnet_hub.tracking import AgeTracker
from ssrnet_hub.video import annotate_video

SIZE, RATE = (400, 260), 10


def write_film(path, frames, rate=RATE):
    with av.open(str(path), "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_image(frame)))
        film.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def frames(astronaut):
    """A second in which two people walk past: one to the right, one to the left."""
    head = astronaut.crop((150, 30, 300, 210))
    frames = []
    for step in range(RATE):
        frame = Image.new("RGB", SIZE, "grey")
        frame.paste(head, (4 * step, 10))
        frame.paste(head.resize((100, 120)), (280 - 4 * step, 100))
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def film(frames, tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", frames)


def test_people_keep_their_numbers(estimator, frames):
    tracker = AgeTracker(estimator)
    seen = [tracker(frame, step / RATE) for step, frame in enumerate(frames)]
    assert [[sighting.person for sighting in people] for people in seen] == [[]] + [[1, 2]] * (RATE - 1)
    # the first goes right, the second left
    first, second = ([people[n].face.box[0] for people in seen[1:]] for n in (0, 1))
    assert first[-1] > first[0] + 25 and second[-1] < second[0] - 25


def test_ages_are_smoothed(estimator, frames):
    tracker = AgeTracker(estimator, memory=1.0)
    seen = [people[0] for step, frame in enumerate(frames) if (people := tracker(frame, step / RATE))]
    weights = np.exp(-np.arange(RATE - 1)[::-1] / RATE)
    assert seen[-1].age == pytest.approx(np.average([sighting.face.age for sighting in seen], weights=weights))
    assert seen[0].age == seen[0].face.age
    assert np.ptp([s.age for s in seen[3:]]) < np.ptp([s.face.age for s in seen[3:]])


def test_somebody_who_comes_back_late_is_another(estimator, frames):
    tracker = AgeTracker(estimator, patience=1.0)
    empty = Image.new("RGB", SIZE, "grey")
    assert tracker(frames[0], -0.1) == []
    before = [sighting.person for sighting in tracker(frames[0], 0.0)]
    assert tracker(empty, 0.1) == []
    assert [sighting.person for sighting in tracker(frames[1], 0.2)] == before == [1, 2]
    for step in range(40):
        tracker(empty, 0.3 + step / RATE)
    assert tracker(frames[1], 5.0) == []
    assert [sighting.person for sighting in tracker(frames[1], 5.1)] == [3, 4]


def test_a_copy_with_boxes(estimator, film, frames, tmp_path):
    told = []
    seen = annotate_video(film, tmp_path / "copy.mp4", estimator, on_frame=lambda *times: told.append(times))
    assert [seconds for seconds, _ in seen] == pytest.approx([step / RATE for step in range(RATE)])
    assert told == [(seconds, pytest.approx(1.0)) for seconds, _ in seen]
    assert {sighting.person for _, people in seen for sighting in people} == {1, 2}
    with av.open(str(tmp_path / "copy.mp4")) as copy:
        pictures = [np.asarray(frame.to_image(), int) for frame in copy.decode(video=0)]
        assert copy.streams.video[0].codec_context.name == "h264"
    assert len(pictures) == RATE and pictures[0].shape == (SIZE[1], SIZE[0], 3)
    # the frame around the box is white
    x1, _, _, y2 = map(round, seen[1][1][0].face.box)
    assert pictures[1][y2 - 4 : y2 + 5, x1 + 20].max() > 200 > 140 > np.asarray(frames[0])[5, 5].max()


def test_frames_are_left_out(estimator, film, tmp_path):
    seen = annotate_video(film, tmp_path / "copy.mp4", estimator, rate=5)
    assert [seconds for seconds, _ in seen] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"max_seconds": 0.5}, "longer than 0.5 seconds"), ({"max_pixels": 1000}, "more than the limit")],
)
def test_limits(estimator, film, tmp_path, limits, said):
    with pytest.raises(VideoError, match=said):
        annotate_video(film, tmp_path / "copy.mp4", estimator, **limits)
    assert not list(tmp_path.iterdir())


BAD = {
    "empty": lambda film: b"",
    "words": lambda film: b"no film",
    "truncated": lambda film: film[: len(film) // 2],
    # a playlist, which would make FFmpeg open other files
    "playlist": lambda film: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "list": lambda film: b"ffconcat version 1.0\nfile '/etc/passwd'\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_films_that_are_none(estimator: AgeEstimator, film, tmp_path, kind):
    source = tmp_path / "film.mp4"
    source.write_bytes(BAD[kind](film.read_bytes()))
    with pytest.raises(VideoError, match=r"film\.mp4"):
        annotate_video(source, tmp_path / "copy.mp4", estimator)
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_film_that_is_not_there(estimator, tmp_path):
    with pytest.raises(VideoError, match="nothing"):
        annotate_video(tmp_path / "nothing.mp4", tmp_path / "copy.mp4", estimator)


def test_cancelled(estimator, film, tmp_path):
    class Cancelled(Exception):
        pass

    def cancel(seconds, length):
        if seconds > 0.2:
            raise Cancelled

    with pytest.raises(Cancelled):
        annotate_video(film, tmp_path / "copy.mp4", estimator, on_frame=cancel)
    assert not list(tmp_path.iterdir())
