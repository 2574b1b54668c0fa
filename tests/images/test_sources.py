"""What the command takes for a photo besides a file: pipes, zips, and the web, whose servers do as they like."""

import csv
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ssrnet_hub.cli import main
from ssrnet_hub.errors import PhotoError
from ssrnet_hub.images import fetching, sources
from ssrnet_hub.images.fetching import fetch

from ..demo_server import free_port
from ..pictures import encode, write_film, write_zip


@pytest.fixture(scope="module")
def photo(astronaut):
    """One face and little else, to be quick."""
    return astronaut.crop((120, 20, 320, 250))


@pytest.fixture(scope="module")
def content(photo):
    return encode(photo, "PNG")


@pytest.fixture(scope="module")
def face(estimator, photo):
    (face,) = estimator(photo)
    return face


@pytest.fixture
def folder(tmp_path, content, monkeypatch):
    (tmp_path / "a.png").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run the command in this process; answers its exit code, the photos that it printed as JSON, and stderr."""

    def run(*arguments) -> tuple[int, dict[str, dict], str]:
        code = main(["predict", "--json", *map(str, arguments)])
        out = capsys.readouterr()
        return code, {row["file"]: row for row in json.loads(out.out or "[]")}, out.err

    return run


@pytest.fixture
def stdin(monkeypatch):
    def send(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return send


def assert_face(row, face):
    assert row["error"] is None
    (told,) = row["faces"]
    assert told["age"] == pytest.approx(face.age, abs=0.02)


# pipes


def command(line: str, **kwargs) -> subprocess.CompletedProcess:
    """A line for bash, in which ``ssrnet-hub`` is the command."""
    start = f'ssrnet-hub() {{ "{sys.executable}" -m ssrnet_hub.cli "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", start], capture_output=True, text=True, **kwargs)


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
def test_pipes_from_a_shell(folder, face):
    line = "cat a.png | ssrnet-hub predict --json a.png - /dev/stdin <(cat a.png) <(cat a.png)"
    ran = command(line)
    assert ran.returncode == 1, ran.stderr
    first, piped, empty, *substituted = json.loads(ran.stdout)
    for row in (first, piped, *substituted):
        assert_face(row, face)
    assert (first["file"], piped["file"]) == ("a.png", "-")
    assert [row["file"].startswith("/dev/fd/") for row in substituted] == [True, True]
    # what the first has read is gone
    assert empty["file"] == "/dev/stdin" and "empty" in empty["error"]


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="there is no such file here")
def test_a_file_as_stdin_is_read_before_the_workers_start(folder, content, face):
    (folder / "b.png").write_bytes(content)
    ran = command("ssrnet-hub predict /dev/stdin b.png a.png --output ages.jsonl --workers 2 < a.png")
    assert ran.returncode == 0, ran.stderr
    rows = list(map(json.loads, (folder / "ages.jsonl").read_text().splitlines()))
    assert [row["file"] for row in rows] == ["/dev/stdin", "b.png", "a.png"]
    for row in rows:
        assert_face(row, face)


def test_stdin(run, stdin, content, face, folder):
    stdin(content)
    code, rows, _ = run("-", "--annotate", folder / "out")
    assert code == 0 and list(rows) == ["-"]
    assert_face(rows["-"], face)
    assert [path.name for path in (folder / "out").iterdir()] == ["stdin.png"]


@pytest.mark.parametrize(("data", "said"), [(b"", "is empty"), (b"no picture", "not a picture")])
def test_stdin_that_is_no_photo(run, stdin, folder, data, said):
    stdin(data)
    code, rows, err = run("-", "a.png")
    assert code == 1 and said in rows["-"]["error"] and "error: -: The picture is" in err
    assert len(rows["a.png"]["faces"]) == 1


def test_stdin_that_is_closed(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    code, rows, err = run("-")
    assert code == 1 and "closed" in rows["-"]["error"] and "closed" in err


def test_stdin_that_is_a_terminal(run, monkeypatch):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        code, rows, _ = run("-")
    os.close(ours)
    assert code == 1 and "terminal" in rows["-"]["error"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe(run, folder, content, face):
    os.mkfifo(folder / "pipe.png")
    threading.Thread(target=(folder / "pipe.png").write_bytes, args=[content], daemon=True).start()
    code, rows, _ = run("pipe.png")
    assert code == 0
    assert_face(rows["pipe.png"], face)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no such file here")
def test_a_pipe_without_end(run, monkeypatch, folder):
    monkeypatch.setattr(sources, "_MAX_SIZE", 1_000_000)
    code, rows, err = run("/dev/zero", "a.png")
    assert code == 1 and "more than 1,000,000 bytes" in rows["/dev/zero"]["error"]
    assert err.count("error: /dev/zero cannot be read") == 1 and len(rows["a.png"]["faces"]) == 1


def test_home(run, folder, monkeypatch, face):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    (folder / "deeper").mkdir()
    (folder / "faces.csv").write_text(f"file,x1,y1,x2,y2\n{folder / 'a.png'},60,40,145,155\n")
    monkeypatch.chdir(folder / "deeper")
    for name in ("~/a.png", "~/*.png", "~"):
        code, rows, _ = run(name)
        assert code == 0 and list(rows) == [str(folder / "a.png")]
        assert_face(rows[str(folder / "a.png")], face)
    code, rows, _ = run("~/a.png", "--boxes=~/faces.csv", "--annotate=~/out")
    assert code == 0 and rows[str(folder / "a.png")]["faces"][0]["box"] == [60, 40, 145, 155]
    assert (folder / "out" / "a.png").exists() and not list(Path().iterdir())


# zips


@pytest.fixture
def album(folder, content):
    files = {"b/2.png": content, "1.png": content, "broken.jpg": b"broken", "notes.txt": b"-", "b/1.png": content}
    return write_zip(folder / "album.zip", files)


IN_ALBUM = ["album.zip/1.png", "album.zip/b/1.png", "album.zip/b/2.png", "album.zip/broken.jpg"]


def test_a_zip(run, album, face, folder):
    code, rows, err = run("a.png", "album.zip", folder / "album.zip", "--annotate", "out")
    assert code == 1 and err.count("error: ") == 1 and "error: album.zip/broken.jpg: The picture" in err
    assert list(rows) == ["a.png", *IN_ALBUM]
    for name in IN_ALBUM[:3]:
        assert_face(rows[name], face)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["1-2.png", "1.png", "2.png", "a.png"]


@pytest.mark.parametrize("names", [["album.zip"], ["*.zip"], ["./album.zip"]])
def test_a_zip_to_an_output(capsys, album, face, folder, names):
    assert main(["predict", *names, "--output", "ages.jsonl", "--workers", "2"]) == 1
    assert capsys.readouterr().err.count("error: ") == 1
    rows = list(map(json.loads, (folder / "ages.jsonl").read_text().splitlines()))
    assert [row["file"] for row in rows] == IN_ALBUM
    for row in rows[:3]:
        assert_face(row, face)
    assert "not a picture" in rows[3]["error"]


def test_what_csv_prints_of_a_zip_are_boxes(run, capsys, album, folder):
    main(["predict", "album.zip", "--csv"])
    (folder / "faces.csv").write_text(capsys.readouterr().out)
    for names in ([], ["album.zip"], ["album.zip/b/1.png", "album.zip/1.png"]):
        code, rows, _ = run(*names, "--boxes", "faces.csv")
        assert code == (len(rows) == 4)
        assert set(rows) == set(IN_ALBUM if len(rows) == 4 else names)
        assert all(len(row["faces"]) == 1 for row in rows.values() if not row["error"])


def test_a_photo_of_a_zip(run, album, face):
    code, rows, err = run("album.zip/b/2.png", "album.zip/b/../1.png", "album.zip/none.png")
    assert code == 1 and "error: album.zip/none.png: no such file" in err
    assert_face(rows["album.zip/b/2.png"], face)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "cannot be read"),
        ({"notes.txt": b"-"}, "no picture in this zip"),
        ({"../a.png": b"-"}, "outside of itself"),
    ],
)
def test_a_zip_without_photos(run, folder, files, said):
    (folder / "b.zip").write_bytes(b"no zip")
    if files:
        write_zip(folder / "b.zip", files)
    code, rows, err = run("b.zip", "a.png")
    assert code == 1 and said in rows["b.zip"]["error"] and err.count("error: ") == 1
    assert len(rows["a.png"]["faces"]) == 1


def test_zips_in_folders_are_passed_over(run, album, folder):
    _, rows, _ = run(folder)
    assert list(rows) == [str(folder / "a.png")]


def test_names_in_a_zip_do_not_reach_the_terminal(capsys, folder, content):
    write_zip(folder / "b.zip", {"\x1b[2J\r\n.png": content, "\x1b]0;.jpg": b"broken"})
    assert main(["predict", "b.zip"]) == 1
    out = capsys.readouterr()
    assert "\\x1b[2J\\r\\n.png" in out.out and "\\x1b]0;.jpg" in out.err
    assert "\x1b" not in out.out + out.err and len(out.out.splitlines()) == 3


# films


def test_a_film_is_for_another_command(run, folder, photo):
    write_film(folder / "my film.mp4", [photo.resize((200, 230))] * 3)
    code, rows, err = run("my film.mp4", "a.png")
    assert code == 1 and len(rows["a.png"]["faces"]) == 1
    said = "error: my film.mp4 is a film: ssrnet-hub film 'my film.mp4' --csv ages.csv follows the people in it\n"
    assert said in err


# the web


class Site(ThreadingHTTPServer):
    """A server on 127.0.0.1, with what it was asked."""

    daemon_threads = True

    def __init__(self, content: bytes):
        self.content, self.asked, self.gate = content, [], threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Clients hang up here."""


class Handler(BaseHTTPRequestHandler):
    server: Site

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        getattr(self, self.path.partition("?")[0].strip("/").partition(".")[0].replace("-", "_"), self.missing)()

    def answer(self, content=b"", code=200, **headers):
        self.send_response(code)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def missing(self):
        self.answer(b"<html>no such page</html>", 404)

    def photo(self):
        self.answer(self.server.content)

    def page(self):
        self.answer(b"<html>a page about a photo</html>", Content_Type="text/html")

    def moved(self):
        self.answer(b"x", 302, Location="/photo.png")

    def loop(self):
        self.answer(b"", 302, Location="/loop.png")

    def to_file(self):
        self.answer(b"", 302, Location="file:///etc/passwd")

    def to_ftp(self):
        self.answer(b"", 301, Location="ftp://127.0.0.1/photo.png")

    def to_nowhere(self):
        self.answer(b"", 302, Location="http://[broken/")

    def large(self):
        self.answer(bytes(2_000_000))

    def endless(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(100_000))

    def endless_redirect(self):
        self.send_response(302)
        self.send_header("Location", "/photo.png")
        self.end_headers()
        while True:
            self.wfile.write(bytes(100_000))

    def packed(self):
        import gzip

        self.answer(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")

    def slow_header(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            self.wfile.write(b"a")
            time.sleep(0.05)

    def slow_body(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"a")
            time.sleep(0.05)

    def short(self):
        self.answer(self.server.content[:1000], Content_Length=len(self.server.content))

    def gated(self):
        self.server.gate.wait(60)
        self.photo()


@contextmanager
def serving(site):
    thread = threading.Thread(target=site.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.gate.set()
        site.shutdown()
        site.server_close()


@pytest.fixture
def site(content):
    with serving(Site(content)) as site:
        yield site


def test_a_photo_of_the_web(run, site, face, folder):
    code, rows, err = run(f"{site.url}/photo.png", "--allow-private-urls", "--annotate", "out")
    assert code == 0, err
    assert_face(rows[f"{site.url}/photo.png"], face)
    assert [path.name for path in (folder / "out").iterdir()] == ["photo.png"]
    ((_, headers),) = site.asked
    assert headers["User-Agent"].startswith("ssrnet_hub/") and headers["Host"] == site.url.removeprefix("http://")


def test_photos_of_the_web_from_a_shell(site, face, folder):
    url = f"{site.url}/photo.png"
    ran = command(f"ssrnet-hub predict --json {url}")
    assert ran.returncode == 1 and "not a public host; --allow-private-urls" in ran.stderr and not site.asked
    ran = command(f"ssrnet-hub predict {url} {url}?2 a.png --allow-private-urls --output ages.csv --workers 2")
    assert ran.returncode == 0, ran.stderr
    rows = list(csv.DictReader((folder / "ages.csv").open()))
    assert [row["file"] for row in rows] == [url, f"{url}?2", "a.png"]
    assert [float(row["age"]) for row in rows] == pytest.approx([face.age] * 3, abs=0.02)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0.0.0.0"])
def test_hosts_of_this_machine_are_refused(site, host):
    url = site.url.replace("127.0.0.1", host)
    with pytest.raises(PhotoError, match=r"not a public host|cannot be fetched"):
        fetch(f"{url}/photo.png")
    assert not site.asked


PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
]
PRIVATE += ["255.255.255.255", "::1", "::", "fe80::1", "fe80::1%lo", "fc00::1", "fec0::1", "ff02::1"]
# what leads to an address of version 4
PRIVATE += [
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
]
PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address):
    assert not fetching.is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address):
    assert fetching.is_public(address)


@pytest.fixture
def resolver(monkeypatch):
    """A name server: host to the addresses that it answers, one list after the other."""
    names: dict[str, list[list[str]]] = {}
    real, asked = socket.getaddrinfo, []

    def look_up(host, port, *args, **kwargs):
        host = host.decode() if isinstance(host, bytes) else host
        if host not in names:
            return real(host, port, *args, **kwargs)
        asked.append(host)
        answers = names[host].pop(0) if len(names[host]) > 1 else names[host][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    names["asked"] = asked
    return names


def test_a_name_that_is_private_among_others(resolver, site):
    resolver["photos.test"] = [["93.184.215.14", "127.0.0.1"]]
    with pytest.raises(PhotoError, match=r"photos\.test is not a public host"):
        fetch(f"http://photos.test:{site.server_address[1]}/photo.png")
    assert not site.asked


def test_a_name_is_looked_up_once(resolver, site, content, monkeypatch):
    # a name server that answers a public address to whoever checks and a private one to whoever connects
    resolver["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"]]
    port = site.server_address[1]
    assert fetch(f"http://rebind.test:{port}/photo.png", allow_private=True) == content
    assert resolver["asked"] == ["rebind.test"]
    ((_, headers),) = site.asked
    assert headers["Host"] == f"rebind.test:{port}"

    # what was checked is what is connected to
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")
    resolver["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"]]
    assert fetch(f"http://rebind.test:{port}/photo.png") == content
    assert resolver["asked"] == ["rebind.test"] * 2


def test_another_address_where_the_first_does_not_answer(resolver, site, content):
    resolver["photos.test"] = [["127.0.0.2", "127.0.0.1"]]
    assert fetch(f"http://photos.test:{site.server_address[1]}/photo.png", allow_private=True) == content


def test_a_redirect(site, content):
    assert fetch(f"{site.url}/moved.png", allow_private=True) == content
    assert [path for path, _ in site.asked] == ["/moved.png", "/photo.png"]


def test_a_redirect_to_a_private_host(resolver, site, content, monkeypatch):
    # of the two hosts one counts as public
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")
    with serving(Site(content)) as other:
        resolver["inside.test"] = [["127.0.0.3"]]
        inside = f"http://inside.test:{other.server_address[1]}/photo.png"
        monkeypatch.setattr(Handler, "inward", lambda self: self.answer(b"", 302, Location=inside), raising=False)
        with pytest.raises(PhotoError, match=r"inside\.test is not a public host"):
            fetch(f"{site.url}/inward.png")
        assert not other.asked


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing.png", "returned 404 Not Found"),
        ("loop.png", "redirects more than 5 times"),
        ("to-file.png", "redirects to file:"),
        ("to-ftp.png", "redirects to ftp:"),
        ("to-nowhere.png", "cannot be fetched: "),
        ("large.png", "more than 1,000,000 bytes"),
        ("endless.png", "more than 1,000,000 bytes"),
        ("slow-header.png", "takes longer than 2 seconds"),
        ("slow-body.png", "takes longer than 2 seconds"),
        ("short.png", "cannot be fetched"),
    ],
)
def test_servers_that_do_not_answer_a_photo(site, path, said):
    with pytest.raises(PhotoError, match=said) as e:
        fetch(f"{site.url}/{path}", allow_private=True, max_size=1_000_000, max_seconds=2)
    assert str(e.value).startswith(f"{site.url}/{path} cannot be fetched: ")
    assert len(site.asked) <= 6


def test_what_comes_with_a_redirect_is_not_taken(site, content):
    assert fetch(f"{site.url}/endless-redirect.png", allow_private=True, max_seconds=20) == content


def test_what_is_packed_is_not_unpacked(site):
    assert len(fetch(f"{site.url}/packed.png", allow_private=True)) < 100_000
    assert site.asked[0][1]["Accept-Encoding"] == "identity"


def test_a_server_that_is_not_there():
    for url in (f"http://127.0.0.1:{free_port()}/a.png", "http://no-such-host.invalid/a.png", "http://[broken/a.png"):
        with pytest.raises(PhotoError, match=r"cannot be fetched: [^ ]") as e:
            fetch(url, allow_private=True)
        assert str(e.value).startswith(url)


def test_a_page_is_no_photo(run, site):
    code, _, err = run(f"{site.url}/page.html", "--allow-private-urls")
    assert code == 1 and err.startswith(f"error: {site.url}/page.html: The picture is not a picture")


def test_proxies_and_logins_of_the_machine_are_not_used(site, content, monkeypatch, tmp_path):
    dead = f"http://user:secret@127.0.0.1:{free_port()}"
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, dead)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert fetch(f"{site.url}/photo.png", allow_private=True) == content
    ((_, headers),) = site.asked
    assert not {"Authorization", "Cookie", "Proxy-Authorization"} & set(headers)


def test_a_login_in_an_address_goes_to_its_host_and_into_no_output(run, site, face, resolver, content, monkeypatch):
    url = site.url.replace("//", "//user:secret@")
    code, rows, err = run(f"{url}/photo.png", f"{url}/missing.png", "--allow-private-urls")
    assert code == 1 and "secret" not in err + json.dumps(rows)
    assert_face(rows[f"{site.url}/photo.png"], face)
    assert site.asked[0][1]["Authorization"] == f"Basic {b64encode(b'user:secret').decode()}"

    resolver["other.test"] = [["127.0.0.1"]]
    with serving(Site(content)) as other:
        away = f"http://other.test:{other.server_address[1]}/photo.png"
        monkeypatch.setattr(Handler, "away", lambda self: self.answer(b"", 302, Location=away), raising=False)
        assert fetch(f"{url}/away.png", allow_private=True) == content
        assert "Authorization" not in other.asked[0][1]


def test_a_certificate_is_that_of_the_name(content, resolver, tmp_path, monkeypatch):
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl here")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=photos.test"]
    make += ["-addext", "subjectAltName=DNS:photos.test", "-keyout", key, "-out", certificate]
    subprocess.run(list(map(str, make)), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    # those of before are not read again
    monkeypatch.setattr(fetching, "_make_context", fetching._make_context.__wrapped__)
    resolver["photos.test"] = resolver["other.test"] = [["127.0.0.1"]]
    site = Site(content)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    with serving(site):
        port = site.server_address[1]
        assert fetch(f"https://photos.test:{port}/photo.png", allow_private=True) == content
        for name in ("other.test", "127.0.0.1"):
            with pytest.raises(PhotoError, match=r"(?i)certificate"):
                fetch(f"https://{name}:{port}/photo.png", allow_private=True)


def test_what_csv_prints_of_the_web_are_boxes(run, capsys, site, folder):
    url = f"{site.url}/photo.png?x=1//2"
    main(["predict", url, "--allow-private-urls", "--csv"])
    (folder / "faces.csv").write_text(capsys.readouterr().out)
    for names in ([], [url]):
        code, rows, err = run(*names, "--boxes", "faces.csv", "--allow-private-urls")
        assert (code, list(rows)) == (0, [url]), err


@pytest.mark.parametrize("port", [0, 65536, 99999, 10**30])
def test_ports_that_are_none(port):
    with pytest.raises(PhotoError, match=r"cannot be fetched: .*port"):
        fetch(f"http://127.0.0.1:{port}/photo.png", allow_private=True)


def test_python_never_fetches(estimator, site):
    with pytest.raises(PhotoError):
        estimator(f"{site.url}/photo.png")
    assert not site.asked


# rows as they come


def test_a_row_is_there_before_the_next_photo(site, folder, face):
    line = [sys.executable, "-m", "ssrnet_hub.cli", "predict", "a.png", f"{site.url}/gated.png", "none.png"]
    for option, age in (([], f"{face.age:.1f}"), (["--csv"], str(round(face.age, 3)))):
        site.gate.clear()
        with subprocess.Popen(
            [*line, "--allow-private-urls", *option], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as ran:
            # the second photo does not come before its gate is open
            threading.Timer(120, site.gate.set).start()
            told = [ran.stdout.readline() for _ in range(2)]
            assert "a.png" in told[1] and age in told[1] and not site.gate.is_set()
            site.gate.set()
            rest = ran.stdout.read()
            assert f"{site.url}/gated.png" in rest and "none.png" in rest
        assert ran.returncode == 1


def test_columns_of_fixed_width(capsys, folder, content):
    names = ["b" * 150 + ".png", "c" * 60 + ".png"]
    for name in names:
        (folder / name).write_bytes(content)
    assert main(["predict", "a.png", *names, "none.png"]) == 1
    header, first, long, second, missing = capsys.readouterr().out.splitlines()
    column = header.index("box")
    assert column > 100
    assert [line[column - 2 : column] == "  " for line in (first, second, missing)] == [True] * 3
    assert first[:5] == "a.png" and missing[column:] == "not read"
    # a name that is longer than the others is whole, and moves nothing but its own row
    assert long.startswith(names[0]) and long[154:].split() == first[5:].split()


def test_a_table_ends_where_nobody_reads(folder):
    ran = command(f'"{sys.executable}" -m ssrnet_hub.cli predict a.png none.png a.png | head -1')
    assert ran.returncode == 0 and ran.stdout.startswith("file") and "Traceback" not in ran.stderr
