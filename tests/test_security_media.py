"""Pictures and films of strangers: no small one makes much work, and none reaches for what is not its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import av
import httpx
import numpy as np
import psutil
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import ssrnet_hub
from ssrnet_hub.errors import OutputError, PhotoError, PhotoTooLargeError, VideoError
from ssrnet_hub.images.decoding import Decoder
from ssrnet_hub.images.formats import FORMATS
from ssrnet_hub.images.loading import load_photo
from ssrnet_hub.images.videos import SUFFIXES, read_film
from ssrnet_hub.inference.video import annotate_frames, annotate_video

from . import hostile
from .demo_server import Demo, interruptible, serve
from .hostile import BOMBS
from .pictures import encode, exif, grey16, orientation_entry, turned, walk, write_film

PIXELS = 40_000_000
RED = (200, 60, 60)


def is_red(image: Image.Image) -> bool:
    red, green, blue = image.getpixel((9, 9))
    return red > RED[0] and green < RED[1] and blue < RED[2]


# pictures


@pytest.mark.parametrize("kind", BOMBS)
def test_small_pictures_that_make_much_work(kind, tmp_path):
    data = BOMBS[kind]()
    assert len(data) < 2_100_000
    (tmp_path / "photo").write_bytes(data)
    for photo in (data, tmp_path / "photo"):
        start = time.process_time()
        with pytest.raises(PhotoError):
            load_photo(photo, PIXELS)
        # without their limits they take from three seconds to hours, or gigabytes
        assert time.process_time() - start < 2


def test_a_heic_that_is_made_of_itself():
    with pytest.raises(PhotoError, match="made of one another"):
        load_photo(hostile.heif_of_itself())


ANIMATED = {"save_all": True, "append_images": [Image.new("RGB", (64, 64))] * 500}
FAIR: dict[str, Callable[[], bytes]] = {
    "progressive JPEG": lambda: encode(hostile.grey(64), "JPEG", progressive=True),
    "JPEG of 100 scans": lambda: hostile.scans(64, 90),
    "JPEG with thumbnails": lambda: hostile.jpeg_with(hostile.segment(0xE1, b"Exif\0\0" + hostile.scans(64, 300))),
    "JPEG with markers in a segment": lambda: hostile.jpeg_with(hostile.segment(0xE2, b"\xff\xda" * 20_000)),
    "JPEG before another file": lambda: encode(hostile.grey(64), "JPEG") + b"\xff\xda\0\2" * 500,
    "JPEG with restarts": lambda: encode(hostile.grey(640), "JPEG", restart_marker_blocks=1),
    "JPEG with a large profile": lambda: encode(hostile.grey(64), "JPEG", icc_profile=os.urandom(3_000_000)),
    "MPO of many pictures": lambda: encode(
        hostile.grey(64), "MPO", save_all=True, append_images=[hostile.grey(64)] * 40
    ),
    # of these the first frame is decoded, and no decoder looks at the others before it is asked to
    "APNG of many frames": lambda: encode(hostile.grey(64), "PNG", **ANIMATED),
    "GIF of many frames": lambda: encode(hostile.grey(64), "GIF", **ANIMATED),
    "WebP of many frames": lambda: encode(hostile.grey(64), "WEBP", **ANIMATED),
    "TIFF of many pages": lambda: encode(hostile.grey(64), "TIFF", **ANIMATED),
    "AVIF of frames": lambda: encode(
        hostile.grey(64), "AVIF", save_all=True, append_images=[Image.new("RGB", (64, 64))] * 5
    ),
    "AVIF with transparency": lambda: encode(hostile.grey(64).convert("RGBA"), "AVIF"),
    "AVIF with EXIF": lambda: turned(hostile.grey(64), 6, "AVIF"),
    "HEIC of tiles": lambda: encode(hostile.grey(640), "HEIF", tile_size=64),
    "HEIC with thumbnails": lambda: encode(hostile.grey(640), "HEIF", tile_size=256, thumbnails=[128, 64]),
    "HEIC of many pictures": lambda: encode(
        hostile.grey(64), "HEIF", save_all=True, append_images=[Image.new("RGB", (64, 64))] * 40
    ),
    "HEIC with transparency": lambda: encode(hostile.grey(64).convert("RGBA"), "HEIF"),
    "HEIC with EXIF and a profile": lambda: turned(hostile.grey(64), 6, "HEIF", icc_profile=os.urandom(1_000_000)),
    "HEIC of 16 bits": lambda: encode(grey16(hostile.grey(64)), "HEIF"),
    "HEIC of one tile several times": lambda: hostile.heif_of_one_tile(3, 4_500),
    "GIF with a comment": lambda: encode(hostile.grey(64), "GIF", comment=b"a" * 100_000),
    "PNG with texts": lambda: hostile.png_with(hostile.inflating(b"zTXt") * 20),
    "PNG in small chunks": lambda: hostile.png_with(hostile.chunk(b"teXt", b"a") * 10_000),
    "TIFF of rows": lambda: encode(hostile.grey(2_000), "TIFF", compression="tiff_lzw", strip_size=1),
    "TIFF in LZMA": lambda: encode(hostile.grey(640), "TIFF", compression="lzma"),
    "TIFF of JPEG": lambda: encode(hostile.grey(640), "TIFF", compression="jpeg"),
    "TIFF of 16 bits": lambda: encode(grey16(hostile.grey(64)), "TIFF", compression="tiff_adobe_deflate"),
    "BigTIFF": lambda: encode(hostile.grey(64), "TIFF", big_tiff=True),
    "JPEG 2000 of tiles and layers": lambda: encode(
        hostile.grey(640), "JPEG2000", tile_size=(64, 64), quality_layers=[40, 20, 10], precinct_size=(128, 128)
    ),
    "JPEG 2000 of small code blocks": lambda: encode(hostile.grey(640), "JPEG2000", codeblock_size=(16, 16)),
    "JPEG 2000 of 12 megapixels": lambda: encode(Image.new("RGB", (4_000, 3_000)), "JPEG2000"),
    "JPEG 2000 in grey": lambda: encode(Image.new("L", (5_000, 5_000)), "JPEG2000"),
    "BMP in run lengths": lambda: hostile.run_lengths(300),
    "PGM with comments": lambda: b"P2 8 8 255\n" + b"#of a row\n1 2 3 4 5 6 7 8\n" * 8,
    "PPM in words": lambda: b"P3 #a comment\n20 20 255\n" + b"200 " * 1_200,
    "PGM of 16 bits": lambda: encode(grey16(hostile.grey(64)), "PPM"),
}


@pytest.mark.parametrize("kind", FAIR)
def test_pictures_that_are_unusual_but_fair(kind):
    assert load_photo(FAIR[kind](), PIXELS).mode == "RGB"


@pytest.mark.parametrize("format", FORMATS)
def test_work_is_bounded_by_size(format):
    """Nothing in a usual file of any format counts as too much: not at its largest either."""
    image = hostile.grey(1_500 if format in ("AVIF", "HEIF", "JPEG2000", "WEBP") else 5_000)
    assert load_photo(encode(image, format)).size == image.size


def test_exif_that_is_a_bomb_is_passed_over_where_it_is_not_needed():
    """PNG and WebP are opened without it."""
    block = hostile.overlapping_tags(20_000)
    before = psutil.Process().memory_info().rss
    for data in (hostile.png_with(hostile.chunk(b"eXIf", block)), encode(hostile.grey(8), "WEBP", exif=block)):
        assert load_photo(data).size == (8, 8)
    assert psutil.Process().memory_info().rss - before < 100_000_000
    assert load_photo(encode(hostile.grey(8), "PNG", exif=exif(orientation_entry(6)))).size == (8, 8)


# in a process of its own


@pytest.fixture(scope="module")
def decoder():
    return Decoder(max_seconds=60)


def children() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children():
        # one that has just ended has no command line
        with suppress(psutil.Error):
            if any("ssrnet_hub.images.decoding" in part for part in process.cmdline()):
                found.append(process)
    return found


def slow() -> bytes:
    """A picture within all limits that takes two seconds in C: 1.7 million code blocks of JPEG 2000."""
    return hostile.jpeg2000(500, blocks=2, larger=2_600)


@pytest.mark.parametrize("format", FORMATS)
def test_a_photo_is_the_same_from_a_process(decoder, astronaut, format, tmp_path):
    stored = turned(astronaut, 6, format, quality=90) if format == "JPEG" else encode(astronaut, format)
    (tmp_path / "photo").write_bytes(stored)
    expected = load_photo(stored)
    for photo in (stored, tmp_path / "photo", str(tmp_path / "photo"), Image.open(tmp_path / "photo")):
        seen = decoder.load_photo(photo)
        assert seen.mode == "RGB" and seen.info == {} and seen.tobytes() == expected.tobytes()


def test_errors_are_the_same_from_a_process(decoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "words.jpg").write_text("no picture")
    (tmp_path / "large.png").write_bytes(encode(hostile.grey(200), "PNG"))
    (tmp_path / "cut.jpg").write_bytes(encode(hostile.grey(200), "JPEG")[:900])
    for photo in ("empty.jpg", "words.jpg", Path("large.png"), "cut.jpg", "missing.jpg", "", "\0", b"", b"words", 3):
        said = []
        for load in (load_photo, decoder.load_photo):
            with pytest.raises(PhotoError) as e:
                load(photo, 10_000)
            said.append((type(e.value), str(e.value)))
        assert said[0] == said[1]
    with pytest.raises(PhotoTooLargeError):
        decoder.load_photo("large.png", 10_000)
    assert decoder.load_photo("large.png").size == (200, 200)


def test_decoding_ends_when_the_time_is_up(astronaut):
    decoder, photo = Decoder(max_seconds=0.2), encode(astronaut.resize((40, 30)), "JPEG")
    assert decoder.load_photo(photo).size == (40, 30)
    before = children()
    start = time.monotonic()
    with pytest.raises(PhotoError, match=r"The picture cannot be decoded: it takes longer than 0\.2 seconds"):
        decoder.load_photo(slow())
    assert time.monotonic() - start < 20
    assert decoder.load_photo(photo).size == (40, 30)
    assert any(not process.is_running() for process in before)


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms may not limit memory")
def test_decoding_ends_when_the_memory_is_used_up():
    decoder = Decoder(max_memory=400 << 20)
    large, photo = encode(Image.new("L", (10_000, 10_000)), "PNG"), encode(hostile.grey(9), "PNG")
    assert len(large) < 200_000
    for _ in range(2):
        with pytest.raises(PhotoError, match="memory"):
            decoder.load_photo(large)
        assert decoder.load_photo(photo).size == (9, 9)


def test_a_large_heic_in_the_memory_that_the_page_has():
    decoder = Decoder(max_seconds=30, max_memory=(1 << 30) + 32 * PIXELS)
    assert decoder.load_photo(hostile.heif_of_one_tile(4, 6_000), PIXELS).size == (6_000, 6_000)


def test_processes_that_die(decoder):
    photo = encode(hostile.grey(9), "PNG")
    decoder.load_photo(photo)
    for process in children():
        process.kill()
        process.wait(10)
    # while idle: nobody notices
    assert decoder.load_photo(photo).size == (9, 9)
    # at work: their photo is lost, and no other
    photo_at_work, known = slow(), set(children())
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(Decoder().load_photo, photo_at_work)
        while not lost.done():
            for process in set(children()) - known:
                # it may end by itself meanwhile
                with suppress(psutil.Error):
                    if process.cpu_times().user > 0.5:
                        process.kill()
            time.sleep(0.01)
        with pytest.raises(PhotoError, match="its decoder broke down"):
            lost.result()
    assert decoder.load_photo(photo).size == (9, 9)


def test_many_threads_share_few_processes(tmp_path):
    decoder, before = Decoder(max_processes=2), set(children())
    good = {side: encode(hostile.grey(side), "PNG") for side in (8, 80, 800)}
    most = 0

    def load(number):
        nonlocal most
        side = (8, 80, 800)[number % 3]
        if number % 4 == 0:
            with pytest.raises(PhotoError):
                decoder.load_photo(b"words")
        size = decoder.load_photo(good[side]).size
        most = max(most, len(set(children()) - before))
        return size == (side, side)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(load, range(60)))
    assert most == 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_is_light_and_keeps_no_photo():
    decoder, before = Decoder(), set(children())
    decoder.load_photo(encode(hostile.grey(5_000), "JPEG"))
    (process,) = set(children()) - before
    assert "torch" not in Path(f"/proc/{process.pid}/maps").read_text()
    # the photo has 100 MB, decoded; the process frees it after it has answered
    deadline = time.monotonic() + 10
    while process.memory_info().rss >= 90_000_000 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.memory_info().rss < 90_000_000
    del decoder
    process.wait(10)


# as it is started for a decoder, or every server would import torch
_SERVER = """
import sys, threading, time, types
folder, photo, slow = sys.argv[1:]
sys.modules["ssrnet_hub"] = types.ModuleType("ssrnet_hub")
sys.modules["ssrnet_hub"].__path__ = [folder]
from ssrnet_hub.images.decoding import Decoder
busy, idle = Decoder(max_seconds=3), Decoder(max_seconds=3)
busy.load_photo(photo)
idle.load_photo(photo)
threading.Thread(target=busy.load_photo, args=(slow,), daemon=True).start()
time.sleep(0.5)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_the_server(ending, tmp_path):
    (tmp_path / "photo.png").write_bytes(encode(hostile.grey(9), "PNG"))
    (tmp_path / "slow.j2k").write_bytes(slow())
    folder = Path(ssrnet_hub.__file__).parent
    command = [sys.executable, "-c", _SERVER, folder, tmp_path / "photo.png", tmp_path / "slow.j2k"]
    with interruptible(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout.readline() == "ready\n"
        started = psutil.Process(server.pid).children()
        assert len(started) == 2
        server.send_signal(ending)
        server.wait(30)
        _, alive = psutil.wait_procs(started, timeout=30)
        for process in alive:
            process.kill()
        assert not alive


# films


@pytest.fixture(scope="module")
def red(tmp_path_factory):
    """A film of another person, and the same as a segment of a stream."""
    folder = tmp_path_factory.mktemp("red")
    hostile.write_color(folder / "secret.ts", "red", "mpegts")
    return hostile.write_color(folder / "secret.mp4", "red")


LIMITS = {"rate": 10.0, "max_seconds": 60, "max_pixels": 9_000_000, "max_frames": 1_000, "max_total_pixels": 10**10}
KINDS = {
    "film.mp4": ("mp4", "libx264"),
    "FILM.MOV": ("mov", "libx264"),
    "film.m4v": ("mp4", "libx265"),
    "film.webm": ("webm", "libvpx-vp9"),
    "film.mkv": ("matroska", "libvpx"),
    "film.avi": ("avi", "mpeg4"),
    "old.avi": ("avi", "mjpeg"),
    "film.mjpeg": ("mjpeg", "mjpeg"),
}


def frames_of(path: Path, reader: Callable = read_film, **limits) -> list[Image.Image]:
    return [frame.image for frame in reader(str(path), **{**LIMITS, **limits}) if frame]


@pytest.mark.parametrize("name", KINDS)
def test_films_that_are_taken(name, decoder, tmp_path):
    format, codec = KINDS[name]
    hostile.write_color(tmp_path / name, "red", format, codec)
    for reader in (read_film, decoder.read_film):
        seen = frames_of(tmp_path / name, reader)
        # MJPEG has no times: 25 frames a second are assumed
        assert len(seen) == (4 if name == "film.mjpeg" else 10) and all(map(is_red, seen))


def test_the_suffixes_of_films():
    assert {Path(name).suffix.lower() for name in KINDS} <= set(SUFFIXES)
    assert not set(SUFFIXES) & {".m3u8", ".m3u", ".ffconcat", ".mpd", ".sdp", ".txt", ".srt", ".ass", ".jpg", ".gif"}


def test_a_film_with_sound(tmp_path):
    with av.open(str(tmp_path / "film.mp4"), "w") as film:
        sound, picture = film.add_stream("aac", rate=44_100), film.add_stream("libx264", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            film.mux(picture.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 48), "red"))))
        for number in range(40):
            quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            quiet.sample_rate, quiet.pts = 44_100, 1024 * number
            film.mux(sound.encode(quiet))
        film.mux(sound.encode())
        film.mux(picture.encode())
    assert len(frames_of(tmp_path / "film.mp4")) == 10


@pytest.mark.parametrize("name", hostile.REACHING)
def test_films_that_reach_for_others(name, red, estimator, tmp_path):
    """They lie beside the film that they name, as the uploads of a visitor may."""
    film, stream = tmp_path / "secret.mp4", tmp_path / "secret.ts"
    for path in (film, stream):
        path.write_bytes((red.parent / path.name).read_bytes())
    (tmp_path / name).write_bytes(hostile.REACHING[name](film, stream))
    seen = []
    with pytest.raises(VideoError, match=name.replace(".", r"\.")) as e:
        seen = annotate_video(tmp_path / name, tmp_path / "copy.mp4", estimator)
    assert not seen and not (tmp_path / "copy.mp4").exists()
    assert any(said in str(e.value) for said in ("Supported videos are MP4", "no frame that can be read"))
    # not even for a reader whose caller does not look at its errors
    seen = []
    with pytest.raises(VideoError):
        seen.extend(frame.image for frame in read_film(str(tmp_path / name), **LIMITS) if frame)
    assert not any(map(is_red, seen))


def test_nothing_is_opened_even_where_ffmpeg_would(red, tmp_path, monkeypatch):
    """An MP4 whose frames lie elsewhere, on a machine whose FFmpeg follows that by default."""
    (tmp_path / "secret.mp4").write_bytes(red.read_bytes())
    (tmp_path / "external.mov").write_bytes(hostile.external(tmp_path / "secret.mp4"))
    opened = av.open

    def follow(*args, options=None, **kwargs):
        return opened(*args, options={**(options or {}), "enable_drefs": "1", "use_absolute_path": "1"}, **kwargs)

    monkeypatch.setattr(av, "open", follow)
    with av.open(str(tmp_path / "external.mov")) as film:
        assert is_red(next(film.decode(video=0)).to_image())
    with pytest.raises(VideoError, match=r"external\.mov refers to other files"):
        frames_of(tmp_path / "external.mov")


def test_films_that_are_not_taken(red, tmp_path):
    for name in ("film", "film.ts", "film.mp4.txt", "film.jpg", ".mp4"):
        (tmp_path / name).write_bytes(red.read_bytes())
        with pytest.raises(VideoError, match="has no extension of a supported video"):
            frames_of(tmp_path / name)
    hostile.write_color(tmp_path / "film.mkv", "red", "matroska", "ffv1")
    with pytest.raises(VideoError, match="is encoded as ffv1"):
        frames_of(tmp_path / "film.mkv")
    (tmp_path / "film.mov").write_bytes((red.parent / "secret.ts").read_bytes())
    with pytest.raises(VideoError, match="is not a video"):
        frames_of(tmp_path / "film.mov")
    (tmp_path / "film.avi").mkdir()
    with pytest.raises(VideoError, match="cannot be read"):
        frames_of(tmp_path / "film.avi")


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """12,000 frames of 2 megapixels in less than a seventh of a second: 320 kB."""
    path = hostile.write_still(tmp_path_factory.mktemp("still") / "still.mp4", 1_500, 12_000)
    assert path.stat().st_size < 480_000
    return path


@pytest.fixture(scope="module")
def large_still(tmp_path_factory):
    """As `still`, but so large that no computer decodes the tenth of a second to the next frame in two seconds."""
    return hostile.write_still(tmp_path_factory.mktemp("still") / "large.mp4", 2_900, 12_000)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_frames": 50}, "has more than 50 frames"),
        ({"max_total_pixels": 100_000_000}, "more than 100,000,000 pixels in all"),
        ({"max_pixels": 2_000_000}, "2,250,000 pixels, more than the limit"),
        ({"timeout": 0.5}, r"takes longer than 0\.5 seconds"),
    ],
)
def test_small_films_that_make_much_work(still, estimator, tmp_path, limits, said):
    """They take 10 seconds and more otherwise, and one of 100 MB would take hours."""
    start, known = time.monotonic(), set(children())
    with pytest.raises(VideoError, match=said):
        annotate_video(still, tmp_path / "copy.mp4", estimator, **limits)
    assert time.monotonic() - start < 60
    assert not list(tmp_path.iterdir()) and set(children()) <= known


def test_as_many_frames_as_the_limit(red):
    assert len(frames_of(red, max_frames=10, max_total_pixels=10 * 64 * 48, max_pixels=64 * 48)) == 10


def test_stopped_while_frames_are_left_out(large_still, estimator, tmp_path):
    known = set(children())
    frames = annotate_frames(large_still, tmp_path / "copy.mp4", estimator)
    assert next(moment for moment in frames if moment).seconds == 0
    for _ in range(2):
        start = time.monotonic()
        assert next(frames) is None
        assert time.monotonic() - start < 10
    frames.close()
    assert not list(tmp_path.iterdir()) and set(children()) <= known


def test_a_packet_that_takes_long(tmp_path):
    """20,000 frames in one packet are one call of FFmpeg, which no clock of ours interrupts."""
    path = hostile.write_still(tmp_path / "packed.mp4", 1_500, 20_000, together=True)
    assert path.stat().st_size < 700_000
    known, waited, last = set(children()), [], time.monotonic()
    with pytest.raises(VideoError, match=r"packed\.mp4 cannot be decoded: it takes longer than 1 second"):
        for frame in Decoder(max_seconds=1).read_film(path, **LIMITS):
            waited.append(time.monotonic() - last)
            last = time.monotonic()
            assert frame is None or frame.seconds == 0
    assert max(waited) < 10 and len(waited) >= 2 and set(children()) <= known


ODD = {
    "the same time": (hostile.same_time, 1),
    "backwards": (hostile.backwards, 1),
    "too many samples": (lambda film: hostile.many_samples(film, 100_000_000), 0),
    "more samples than memory": (lambda film: hostile.many_samples(film, 2**32 - 1), 0),
}


@pytest.mark.parametrize("kind", ODD)
def test_times_that_make_no_sense(kind, tmp_path):
    change, most = ODD[kind]
    hostile.write_color(tmp_path / "film.mp4", "red", frames=40, tune="zerolatency")
    (tmp_path / "odd.mp4").write_bytes(change(tmp_path / "film.mp4"))
    decoder, seen, start = Decoder(max_seconds=5, max_memory=1 << 30), [], time.monotonic()
    try:
        seen = frames_of(tmp_path / "odd.mp4", decoder.read_film)
    except VideoError as e:
        assert "odd.mp4" in str(e)
    assert len(seen) <= most and time.monotonic() - start < 60


def test_frames_that_change_their_size(estimator, astronaut, tmp_path):
    path, sizes = tmp_path / "film.mjpeg", [(64, 48), (300, 200), (20, 10)]
    path.write_bytes(b"".join(encode(astronaut.resize(size), "JPEG") for size in sizes for _ in range(5)))
    seen = annotate_video(path, tmp_path / "copy.mp4", estimator)
    with av.open(str(tmp_path / "copy.mp4")) as copy:
        assert {(frame.width, frame.height) for frame in copy.decode(video=0)} == {(64, 48)}
    assert len(seen) == 6
    # a frame is not even given memory that is larger than allowed
    path.write_bytes(encode(astronaut.resize((64, 48)), "JPEG") + encode(hostile.grey(9_000), "JPEG"))
    with pytest.raises(VideoError):
        frames_of(path, max_pixels=100_000)


def test_frames_of_many_scans(tmp_path):
    path = tmp_path / "film.mjpeg"
    path.write_bytes(encode(hostile.grey(64), "JPEG") + hostile.scans(2_900, 300))
    with pytest.raises(VideoError, match="too many scans"):
        frames_of(path)


def test_a_copy_that_cannot_be_written(red, estimator, tmp_path):
    (tmp_path / "copy.mp4").mkdir()
    with pytest.raises(OutputError, match=r"copy\.mp4 cannot be written"):
        annotate_video(red, tmp_path / "copy.mp4", estimator)


# the page


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with serve(
        tmp_path_factory.mktemp("demo"),
        SSRNET_HUB_DEMO_MAX_DECODE_SECONDS=2,
        # by default what takes so long is refused
        SSRNET_HUB_DEMO_MAX_PIXELS=160_000_000,
        SSRNET_HUB_DEMO_MAX_FILM_TOTAL_PIXELS=20_000_000_000,
    ) as demo:
        yield demo


@pytest.fixture(scope="module")
def client(demo):
    return demo.client()


@pytest.fixture(scope="module")
def photo(tmp_path_factory, astronaut):
    path = tmp_path_factory.mktemp("photo") / "astronaut.png"
    astronaut.save(path)
    return path


def decoders_of(demo: Demo) -> set[psutil.Process]:
    return {
        child
        for child in psutil.Process(demo.process.pid).children(recursive=True)
        if any("ssrnet_hub.images.decoding" in part for part in child.cmdline())
    }


class Visitor:
    """Somebody who uses the film tab without a browser."""

    def __init__(self, demo: Demo):
        self._http = httpx.Client(base_url=f"{demo.url}gradio_api/", timeout=60)
        self._session = os.urandom(6).hex()
        config = httpx.get(f"{demo.url}config").json()
        (copy,) = (c["id"] for c in config["components"] if c["props"].get("elem_id") == "copy")
        (self._function,) = (d["id"] for d in config["dependencies"] if copy in d["outputs"])
        self._event = ""

    def upload(self, path: Path) -> str:
        with path.open("rb") as file:
            (there,) = self._http.post("upload", files={"files": (path.name, file)}).json()
        return there

    def follow(self, film: str) -> Iterator[dict]:
        """Messages of the server about a film, from when it is worked at to its end."""
        request = {"data": [{"path": film, "meta": {"_type": "gradio.FileData"}}, None]}
        request |= {"fn_index": self._function, "session_hash": self._session}
        self._event = self._http.post("queue/join", json=request).raise_for_status().json()["event_id"]
        with self._http.stream("GET", f"queue/data?session_hash={self._session}") as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    yield message
                    if message["msg"] in ("process_completed", "close_stream"):
                        return

    def stop(self) -> None:
        request = {"session_hash": self._session, "fn_index": self._function, "event_id": self._event}
        self._http.post("cancel", json=request).raise_for_status()


def test_a_slow_photo_on_the_page(demo, client, photo, tmp_path):
    """It ends by the server's clock, and others are answered meanwhile."""
    # within all limits as well, and more than five seconds of work
    (tmp_path / "slow.ppm").write_bytes(b"P3 1400 1400 255\n" + b"0 " * (1_400 * 1_400 * 3))
    assert client.predict(handle_file(photo), api_name="/predict")["faces"]

    def ask():
        with pytest.raises(AppError) as e:
            demo.client().predict(handle_file(tmp_path / "slow.ppm"), api_name="/predict")
        return str(e.value)

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        assert client.predict(handle_file(photo), api_name="/predict")["faces"]
        assert "slow.ppm cannot be decoded: it takes longer than 2 seconds" in asked.result()
    assert client.predict(handle_file(photo), api_name="/predict")["faces"]


@pytest.mark.parametrize(
    "kind", ["PNG that is cleared when it is opened", "AVIF of many frames", "HEIC of one tile many times"]
)
def test_bombs_on_the_page(demo, client, photo, kind, tmp_path):
    (tmp_path / "bomb.jpg").write_bytes(BOMBS[kind]())
    server = psutil.Process(demo.process.pid)
    before = server.memory_info().rss
    with pytest.raises(AppError, match=r"bomb\.jpg") as e:
        client.predict(handle_file(tmp_path / "bomb.jpg"), api_name="/predict")
    assert str(tmp_path) not in str(e.value) and server.memory_info().rss < before + 200_000_000
    assert client.predict(handle_file(photo), api_name="/predict")["faces"]


@pytest.mark.parametrize("name", ["absolute.m3u8", "renamed.mp4", "list.ffconcat", "external.mov"])
def test_films_that_reach_for_others_on_the_page(demo, red, name, tmp_path):
    """The film that they name lies on the server's disk."""
    (tmp_path / name).write_bytes(hostile.REACHING[name](red, red.parent / "secret.ts"))
    visitor = Visitor(demo)
    *_, last = visitor.follow(visitor.upload(tmp_path / name))
    assert last["msg"] == "process_completed" and not last["success"]
    said = last["output"]["error"]
    assert name in said and str(red.parent) not in said and "secret" not in said


def test_a_film_on_the_page(demo, tmp_path, astronaut):
    visitor = Visitor(demo)
    *_, last = visitor.follow(visitor.upload(write_film(tmp_path / "walk.mp4", walk(astronaut))))
    assert last["success"] and last["output"]["data"][0]


def test_a_film_is_stopped_while_frames_are_left_out(demo, large_still):
    visitor, idle = Visitor(demo), decoders_of(demo)
    messages = visitor.follow(visitor.upload(large_still))
    # the first frame; all that follow are left out
    next(message for message in messages if message["msg"] == "process_generating")
    assert decoders_of(demo) - idle
    start = time.monotonic()
    visitor.stop()
    while decoders_of(demo) - idle and time.monotonic() < start + 20:
        time.sleep(0.1)
    assert not decoders_of(demo) - idle
