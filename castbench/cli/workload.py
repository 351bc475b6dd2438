"""`castbench workload`: write a profile, check one and show what it would measure, print its schema."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from castbench.plan import Group, Plan
    from castbench.workload.spec import WorkloadProfile
    from castbench.workload.template import Answers

app = typer.Typer(
    help="Write, check and describe workload profiles.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_ProfileFile = Annotated[str, typer.Argument(metavar="FILE", help="A profile, or the name of a shipped one.")]


@app.command()
def check(
    file: _ProfileFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Check a profile and show what would be measured: groups, cases, the time it takes, warnings."""
    from castbench.pipeline import load_plan

    profile, plan = load_plan(file)
    shown = _description(profile, plan)
    if as_json:
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for line in _lines(shown):
        typer.echo(line)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")] = Path("workload.yaml"),
    *,
    name: Annotated[str | None, typer.Option(help="Name of the workload.")] = None,
    layers: Annotated[int | None, typer.Option(help="Transformer blocks.")] = None,
    embed_dim: Annotated[int | None, typer.Option(help="Width of the model.")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads; must divide the width.")] = None,
    lengths: Annotated[str | None, typer.Option(help="tokens:share pairs, such as 512:0.5,2048:0.5.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second to serve.")] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU the workload runs on; without it, CPUs.")] = None,
    price: Annotated[float | None, typer.Option(help="USD per hour of a GPU server.")] = None,
    price_cpu: Annotated[float | None, typer.Option(help="USD per hour of a CPU server.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
) -> None:
    """Write a commented profile; what no option says is asked for on a terminal, and left at its default elsewhere."""
    from castbench.errors import InputError
    from castbench.pipeline import write_out
    from castbench.workload.template import render

    if path.exists() and not force:
        raise InputError(f"{path} exists already; name another file, or overwrite it with --force")
    given = {
        "name": name, "layers": layers, "embed_dim": embed_dim, "num_heads": heads, "lengths": lengths,
        "requests_per_second": rate, "gpu": gpu, "usd_per_hour": price, "cpu_usd_per_hour": price_cpu,
    }  # fmt: skip
    text = render(_answers(given, ask=_is_terminal()))
    _require_valid(text, path)
    write_out(text.encode(), path, force=force)
    typer.echo(f"Wrote {path}. Next: castbench workload check {path}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of profiles, for editors."""
    from castbench.workload.profile import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


_QUESTIONS: dict[str, tuple[str, type]] = {
    "name": ("Name of the workload", str),
    "layers": ("Layers", int),
    "embed_dim": ("Width of the model (embed_dim)", int),
    "num_heads": ("Attention heads", int),
    "lengths": ("Document lengths as tokens:share", str),
    "requests_per_second": ("Requests per second (empty: not known)", str),
    "gpu": ("GPU it runs on (empty: CPUs)", str),
    "usd_per_hour": ("USD per hour of a GPU server (empty: not known)", str),
    "cpu_usd_per_hour": ("USD per hour of a CPU server (empty: not known)", str),
}


def _is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _answers(given: dict[str, Any], *, ask: bool) -> Answers:
    """The options given, the questions' answers where a person can be asked, defaults for the rest."""
    from castbench.workload.template import Answers, parse_lengths

    answers = {key: value for key, value in given.items() if value is not None}
    if ask:
        default = asdict(Answers())
        default["lengths"] = ",".join(f"{tokens}:{share:g}" for tokens, share in Answers().lengths)
        for key, (question, kind) in _QUESTIONS.items():
            if key not in answers:
                answer = typer.prompt(question, default=default[key] or "", show_default=bool(default[key]), type=kind)
                answers |= {} if answer == "" else {key: answer}
    if "lengths" in answers:
        answers["lengths"] = parse_lengths(answers["lengths"])
    for key in ("requests_per_second", "usd_per_hour", "cpu_usd_per_hour"):
        if key in answers:
            answers[key] = _number(answers[key], key)
    return Answers(**answers)


def _number(answer: float | str, key: str) -> float:
    """An answer that must be a number."""
    from castbench.errors import InputError

    try:
        return float(answer)
    except ValueError:
        raise InputError(f"{key}: expected a number, got {answer!r}") from None


def _require_valid(text: str, path: Path) -> None:
    """InputError naming every answer that makes no valid profile; nothing is written then."""
    from castbench.errors import InputError
    from castbench.workload.profile import parse_profile

    problems = parse_profile(text, str(path), path.parent).problems
    if problems:
        raise InputError.of("nothing was written", problems)


def _description(profile: WorkloadProfile, plan: Plan) -> dict[str, Any]:
    """Everything `check` says, as plain values."""
    from castbench.pipeline import describe_plan

    cases = sum(len(plan.arms_of(group)) for group in plan.groups)
    return {
        "profile": profile.name,
        "source": profile.source,
        "baseline": plan.baseline,
        "lengths": profile.lengths.source,
        "mean_tokens": profile.lengths.mean_tokens,
        "mechanisms": [
            {"label": arm.label, "mechanism": arm.mechanism, "role": arm.role, "parameters": dict(arm.params)}
            for arm in plan.arms
        ],
        "groups": [_group(plan, group) for group in plan.groups],
        "cases": cases,
        "unsupported": [asdict(case) for case in plan.unsupported],
        "at_most_s": cases * plan.sampling.max_seconds_per_case,
        "estimate": describe_plan(profile, plan),
        "warnings": list(_warnings(profile, plan)),
    }


def _group(plan: Plan, group: Group) -> dict[str, Any]:
    """One group as plain values."""
    return {
        "group": group.key,
        "batch_size": group.shape.batch_size,
        "seq_len": group.shape.seq_len,
        "batching": group.batching,
        "held_out": group.held_out,
        "labels": [arm.label for arm in plan.arms_of(group)],
    }


def _lines(shown: dict[str, Any]) -> Iterable[str]:
    """The description for people."""
    yield f"{shown['source']}: {shown['profile']} is valid"
    yield f"documents    {shown['mean_tokens']:.0f} tokens on average ({shown['lengths']})"
    for arm in shown["mechanisms"]:
        parameters = ", ".join(f"{key}={value}" for key, value in arm["parameters"].items() if value is not None)
        yield f"{arm['role']:<12} {arm['label']}{f'  ({parameters})' if parameters else ''}"
    yield ""
    yield f"{'group':<28} {'batch':>5} {'tokens':>7}  {'batching':<9} {'mechanisms':>10}"
    for group in shown["groups"]:
        size = f"{group['batch_size']:>5} {group['seq_len']:>7}"
        yield f"{group['group']:<28} {size}  {group['batching']:<9} {len(group['labels']):>10}"
    for case in shown["unsupported"]:
        yield f"not run: {case['label']} on {case['group']}: {case['reason']}"
    yield ""
    yield f"{len(shown['groups'])} groups, {shown['cases']} cases, at most {shown['at_most_s'] / 60:.1f} min of rounds"
    estimate = shown["estimate"]
    yield from [estimate] if isinstance(estimate, str) else (f"{key}: {value}" for key, value in estimate.items())
    for warning in shown["warnings"]:
        yield f"warning: {warning}"


def _warnings(profile: WorkloadProfile, plan: Plan) -> Iterable[str]:
    """What the user may be surprised by in the report."""
    yield from _money_warnings(profile)
    exact = [arm.label for arm in plan.arms if arm.exact]
    if not plan.arm(plan.baseline).exact:
        rivals = f"the cheapest of {', '.join(exact)}" if exact else "nothing: no mechanism here is exact"
        yield (
            f"baseline: {plan.baseline} does not compute exact softmax attention; savings are counted against {rivals}"
        )
    if len([arm for arm in plan.arms if arm.role != "ceiling"]) == 1:
        yield "mechanisms: there is only one, so nothing will be compared"
    if profile.dtype == "fp16":
        yield "dtype: fp16 is refused on CPUs"


def _money_warnings(profile: WorkloadProfile) -> Iterable[str]:
    """Why there will be no cost per hour, or not on every device."""
    if profile.scope == "attention" and profile.attention_share is None:
        yield "attention_share is missing: an attention module alone gives no cost per hour"
        return
    if profile.demand is None:
        yield "demand is missing: times and memory are reported, but no servers and no cost per hour"
    if profile.price is None and profile.price_cpu is None:
        yield "price and price_cpu are missing: there will be no money figures"
    elif profile.price is None:
        yield "price is missing: a run on a GPU gives no money figures"
    elif profile.price_cpu is None:
        yield "price_cpu is missing: a run on the CPU gives no money figures, because a GPU's price says nothing of it"
    if profile.price is not None and profile.gpu is None:
        yield "gpu is missing: a run cannot say whether it is on the GPU that the price is for"
