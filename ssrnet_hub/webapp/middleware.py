"""Middleware of the page: request filtering, allowed hosts, and static files."""

import asyncio
import ipaddress
import math
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import gradio as gr
from fastapi.exceptions import RequestValidationError
from gradio.route_utils import FnIndexInferError
from gradio.server_messages import ProcessCompletedMessage
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ConfigError
from .limits import Limits

__all__ = ["EXCEPTION_HANDLERS", "RequestFilter", "PageFiles", "resolve_allowed_hosts", "is_loopback"]

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_NAME = re.compile(r"\*|(\*\.)?[a-z0-9_]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]", re.IGNORECASE)

_ADDRESS = re.compile(r"localhost|[0-9.]+|\[.*\]", re.IGNORECASE)

_OPEN = re.compile(
    r"""
    /(card/?|config/?|theme\.css|favicon\.ico|manifest\.json|robots\.txt)?
  | /(assets|static|svelte)/.+
  | /page/[a-z]+\.(js|css)
  | /gradio_api/(
        (app_id|info|login_check|user|reset)/?|openapi\.json|theme\.css|startup-events
      | upload|upload_progress|file=(?!https?://).+
      | (call|run|api)/.+|queue/(join|data|status)|cancel|heartbeat/[^/]+|stream/[^/]+(/close)?
      | mcp(/.*)?
    )
    """,
    re.VERBOSE | re.DOTALL,
)
"""Paths that the page, Gradio's clients, and MCP request. Gradio's other routes would run FFmpeg on uploads, write
session state to disk, or fetch URLs for anybody."""

_LISTENS = re.compile(r"/gradio_api/(queue/data|call/.+/(?P<event>[^/]+))")
_HEADERS = {
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "frame-ancestors 'self' https://huggingface.co",
    "x-content-type-options": "nosniff",
}
"""Headers for browsers: nothing is loaded from or sent to another host, whatever is injected into the page; and only
the Hub may frame it (clickjacking).
"""

_PARTS = 50
"""Most brackets and commas in a request for each photo that it may name. A file as Gradio names it has about 10 of
them, a picture within a request one. Parsed, each is up to a hundred bytes and a step of several loops."""

_PATIENCE = 20.0
"""Grace period, in seconds, before a request without a listener is ended: a busy browser is slow to connect."""

_ABANDONED = "No client was waiting for the result of this request: send it again."


async def _refuse(request: Request, error: Exception) -> Response:
    return PlainTextResponse("Invalid request, or it refers to something that does not exist", 400)


async def _refuse_invalid(request: Request, error: Exception) -> Response:
    # not as FastAPI does, which sends back what was sent
    assert isinstance(error, RequestValidationError)
    said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3])
    return PlainTextResponse(f"Invalid request: {said:.300}", 422)


EXCEPTION_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    RequestValidationError: _refuse_invalid,
    FnIndexInferError: _refuse,
    LookupError: _refuse,
    TypeError: _refuse,
    ValueError: _refuse,
}
"""Response where Gradio fails to handle a malformed request."""


def is_loopback(host: str) -> bool:
    """Whether a server bound to this host is reachable from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def resolve_allowed_hosts(host: str, names: Sequence[str]) -> list[str]:
    """Allowed host names of the page, for `TrustedHostMiddleware`.

    Another site can let its host name resolve to this machine; browsers would then treat it as the same origin (DNS
    rebinding).

    Args:
        host: Host that the server is bound to. Without names, all are allowed unless it is loopback.
        names: Additional names, such as ``age.example.org`` or ``*.example.org``, without a port.

    Raises:
        ConfigError: A name is invalid.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r:.100} is not a host name: leave out scheme, port and path, as in age.example.org."
            )
    if not names and not is_loopback(host):
        return ["*"]
    own = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return list(dict.fromkeys((*_LOOPBACK, own, *names)))


class PageFiles(StaticFiles):
    """Static files of the page, same-origin only and without caching of earlier versions."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update({"cache-control": "no-cache", "cross-origin-resource-policy": "same-origin"})
        return response


class RequestFilter:
    """Middleware around Gradio's application: rejects requests that the page does not need, and tracks listeners.

    Args:
        app: The application.
        limits: Limits on the size of requests.
        hosts: Allowed host names, from `resolve_allowed_hosts`. Other origins are rejected unless all hosts are
            allowed.
    """

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Sequence[str]):
        self._app, self._open = app, "*" in hosts
        # a proxy may use its own address for a name that visitors use
        self._names = [name.lower() for name in hosts if not _ADDRESS.fullmatch(name)]
        self._trusted = TrustedHostMiddleware(self._enter, hosts, www_redirect=False)
        self._limited = RequestBodyLimitMiddleware(self._count_parts, limits.max_request_size)
        self._uploading = RequestBodyLimitMiddleware(app, limits.max_upload_size)
        self._max_parts = _PARTS * limits.max_photos
        self._listening: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._trusted(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path = Headers(scope=scope), scope["path"].removeprefix(scope.get("root_path", ""))
        if not _OPEN.fullmatch(path):
            await PlainTextResponse("Not found", 404)(scope, receive, send)
        elif not self._is_ours(headers, scope["scheme"]):
            await PlainTextResponse("Cross-origin requests are not allowed", 403)(scope, receive, send)
        else:
            app = self._uploading if path == "/gradio_api/upload" else self._limited
            with self._listen(scope, path):
                await app(scope, receive, send)

    async def _count_parts(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a body of very many values before anything parses it."""
        messages: list[Message] = []
        parts = 0
        while not messages or messages[-1].get("more_body"):
            messages.append(await receive())
            # searching the bytes suffices: base64 has none of these, and all encodings of JSON share them
            parts += sum(map(messages[-1].get("body", b"").count, (b"[", b"{", b",")))
            if parts > self._max_parts:
                await PlainTextResponse("Content Too Large", 413)(scope, receive, send)
                return
        messages.reverse()

        async def again() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, again, send)

    def _is_ours(self, headers: Headers, scheme: str) -> bool:
        """Whether a request comes from our own page, or from no page."""
        origin = headers.get("origin")
        if origin is None or self._open:
            return True
        try:
            parts = urlsplit(origin.lower())
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        asked = headers.get("host", "").lower()
        # no page of another origin can add these
        forwarded = headers.get("x-forwarded-proto", scheme), headers.get("x-forwarded-host", asked).lower()
        if (parts.scheme, parts.netloc) in ((scheme, asked), forwarded):
            return True
        named = any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in self._names)
        return named and parts.scheme in ("http", "https") and (port is None or parts.netloc == asked)

    @contextmanager
    def _listen(self, scope: Scope, path: str) -> Iterator[None]:
        """Count a listening request while it is open, by its session or event."""
        listens = _LISTENS.fullmatch(path) if scope["method"] == "GET" else None
        if listens is None:
            yield
            return
        query = parse_qs(scope["query_string"].decode("latin-1"))
        listener = listens["event"] or query.get("session_hash", [""])[0]
        self._listening[listener] += 1
        try:
            yield
        finally:
            self._listening[listener] -= 1
            if not self._listening[listener]:
                del self._listening[listener]

    async def cancel_abandoned(self, blocks: gr.Blocks) -> None:
        """Start ending requests that nobody listens to; Gradio only ends those that had a listener."""
        while True:
            await asyncio.sleep(1)
            before = time.monotonic() - _PATIENCE
            for event in list(blocks._queue.event_ids_to_events.values()):
                if event.enqueue_time < before and self._listening.keys().isdisjoint((event._id, event.session_hash)):
                    if not event.streaming and event.session_hash in blocks._queue.pending_messages_per_session:
                        # a client that connects later must not wait forever
                        said = ProcessCompletedMessage(output={"error": _ABANDONED}, success=False)
                        blocks._queue.send_message(event, said)
                    await blocks._queue.clean_events(event_id=event._id)
                    if event.streaming:
                        # it may be waiting for the next picture of a camera
                        event.run_time, event.closed = math.inf, True
                        event.signal.set()


def _with_headers(send: Send) -> Send:
    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return add
