"""Reads the text at an https address: bounded in time and size, redirects only to https, nothing kept anywhere.

address ─allowed?─▶ open ─redirect? allowed?─▶ text? ─▶ body, piece by piece ─whole?─▶ bytes
└────────────────── one deadline over all of it, name look-up and handshake included ──────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    BaseHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from castbench import __version__
from castbench.errors import InputError

TEXT_TYPES = ("text/csv", "text/plain", "application/csv", "application/octet-stream", "text/comma-separated-values")
"""What servers call a CSV file; some call it nothing but bytes."""
_PIECE_BYTES = 64 * 1024
_LONGEST_REASON = 200


def is_https(address: str) -> bool:
    """Whether an address is of https, names a host, and holds no user name or password."""
    try:
        parts = urlsplit(address)
        return parts.scheme.lower() == "https" and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Reach:
    """Which addresses are opened, redirects included, and how long is waited.

    handlers    openers of other schemes than https, which tests need for a server of their own
    silence_s   the longest that a server may say nothing
    whole_s     the longest that all of it may take
    """

    allows: Callable[[str], bool] = is_https
    handlers: tuple[BaseHandler, ...] = ()
    silence_s: float = 10.0
    whole_s: float = 30.0


def read_address(address: str, name: str, *, most_bytes: int, reach: Reach) -> bytes:
    """What the server sends, whole; InputError, in a sentence that begins with `name`, for everything that fails.

    The work is done in a thread that is left behind when time is up: no timeout of a socket bounds the look-up of a
    name, or a server that sends a byte now and then.
    """
    if not reach.allows(address):
        raise InputError(f"{name}: expected an https address without a user name or password")
    ended: SimpleQueue[bytes | Exception] = SimpleQueue()

    def work() -> None:
        try:
            ended.put(_fetched(address, name, most_bytes, reach))
        except Exception as error:  # whatever it is, it is raised again where it is waited for
            ended.put(error)

    Thread(target=work, daemon=True).start()
    try:
        result = ended.get(timeout=reach.whole_s)
    except Empty:
        raise InputError(f"{name}: not read within {reach.whole_s:g} s; save it as a file and name that") from None
    if isinstance(result, Exception):
        raise result
    return result


def _fetched(address: str, name: str, most_bytes: int, reach: Reach) -> bytes:
    """The body of the answer; InputError for what a server or the way to it can do wrong."""
    asked = {"Accept": "text/csv, text/plain", "Accept-Encoding": "identity", "Cache-Control": "no-cache"}
    try:
        request = Request(address, headers={**asked, "User-Agent": f"castbench/{__version__}"})
        with _opener(reach, name).open(request, timeout=reach.silence_s) as answer:
            _require_text(answer.headers, name)
            return _body(answer, name, most_bytes)
    except HTTPError as error:
        error.close()
        raise InputError(f"{name}: the server answered {error.code} {_plain(error.reason)}") from None
    except TimeoutError:
        raise InputError(f"{name}: the server said nothing for {reach.silence_s:g} s") from None
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise InputError(f"{name}: the server said nothing for {reach.silence_s:g} s") from None
        raise InputError(f"{name}: cannot be reached: {_plain(error.reason)}") from None
    except HTTPException as error:
        raise InputError(
            f"{name}: the answer is cut short or no HTTP: {_plain(error) or type(error).__name__}"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be read: {_plain(error)}") from None


def _opener(reach: Reach, name: str) -> OpenerDirector:
    """An opener of https alone, through the proxy that the environment names, and of what the reach adds."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(), UnknownHandler(), HTTPSHandler(), HTTPDefaultErrorHandler(), HTTPErrorProcessor(),
        _Redirects(reach.allows, name), *reach.handlers,
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect only to an address that could have been named in the first place."""

    def __init__(self, allows: Callable[[str], bool], name: str) -> None:
        self.allows, self.name = allows, name

    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage) -> Any:
        """What the next address answers; the refused answer is closed, which the standard library leaves open."""
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except (InputError, ValueError):
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """The next request; InputError for an address that is not allowed."""
        if not self.allows(newurl):
            raise InputError(f"{self.name}: it redirects to another kind of address; only https is followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_text(headers: HTTPMessage, name: str) -> None:
    """InputError for an answer that calls itself something else than text, or that is packed."""
    kind = headers.get_content_type()
    if kind not in TEXT_TYPES:
        raise InputError(f"{name}: expected CSV, but the server sent {_plain(kind)}; is it a page to look at?")
    packed = headers.get("Content-Encoding", "identity").strip().lower()
    if packed not in ("identity", ""):
        raise InputError(f"{name}: the server sent {_plain(packed)}, which was not asked for")


def _body(answer: HTTPResponse, name: str, most_bytes: int) -> bytes:
    """The whole body; InputError where it is too large, or shorter than announced."""
    data = bytearray()
    while piece := answer.read1(_PIECE_BYTES):
        data += piece
        if len(data) > most_bytes:
            raise InputError(f"{name}: larger than {most_bytes // 1024**2} MiB; a price list is not")
    announced = answer.headers.get("Content-Length")
    if announced is not None and announced.isdigit() and len(data) < int(announced):
        raise InputError(f"{name}: cut short: {len(data)} of {announced} bytes came")
    if announced is None and not answer.chunked and not data.endswith(b"\n"):
        raise InputError(f"{name}: perhaps cut short: it has no stated length, and its last line has no end")
    return bytes(data)


def _plain(reason: object) -> str:
    """A reason as one printable line."""
    line = " ".join(str(reason).split())[:_LONGEST_REASON]
    return "".join(letter if letter.isprintable() else "?" for letter in line)
