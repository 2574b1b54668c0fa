"""Input of the page's functions: files only as uploads of this server, and everything within limits."""

import asyncio
import base64
import binascii
import html
import json
import shutil
import tempfile
import traceback
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from time import monotonic
from typing import Any, Optional, Union
from urllib.parse import unquote, urlsplit

import gradio as gr
from gradio.context import LocalContext
from gradio.queueing import Event
from gradio_client.utils import strip_invalid_filename_characters

from ..errors import PhotoError, SSRNetHubError
from ..images.fetching import fetch_into
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

_SECONDS = 60.0
"""For all downloads of a request."""


@dataclass
class _Allowance:
    """What a request may still bring: files, bytes of downloads, and the time by which they are here; its downloads."""

    files: int
    size: int
    until: float
    downloads: list[Upload] = field(default_factory=list)


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
        limits = self._limits
        left = _Allowance(limits.max_photos, limits.max_upload_size, monotonic() + _SECONDS)
        try:
            files = [await self._admit(value, left) for value in sent]
        except BaseException:
            for file in left.downloads:
                shutil.rmtree(Path(file).parent, ignore_errors=True)
            raise
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

    async def _admit(self, value: Any, left: _Allowance, depth: int = 0) -> Any:
        """The value with references to files replaced by the files, or an indication that it has none."""
        if depth > _DEPTH or (isinstance(value, str) and len(value) > _TEXT):
            raise PhotoError("This request is too large.")
        if isinstance(value, dict) and not value.keys().isdisjoint(("path", "url")):
            return await self._receive(value.get("path"), value.get("url"), left)
        if not isinstance(value, (dict, list)):
            return _NO_FILE
        if len(value) > self._limits.max_photos:
            raise self._too_many()
        if isinstance(value, dict):
            inner = {key: await self._admit(item, left, depth + 1) for key, item in value.items()}
            found = {key: value[key] if file is _NO_FILE else file for key, file in inner.items()}
            return _NO_FILE if all(file is _NO_FILE for file in inner.values()) else found
        files = [await self._admit(item, left, depth + 1) for item in value]
        if all(file is _NO_FILE for file in files):
            return _NO_FILE
        # among files a text would pass for a path
        both = zip(value, files, strict=True)
        return [find_upload(item, self._folder) if file is _NO_FILE else file for item, file in both]

    async def _receive(self, path: Any, url: Any, left: _Allowance) -> Union[Upload, bytes, None]:
        if not path and not url:
            return None
        left.files -= 1
        if left.files < 0:
            raise self._too_many()
        where = path or url
        if isinstance(where, str):
            if where.startswith("data:"):
                return _decode(where, self._limits.max_file_size)
            if where.startswith(_REMOTE):
                return await self._download(where, left)
        return find_upload(where, self._folder)

    async def _download(self, url: str, left: _Allowance) -> Upload:
        most = self._limits.max_file_size
        try:
            file = await download(
                url, self._folder, max_size=min(most, left.size), max_seconds=left.until - monotonic()
            )
        except PhotoError:
            if left.size < most or monotonic() >= left.until:
                raise PhotoError(
                    "The files at the URLs have more than {limit:,} bytes in all, or take longer than {seconds:g} "
                    "seconds.",
                    limit=self._limits.max_upload_size,
                    seconds=_SECONDS,
                ) from None
            raise
        left.downloads.append(file)
        left.size -= Path(file).stat().st_size
        return file

    def _too_many(self) -> PhotoError:
        return PhotoError("More than {limit} photos were sent: send fewer at a time.", limit=self._limits.max_photos)


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
        raise PhotoError("This file has more than the limit of {limit:,} bytes.", limit=max_size)
    try:
        if kind.endswith(";base64"):
            return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise PhotoError("The data: URL in this request is damaged.")


async def download(url: str, folder: Path, *, max_size: int, max_seconds: float = _SECONDS) -> Upload:
    """Download a file from the internet, but not from the server's own network.

    Args:
        url: URL, http or https.
        folder: Folder of the uploads; the file gets its own folder there.
        max_size: Maximum size, bytes.
        max_seconds: Maximum time.

    Raises:
        PhotoError: The URL is not public, or does not return a file within the limits.
    """
    own = Path(tempfile.mkdtemp(dir=folder))
    try:
        with (own / "file").open("wb") as out:
            last = await fetch_into(out.write, url, max_size=max_size, max_seconds=max_seconds)
        name = strip_invalid_filename_characters(PurePosixPath(unquote(urlsplit(last).path)).name)
        return Upload((own / "file").rename(own / (name or "file")))
    except BaseException as e:
        shutil.rmtree(own, ignore_errors=True)
        if isinstance(e, (PhotoError, OSError, ValueError)):
            # a single message, which reveals nothing about the server's network
            raise PhotoError(
                "This URL is not public, or does not return a file of at most {limit:,} bytes.", limit=max_size
            ) from e
        raise


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
