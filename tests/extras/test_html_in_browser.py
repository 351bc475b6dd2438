from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from castbench.report import catalogue, exporters, html
from castbench.report.blocks import Heading
from tests.report import builder

pytestmark = [pytest.mark.extra, pytest.mark.slow]
pytest.importorskip("altair", reason="the extra html is not installed")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    # Whatever is asked for is answered by nobody: the document has to do without.
    "--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
OWN = re.compile(
    r"(chrome|chrome-untrusted|chrome-extension|devtools|data|about):|https?://[\w.-]*\b(google|googleapis|gvt1)\.com/"
)
"""What a fresh browser asks for on its own account."""


def loaded(document: Path, folder: Path) -> tuple[str, str, list[str]]:
    """The document as a browser without network shows it, what its console says, and what it asked for."""
    assert BROWSER is not None
    log = folder / "net.json"
    command = [
        BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--enable-logging=stderr",
        "--v=0", "--dump-dom", "--virtual-time-budget=2000", document.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return done.stdout, console, _asked_for(log, document.as_uri())


def _asked_for(log: Path, own: str) -> list[str]:
    """Addresses in the browser's network log, but for the document's and those the browser asks for by itself."""
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    found = {event["params"].get("url", "") for event in events if isinstance(event.get("params"), dict)}
    return sorted(url for url in found if url and url != own and not OWN.match(url))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize(("name", "language"), [("win", "en"), ("hostile", "en"), ("on_a_gpu", "ja")])
def test_a_browser_without_network_shows_it_without_a_complaint(name: str, language: str, tmp_path: Path) -> None:
    """Loaded with the network refused, the file asks for nothing, and the console stays empty."""
    document = tmp_path / "report.html"
    with catalogue.speaking(language):
        document.write_bytes(exporters.render(builder.SITUATIONS[name](), "html"))
    shown, console, asked = loaded(document, tmp_path)
    assert "<svg" in shown
    assert console == ""
    assert asked == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_check_sees_requests_and_complaints(tmp_path: Path) -> None:
    """A document that loads a picture is found out by its request, one that its policy stops by the console."""
    document = tmp_path / "bad.html"
    document.write_text('<!DOCTYPE html><title>t</title><img src="http://example.com/x.png">')
    assert "http://example.com/x.png" in loaded(document, tmp_path)[2]
    stopped = html.draw((Heading("t", 1),)).decode().replace("</main>", '<img src="http://example.com/x.png"></main>')
    document.write_text(stopped)
    _, console, asked = loaded(document, tmp_path)
    assert "Content Security Policy" in console
    assert asked == []
