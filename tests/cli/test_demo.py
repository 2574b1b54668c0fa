"""ssrnet-hub demo where it cannot be served."""

import re
import socket
import sys

import pytest

from ssrnet_hub.cli import main

from ..demo_server import free_port
from .helpers import shell


def test_demo_without_gradio(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ssrnet_hub.webapp", None)
    code, out, err = run("demo")
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and "ssrnet_hub[demo]" in err


@pytest.mark.parametrize(
    ("variable", "value"), [("SWEEP", "0"), ("MAX_PIXELS", "many"), ("QUEUE", "-1"), ("KEPT_WEIGHTS", "")]
)
def test_limits_of_the_demo_that_are_none(run, monkeypatch, variable, value):
    monkeypatch.setenv(f"SSRNET_HUB_DEMO_{variable}", value)
    code, _, err = run("demo")
    assert code == 1 and f"SSRNET_HUB_DEMO_{variable}" in err and "above 0" in err


def test_a_port_that_is_taken(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run("demo", "--port", port)
    said = f"error: The web page cannot be served on 127.0.0.1, port {port}: Address already in use. "
    assert (code, err) == (1, f"{said}Name another by --port.\n")


def test_a_host_that_is_not_this_machine():
    ran = shell("demo", "--host", "192.0.2.1", "--port", str(free_port()))
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert re.search(r"error: The web page cannot be served on 192\.0\.2\.1, port \d+: .* --host\.", ran.stderr)


@pytest.mark.parametrize("port", ["0", "-1", "65536", "http"])
def test_a_port_that_is_none(capsys, port):
    with pytest.raises(SystemExit) as end:
        main(["demo", f"--port={port}"])
    assert end.value.code == 2 and "--port" in capsys.readouterr().err
