"""Input of the page's functions: files only as uploads of this server, and everything within limits."""

import asyncio
import base64
import binascii
import html
import json
import tempfile
import traceback
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any, Optional, Union
from urllib.parse import unquote

import gradio as gr
import httpx
from gradio.context import LocalContext
from gradio.queueing import Event
from gradio_client.utils import strip_invalid_filename_characters
from safehttpx import AsyncSecureTransport

from ..errors import PhotoError, SSRNetHubError
from ..images.fetching import is_public
from .limits import Limits
from .rendering import tell_failure
from .turns import FairQueue, Visitor, visitor_of
from .uploads import Upload, find_upload

__all__ = ["GatedBlocks", "download", "has_listener", "current_visitor"]

_TEXT = 1000
"""Longest text that is taken, characters: names of weights are all there is."""

_DEPTH = 8
_NO_FILE = object()

_FILES = (gr.File, gr.Image, gr.Video)
_REMOTE = ("data:", "http://", "https://")

_SECONDS, _REDIRECTS = 60, 5
"""Of a download, at most."""


class GatedBlocks(gr.Blocks):
    """Blocks whose functions only get files that were uploaded to this server, whatever the component.

    Where a request refers to a file, as ``{"path": ...}`` or ``{"url": ...}``, the function gets

    * the `Upload`, if the path is that of one, or the URL is on the internet and can be downloaded;
    * the bytes, if it is a ``data:`` URL; they are never written to disk.

    For file components, plain text or a list of texts are such URLs.

    Anything else is rejected, with the same message whatever exists at the path. Gradio's components do not see files:
    they would decode pictures without our limits and pass videos to FFmpeg.

    As in Gradio, uploads are not separated by session: their paths contain a digest of the content and of a secret, and
    anybody who knows one may use it.

    Args:
        limits: Limits on the size of files.
        **kwargs: See `gradio.Blocks`.
    """

    def __init__(self, limits: Limits, **kwargs: Any):
        super().__init__(**kwargs)
        self._limits = limits
        self._folder = Path(self.GRADIO_CACHE).resolve()

    def queue(self, *args: Any, **kwargs: Any) -> "GatedBlocks":
        super().queue(*args, **kwargs)
        self._queue = FairQueue.instead_of(self._queue)
        return self

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False) -> Any:
        # one that cancels others is given their session
        if len(inputs) != len(block_fn.inputs) and not block_fn.cancels:
            raise SSRNetHubError(
                "This function takes {expected} values, not {count}.", expected=len(block_fn.inputs), count=len(inputs)
            )
        both = zip_longest(block_fn.inputs, inputs)
        sent = [_named(value) if isinstance(block, _FILES) else value for block, value in both]
        files = [await self._admit(value) for value in sent]
        others = [value if file is _NO_FILE else None for value, file in zip(inputs, files, strict=True)]
        values = await super().preprocess_data(block_fn, others, state, explicit_call)
        return [value if file is _NO_FILE else file for value, file in zip(values, files, strict=False)]

    async def process_api(self, block_fn: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        of_page = (self.fns[block_fn] if isinstance(block_fn, int) else block_fn).api_visibility == "private"
        try:
            return await super().process_api(block_fn, *args, **kwargs)
        except (gr.Error, asyncio.CancelledError):
            raise
        except SSRNetHubError as e:
            raise _refusal(e, of_page) from e
        except Exception as e:
            # Gradio would return nothing; the message may be about the server
            traceback.print_exc()
            said = SSRNetHubError("This request failed: see the server log.")
            raise _refusal(said, of_page) from e
        finally:
            session = kwargs.get("session_hash")
            if session is not None and session == kwargs.get("event_id"):
                # of a request without a session Gradio makes one, which nobody can come back to
                self.state_holder.session_data.pop(session, None)
                self.state_holder.time_last_used.pop(session, None)

    async def _admit(self, value: Any, depth: int = 0) -> Any:
        """The value with references to files replaced by the files, or an indication that it has none."""
        if depth > _DEPTH or (isinstance(value, str) and len(value) > _TEXT):
            raise PhotoError("This request is too large.")
        if isinstance(value, dict) and not value.keys().isdisjoint(("path", "url")):
            return await self._receive(value.get("path"), value.get("url"))
        if not isinstance(value, (dict, list)):
            return _NO_FILE
        if len(value) > self._limits.max_photos:
            raise PhotoError("More than {limit} photos were sent: send fewer at a time.", limit=self._limits.max_photos)
        if isinstance(value, dict):
            inner = {key: await self._admit(item, depth + 1) for key, item in value.items()}
            found = {key: value[key] if file is _NO_FILE else file for key, file in inner.items()}
            return _NO_FILE if all(file is _NO_FILE for file in inner.values()) else found
        files = [await self._admit(item, depth + 1) for item in value]
        if all(file is _NO_FILE for file in files):
            return _NO_FILE
        # among files a text would pass for a path
        both = zip(value, files, strict=True)
        return [find_upload(item, self._folder) if file is _NO_FILE else file for item, file in both]

    async def _receive(self, path: Any, url: Any) -> Union[Upload, bytes, None]:
        if not path and not url:
            return None
        where = path or url
        if isinstance(where, str):
            if where.startswith("data:"):
                return _decode(where, self._limits.max_file_size)
            if where.startswith(_REMOTE):
                return await download(where, self._folder, self._limits.max_file_size)
        return find_upload(where, self._folder)


def _refusal(error: SSRNetHubError, of_page: bool) -> gr.Error:
    """An error as Gradio shows it, as HTML: in English, which ``static/gradio.js`` puts into the words of the page."""
    told = tell_failure(error)
    said = html.escape(told["said"], quote=False)
    if of_page:
        # the attributes that Gradio leaves in a message are few
        said = f'<span title="{html.escape(json.dumps(told))}">{said}</span>'
    return gr.Error(said, print_exception=False)


def _named(value: Any) -> Any:
    """References to files for plain texts: each is a URL."""
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        return value
    if not all(text.startswith(_REMOTE) for text in texts):
        raise PhotoError(
            "Files must be uploads or URLs, not paths: pass gradio_client.handle_file(path) to the client."
        )
    urls = [{"url": text} for text in texts]
    return urls if isinstance(value, list) else urls[0]


def _decode(url: str, max_size: int) -> bytes:
    """The bytes in a ``data:`` URL."""
    kind, _, data = url.partition(",")
    if len(data) // 4 * 3 > max_size:
        raise _too_large(max_size)
    try:
        if kind.endswith(";base64"):
            return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise PhotoError("The data: URL in this request is damaged.")


async def download(url: str, folder: Path, max_size: int) -> Upload:
    """Download a file from the internet, but not from the server's own network.

    Args:
        url: URL, http or https.
        folder: Folder of the uploads; the file gets its own folder there.
        max_size: Maximum size, bytes.

    Raises:
        PhotoError: The URL is not public, does not return a file, or the file is too large.
    """
    try:
        return await asyncio.wait_for(_download(url, folder, max_size), _SECONDS)
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as e:
        # a single message, which reveals nothing about the server's network
        raise PhotoError("This URL is not public, or does not return a file.") from e


async def _download(url: str, folder: Path, max_size: int) -> Upload:
    address = httpx.URL(url)
    for _ in range(_REDIRECTS):
        transport = AsyncSecureTransport(await _resolve(address.host))
        async with (
            httpx.AsyncClient(transport=transport, timeout=_SECONDS) as client,
            # not packed, since what a server packs may be a bomb
            client.stream("GET", address, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.has_redirect_location:
                address = address.join(response.headers["location"])
                if address.scheme not in ("http", "https"):
                    break
                continue
            if response.status_code != httpx.codes.OK:
                break
            name = strip_invalid_filename_characters(PurePosixPath(unquote(address.path)).name) or "file"
            file = Path(tempfile.mkdtemp(dir=folder), name)
            size = 0
            with file.open("wb") as out:
                async for chunk in response.aiter_raw():
                    size += len(chunk)
                    if size > max_size:
                        raise _too_large(max_size)
                    out.write(chunk)
            return Upload(file)
    raise ValueError(url)


async def _resolve(host: str) -> str:
    """An address of a host that is on the internet."""
    for *_, place in await asyncio.get_running_loop().getaddrinfo(host, None):
        if is_public(ip := str(place[0])):
            return ip
    raise ValueError(host)


def _too_large(max_size: int) -> PhotoError:
    return PhotoError("This file has more than the limit of {limit:,} bytes.", limit=max_size)


def has_listener() -> bool:
    """Whether anybody still waits for the result of the current function; True outside of one."""
    event = _event()
    return not event or event.alive


def current_visitor() -> Visitor:
    """The visitor who waits for the result of the current function."""
    event = _event()
    return visitor_of(event) if event else Visitor("", "")


def _event() -> Optional[Event]:
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    return blocks._queue.event_ids_to_events.get(event_id) if blocks and event_id else None
