"""`ssrnet-hub demo`: the web page."""

import argparse
import errno
import socket
from typing import Optional

from ..errors import SSRNetHubError
from .options import need_extra, port_number

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    demo = commands.add_parser(
        "demo",
        help="Serve the web page",
        description="Serve the web page, which shows ages and how the network arrived at them. Stop it with Ctrl+C.",
    )
    demo.add_argument(
        "--host",
        default="127.0.0.1",
        help="Address to bind; 0.0.0.0 is reachable from other machines (default: %(default)s)",
    )
    demo.add_argument("--port", type=port_number, help="Port to bind (default: first free port from 7860)")
    demo.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="Additional host name to allow, such as age.example.org behind a proxy; repeatable (default: names of "
        "this machine only, or any name with --host 0.0.0.0)",
    )
    demo.add_argument("--mcp", action="store_true", help="Also serve the endpoints as MCP tools (extra mcp)")
    demo.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with need_extra("The web page", "demo"):
        from ..webapp import launch
    try:
        launch(server_name=args.host, server_port=args.port, mcp_server=args.mcp, allowed_hosts=args.allowed_host)
    except OSError as e:
        reason = why_taken(args.host, args.port) or str(e)
        raise SSRNetHubError(
            f"The web page cannot be served on {args.host}" + (f", port {args.port}: " if args.port else ": ") + reason
        ) from e
    return 0


def why_taken(host: str, port: Optional[int]) -> Optional[str]:
    """Return why the address cannot be served, if so: Gradio reports every failure as a missing free port."""
    try:
        socket.create_server((host, port or 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as e:
        # Python appends the address, which the message already has
        reason = (e.strerror or str(e)).partition(" (while ")[0]
        return f"{reason}. Name another by --{'port' if e.errno == errno.EADDRINUSE else 'host'}."
    return None
