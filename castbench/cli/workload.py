"""`castbench workload`: write a profile, check one and show what it would measure, print its schema."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
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
    *,
    device: Annotated[str | None, typer.Option(help="cpu or cuda: what the time is estimated for.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Check a profile and show what would be measured: groups, cases, the time it takes, warnings."""
    from castbench.cli.plan_text import plan_text, plan_values
    from castbench.pipeline import check_device, load_plan

    profile, plan = load_plan(file)
    estimated_for = check_device(device or ("cpu" if profile.gpu is None or profile.price_cpu else "cuda"))
    if as_json:
        typer.echo(json.dumps(plan_values(profile, plan, estimated_for), indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{profile.source}: the profile is valid\n")
        typer.echo(plan_text(profile, plan, estimated_for))


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
