"""Where credentials may go: one origin, and nothing outside it."""

from __future__ import annotations

import re
import warnings
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from prefect_docjobs.errors import ConfigurationError

DEFAULT_PORTS = {"http": 80, "https": 443}
# What nearly all requests name; parsing costs more. Steps up and down the path are left to the parser.
_PLAIN_PATH = re.compile(r"(/(?!\.\.?(/|$))([\w.~-]|%[0-9A-Fa-f]{2})+)+", re.ASCII)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class InsecureTransport(UserWarning):
    """An API key would travel unencrypted: plain http to another machine."""


def normalize_base_url(url: str) -> str:
    """Scheme, host and port of a service; a trailing `/v1` or `/v2` is dropped.

    Raises:
        ConfigurationError: Not an http(s) address, or one with a path, a query or a user.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError("base_url is not an address. Give scheme, host and port.") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise ConfigurationError("base_url must start with https:// (or http://) and name a host.")
    if parts.path.rstrip("/") not in {"", "/v1", "/v2"} or parts.query or parts.fragment or parts.username:
        raise ConfigurationError("base_url is scheme, host and port only: no path, query or user.")
    if parts.scheme == "http" and host not in _LOOPBACK:
        warnings.warn(f"{host} is reached over plain http: the API key can be read.", InsecureTransport, 3)
    name = f"[{host}]" if ":" in host else host
    suffix = "" if port in (None, DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{name}{suffix}"


def resolve(base_url: str, url: str) -> str | None:
    """`url` (a path or an address) as an absolute URL, or None when it lies outside `base_url`'s origin."""
    if base_url.isascii() and _PLAIN_PATH.fullmatch(url):
        return base_url + url
    try:
        here, target = httpx.URL(base_url), httpx.URL(base_url).join(url)
        same = _origin(target) == _origin(here) and not target.userinfo
    except (httpx.InvalidURL, ValueError, TypeError):
        return None
    return str(target) if same else None


def is_proxied(base_url: str) -> bool:
    """Whether the environment names a proxy for this origin."""
    parts = urlsplit(base_url)
    proxies = getproxies()
    return bool(proxies.get(parts.scheme) or proxies.get("all")) and not proxy_bypass(parts.hostname or "")


def path_of(url: str) -> str:
    """The path of a URL, for messages: a query may hold a token."""
    return url if _PLAIN_PATH.fullmatch(url) else urlsplit(url).path


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or DEFAULT_PORTS.get(url.scheme)
