from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler

import pytest

from castbench.cost.prices import MOST_BYTES, read_prices
from castbench.errors import InputError
from castbench.workload import address
from castbench.workload.address import Reach, is_https
from castbench.workload.text_source import is_address, name_of, read_source

LIST = (
    "cloud,instance,accelerator,gpus,host_included,on_demand_usd_per_hour,as_of,source\n"
    "ours,big,H100-SXM,8,yes,20.5,2026-10-01,offer 17\n"
)
Answer = Callable[[BaseHTTPRequestHandler, Event], None]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own server is not behind the proxy of the machine that tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def at_home(named: str) -> bool:
    """Whether an address is of the test's own server: the only http that is ever opened."""
    return urlsplit(named).scheme == "http" and urlsplit(named).hostname == "127.0.0.1"


def reach(**limits: float) -> Reach:
    """What may be opened in tests, and how long is waited."""
    return Reach(at_home, (HTTPHandler(),), **{"silence_s": 5.0, "whole_s": 20.0, **limits})


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The address of a server that answers like that; what still waits is let go at the end."""
    over = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(self, over)
            except OSError:
                self.close_connection = True  # the reader has gone, as it should

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/prices.csv"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def sending(body: bytes, kind: str | None = "text/csv", status: int = 200, **headers: str) -> Answer:
    """A server that sends this; a length is stated unless another header says how it ends."""

    def answer(handler: BaseHTTPRequestHandler, over: Event) -> None:
        handler.send_response(status)
        if kind is not None:
            handler.send_header("Content-Type", kind)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            if value:
                handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def told(answer: Answer, limits: Reach | None = None, most_bytes: int = MOST_BYTES) -> str:
    """What is said of a server that answers like that: one sentence that begins with the address."""
    with serving(answer) as named, pytest.raises(InputError) as error:
        read_source(f"{named}?key=secret", most_bytes=most_bytes, reach=limits or reach())
    said = str(error.value)
    assert said.startswith(f"{named}: ")
    assert "\n" not in said
    assert said.isprintable()
    assert "secret" not in said
    return said.removeprefix(f"{named}: ")


def test_a_price_list_is_read_from_an_address() -> None:
    """Rows, and that they are the user's own, come as from a file; the server is told who asks and to keep nothing."""
    seen: dict[str, str] = {}

    def answer(handler: BaseHTTPRequestHandler, over: Event) -> None:
        seen.update(handler.headers.items())
        sending(LIST.encode())(handler, over)

    with serving(answer) as named:
        (price,) = read_prices(named, reach=reach())
    assert (price.usd_per_hour, price.gpus, price.contract) == (20.5, 8, True)
    assert seen["Cache-Control"] == "no-cache"
    assert seen["User-Agent"].startswith("castbench/")


def test_nothing_is_kept_between_two_readings() -> None:
    """A list that changes at its address is read anew."""
    bodies = iter([LIST, LIST.replace("20.5", "21.5")])

    def answer(handler: BaseHTTPRequestHandler, over: Event) -> None:
        sending(next(bodies).encode())(handler, over)

    with serving(answer) as named:
        assert [read_prices(named, reach=reach())[0].usd_per_hour for _ in range(2)] == [20.5, 21.5]


@pytest.mark.parametrize("kind", [None, "text/plain; charset=utf-8", "application/octet-stream"])
def test_servers_call_csv_many_things(kind: str | None) -> None:
    """Plain text, bytes, or nothing at all are read; the layout decides."""
    with serving(sending(LIST.encode(), kind)) as named:
        assert len(read_prices(named, reach=reach())) == 1


def _silent(handler: BaseHTTPRequestHandler, over: Event) -> None:
    over.wait(20)


def _halting(handler: BaseHTTPRequestHandler, over: Event) -> None:
    sending(LIST[:40].encode(), Content_Length=str(len(LIST)))(handler, over)
    handler.wfile.flush()
    over.wait(20)


def _dripping(handler: BaseHTTPRequestHandler, over: Event) -> None:
    sending(b"", Content_Length=str(len(LIST)))(handler, over)
    while not over.wait(0.05):
        handler.wfile.write(b"x")


def _dripping_headers(handler: BaseHTTPRequestHandler, over: Event) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
    while not over.wait(0.05):
        handler.wfile.write(b"x")


@pytest.mark.parametrize(
    ("answer", "limits", "said"),
    [
        (_silent, {"silence_s": 0.2}, "the server said nothing for 0.2 s"),
        (_halting, {"silence_s": 0.2}, "the server said nothing for 0.2 s"),
        (_dripping, {"whole_s": 0.5}, "not read within 0.5 s; save it as a file and name that"),
        (_dripping_headers, {"whole_s": 0.5}, "not read within 0.5 s"),
    ],
)
def test_a_slow_server_is_not_waited_for(answer: Answer, limits: dict[str, float], said: str) -> None:
    """Silence ends after its time, and a byte now and then, in the headers or the body, does not prolong the whole."""
    assert said in told(answer, reach(**limits))  # the server itself would end otherwise, or never


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (sending(LIST.encode(), Content_Length=str(len(LIST) + 5)), f"cut short: {len(LIST)} of {len(LIST) + 5} bytes"),
        (sending(LIST.strip().encode(), Content_Length=""), "perhaps cut short"),
        (sending(b"40\r\nabc", Content_Length="", Transfer_Encoding="chunked"), "the answer is cut short or no HTTP"),
    ],
)
def test_a_truncated_answer_is_refused(answer: Answer, said: str) -> None:
    """Half a price list is none: fewer bytes than announced, a last line without end, a broken chunk."""

    def modern(handler: BaseHTTPRequestHandler, over: Event) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.close_connection = True
        answer(handler, over)

    assert said in told(modern)


def test_a_huge_answer_is_not_read_to_its_end() -> None:
    """What comes beyond the limit is not waited for, whatever length is announced."""
    sent = 0

    def endless(handler: BaseHTTPRequestHandler, over: Event) -> None:
        nonlocal sent
        sending(b"", Content_Length="")(handler, over)
        while not over.is_set() and sent < 2**30:
            handler.wfile.write(b"x" * 2**16)
            sent += 2**16

    assert told(endless, most_bytes=2**20) == "larger than 1 MiB; a price list is not"
    assert sent < 2**28


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (sending(b"<html></html>", "text/html"), "expected CSV, but the server sent text/html"),
        (sending(b"{}", "application/json"), "the server sent application/json"),
        (sending(b"\x1f\x8b", Content_Encoding="gzip"), "the server sent gzip, which was not asked for"),
        (sending(b"\xff\xfe\x00", "text/csv"), "line 1: not text in UTF-8"),
        (sending(b"", status=404), "the server answered 404 Not Found"),
        (sending(b"", status=500), "the server answered 500"),
        (sending(b"", status=401), "the server answered 401"),
    ],
)
def test_what_is_no_text_is_refused(answer: Answer, said: str) -> None:
    """A page, another format, something packed, bytes, and an error of the server."""
    assert said in told(answer)


def test_text_that_is_no_price_list_is_refused() -> None:
    """A page that calls itself text is found out by its first line."""
    page = sending(b"<!doctype html>\n<html></html>\n", "text/plain")
    with serving(page) as named, pytest.raises(InputError, match="line 1: expected a header with the columns cloud"):
        read_prices(named, reach=reach())


@pytest.mark.parametrize("to", ["http://127.0.0.2/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://[bad"])
def test_a_redirect_leads_nowhere_else(to: str) -> None:
    """What could not have been named cannot be redirected to either."""
    said = told(sending(b"", status=302, Location=to))
    assert "only https is followed" in said or "the server answered 302" in said or "cannot be read" in said


def test_a_redirect_to_what_is_allowed_is_followed_but_not_for_ever() -> None:
    """One step to the list is fine, a circle is an answer of its own."""

    def answer(handler: BaseHTTPRequestHandler, over: Event) -> None:
        if handler.path == "/list":
            sending(LIST.encode())(handler, over)
        else:
            sending(b"", status=302, Location="/list" if handler.path == "/there" else handler.path)(handler, over)

    with serving(answer) as named:
        home = named.removesuffix("/prices.csv")
        assert len(read_prices(f"{home}/there", reach=reach())) == 1
        with pytest.raises(InputError, match="the server answered 302"):
            read_prices(f"{home}/round", reach=reach())


@pytest.mark.parametrize(
    "named",
    [
        "http://127.0.0.1/p.csv", "HTTP://example.org/p.csv", "ftp://example.org/p.csv", "file:///etc/passwd",
        "https:///p.csv", "https://me:secret@example.org/p.csv", "https://@example.org/p.csv", "https://[bad/p.csv",
    ],
)  # fmt: skip
def test_production_opens_https_alone(named: str) -> None:
    """Without the reach of a test, nothing but https without user and password is even tried."""
    assert not is_https(named)
    with pytest.raises(InputError, match="expected an https address without a user name or password"):
        read_source(named, most_bytes=100)
    assert is_https("https://example.org/p.csv?key=1")
    assert is_https("HTTPS://example.org:8443/p.csv")


def test_production_has_no_opener_of_http_and_checks_certificates() -> None:
    """The opener knows https alone, with the standard library's own checks."""
    openers = address._opener(Reach(), "x").handle_open
    assert set(openers) <= {"https", "http", "ftp", "unknown"}
    assert not any(isinstance(handler, HTTPHandler) for found in openers.values() for handler in found)
    (https,) = (handler for handler in openers["https"] if isinstance(handler, HTTPSHandler))
    context: Any = https._context or ssl.create_default_context()  # type: ignore[attr-defined]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_server_that_is_none_is_refused_in_a_sentence() -> None:
    """No one listens, or speaks no TLS: it cannot be reached, and why."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match="cannot be reached"):
        read_source(f"https://127.0.0.1:{port}/p.csv", most_bytes=100)
    with serving(sending(LIST.encode())) as named, pytest.raises(InputError, match="cannot be reached"):
        read_source(named.replace("http:", "https:"), most_bytes=100)


def test_a_path_is_no_address_and_a_query_is_not_printed() -> None:
    """What has no scheme is a file; a name for people has no key in it."""
    assert not any(map(is_address, ("prices.csv", "/a/b.csv", "C:\\a.csv", "a:b")))
    assert name_of("https://example.org/p.csv?key=secret#x") == "https://example.org/p.csv"
    assert name_of("odd?name#.csv") == "odd?name#.csv"
    assert name_of("a\x1b[31m") == "a?[31m"


def test_a_file_is_read_whole_or_refused_in_a_sentence(tmp_path: Path) -> None:
    """A byte order mark is no content; a missing file, a folder, bytes, and a file that is too large are told."""
    plain = tmp_path / "p.csv"
    plain.write_bytes(b"\xef\xbb\xbfa,b\n")
    assert read_source(str(plain), most_bytes=100) == "a,b\n"
    (tmp_path / "bytes").write_bytes(b"\xff\n")
    for named, said in (
        ("none.csv", "there is no such file"), (".", "this is a folder"), ("bytes", "line 1: not text in UTF-8"),
        ("p.csv/x", "cannot be read"), ("a\0b", "not a usable file name"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            read_source(f"{tmp_path}/{named}", most_bytes=100)
    with pytest.raises(InputError, match="larger than 0 MiB"):
        read_source(str(plain), most_bytes=3)
