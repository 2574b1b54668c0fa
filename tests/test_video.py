"""Films: people followed through them, their copies, and films that are refused."""

import av
import numpy as np
import pytest
from PIL import Image

from ssrnet_hub import AgeEstimator
from ssrnet_hub.errors import VideoError
from ssrnet_hub.plots import plot_ages
from ssrnet_hub.tracking import AgeTracker
from ssrnet_hub.video import annotate_frames, annotate_video

from .pictures import FILM_RATE as RATE
from .pictures import FILM_SIZE as SIZE
from .pictures import walk, write_film


@pytest.fixture(scope="module")
def frames(astronaut):
    return walk(astronaut)


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
    seen = annotate_video(film, tmp_path / "copy.mp4", estimator)
    assert [moment.seconds for moment in seen] == pytest.approx([step / RATE for step in range(RATE)])
    assert [moment.progress for moment in seen] == pytest.approx([moment.seconds / 1.0 for moment in seen])
    assert {sighting.person for moment in seen for sighting in moment.people} == {1, 2}
    with av.open(str(tmp_path / "copy.mp4")) as copy:
        pictures = [np.asarray(frame.to_image(), int) for frame in copy.decode(video=0)]
        assert copy.streams.video[0].codec_context.name == "h264"
    assert len(pictures) == RATE and pictures[0].shape == (SIZE[1], SIZE[0], 3)
    # the frame around the box is white
    x1, _, _, y2 = map(round, seen[1].people[0].face.box)
    assert pictures[1][y2 - 4 : y2 + 5, x1 + 20].max() > 200 > 140 > np.asarray(frames[0])[5, 5].max()


def test_frames_are_left_out(estimator, film, tmp_path):
    seen = annotate_video(film, tmp_path / "copy.mp4", estimator, rate=5)
    assert [moment.seconds for moment in seen] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


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


def test_stopped(estimator, film, tmp_path):
    frames = annotate_frames(film, tmp_path / "copy.mp4", estimator)
    assert next(frames).seconds == 0
    frames.close()
    assert not list(tmp_path.iterdir())


def test_ages_over_time(estimator, film, tmp_path):
    seen = annotate_video(film, tmp_path / "copy.mp4", estimator)
    late = [(moment.seconds + 5, moment.people) for moment in seen]
    (axes,) = plot_ages([*((m.seconds, m.people) for m in seen), *late]).axes
    lines = [line for line in axes.lines if line.get_gid() == "person"]
    assert len(lines) == 2 and [text.get_text() for text in axes.texts] == ["1", "2"]
    first = [sighting.age for _, people in late for sighting in people if sighting.person == 1]
    smooth = lines[0].get_ydata()
    # each time, and a gap between
    assert len(smooth) == 2 * len(first) + 1 and np.isnan(smooth).sum() == 1
    assert smooth[-len(first) :] == pytest.approx(first)


@pytest.mark.parametrize("link", [False, True])
def test_a_copy_does_not_replace_the_film(estimator, film, tmp_path, link):
    source = tmp_path / "film.mp4"
    source.write_bytes(film.read_bytes())
    target = source
    if link:
        target = tmp_path / "link.mp4"
        target.symlink_to(source)
    with pytest.raises(VideoError, match=r"would replace film\.mp4"):
        annotate_video(source, target, estimator)
    assert source.read_bytes() == film.read_bytes()
