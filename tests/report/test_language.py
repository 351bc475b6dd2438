from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from castbench.cost.owned import owned_source
from castbench.errors import InputError
from castbench.report import catalogue, exporters, text
from castbench.report.catalogue import LANGUAGES, sections, speaking, spoken
from castbench.report.line_breaks import broken
from castbench.report.nouns import Report
from castbench.said import Quantity, Unit, statement
from castbench.workload.spec import OwnedHardware
from tests.report import builder
from tests.report.test_golden import GOLDEN

ENGLISH = {(section, key): template for section, found in sections("en").items() for key, template in found.items()}
JAPANESE = {(section, key): template for section, found in sections("ja").items() for key, template in found.items()}

SAME_IN_BOTH = {
    "castbench", "castbench capacity", "castbench compare", "castbench diff", "castbench rehearse", "Python", "torch",
    "eager", "compiled", "graph",
}  # fmt: skip
"""Names, which are no words of a language; units and abbreviations are shorter than a word."""
JAPANESE_LETTERS = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
FOUR_WORDS = re.compile(r"\b[A-Za-z][a-z]+(?:[ ,]+[A-Za-z]*[a-z]+){3,}")
FOREIGN = (
    "van Engelenhoven et al", "tried to allocate", "the worker died with signal", "the counter stood still",
    "it waits for the device", "tokens are fewer than", "image url", "shares in the profile",
)  # fmt: skip
"""What the situations have from elsewhere: names of papers, messages of drivers and of mechanisms."""
COMMAND = re.compile(r"^ +castbench .*$|castbench(?: [\w./-]+)+(?: --[\w-]+(?: \S+)?)*", re.MULTILINE)


def _names(template: str) -> dict[str, set[str]]:
    """The placeholders of a template with the ways in which each is spoken."""
    names: dict[str, set[str]] = {}
    for _, name, how, _ in Formatter().parse(template):
        if name is not None:
            names.setdefault(name, set()).add(how or "")
    return names


def _shown(report: Report, fmt: str, language: str) -> str:
    """A report in a language."""
    with speaking(language):
        return exporters.render(report, fmt).decode()


def test_japanese_has_every_key_of_english_and_no_other() -> None:
    """Nothing is missing in a language, and nothing is left over from a sentence that is gone."""
    assert set(JAPANESE) ^ set(ENGLISH) == set()


@pytest.mark.parametrize("key", ENGLISH, ids=".".join)
def test_templates_of_both_languages_have_the_same_values(key: tuple[str, str]) -> None:
    """A translation leaves no value out and asks for no other; it speaks quantities the same way.

    It may look a word up, or retell a stored sentence, where English takes it as it is.
    """
    english, japanese = _names(ENGLISH[key]), _names(JAPANESE[key])
    assert set(japanese) == set(english)
    words = {"", "stored", "sentences", "list", *sections("en")}
    for name, ways in japanese.items():
        assert ways == english[name] or (english[name] <= words and ways <= words)


@pytest.mark.parametrize("key", ENGLISH, ids=".".join)
def test_a_translation_is_in_japanese(key: tuple[str, str]) -> None:
    """No template is left in English: without kana and kanji it holds names, units and marks only."""
    bare = re.sub(r"\{[^}]*\}", "", JAPANESE[key]).strip()
    is_worded = JAPANESE_LETTERS.search(bare) is not None
    assert is_worded or bare in SAME_IN_BOTH or re.search(r"[a-z]{4}", bare) is None


@pytest.mark.parametrize("fmt", ["terminal", "md"])
@pytest.mark.parametrize("name", builder.SITUATIONS)
def test_no_situation_says_anything_in_english(name: str, fmt: str) -> None:
    """A Japanese report holds no run of English words but commands, names and foreign messages."""
    shown = COMMAND.sub("", _shown(builder.SITUATIONS[name](), fmt, "ja"))
    found = [words for words in FOUR_WORDS.findall(shown.replace("\n", "")) if not any(f in words for f in FOREIGN)]
    if name != "hostile":
        assert found == []
    assert len(JAPANESE_LETTERS.findall(shown)) > 300


@pytest.mark.parametrize("name", builder.SITUATIONS)
@pytest.mark.parametrize(("fmt", "table"), [("json", None), ("csv", "summary"), ("csv", "cases")])
def test_what_machines_read_is_the_same_in_every_language(name: str, fmt: str, table: str | None) -> None:
    """JSON and CSV have the same bytes whatever language is spoken."""
    report = builder.SITUATIONS[name]()
    before = exporters.render(report, fmt, table=table)
    assert JAPANESE_LETTERS.search(before.decode()) is None or name == "hostile"
    with speaking("ja"):
        assert exporters.render(report, fmt, table=table) == before
        assert spoken() == "ja"


@pytest.mark.parametrize("name", builder.SITUATIONS)
def test_a_report_is_made_without_a_language(name: str) -> None:
    """What is said is chosen before it is worded: a report made while Japanese is spoken is the English one."""
    with speaking("ja"):
        made = builder.SITUATIONS[name]()
    assert made == builder.SITUATIONS[name]()
    assert _shown(made, "terminal", "en") == _shown(builder.SITUATIONS[name](), "terminal", "en")


def test_a_japanese_report_is_what_was_looked_at() -> None:
    """Every byte of one Japanese report is known; CASTBENCH_UPDATE_GOLDEN=1 writes it anew."""
    made, path = _shown(builder.win(), "terminal", "ja"), GOLDEN / "ja-win.txt"
    if os.environ.get("CASTBENCH_UPDATE_GOLDEN") == "1":
        path.write_text(made, encoding="utf-8")
    assert made == path.read_text(encoding="utf-8")


def test_the_language_comes_back_after_an_error() -> None:
    """An exception while Japanese is spoken leaves English behind it, nested or not."""
    with speaking("ja"):
        with pytest.raises(ZeroDivisionError), speaking("en"):
            raise ZeroDivisionError
        assert text.WORDS["baseline"] == "基準"
    assert text.WORDS["baseline"] == "baseline"
    with pytest.raises(ZeroDivisionError), speaking("ja"):
        raise ZeroDivisionError
    assert spoken() == "en"


def test_threads_do_not_hear_one_another() -> None:
    """Reports made at the same time in two languages are not mixed."""
    report = builder.win()
    alone = {language: _shown(report, "md", language) for language in LANGUAGES}
    asked = [LANGUAGES[number % 2] for number in range(12)]
    with speaking("ja"), ThreadPoolExecutor(4) as pool:
        shown = list(pool.map(lambda language: _shown(report, "md", language), asked))
    assert shown == [alone[language] for language in asked]


@pytest.mark.parametrize("language", ["de", "", "EN", "ja_JP", "en\n"])
def test_a_language_without_a_catalogue_is_refused(language: str) -> None:
    """One sentence names the option, the variable and what there is."""
    with pytest.raises(InputError) as refused, speaking(language):
        pytest.fail("nothing can be said")
    said = f"--lang (or CASTBENCH_LANG): expected one of en, ja, got {language!r}"
    assert str(refused.value) == said


def test_numbers_follow_the_language() -> None:
    """Units, ranges and counters are those of the language; digits are the same."""
    cost = Quantity(3.673, Unit.USD_PER_HOUR, 3.5, 3.9)
    said = statement("headline.keep", today="sdpa", cost=cost, month=Quantity(2681.0, Unit.USD))
    assert text.say(said) == "KEEP. Keep what you have: sdpa, at 3.67 $/h (3.50–3.90), 2,680 $ per month."
    with speaking("ja"):
        assert (
            text.say(said)
            == "KEEP（現状維持）：現在のsdpa（3.67ドル/時（3.50～3.90）、月額2,680ドル）を続けてください。"
        )
        assert text.fmt.value(Quantity(0.613, Unit.PROBABILITY)) == "61%"
        assert text.fmt.rounds(Quantity(1, Unit.COUNT)) == "1ラウンド"


STORED: dict[str, str] = {
    "not tried: it ran out of memory at batch 8, 4096 tokens": (
        "バッチ8、4096トークンでメモリ不足になったため試していません"
    ),
    "memory pass: no answer within 60 s": "メモリ測定：60秒以内に応答がありませんでした",
    "trace a.csv (7 requests, sha256 0123), at another rate": "トレースa.csv（7件、sha256 0123）、レートを変更",
    "cast: another process (pid 7) appeared on the GPU": "cast：別のプロセス（pid 7）がGPU上に現れました",
    "idling before: the energy counter is updated every 0.50 s only, too slow; block 2: it hung": (
        "待機（前）：電力量カウンターの更新が0.50秒ごとで遅すぎます；ブロック2：it hung"
    ),
    "CUDA error: an illegal memory access": "CUDA error: an illegal memory access",
    "": "",
}  # fmt: skip


@pytest.mark.parametrize("stored", STORED)
def test_stored_sentences_are_retold_and_foreign_ones_left_alone(stored: str) -> None:
    """What castbench wrote into a run file is told in Japanese, inside other sentences too; the rest stays."""
    assert text.retell(stored) == stored
    with speaking("ja"):
        assert text.retell(stored) == STORED[stored]


def test_a_stored_template_is_what_the_code_writes() -> None:
    """Every piece of a stored sentence stands in the code, so that a reworded one cannot be missed."""
    package = Path(catalogue.__file__).parents[2]
    sources = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    joined = re.sub(r"\"\s*\n?\s*f?\"", "", sources)
    for key, template in sections("en")["stored"].items():
        pieces = [piece for piece, *_ in Formatter().parse(template)]
        # These are put together from several pieces; the tests around this one make them.
        if not key.startswith(("price.owned", "price.reserved", "owned.", "case.skipped_smaller")):
            assert [piece for piece in pieces if piece.strip(" ();,:×") not in joined] == [], key


@pytest.mark.parametrize("maintenance", [None, 0.05])
@pytest.mark.parametrize("power_w", [None, 700.0])
def test_the_source_of_an_owned_servers_price_is_retold(maintenance: float | None, power_w: float | None) -> None:
    """Whatever is stated of it, no English is left."""
    usd_per_kwh = None if power_w is None else 0.2
    owned = OwnedHardware(
        purchase_usd=30000.0, years=4.0, utilization=0.5, maintenance_share=maintenance, power_w=power_w, pue=1.3,
        usd_per_kwh=usd_per_kwh,
    )  # fmt: skip
    with speaking("ja"):
        told = text.retell(owned_source(owned))
    assert told.startswith("利用者の指定：")
    assert re.findall(r"[a-z]{4,}", told) == []
    assert ("保守費は" in told or "保守費と" in told) == (maintenance is None)


MADE_OF = "あ漢ーっ、。（）「カタabc 12.％～%"


@given(st.text(st.sampled_from(MADE_OF), max_size=120), st.integers(4, 40))
def test_lines_break_where_the_script_allows_it(words: str, width: int) -> None:
    """No line is too wide, no character is lost, and no line that could be filled otherwise begins with a mark."""
    lines = broken(words, width).split("\n")
    assert "".join("".join(lines).split()) == "".join(words.split())
    if JAPANESE_LETTERS.search(words):
        assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("あいう、えお。", ["あい", "う、え", "お。"]),
        ("あい（うえ）", ["あい", "（う", "え）"]),
        ("平均は12.5倍です", ["平均は", "12.5倍", "です"]),
        ("このパラメータ", ["この", "パラメータ"]),
        ("plain words that are not Japanese", ["plain words that are not Japanese"]),
    ],
)
def test_marks_words_and_counters_stay_with_what_they_belong_to(words: str, lines: list[str]) -> None:
    """Closing marks do not begin a line, opening ones do not end it, katakana words and numbers are not cut."""
    width = {"このパラメータ": 10, "あい（うえ）": 7}.get(words, 6)
    assert broken(words, width).split("\n") == lines


RENDERED: dict[str, Callable[[], Report]] = {name: builder.SITUATIONS[name] for name in ("win", "failures", "on_a_gpu")}


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("name", RENDERED)
def test_japanese_lines_fit_the_terminal(name: str, width: int) -> None:
    """Nothing but commands is wider than the terminal, and no line begins with a full stop or comma."""
    with speaking("ja"):
        lines = exporters.render(RENDERED[name](), "terminal", width=width).decode().splitlines()
    wide = [line for line in lines if cell_len(line) > width and not line.startswith("  castbench ")]
    assert wide == []
    assert [line for line in lines if line.lstrip()[:1] in tuple("、。）")] == []
