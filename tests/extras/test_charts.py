from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import pytest

from castbench.errors import InputError
from castbench.report import catalogue, charts, exporters, html, page
from castbench.report.blocks import Axis, Chart, Mark, Point, Series
from castbench.report.charts.style import PRINTED, themed
from castbench.said import Unit
from tests.report import builder
from tests.report.test_html import HOSTILE, outside_references, parsed

pytestmark = pytest.mark.extra
pytest.importorskip("altair", reason="the extra html is not installed")
pytest.importorskip("vl_convert", reason="the extra html is not installed")

KINDS = ("bars", "waterfall", "tornado", "lines", "scatter")


def chart(kind: str, words: str = "sdpa", **changes: object) -> Chart:
    """A chart of a kind whose names are all `words`."""
    is_over_x = kind in ("lines", "scatter")
    xs: tuple[float | str, ...] = (512.0, 1024.0, 2048.0) if is_over_x else (words,)
    series = tuple(
        Series(f"{words}{i or ''}", _points(words, xs, i), role)
        for i, role in enumerate(("today", "baseline", "candidate", "other"))
    )
    unit = Unit.TOKENS if is_over_x else None
    axes = Axis(words, kind == "lines", unit), Axis(words, kind == "lines", Unit.USD_PER_HOUR)
    marks = (Mark(1024.0, words),) if kind == "lines" else ()
    return Chart("x", words, words, kind, *axes, series, marks)  # type: ignore[arg-type]


def _points(words: str, xs: tuple[float | str, ...], more: float) -> tuple[Point, ...]:
    """A point at every x, each above the one before."""
    return tuple(Point(x, 3.0 + n + more, 2.5 + n + more, 4.0 + n + more, words) for n, x in enumerate(xs))


def texts(svg: str) -> list[str]:
    """The words of a picture."""
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


@pytest.mark.parametrize("width", [800, 360])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_the_same_every_time(kind: str, width: int) -> None:
    """A picture is well-formed, names what it draws, and has the same bytes when it is drawn again."""
    drawn = charts.svg(chart(kind), PRINTED, width)
    assert drawn == charts.svg(chart(kind), PRINTED, width)
    assert any("sdpa" in words for words in texts(drawn))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_names_are_words_in_a_picture(kind: str, words: str) -> None:
    """Nothing live, no reference, no identifier, nothing that turns the direction; 300 characters are shortened."""
    drawn = charts.svg(chart(kind, words))
    root = ElementTree.fromstring(drawn)
    assert list(outside_references(root)) == []
    assert not [element for element in root.iter() if "id" in element.attrib]
    assert "\u202e" not in drawn
    assert max(map(len, texts(drawn))) <= 120


@pytest.mark.parametrize("kind", KINDS)
def test_a_themed_picture_names_no_colour_of_its_own(kind: str) -> None:
    """In a document every stroke and fill is one of the document's variables, so that it follows light and dark."""
    drawn = charts.svg(chart(kind), themed())
    painted = set(re.findall(r'(?:fill|stroke)="([^"]*)"', drawn))
    assert {colour for colour in painted if not colour.startswith("var(--")} <= {"none", "transparent"}


def test_bars_are_as_long_as_their_numbers() -> None:
    """Twice the cost is twice as long, and the number beside it is the one in the table."""
    axis = Axis("cost", unit=Unit.USD_PER_HOUR)
    series = tuple(Series(name, (Point(name, y),)) for name, y in (("a", 2.0), ("b", 4.0)))
    drawn = charts.svg(Chart("x", "t", "a", "bars", Axis(""), axis, series))
    paths = [path.attrib.get("d", "") for path in ElementTree.fromstring(drawn).iter() if path.tag.endswith("path")]
    widths = sorted(_width(d) for d in paths if d.count("C") == 4 or d.count("A") == 4)
    assert len(widths) == 2
    assert widths[1] == pytest.approx(2 * widths[0], rel=1e-6)
    assert {"2.00 $/h", "4.00 $/h"} <= set(texts(drawn))


def _width(path: str) -> float:
    """How far a path reaches from left to right."""
    numbers = [float(x) for x in re.findall(r"(-?[\d.]+),-?[\d.]+", path)]
    return max(numbers) - min(numbers)


def test_a_waterfall_goes_on_where_the_step_before_ended() -> None:
    """From 10 by -4 and +1 to 7: the last change ends where the last total does."""
    points = tuple(Point(name, y) for name, y in (("today", 10.0), ("less", -4.0), ("more", 1.0), ("then", 7.0)))
    drawn = charts.svg(
        Chart("x", "t", "a", "waterfall", Axis(""), Axis("cost", unit=Unit.USD_PER_HOUR), (Series("s", points),))
    )
    root = ElementTree.fromstring(drawn)
    paths = [path.attrib.get("d", "") for path in root.iter() if path.tag.endswith("path")]
    ends = [_ends(d) for d in paths if d.count("C") == 4 or d.count("A") == 4]
    zero, ten = ends[0]
    unit = (ten - zero) / 10
    assert [round((left - zero) / unit, 3) for left, _ in ends] == [0, 6, 6, 0]
    assert [round((right - zero) / unit, 3) for _, right in ends] == [10, 10, 7, 7]


def _ends(path: str) -> tuple[float, float]:
    numbers = [float(x) for x in re.findall(r"(-?[\d.]+),-?[\d.]+", path)]
    return min(numbers), max(numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_chart_of_nothing_or_of_one_number_is_drawn(kind: str) -> None:
    """No series, one point, equal ends, zero and negative numbers raise nothing."""
    whole = chart(kind)
    for values in ((), (0.0,), (-1.0,), (5.0, 5.0), (1e-9, 1e9), (float("inf"), 1.0)):
        points = tuple(Point(10.0 ** (n + 1) if kind in ("lines", "scatter") else "n", y) for n, y in enumerate(values))
        made = Chart("x", "t", "a", whole.kind, whole.x, whole.y, (Series("s", points),) if points else ())
        assert charts.svg(made).startswith("<svg")


def test_words_of_every_language_reach_the_picture() -> None:
    """Japanese names are drawn, and cut by their width."""
    drawn = charts.svg(chart("bars", "日本語の長いラベル" * 5))
    named = min((words for words in texts(drawn) if words.startswith("日本語")), key=len)
    assert named == "日本語の長いラ…語の長いラベル"


@pytest.mark.parametrize("name", ["win", "hostile", "on_a_gpu", "few_rounds"])
@pytest.mark.parametrize("language", catalogue.LANGUAGES)
def test_a_report_with_its_pictures_is_valid(name: str, language: str) -> None:
    """The whole document, drawn by altair, parses strictly, refers to nothing outside and has no id twice."""
    with catalogue.speaking(language):
        text = exporters.render(builder.SITUATIONS[name](), "html").decode()
    root = parsed(text)
    assert list(outside_references(root)) == []
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    assert "http" not in re.sub(r">[^<]*<", "><", text).replace("http-equiv", "")


def test_the_same_run_gives_the_same_bytes() -> None:
    """Drawn twice, the document is the same to the byte."""
    assert exporters.render(builder.win(), "html") == exporters.render(builder.win(), "html")


@pytest.mark.slow
def test_ten_thousand_cases_stay_under_two_megabytes() -> None:
    """A document of 10,000 cases is under 2 MB and still names them all."""
    from castbench.report import view

    arms = [builder.sdpa(), builder.naive(), builder.winning_cast()]
    report = view.build(builder.many_cases(), builder.projection(*arms))
    text = exporters.render(report, "html")
    assert len(text) < 2_000_000
    assert "… 9,700 more rows" in text.decode()


def test_a_missing_extra_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without altair the error names the command that installs it."""
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(InputError, match=r"^html needs altair and vl-convert: pip install 'castbench\[html\]'$"):
        html.draw(page.of_report(builder.win()))
