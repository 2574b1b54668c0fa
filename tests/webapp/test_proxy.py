"""The page behind a proxy that serves it under a path of its own, as README says."""

import http.client
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from gradio_client import Client, handle_file

from ..demo_server import serve

PATH = "/faces"


class Proxy(BaseHTTPRequestHandler):
    """Hands what is asked below its path to the page, and what the page answers back, piece by piece."""

    port: int

    def log_message(self, *args):
        pass

    def hand_on(self):
        if not self.path.startswith(f"{PATH}/"):
            self.send_error(404)
            return
        page = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        page.request(self.command, self.path.removeprefix(PATH), content, dict(self.headers))
        answer = page.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.end_headers()
        while piece := answer.read1(1 << 16):
            self.wfile.write(piece)
        page.close()

    do_GET = do_POST = do_HEAD = hand_on


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}{PATH}"
        with serve(tmp_path_factory.mktemp("demo"), GRADIO_ROOT_PATH=url) as demo:
            Proxy.port = httpx.URL(demo.url).port
            yield f"{url}/"
        server.shutdown()


def test_what_the_page_is_made_of_comes_by_the_proxy(proxy):
    page = httpx.get(proxy).text
    # the page's own address, and what stands in it as relative to that
    assert re.search(rf'"root":\s*"{proxy.rstrip("/")}"', page)
    parts = set(re.findall(r'(?:src|href)="(\./[^"]+)"', page))
    assert any(part.endswith(".js") for part in parts)
    for part in parts:
        assert httpx.get(httpx.URL(proxy).join(part)).status_code == 200, part


def test_a_program_behind_the_proxy(proxy, astronaut, tmp_path):
    astronaut.crop((120, 20, 320, 250)).save(tmp_path / "photo.png")
    answer = Client(proxy, verbose=False).predict(handle_file(tmp_path / "photo.png"), api_name="/predict")
    assert len(answer["faces"]) == 1
