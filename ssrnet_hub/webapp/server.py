"""The page on the network: middleware, work folder, and shutdown."""

import asyncio
import atexit
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, Optional

import gradio.mcp
import gradio.route_utils
import gradio.routes
from starlette.routing import Mount

from .limits import Limits
from .middleware import EXCEPTION_HANDLERS, PageFiles, RequestFilter, is_loopback, resolve_allowed_hosts
from .page import HEAD, STATIC, THEME, build
from .uploads import FilesOnlyParser, Folder

__all__ = ["launch"]

_PARSER = "GradioMultiPartParser"
_THREADS = 64
"""Grace period for requests in progress at shutdown, most of which wait for their turn."""


def launch(
    limits: Optional[Limits] = None,
    *,
    allowed_hosts: Sequence[str] = (),
    prevent_thread_lock: bool = False,
    **options: Any,
) -> tuple[Any, str, Optional[str]]:
    """Build the page and serve it until Ctrl+C or SIGTERM.

    Uploads are kept in a folder of the server, which is removed when it ends.

    Args:
        limits: Limits on requests. Default: from the environment.
        allowed_hosts: Allowed host names, in addition to those in the environment variable
            ``SSRNET_HUB_DEMO_ALLOWED_HOSTS``; see `resolve_allowed_hosts`.
        prevent_thread_lock: Return once the page is served, until Python ends.
        **options: See `gradio.Blocks.launch`.

    Returns:
        The result of `gradio.Blocks.launch`: the application, and its local and public URLs.

    Raises:
        ConfigError: A limit or a host name is invalid.
    """
    limits = limits or Limits.from_environment()
    bound = options.get("server_name") or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    names = os.environ.get("SSRNET_HUB_DEMO_ALLOWED_HOSTS", "").split(",")
    hosts = resolve_allowed_hosts(bound, [name.strip() for name in (*allowed_hosts, *names) if name.strip()])
    if not is_loopback(bound) and not options.get("quiet"):
        asked = "under any name" if hosts == ["*"] else f"as {', '.join(hosts)}"
        print(f"Anyone who can reach this machine can use the page at {bound}, {asked}.", file=sys.stderr)
    ended = threading.Event()
    handled = threading.current_thread() is threading.main_thread() and not prevent_thread_lock
    with ExitStack() as ending:
        if handled:
            # as Ctrl+C does, so that what is below comes to its end
            ending.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
            ending.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        ending.callback(setattr, gradio.route_utils, _PARSER, getattr(gradio.route_utils, _PARSER))
        setattr(gradio.route_utils, _PARSER, FilesOnlyParser)
        folder = ending.enter_context(_own_folder())
        page, service, looks, i18n = build(limits, folder.work)

        @asynccontextmanager
        async def guarded(app: gradio.routes.App) -> AsyncIterator[None]:
            app.router.routes.insert(0, Mount("/page", PageFiles(directory=STATIC)))
            # outside of all of Gradio's middleware: the one for CORS replies by itself
            app.middleware_stack = requests = RequestFilter(
                app.middleware_stack or app.build_middleware_stack(), limits, hosts
            )
            abandoned = asyncio.create_task(requests.cancel_abandoned(page))
            yield
            abandoned.cancel()

        if handled:
            # from here on visitors are served, and nothing may be interrupted half-way
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, lambda *_: ended.set())
        started = page.launch(
            theme=THEME,
            head=HEAD,
            i18n=i18n,
            max_file_size=limits.max_file_size,
            max_threads=_THREADS,
            state_session_capacity=limits.max_sessions,
            run_history=False,
            enable_monitoring=False,
            footer_links=["api", "settings"],
            app_kwargs={"lifespan": guarded, "exception_handlers": EXCEPTION_HANDLERS},
            prevent_thread_lock=True,
            # neither another way in, past the checks of hosts, nor a way out, which Gradio would praise if not quiet
            **{"share": False, "ssr_mode": False, "num_workers": 0, **options, "quiet": True},
        )
        if not options.get("quiet"):
            print(*filter(None, (f"Running on {page.local_url}", page.mcp_error)), sep="\n", flush=True)
        ending.callback(service.close)
        ending.callback(page.close, verbose=False)
        folder.keep()

        def sweep() -> None:
            while not ended.wait(limits.sweep):
                folder.sweep(limits.sweep)
                looks.sweep()
                for known in page.temp_file_sets:
                    # Gradio's own sweep, which finds less, would go by them
                    known.clear()

        ending.callback(ended.set)
        threading.Thread(target=sweep, name="sweep", daemon=True).start()
        if prevent_thread_lock:
            atexit.register(ending.pop_all().close)
            return started
        # a wait without an end is not interrupted on every system
        while not ended.wait(1):
            pass
    return started


@contextmanager
def _own_folder() -> Iterator[Folder]:
    """A folder of this server's own, in which Gradio puts its files."""
    folder = Folder()
    # Gradio reads the variable for each component, and these modules when they are imported
    before = os.environ.get("GRADIO_TEMP_DIR"), gradio.mcp.DEFAULT_TEMP_DIR, gradio.routes.DEFAULT_TEMP_DIR
    os.environ["GRADIO_TEMP_DIR"] = gradio.mcp.DEFAULT_TEMP_DIR = gradio.routes.DEFAULT_TEMP_DIR = str(folder.uploads)
    try:
        yield folder
    finally:
        variable, gradio.mcp.DEFAULT_TEMP_DIR, gradio.routes.DEFAULT_TEMP_DIR = before
        if variable is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = variable
        folder.remove()
        # again: requests in progress may have written files since
        atexit.register(folder.remove)
