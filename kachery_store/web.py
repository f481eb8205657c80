"""Files on the web: `http(s)://...` and `gh://user/repo/branch/path`, read piece by piece.

What is downloaded was chosen by whoever runs the server, and so is where it redirects to. So:
redirections stay on http and https; one that comes from a public address must not lead to a private
one (the addresses are looked up once, checked, and then used); a server that is too slow is given up.
"""

from __future__ import annotations

import functools
import http.client
import ipaddress
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote, urlsplit

from .errors import BadURI, DownloadFailed, DownloadRefused, KacheryError, NotFound

GITHUB = "https://raw.githubusercontent.com"

GRACE = 60.0  # seconds until the first check of the speed
SLOWEST = 1_000  # bytes a second, on average
SILENCE = 30.0  # seconds without a byte

_PIECE = 1 << 20
_MAX_URL = 8_192
_SCHEMES = ("http", "https")
_GONE = (404, 410)
_PASSWORD = re.compile(r"(?<=//)[^/?#]*@")
_LEGAL = "/:?#[]@!$&'()*+,;=%~"  # left as they are where other characters are escaped


class Download:
    """A file that is being fetched: its `size`, if the server said so, and its bytes in pieces."""

    def __init__(self, response: Any, guard: _Guard, url: str) -> None:
        self._response = response
        self._guard = guard
        self._url = url
        length = response.headers.get("Content-Length")
        self.size = int(length) if length is not None and length.isdecimal() else None

    def pieces(self) -> Iterator[bytes]:
        """All bytes; DownloadFailed when they break off or come too slowly."""
        while piece := self._read():
            self._guard.received += len(piece)
            yield piece
        if self.size is not None and self._guard.received != self.size:
            raise DownloadFailed(
                f"{self._url} broke off after {self._guard.received} of {self.size} bytes; try again"
            )

    def _read(self) -> bytes:
        with _failures(self._url, self._guard):
            piece: bytes = self._response.read1(_PIECE)
        if not piece and self._guard.gave_up:
            raise _too_slow(self._url)
        return piece


@contextmanager
def download(uri: str) -> Iterator[Download]:
    """A file on the web, for a with-block.

    Raises BadURI, NotFound when the server does not have it, DownloadRefused for a redirection that
    is not allowed, DownloadFailed for the rest.
    """
    url = _github_url(uri) if uri.startswith("gh://") else _checked_url(uri)
    guard = _Guard()
    opener = _opener(_Rules(), guard)
    guard.start()
    try:
        with _failures(url, guard):
            response = opener.open(urllib.request.Request(url), timeout=SILENCE)  # noqa: S310
        with response:
            if response.status != 200:
                raise DownloadFailed(f"{url} answered with {response.status} instead of the file")
            yield Download(response, guard, url)
    finally:
        guard.stop()


def is_private(address: str) -> bool:
    """Whether an IP address is not one of the public internet: loopback, link-local, private, ..."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or _nat64(ip)
        ip = inner or ip
    return not ip.is_global or ip.is_multicast


def _nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if ip not in ipaddress.ip_network("64:ff9b::/96"):
        return None
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)


def _github_url(uri: str) -> str:
    user, _, rest = uri[len("gh://") :].partition("/")
    repo, _, rest = rest.partition("/")
    branch, _, path = rest.partition("/")
    names = [user, repo, branch, *path.split("/")]
    if any(name in ("", ".", "..") for name in names):
        raise BadURI(f"{uri[:200]!r} is not of the form gh://user/repo/branch/path")
    return _checked_url(f"{GITHUB}/{quote('/'.join(names), safe='/%~')}")


def _checked_url(url: str) -> str:
    """The URL with what must be escaped escaped; BadURI for one that cannot be loaded."""
    if len(url) > _MAX_URL:
        raise BadURI(f"that URL has {len(url)} characters; at most {_MAX_URL} are allowed")
    if any(ord(character) < 33 or character == "\x7f" for character in url):
        raise BadURI(f"{url[:200]!r} has spaces or control characters; escape them as in %20")
    try:
        parts = urlsplit(url)
        _ = parts.port
        good = parts.scheme in _SCHEMES and parts.hostname and "@" not in parts.netloc
        escaped = quote(url, safe=_LEGAL)
    except ValueError:
        good = None
    if not good:
        shown = _PASSWORD.sub("", url)[:200]
        raise BadURI(f"{shown!r} is not of the form http(s)://host/path, without a password")
    return escaped


def _too_slow(url: str) -> DownloadFailed:
    return DownloadFailed(
        f"{url} sends less than {SLOWEST} bytes a second; given up, try again later"
    )


@contextmanager
def _failures(url: str, guard: _Guard) -> Iterator[None]:
    """Turn what can go wrong between here and a server into typed errors."""
    try:
        yield
    except KacheryError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise _of_status(url, error) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if guard.gave_up:
            raise _too_slow(url) from error
        reason = getattr(error, "reason", None) or error
        raise DownloadFailed(f"{url} cannot be loaded: {reason or type(error).__name__}") from error


def _of_status(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code in _GONE:
        return NotFound(f"there is no {url} (the server answered {error.code})")
    if 300 <= error.code < 400:
        return DownloadRefused(f"{url} redirects where kachery does not go, or in circles")
    return DownloadFailed(f"{url} cannot be loaded: {error.code} {error.reason}")


class _Rules:
    """Where one download may connect to: as soon as it was at a public address, to no private one."""

    def __init__(self) -> None:
        self._was_public = False

    def check(self, host: str, addresses: list[str]) -> None:
        private = [is_private(address) for address in addresses]
        if any(private) and self._was_public:
            raise DownloadRefused(
                f"a public server redirects to {host}, which is a private address; if you trust that,"
                " load it by that URI"
            )
        self._was_public |= not all(private)


class _Guard(threading.Thread):
    """Gives a download up that is too slow, whatever it is waiting for, by closing its connection."""

    def __init__(self) -> None:
        super().__init__(name="kachery-download", daemon=True)
        self.socket: socket.socket | None = None
        self.received = 0
        self.gave_up = False
        self._ended = threading.Event()

    def run(self) -> None:
        start = time.monotonic()
        while not self._ended.wait(min(0.5, GRACE)):
            if time.monotonic() - start > GRACE + self.received / SLOWEST:
                self.gave_up = True
                self._hang_up()

    def stop(self) -> None:
        self._ended.set()

    def _hang_up(self) -> None:
        if self.socket is not None:
            with suppress(OSError):  # not SSLSocket.shutdown: its other end may be in use just now
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


def _connect(rules: _Rules | None, guard: _Guard, host: str, port: int) -> socket.socket:
    """A connection to one of the addresses of a host, all of which were checked.

    Without rules the host is a proxy that the user has set.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(info[4][0]) for info in found]
    if rules is not None:
        rules.check(host, addresses)
    for position, address in enumerate(addresses):
        try:
            guard.socket = socket.create_connection((address, port), SILENCE)
        except OSError:
            if position == len(addresses) - 1:
                raise
        else:
            return guard.socket
    raise OSError(f"{host} has no address")


class _Connection(http.client.HTTPConnection):
    def __init__(self, *args: Any, rules: _Rules | None, guard: _Guard, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = lambda address, *_: _connect(rules, guard, *address)


class _SecureConnection(http.client.HTTPSConnection):
    def __init__(self, *args: Any, rules: _Rules | None, guard: _Guard, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = lambda address, *_: _connect(rules, guard, *address)


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens connections by the rules."""

    def __init__(self, rules: _Rules, guard: _Guard) -> None:
        super().__init__()
        self._rules = rules
        self._guard = guard

    def http_open(self, req: urllib.request.Request) -> Any:
        return self._open(_Connection, req)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self._open(_SecureConnection, req)

    def _open(self, kind: Any, req: urllib.request.Request) -> Any:
        parts = urlsplit(req.full_url)
        rules: _Rules | None = self._rules
        if req.host != parts.netloc:  # a proxy; where it connects to is its own business
            self._check_named(parts.hostname or "")
            rules = None
        return self.do_open(functools.partial(kind, rules=rules, guard=self._guard), req)

    def _check_named(self, host: str) -> None:
        with suppress(OSError):  # behind a proxy names need not be known here
            self._rules.check(host, [str(i[4][0]) for i in socket.getaddrinfo(host, None)])


class _Redirections(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        try:
            _checked_url(newurl)
        except BadURI:
            raise DownloadRefused(
                f"{req.full_url} redirects to {newurl[:200]!r}, where kachery does not go"
            ) from None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(rules: _Rules, guard: _Guard) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()  # not build_opener: that one also opens ftp: and file:
    for handler in (
        urllib.request.ProxyHandler(),
        _Handler(rules, guard),
        _Redirections(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "kachery")]
    return opener
