"""Files from the web. Servers are untrusted: size, time, redirects and where they lead."""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable
from functools import cache
from typing import Any, Optional

import httpx2 as httpx

from ..errors import PhotoError
from ..utils.version import __version__

__all__ = ["fetch", "fetch_into", "is_public", "without_login"]

_MAX_REDIRECTS = 5
_STEP_SECONDS = 10.0
"""To connect, or until the next bytes come."""

_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Where addresses of version 4 are in networks that have only version 6."""


def without_login(url: str) -> str:
    """An address without the name and password that it may carry."""
    return re.sub("^([a-z]+://)[^/?#]*@", r"\1", url, flags=re.IGNORECASE)


def fetch(url: str, *, allow_private: bool = False, max_size: int = 100_000_000, max_seconds: float = 60.0) -> bytes:
    """Download from an ``http`` or ``https`` URL, without the proxies, cookies, and logins of this machine.

    Args:
        url: The URL.
        allow_private: Whether hosts on this machine and the local network are allowed, also in redirects.
        max_size: Maximum size, bytes.
        max_seconds: Maximum total time.

    Raises:
        PhotoError: The host cannot be reached or is not public, or does not send a file within the limits.
    """
    content = bytearray()
    asyncio.run(
        fetch_into(content.extend, url, allow_private=allow_private, max_size=max_size, max_seconds=max_seconds)
    )
    return bytes(content)


async def fetch_into(
    write: Callable[[bytes], Any],
    url: str,
    *,
    allow_private: bool = False,
    max_size: int = 100_000_000,
    max_seconds: float = 60.0,
) -> str:
    """As `fetch`, but pass the content on as it comes, in parts.

    Returns:
        The URL after all redirects.
    """
    try:
        return await asyncio.wait_for(_fetch(write, url, allow_private, max_size), max_seconds)
    except _Refused as e:
        why = str(e)
    except httpx.TimeoutException:
        why = f"the server does not answer within {_STEP_SECONDS:g} seconds"
    except TimeoutError:
        why = f"it takes longer than {max_seconds:g} seconds"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as e:
        why = f"{getattr(e, 'strerror', None) or e!s:.200}"
    raise PhotoError(f"{without_login(url):.300} cannot be fetched: {why}.")


class _Refused(Exception):
    """Reason to reject a response or a redirect."""


async def _fetch(write: Callable[[bytes], Any], url: str, allow_private: bool, max_size: int) -> str:
    # not packed, since what a server packs may be a bomb
    headers = {"User-Agent": f"ssrnet_hub/{__version__}", "Accept": "image/*, video/*", "Accept-Encoding": "identity"}
    # nothing from the environment: proxies would resolve hosts themselves, and logins must not leak
    async with httpx.AsyncClient(
        transport=_Transport(allow_private), headers=headers, timeout=_STEP_SECONDS, trust_env=False
    ) as client:
        request = client.build_request("GET", url)
        for _ in range(_MAX_REDIRECTS + 1):
            response = await client.send(request, stream=True)
            try:
                if response.next_request is None:
                    await _take(response, write, max_size)
                    return str(request.url)
                # what comes with a redirect is not read
                request = response.next_request
            finally:
                await response.aclose()
    raise _Refused(f"it redirects more than {_MAX_REDIRECTS} times")


async def _take(response: httpx.Response, write: Callable[[bytes], Any], max_size: int) -> None:
    if response.status_code != 200:
        raise _Refused(f"the server returned {response.status_code} {response.reason_phrase}".rstrip())
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > max_size:
            raise _Refused(f"it has more than {max_size:,} bytes")
        write(chunk)


@cache
def _make_context() -> ssl.SSLContext:
    # reading the certificates takes a while
    return httpx.create_ssl_context()


class _Transport(httpx.AsyncBaseTransport):
    """Resolves each host once, and connects to the addresses that were checked: a second lookup may return others (DNS
    rebinding).
    """

    def __init__(self, allow_private: bool):
        self._allow_private = allow_private
        # no connection is used again: hosts may share an address, and have certificates of their own
        self._transport = httpx.AsyncHTTPTransport(
            verify=_make_context(), limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme not in ("http", "https"):
            raise _Refused(f"it redirects to {request.url.scheme}:")
        if request.url.port is not None and not 0 < request.url.port < 65536:
            raise _Refused(f"{request.url.port} is not a port")
        host = request.url.raw_host.decode("ascii")
        error: Optional[Exception] = None
        for address in await self._look_up(host, request.url.port):
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await self._transport.handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as e:
                error = e
        raise error or _Refused(f"{host} has no address")

    async def _look_up(self, host: str, port: Optional[int]) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
        if not self._allow_private and not all(map(is_public, addresses)):
            raise _Refused(
                f"{host} is not a public host; --allow-private-urls allows those of this machine and the local network"
            )
        return addresses

    async def aclose(self) -> None:
        await self._transport.aclose()


def is_public(text: str) -> bool:
    """Whether an IP address is public, and cannot be translated to one of a private network."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.ipv4_mapped
        if inner is None:
            return address in _UNICAST and address.is_global and address.sixtofour is None
        address = inner
    return address.is_global and not address.is_multicast
