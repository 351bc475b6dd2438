from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click.testing
import pytest
from typer.testing import CliRunner

from castbench.cli import from_trace
from castbench.cli.app import app
from castbench.cli.settings import Settings
from castbench.errors import InputError
from castbench.plan import make_plan
from castbench.workload import trace_tables
from castbench.workload.profile import read_profile
from castbench.workload.spec import WorkloadProfile
from castbench.workload.trace import load_trace
from tests.workload.traces import azure, burstgpt, mooncake, requests, table, written

GOLDEN = Path(__file__).parents[1] / "golden" / "cli"


def run(*arguments: str) -> click.testing.Result:
    """`castbench workload from-trace` with these arguments; an error that main would translate is raised."""
    result = CliRunner().invoke(app, ["workload", "from-trace", *arguments])
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def profile_of(path: Path) -> WorkloadProfile:
    """The profile in a file, which must be sound."""
    result = read_profile(path)
    assert result.problems == ()
    assert result.profile is not None
    return result.profile


def messy() -> bytes:
    """A trace with everything that is counted: bad rows, rows out of order, equal times, requests without output."""
    rows: list[tuple[object, ...]] = [(5 + at, "GPT-4", n, out, n + out, "API log") for at, n, out in requests(400)]
    rows[50], rows[60] = rows[60], rows[50]
    rows[100] = rows[99]
    rows[7] = (*rows[7][:2], 0, *rows[7][3:])
    rows[9] = (*rows[9][:2], "many", *rows[9][3:])
    rows[11] = (*rows[11][:3], "", *rows[11][4:])
    rows[13] = ("", *rows[13][1:])
    rows[20] = rows[20][:4]
    header = ("Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type")
    return table(header, rows) + b"\n"


def lengths_alone() -> bytes:
    """A trace without times."""
    return table(("prompt_tokens",), [(n,) for _, n, _ in requests(300)])


CASES: dict[str, tuple[str, Callable[[], bytes], tuple[str, ...]]] = {
    "from-trace.txt": ("burst.csv", messy, ("--skip-unusable",)),
    "from-trace.json": ("burst.csv", messy, ("--skip-unusable", "--json")),
    "from-trace-lengths.txt": ("lengths.csv", lengths_alone, ()),
    "from-trace-coarse.txt": ("t.jsonl", lambda: mooncake([(at // 3 * 3, n, out) for at, n, out in requests()]), ()),
}


def compared(made: str, name: str) -> None:
    """Held against the golden file of that name; CASTBENCH_UPDATE_GOLDEN=1 writes it anew."""
    if os.environ.get("CASTBENCH_UPDATE_GOLDEN") == "1":
        (GOLDEN / name).write_text(made, encoding="utf-8")
    assert made == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_the_report_is_what_was_looked_at(in_tmp: Path, name: str) -> None:
    """Every byte of the report of a messy, a timeless and a coarse trace is known, and no line is over 80 columns."""
    file, data, options = CASES[name]
    written(in_tmp, file, data())
    made = run(file, *options).stdout
    compared(made, name)
    assert name.endswith("json") or max(map(len, made.splitlines())) <= 80


def test_the_profile_is_what_was_looked_at(in_tmp: Path) -> None:
    """Every byte of the profile of the messy trace is known."""
    written(in_tmp, "burst.csv", messy())
    run("burst.csv", "--skip-unusable", "-o", "made.yaml")
    compared((in_tmp / "made.yaml").read_text(encoding="utf-8"), "from-trace.yaml")


def test_nothing_but_the_report_is_on_stdout(in_tmp: Path) -> None:
    """What was written and what comes next are said on stderr, and not under --quiet."""
    written(in_tmp, "t.csv", azure(requests()))
    told = run("t.csv")
    assert "Nothing was written" in told.stderr
    assert "-o profile.yaml" in told.stderr
    told = run("t.csv", "-o", "p.yaml", "--json")
    assert json.loads(told.stdout)["requests"] == 200
    assert told.stderr == "Wrote p.yaml. Next: castbench workload check p.yaml\n"
    quiet = CliRunner().invoke(app, ["-q", "workload", "from-trace", "t.csv"])
    assert (quiet.stderr, quiet.exit_code) == ("", 0)


def test_the_profile_leads_to_the_trace_from_where_it_lies(in_tmp: Path) -> None:
    """The path of the trace is relative to the profile, wherever both are; the profile makes a plan."""
    for folder in ("data", "mine/profiles"):
        (in_tmp / folder).mkdir(parents=True)
    written(in_tmp / "data", "requests.csv.gz", burstgpt(requests()))
    run("data/requests.csv.gz", "-o", "mine/profiles/p.yaml")
    profile = profile_of(in_tmp / "mine/profiles/p.yaml")
    assert profile.name == "requests"
    assert make_plan(profile).baseline == "sdpa"
    assert profile.demand is not None
    assert profile.demand.trace is not None
    assert profile.demand.trace.path == "../../data/requests.csv.gz"
    assert len(load_trace(profile.demand.trace, in_tmp / "mine/profiles").tokens) == 200


def test_options_say_which_columns_to_read(in_tmp: Path) -> None:
    """Columns and a unit that no layout knows are taken from the options, and the name too."""
    rows: list[tuple[object, ...]] = [(round(at * 1000), n, out) for at, n, out in requests()]
    written(in_tmp, "log.csv", table(("at", "n", "written"), rows))
    made = run(
        "log.csv", "--time-column", "at", "--time-unit", "ms", "--tokens-column", "n", "--output-column", "written",
        "--name", "mine", "--json", "-o", "p.yaml",
    )  # fmt: skip
    values = json.loads(made.stdout)
    assert values["columns"] == {"time": "at", "time_unit": "ms", "tokens": "n", "output": "written"}
    assert values["output_tokens"]["total"] == sum(out for _, _, out in requests())
    profile = profile_of(in_tmp / "p.yaml")
    assert profile.name == "mine"
    assert profile.demand is not None
    assert profile.demand.requests_per_second == pytest.approx(values["traffic"]["requests_per_second"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--time-unit", "sec"], "--time-unit: expected s, ms, us, ns, iso, got 'sec'. Did you mean s?"),
        (["--time-unit", "µs"], "Did you mean us?"),
        (["--time-unit", "h"], "--time-unit: expected s, ms, us, ns, iso, got 'h'"),
        (["--sort-within", "60"], "--sort-within: expected a duration above zero such as 90s, 5m or 1.5h, got '60'"),
        (["--name", "a b"], "--name: expected a name of at most 80"),
        (["--tokens-column", "Context"], "no column is named 'Context'; there are 'TIMESTAMP', 'ContextTokens'"),
        (["-o", "there.yaml"], "there.yaml exists already; name another file, or overwrite it with --force"),
        (["-o", "no/such/folder.yaml"], "no/such/folder.yaml: there is no folder no/such; make it first"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_written(in_tmp: Path, options: list[str], words: str) -> None:
    """A bad option is named, with exit code 2, and no file appears or changes."""
    written(in_tmp, "t.csv", azure(requests()))
    written(in_tmp, "there.yaml", "mine")
    with pytest.raises(InputError) as caught:
        run("t.csv", *options)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2
    assert sorted(path.name for path in in_tmp.iterdir()) == ["t.csv", "there.yaml"]
    assert (in_tmp / "there.yaml").read_text() == "mine"


def test_a_file_that_is_there_is_refused_before_the_trace_is_read(in_tmp: Path) -> None:
    """Nobody waits for ten million rows to be told so; --force overwrites."""
    written(in_tmp, "p.yaml", "mine")
    with pytest.raises(InputError, match=r"p\.yaml exists already"):
        run("not-there.csv", "-o", "p.yaml")
    written(in_tmp, "t.csv", azure(requests()))
    run("t.csv", "-o", "p.yaml", "--force")
    assert profile_of(in_tmp / "p.yaml").name == "t"


@pytest.mark.parametrize(
    ("file", "name"), [("a.csv", "a"), ("a b+c.csv.gz", "a-b-c"), ("ключ.csv", "trace"), (".hidden", "trace")]
)
def test_a_profile_is_named_after_its_file(in_tmp: Path, file: str, name: str) -> None:
    """Whatever the file is called, the profile's name is one it may have."""
    written(in_tmp, file, azure(requests()))
    run(file, "-o", "p.yaml")
    assert profile_of(in_tmp / "p.yaml").name == name


def test_ctrl_c_leaves_nothing_behind(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted while it reads, no profile is written, and the interruption is not swallowed."""

    def interrupt(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    @contextmanager
    def bar(settings: Settings, what: str) -> Iterator[Callable[[float], None]]:
        yield interrupt

    monkeypatch.setattr(trace_tables, "BLOCK_ROWS", 10)
    monkeypatch.setattr(from_trace, "reading_bar", bar)
    written(in_tmp, "t.csv.gz", azure(requests(2000)))
    result = CliRunner().invoke(app, ["workload", "from-trace", "t.csv.gz", "-o", "p.yaml"])
    assert result.exit_code == 130
    assert [path.name for path in in_tmp.iterdir()] == ["t.csv.gz"]


class _Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar names the file, its share and the time left; it is gone at the end. Elsewhere there is none."""
    monkeypatch.setenv("TERM", "xterm")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with from_trace.reading_bar(Settings(), "big.csv") as on_progress:
        assert on_progress is not None
        on_progress(0.25)
    assert "reading big.csv" in terminal.getvalue()
    assert "25%" in terminal.getvalue()
    assert "left" in terminal.getvalue()
    with from_trace.reading_bar(Settings(quiet=True), "big.csv") as on_progress:
        assert on_progress is None
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with from_trace.reading_bar(Settings(), "big.csv") as on_progress:
        assert on_progress is None
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
