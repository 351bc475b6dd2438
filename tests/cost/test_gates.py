from __future__ import annotations

import pytest

from castbench.cost.gates import EVERY, Figure, Gate, Metric, Outcome, judge, parse_gate
from castbench.errors import InputError
from castbench.said import Quantity, Unit, statement

LABELS = ("sdpa", "cast-32", "a: b @ 3", "cast")


def figure(value: float, low: float | None, high: float | None) -> Figure:
    """A speed-up with its interval."""
    return Figure("cast-32", None, Quantity(value, Unit.TIMES, low, high), None)


def outcome(text: str, *figures: Figure) -> Outcome:
    """What a gate's text says of figures."""
    return judge(parse_gate(text, LABELS), figures).outcome


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("cast-32: speedup_vs_baseline >= 1.3", ("cast-32", Metric.SPEEDUP, True, 1.3, None)),
        (" *:slowdown_percent<=3 @4096 ", (EVERY, Metric.SLOWDOWN, False, 3.0, 4096)),
        ("a: b @ 3: peak_memory_mib <= 1e3", ("a: b @ 3", Metric.MEMORY, False, 1000.0, None)),
        ("sdpa: saving_usd_per_hour >= -.5", ("sdpa", Metric.SAVING, True, -0.5, None)),
    ],
)
def test_a_gate_is_read(text: str, gate: tuple[object, ...]) -> None:
    """Label up to the last colon, metric, direction, number, length; spaces do not count."""
    assert parse_gate(text, LABELS) == Gate(*gate, text.strip())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cast-32 speedup_vs_baseline >= 1", "expected LABEL: METRIC"),
        ("cast-32: speedup_vs_baseline > 1", "expected LABEL: METRIC"),
        ("cast-32: speedup_vs_baseline >= 1 or so", "expected LABEL: METRIC"),
        ("cats-32: speedup_vs_baseline >= 1", "no mechanism is labelled 'cats-32'. Did you mean 'cast-32'?"),
        ("zzz: speedup_vs_baseline >= 1", "labels are sdpa, cast-32"),
        ("cast: speedup >= 1", "no metric 'speedup'. Did you mean 'speedup_vs_baseline'?"),
        ("cast: slow_down_percent >= 1", "Did you mean 'slowdown_percent'?"),
        ("cast: xyz >= 1", "metrics are speedup_vs_baseline, slowdown_percent"),
        ("cast: slowdown_percent <= 3%", "plain number such as 1.3, got '3%'"),
        ("cast: slowdown_percent <= nan", "plain number"),
        ("cast: slowdown_percent <= 1e999", "plain number"),
        ("cast: slowdown_percent <= 1_0", "plain number"),
        ("cast: slowdown_percent <= 3 @ 4k", "a length in tokens behind @, such as 4096, got '4k'"),
        ("cast: cost_usd_per_hour <= 3 @ 4096", "of the whole traffic; leave out @ 4096"),
        ("", "expected LABEL"),
    ],
)
def test_what_is_no_gate_is_refused_with_the_right_spelling(text: str, said: str) -> None:
    """One sentence that names where it stands, what is wrong, and the nearest name."""
    with pytest.raises(InputError) as caught:
        parse_gate(text, LABELS, "gates.yaml: gates[2]")
    assert str(caught.value).startswith("gates.yaml: gates[2]: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown", "expected"),
    [
        ("cast-32: speedup_vs_baseline >= 1.3", (1.5, 1.3, 1.7), Outcome.PASSED),
        ("cast-32: speedup_vs_baseline >= 1.3", (1.5, 1.29, 1.7), Outcome.UNDECIDED),
        ("cast-32: speedup_vs_baseline >= 1.3", (1.1, 1.0, 1.29), Outcome.MISSED),
        ("cast-32: slowdown_percent <= 3", (1.0, -1.0, 3.0), Outcome.PASSED),
        ("cast-32: slowdown_percent <= 3", (1.0, -1.0, 3.1), Outcome.UNDECIDED),
        ("cast-32: slowdown_percent <= 3", (5.0, 3.1, 7.0), Outcome.MISSED),
        ("cast-32: slowdown_percent <= 3", (1.0, None, None), Outcome.UNDECIDED),
    ],
)
def test_only_the_unfavourable_end_passes_a_gate(
    text: str, shown: tuple[float, float | None, float | None], expected: Outcome
) -> None:
    """Passed if the whole interval meets the number, missed if none of it does, else undecided."""
    assert outcome(text, figure(*shown)) is expected


def test_the_worst_figure_decides() -> None:
    """One that misses makes the gate missed, one that is not known undecided."""
    good, bad = figure(2, 1.9, 2.1), figure(1, 0.9, 1.1)
    unknown = Figure("sdpa", None, None, statement("gate.no_memory"))
    rough = Figure("sdpa", None, Quantity(2, Unit.TIMES, 1.9, 2.1), statement("diff.no_range", run="NEW"))
    gate = "*: speedup_vs_baseline >= 1.3"
    assert outcome(gate, good, good) is Outcome.PASSED
    assert outcome(gate, good, bad, unknown) is Outcome.MISSED
    assert outcome(gate, good, unknown) is Outcome.UNDECIDED
    assert outcome(gate, rough) is Outcome.UNDECIDED
