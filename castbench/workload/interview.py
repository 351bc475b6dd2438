"""What `workload init` asks, in order: each answer is checked as it is given, and decides what is asked next.

known answers ─next_question─▶ Question ─a person─▶ text ─Question.answer─▶ a value for the known answers
                                                          └─ InputError: ask again
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from castbench.errors import InputError, Problem
from castbench.workload.profile import problems_so_far
from castbench.workload.scalars import Word
from castbench.workload.template import Answers, parse_lengths
from castbench.workload.yaml_text import resolve

Known = Mapping[str, Any]
"""Answers by their field's name in Answers, and `device`; None: asked, and left empty."""


def _always(_known: Known) -> bool:
    return True


def _number(text: str) -> int | float | str:
    """The number that YAML would read; any other text as it is, for the schema to refuse."""
    value = resolve(text)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else text


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    key       field of Answers that the answer is for, or `device`
    words     the question, with its unit
    place     keys of the profile that lead to the answer; empty for `device`, which the profile does not have
    read      text to value; what does not fit stays text, and is refused by the schema
    default   text that stands for an empty answer; None: an empty answer leaves the key out
    applies   whether it is asked at all, by the answers before it
    """

    key: str
    words: str
    place: tuple[str, ...]
    read: Callable[[str], Any] = _number
    default: str | None = None
    applies: Callable[[Known], bool] = _always

    def answer(self, text: str, known: Known) -> Any:
        """The value of an answer; InputError with one sentence where it cannot be used with what is known."""
        if not text.strip() and self.default is None:
            return None
        value = self.read(text.strip())
        problems = answer_problems({**known, self.key: value})
        if problems:
            raise InputError("; ".join(problem.what for problem in problems))
        return value

    def offered(self, known: Known) -> str | None:
        """The text that an empty answer stands for; None where the default does not fit what is known."""
        if self.default is None:
            return ""
        try:
            self.answer(self.default, known)
        except InputError:
            return None
        return self.default


def next_question(known: Known) -> Question | None:
    """The first question that applies and has no answer; None once everything is known."""
    return next((q for q in QUESTIONS if q.key not in known and q.applies(known)), None)


def answer_problems(known: Known) -> tuple[Problem, ...]:
    """What is wrong with the answers so far, by the rules of the profile's schema."""
    raw: dict[str, Any] = {}
    for question in QUESTIONS:
        value = known.get(question.key)
        if value is None or not question.place:
            continue
        *path, last = question.place
        inner = raw
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = [{"tokens": t, "share": s} for t, s in value] if question.key == "lengths" else value
    return problems_so_far(raw)


def device_of(known: Known) -> str | None:
    """Whether gpu or cpu, where the answers settle it already: a GPU's name or price, or a CPU's price."""
    if "gpu" in known or "usd_per_hour" in known:
        return "gpu"
    return "cpu" if "cpu_usd_per_hour" in known else None


def answers_of(known: Known) -> Answers:
    """The answers, with the defaults for what is not known."""
    names = {field.name for field in fields(Answers)}
    return Answers(**{key: value for key, value in known.items() if key in names and value is not None})


def _device(text: str) -> str:
    """The word gpu or cpu, in any capitals."""
    problem = Word(("gpu", "cpu")).problem(text.lower())
    if problem:
        raise InputError(problem)
    return text.lower()


_DEFAULT = Answers()

QUESTIONS = (
    Question("name", "Name of the workload (letters, digits, - _ .)", ("name",), str, _DEFAULT.name),
    Question("layers", "Layers (transformer blocks)", ("model", "layers"), default=str(_DEFAULT.layers)),
    Question(
        "embed_dim", "Width of the model (numbers per token)", ("model", "embed_dim"), default=str(_DEFAULT.embed_dim)
    ),
    Question(
        "num_heads", "Attention heads (a divisor of the width)", ("model", "num_heads"), default=str(_DEFAULT.num_heads)
    ),
    Question(
        "lengths", "Document lengths (tokens:share pairs, shares adding up to 1)", ("lengths",), parse_lengths,
        ",".join(f"{tokens}:{share:g}" for tokens, share in _DEFAULT.lengths),
    ),
    Question(
        "requests_per_second", "Traffic (requests per second; empty: not known)", ("demand", "requests_per_second")
    ),
    Question("device", "Does it run on a GPU or a CPU? (gpu or cpu)", (), _device, "cpu"),
    Question(
        "gpu", "Model of the GPU (such as A100-PCIe-80GB; empty: not known)", ("gpu",), str,
        applies=lambda known: known.get("device") == "gpu",
    ),
    Question(
        "usd_per_hour", "Price of a GPU server (USD per hour; empty: not known)", ("price", "usd_per_hour"),
        applies=lambda known: known.get("device") == "gpu",
    ),
    Question(
        "cpu_usd_per_hour", "Price of a CPU server (USD per hour; empty: not known)", ("price_cpu", "usd_per_hour"),
        applies=lambda known: known.get("device") == "cpu",
    ),
    Question(
        "cpu_vcpus", "vCPUs of that server (a whole number; empty: not known)", ("price_cpu", "vcpus"),
        applies=lambda known: known.get("cpu_usd_per_hour") is not None,
    ),
)  # fmt: skip
