"""Films: people followed through them, their copies, and films that are refused."""

import csv
import re
import shutil
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ssrnet_hub import AgeEstimator
from ssrnet_hub.cli import main
from ssrnet_hub.errors import VideoError
from ssrnet_hub.images.videos import read_film
from ssrnet_hub.inference.tracking import AgeTracker
from ssrnet_hub.inference.video import annotate_frames, annotate_video
from ssrnet_hub.inference.visualization import plot_ages

from ..pictures import FILM_RATE as RATE
from ..pictures import FILM_SIZE as SIZE
from ..pictures import encode, walk, write_film


@pytest.fixture(scope="module")
def frames(astronaut):
    return walk(astronaut)


@pytest.fixture(scope="module")
def film(frames, tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", frames)


def frames_of(film, rate=RATE, max_pixels=10**7):
    frames = read_film(film, rate=rate, max_seconds=60, max_pixels=max_pixels, max_frames=999, max_total_pixels=10**10)
    return [frame for frame in frames if frame]


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


@pytest.mark.parametrize(("fps", "rate"), [(15, 10), (12, 5), (RATE, RATE), (3, 10)])
def test_a_copy_takes_as_long_as_the_film(estimator, frames, tmp_path, fps, rate):
    source = write_film(tmp_path / "film.mp4", frames[:6], fps)
    seen = annotate_video(source, tmp_path / "copy.mp4", estimator, rate=rate)
    with av.open(str(tmp_path / "copy.mp4")) as copy:
        times = [frame.time for frame in copy.decode(video=0)]
    assert times == pytest.approx([moment.seconds for moment in seen], abs=0.001)


def test_a_copy_starts_at_the_first_frame(estimator, frames, tmp_path):
    for suffix in (".mkv", ".mp4"):
        source = write_film(tmp_path / f"film{suffix}", frames[:5], start=5000)
        seen = annotate_video(source, tmp_path / "copy.mp4", estimator, max_seconds=10)
        assert [moment.seconds for moment in seen] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=0.002)
        with av.open(str(tmp_path / "copy.mp4")) as copy:
            times = [frame.time for frame in copy.decode(video=0)]
        assert times == pytest.approx([moment.seconds for moment in seen], abs=0.001)


@pytest.mark.parametrize(("fps", "rate"), [(15, 10), (25, 10), (25, 20), (30, 25), (Fraction(30_000, 1001), 24)])
def test_as_many_frames_as_are_asked_for(tmp_path, fps, rate):
    film = write_film(tmp_path / "film.mp4", [Image.new("RGB", (64, 48), "grey")] * round(4 * fps), fps)
    times = [frame.seconds for frame in frames_of(film, rate)]
    assert len(times) == pytest.approx(4 * rate, abs=1)
    # never two at a time
    assert np.diff(times).min() > 0.99 / fps


@pytest.mark.parametrize(
    ("times", "rate", "taken"),
    [
        ([0, 100, 300, 300, 400, 500], 10, [0, 100, 300, 400, 500]),
        ([0, 2000, 6000, 5999, 8000, 10_000], 0.5, [0, 2000, 6000, 8000, 10_000]),
        ([0, 33, 67, 100, 133, 167, 367, 367, 400, 467], 10, [0, 100, 367, 467]),
    ],
)
def test_times_with_gaps_and_twice(estimator, frames, tmp_path, times, rate, taken):
    film = tmp_path / "film.mkv"
    with av.open(str(film), "w", format="matroska") as out:
        stream = out.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuvj420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, milliseconds in enumerate(times):
            frame = av.VideoFrame.from_image(frames[1]).reformat(format="yuvj420p")
            frame.pts, frame.time_base = number, Fraction(1, 1000)
            for packet in stream.encode(frame):
                # decoding times only have to rise
                packet.pts, packet.dts = milliseconds, number - 99
                out.mux(packet)
    seen = annotate_video(film, tmp_path / "copy.mp4", estimator, rate=rate)
    assert [round(1000 * moment.seconds) for moment in seen] == taken
    assert {sighting.person for moment in seen for sighting in moment.people} == {1, 2}


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
def test_frames_that_are_stored_in_another_order(frames, tmp_path, suffix):
    film = write_film(tmp_path / f"film{suffix}", frames, bf=3)
    seen = frames_of(film)
    assert [frame.seconds for frame in seen] == pytest.approx([step / RATE for step in range(RATE)], abs=0.002)
    for frame, image in zip(seen, frames, strict=True):
        assert np.abs(np.asarray(frame.image, int) - np.asarray(image, int)).mean() < 5


@pytest.mark.parametrize(
    ("aspect", "size"), [("2/1", (SIZE[0] * 2, SIZE[1])), ("1/2", (SIZE[0], SIZE[1] * 2)), ("1/99", SIZE)]
)
def test_pixels_that_are_not_square(frames, tmp_path, aspect, size):
    (frame, *_) = frames_of(write_film(tmp_path / "film.mp4", frames[:2], aspect=aspect))
    assert frame.image.size == size
    assert np.abs(np.asarray(frame.image, int) - np.asarray(frames[0].resize(size), int)).mean() < 6
    with pytest.raises(VideoError, match="more than the limit"):
        frames_of(tmp_path / "film.mp4", max_pixels=size[0] * size[1] - 1)


@pytest.mark.parametrize(("fps", "rate"), [(10, 0.5), (Fraction(1, 2), 10)])
def test_people_in_slow_films(estimator, frames, tmp_path, fps, rate):
    film = write_film(tmp_path / "film.mp4", [frames[1]] * round(8 * fps), fps)
    seen = annotate_video(film, None, estimator, rate=rate)
    assert [[sighting.person for sighting in moment.people] for moment in seen] == [[]] + [[1, 2]] * 3


def test_a_film_that_changes_its_size(estimator, frames, tmp_path):
    """The copy shows all of each frame, in the size of the first."""
    film = tmp_path / "film.mjpeg"
    large = frames[0].resize((SIZE[0] * 2, SIZE[1] * 2))
    flat = large.resize((2000, 2))
    film.write_bytes(b"".join(encode(frame, "JPEG") for frame in [frames[0]] * 10 + [flat] * 10 + [large] * 10))
    annotate_video(film, tmp_path / "copy.mp4", estimator)
    with av.open(str(tmp_path / "copy.mp4")) as copy:
        first, *_, last = [np.asarray(frame.to_image(), int) for frame in copy.decode(video=0)]
    assert first.shape == last.shape and np.abs(first - last).mean() < 10


def test_colors_of_a_copy(estimator, tmp_path):
    color = (200, 40, 60)
    film = write_film(tmp_path / "film.mp4", [Image.new("RGB", (1280, 720), color)] * 3, crf=1)
    annotate_video(film, tmp_path / "copy.mp4", estimator)
    with av.open(str(tmp_path / "copy.mp4")) as copy:
        frame = next(copy.decode(video=0))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)
        seen = np.asarray(frame.to_image(), int)[300, 600]
    assert np.abs(seen - (200, 40, 60)).max() < 6


PHONES = {
    "upright": (None, (1, 0, 0, 1)),
    "turned left": (Image.Transpose.ROTATE_90, (0, 1, -1, 0)),
    "upside down": (Image.Transpose.ROTATE_180, (-1, 0, 0, -1)),
    "turned right": (Image.Transpose.ROTATE_270, (0, -1, 1, 0)),
    "mirrored": (Image.Transpose.FLIP_LEFT_RIGHT, (-1, 0, 0, 1)),
    "upside down and mirrored": (Image.Transpose.FLIP_TOP_BOTTOM, (1, 0, 0, -1)),
    "turned and mirrored": (Image.Transpose.TRANSPOSE, (0, 1, 1, 0)),
    "turned and mirrored again": (Image.Transpose.TRANSVERSE, (0, -1, -1, 0)),
    "nonsense": (None, (0, 0, 0, 0)),
}
"""How a film is stored, and the matrix by which players turn it: where the axes of what is stored lead."""


@pytest.mark.parametrize("kind", PHONES)
def test_films_of_phones_are_upright(frames, tmp_path, kind):
    stored, (a, b, c, d) = PHONES[kind]
    frame = frames[1] if stored is None else frames[1].transpose(stored)
    film = write_film(tmp_path / "film.mp4", [frame] * 3)
    content = film.read_bytes()
    # of the track's header, 16.16 fixed point
    matrix = content.index(b"tkhd") + 44
    values = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    film.write_bytes(content[:matrix] + struct.pack(">9i", *values) + content[matrix + 36 :])
    (first, *_) = frames_of(film)
    assert first.image.size == frames[1].size
    assert np.abs(np.asarray(first.image, int) - np.asarray(frames[1], int)).mean() < 5


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


# the command


@pytest.fixture
def folder(film, tmp_path, monkeypatch):
    shutil.copy(film, tmp_path / "film.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_copy(estimator, film, tmp_path):
    seen = annotate_video(film, None, estimator)
    copied = annotate_video(film, tmp_path / "copy.mp4", estimator)
    assert [[sighting.age for sighting in moment.people] for moment in seen] == [
        [sighting.age for sighting in moment.people] for moment in copied
    ]


def test_the_command_from_a_shell(folder, estimator):
    command = [sys.executable, "-m", "ssrnet_hub.cli", "film", "film.mp4", "--output", "out/copy.mp4", "--csv", "a.csv"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    # a bar that moves, however often it is drawn
    assert re.search(r" [1-9]0%\|", ran.stderr) and ran.stderr.endswith(
        "out/copy.mp4 and a.csv: 2 people in 10 frames\n"
    )
    with av.open("out/copy.mp4") as copy:
        assert len(list(copy.decode(video=0))) == RATE

    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines(), strict=True))
    expected = [
        (moment.seconds, sighting)
        for moment in annotate_video("film.mp4", None, estimator)
        for sighting in moment.people
    ]
    assert len(rows) == len(expected) == 2 * (RATE - 1)
    for row, (seconds, sighting) in zip(rows, expected, strict=True):
        assert float(row["seconds"]) == pytest.approx(seconds, abs=1e-3) and int(row["person"]) == sighting.person
        assert float(row["age"]) == pytest.approx(sighting.age, abs=0.02)
        assert float(row["low"]) < float(row["age"]) < float(row["high"]) and row["reliable"] == "True"
        assert [float(row[key]) for key in ("x1", "y1", "x2", "y2")] == pytest.approx(sighting.face.box, abs=0.2)
        assert float(row["score"]) == pytest.approx(sighting.face.score, abs=1e-3)


@pytest.mark.parametrize("options", [["--csv", "a.csv"], ["--output", "copy.mp4"]], ids=" ".join)
def test_one_of_the_two(folder, capsys, options):
    assert main(["film", "film.mp4", "--rate", "5", *options]) == 0
    assert {path.name for path in folder.iterdir()} == {"film.mp4", options[1]}
    assert capsys.readouterr().err.endswith(f"{options[1]}: 2 people in 5 frames\n")


def test_one_person(folder, capsys, astronaut):
    write_film(folder / "film.mp4", [astronaut.resize((256, 256))] * 3)
    assert main(["film", "film.mp4", "--csv", "a.csv"]) == 0
    assert capsys.readouterr().err.endswith("a.csv: 1 person in 3 frames\n")


def test_neither_of_the_two(folder, capsys):
    with pytest.raises(SystemExit) as e:
        main(["film", "film.mp4"])
    assert e.value.code == 2 and "--output COPY.mp4, --csv AGES.csv" in capsys.readouterr().err


def test_a_film_without_faces(folder, frames):
    write_film(folder / "film.mp4", [Image.new("RGB", SIZE)] * 3)
    assert main(["film", "film.mp4", "--csv", "a.csv"]) == 0
    assert Path("a.csv").read_text() == "seconds,person,age,low,high,reliable,x1,y1,x2,y2,score\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["film.mp4", "--output", "film.mp4", "--csv", "a.csv"], "film.mp4 already exists"),
        (["film.mp4", "--output", "copy.mp4", "--csv", "film.mp4"], "film.mp4 already exists"),
        (["film.mp4", "--output", "x.mp4", "--csv", "./x.mp4"], "cannot be both"),
        (["film.mp4", "--output", "copy.avi"], "must end in .mp4"),
        (["film.mp4", "--csv", "film.mp4/a.csv"], "a.csv cannot be written"),
        (["film.mp4", "--csv", "a.csv", "--output", "film.mp4/copy.mp4"], "copy.mp4 cannot be written"),
        (["none.mp4", "--csv", "a.csv"], "none.mp4"),
        (["words.mp4", "--csv", "a.csv", "--output", "copy.mp4"], "words.mp4 is not a video"),
        (["broken.mp4", "--csv", "a.csv", "--output", "copy.mp4"], "broken.mp4 cannot be read"),
        (["film.mp4", "--csv", "a.csv", "--max-seconds", "0.5"], "longer than 0.5 seconds"),
        (["film.mp4", "--csv", "a.csv", "--max-pixels", "1000"], "more than the limit"),
        (["film.mp4", "--csv", "a.csv", "--weights", "ssrnet.nothing"], "ssrnet.nothing"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_leaves_nothing(folder, capsys, options, said):
    (folder / "words.mp4").write_bytes(b"no film")
    (folder / "broken.mp4").write_bytes((folder / "film.mp4").read_bytes()[:3000])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["film", *options]) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("error: ") == 1 and "Traceback" not in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_interrupted(folder, capsys, monkeypatch):
    class Interrupted(AgeTracker):
        def __call__(self, frame, seconds):
            if seconds > 0.4:
                raise KeyboardInterrupt
            return super().__call__(frame, seconds)

    monkeypatch.setattr("ssrnet_hub.inference.video.AgeTracker", Interrupted)
    assert main(["film", "film.mp4", "--csv", "a.csv", "--output", "copy.mp4"]) == 130
    assert capsys.readouterr().err.endswith("error: interrupted\n")
    assert [path.name for path in folder.iterdir()] == ["film.mp4"]
