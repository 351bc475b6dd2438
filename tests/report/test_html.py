from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import fields
from xml.etree.ElementTree import Element

import html5lib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.report import catalogue, html, page
from castbench.report.blocks import Block, Bullets, Chart, Column, Commands, Heading, Paragraph, Table
from castbench.report.charts.style import DARK, LIGHT, Style, themed, variables
from castbench.report.trim import MOST_CASE_ROWS
from tests.report.builder import SITUATIONS, win

HOSTILE = (
    "<script>alert(1)</script>", '=HYPERLINK("http://evil.example","x")', "abc\u202edef", "👩‍🚀 🚀", "x" * 300,
    '" onload="alert(1)', "</style><img src=x onerror=alert(1)>", "عربي עברית", "]]> <!-- --> &amp; \x1b[31m",
    "javascript:alert(1)",
)  # fmt: skip


def picture(chart: Chart, width: int) -> str:
    """A stand-in for what altair draws."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} 9"><g><text>t</text></g></svg>'
    )


def drawn(blocks: tuple[Block, ...]) -> str:
    """The document of these blocks, with stand-ins for pictures."""
    return html.draw(blocks, picture).decode()


def parsed(text: str) -> Element:
    """The document, parsed by the rules of HTML; any error of syntax fails."""
    root: Element = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    return root


def report(name: str) -> str:
    """The document of a situation."""
    return drawn(page.of_report(SITUATIONS[name](), most_cases=MOST_CASE_ROWS))


def outside_references(root: Element) -> Iterator[str]:
    """Everything in a document that could make a browser load or run something."""
    allowed = {"meta", "style"}
    for element in root.iter():
        tag = str(element.tag).rpartition("}")[2]
        if tag in {
            "script",
            "link",
            "iframe",
            "object",
            "embed",
            "img",
            "image",
            "use",
            "base",
            "form",
            "foreignObject",
        }:
            yield tag
        for name, value in element.attrib.items():
            bare = str(name).rpartition("}")[2]
            if bare in {"src", "srcset", "action", "data", "poster", "background", "ping"} or bare.startswith("on"):
                yield f"{tag} {bare}"
            if bare == "href" and not value.startswith("#"):
                yield f"{tag} href {value}"
            if re.search(r"url\s*\(|@import|expression\s*\(", value) and tag not in allowed:
                yield f"{tag} {bare} {value}"
        if tag == "style" and re.search(r"url\s*\(|@import|https?:|//", element.text or ""):
            yield "style"


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_report_is_valid_and_needs_nothing_from_outside(name: str) -> None:
    """A strict parser finds no error, and no attribute, style or element refers to anything outside the file."""
    root = parsed(report(name))
    assert list(outside_references(root)) == []


@pytest.mark.parametrize("name", SITUATIONS)
def test_headings_are_in_order_and_ids_unique(name: str) -> None:
    """One h1, no level skipped, no id twice, every link leads somewhere, and the language is stated."""
    root = parsed(report(name))
    levels = [int(str(element.tag)[1]) for element in root.iter() if re.fullmatch("h[1-6]", str(element.tag))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    links = [element.attrib["href"] for element in root.iter() if "href" in element.attrib]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    labels = {e.attrib["aria-labelledby"] for e in root.iter() if "aria-labelledby" in e.attrib}
    assert labels <= set(ids)
    assert root.attrib["lang"] == "en"


@pytest.mark.parametrize("name", SITUATIONS)
def test_tables_and_pictures_can_be_heard(name: str) -> None:
    """Every table has a caption and headed columns, every picture a description, and every scrolling box can be reached
    by keyboard under a name.
    """
    root = parsed(report(name))
    for table in root.iter("table"):
        caption = table.find("caption")
        assert caption is not None
        assert caption.text
        assert all(cell.attrib["scope"] in ("col", "row") for cell in table.iter("th"))
        assert table.find("thead") is not None
    pictures = [e for e in root.iter() if e.attrib.get("role") == "img"]
    assert all(len(e.attrib["aria-label"]) > 10 for e in pictures)
    assert len(pictures) == 2 * len(list(root.iter("figure")))
    assert all(figure.find("details/div/table") is not None for figure in root.iter("figure"))
    boxes = [e for e in root.iter() if e.attrib.get("class") == "scroll"]
    assert all(e.attrib.get("tabindex") == "0" and e.attrib.get("aria-label") for e in boxes)


def test_the_headline_comes_first_and_warnings_before_it() -> None:
    """What a manager reads stands before the contents and every table; a warning says that it is one."""
    text = report("few_rounds")
    assert text.index('class="leads"') < text.index("<nav") < text.index("<section")
    warned = report("no_price")
    assert warned.index('<p class="warning"><strong>Warning:</strong>') < warned.index('class="leads"')


def test_the_browser_is_told_to_load_nothing() -> None:
    """The policy allows the file's own style sheet and nothing else, and stands before anything it covers."""
    text = drawn(page.of_report(win()))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1] == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert policy.start() < text.index("<title>") < text.index("<style>")


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_words_are_text_wherever_they_stand(words: str) -> None:
    """In the title, headings, lists, commands, tables, charts' names and descriptions: shown, and never live."""
    from castbench.report.blocks import Axis, Point, Series

    chart = Chart("x", words, words, "bars", Axis(words), Axis(words), (Series(words, (Point(words, 1.0),)),))
    table = Table((Column(words, numeric=False), Column(words)), ((words, words),), marked=(0,))
    blocks: tuple[Block, ...] = (
        Heading(words, 1), Paragraph(words, "lead"), Paragraph(words, "warning"), Heading(words), Bullets((words,)),
        Commands((words,)), table, chart, Heading(words, 3), Heading("b"), Heading("c"),
    )  # fmt: skip
    text = drawn(blocks)
    root = parsed(text)
    assert list(outside_references(root)) == []
    assert "\u202e" not in text
    assert "\x1b" not in text
    shown = re.sub("[\u202e\u200d\x1b]", "\ufffd", words)
    assert root.findtext("head/title") == shown
    assert [cell.text for cell in root.iter("td")][:1] == [shown]


@given(st.text(max_size=50))
def test_any_words_make_a_valid_document(words: str) -> None:
    """Whatever stands in a run file, the document parses without an error and shows the words once in its heading."""
    root = parsed(drawn((Heading("t", 1), Heading("s"), Paragraph(words))))
    assert len(list(root.iter("p"))) == 1


def test_the_same_run_gives_the_same_bytes() -> None:
    """Nothing in the file hangs on the time or on chance."""
    assert html.draw(page.of_report(win()), picture) == html.draw(page.of_report(win()), picture)


def test_the_language_of_the_document_is_the_one_spoken() -> None:
    """A Japanese report says so to browsers and screen readers."""
    with catalogue.speaking("ja"):
        assert '<html lang="ja">' in html.draw((Heading("t", 1),), picture).decode()


def test_a_row_without_a_name_belongs_to_the_one_above() -> None:
    """A repeated name is left out, and its cell is no heading."""
    table = Table((Column("m", numeric=False), Column("n")), (("a", "1"), ("", "2")))
    text = drawn((Heading("t", 1), Heading("s"), table))
    assert '<tr><th scope="row">a</th><td class="number">1</td></tr>' in text
    assert '<tr class="further"><td></td><td class="number">2</td></tr>' in text


def _luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("style", "own"), [(LIGHT, html.PAGE_LIGHT), (DARK, html.PAGE_DARK)], ids=["light", "dark"])
def test_all_words_have_enough_contrast(style: Style, own: dict[str, str]) -> None:
    """Every pair of colours that words are written in, in light and dark, has a contrast of 4.5 or more; lines that
    carry meaning have 3.
    """
    inks = [style.ink, style.muted, style.today, style.baseline, *style.candidates, style.other]
    pairs = [(ink, style.ground) for ink in (*inks, own["link"], own["accent"])]
    pairs += [(ink, own["panel"]) for ink in (style.ink, style.muted)]
    pairs += [(own["warn-ink"], own["warn"]), (own["mark-ink"], own["mark"])]
    assert min(_contrast(*pair) for pair in pairs) >= 4.5
    assert min(_contrast(c, style.ground) for c in (style.gain, style.loss, own["warn-line"])) >= 3


def _seen(colour: str, matrix: tuple[tuple[float, float, float], ...]) -> tuple[float, ...]:
    """A colour as somebody sees it, in linear light (Machado, Oliveira and Fernandes 2009, severity 1)."""
    linear = [(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in
              (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))]  # fmt: skip
    return tuple(max(0.0, sum(w * c for w, c in zip(row, linear, strict=True))) ** (1 / 2.4) for row in matrix)


SIGHTS = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}


@pytest.mark.parametrize("style", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_roles_stay_apart_for_colour_blind_readers(style: Style, sight: str) -> None:
    """What runs today, the baseline and the first candidate differ clearly under each kind of colour blindness."""
    told = [style.today, style.baseline, style.candidates[0]]
    seen = [_seen(colour, SIGHTS[sight]) for colour in told]
    for i, one in enumerate(seen):
        for other in seen[i + 1 :]:
            assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 0.15


def test_every_colour_of_a_chart_is_declared_for_light_and_dark() -> None:
    """Charts are drawn with the variables that the style sheet sets, and none is left out of the dark."""
    style = themed()
    used = {getattr(style, field.name) for field in fields(style) if field.name not in ("candidates", "font")}
    used |= set(style.candidates)
    assert used == {f"var({name})" for name in variables(LIGHT)}
    assert variables(LIGHT).keys() == variables(DARK).keys()
    assert html.PAGE_LIGHT.keys() == html.PAGE_DARK.keys()
    text = drawn((Heading("t", 1),))
    names = set(re.findall(r"var\(--([\w-]+)\)", text))
    assert names <= {name.removeprefix("--") for name in variables(LIGHT)} | html.PAGE_LIGHT.keys()
