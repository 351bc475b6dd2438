"""`castbench workload`: write a profile, check one and show what it would measure, print its schema; from-trace."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from castbench.cli.from_trace import from_trace_command
from castbench.cli.price_options import AcceptSuspect, PriceList, book_of

if TYPE_CHECKING:
    from castbench.workload.interview import Question

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
    prices: PriceList = None,
    accept_suspect: AcceptSuspect = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Check a profile and show what would be measured: groups, cases, the time it takes, warnings."""
    from castbench.cli.plan_text import plan_text, plan_values
    from castbench.pipeline import check_device, load_plan
    from castbench.report.terminal import shown_on

    profile, plan = load_plan(file, prices=book_of(prices, accept_suspect=accept_suspect))
    estimated_for = check_device(device or ("cpu" if profile.gpu is None or profile.price_cpu else "cuda"))
    if as_json:
        typer.echo(json.dumps(plan_values(profile, plan, estimated_for), indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{profile.source}: the profile is valid\n")
        typer.echo(plan_text(profile, plan, estimated_for, shown_on(sys.stdout)[0]))


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
    vcpus: Annotated[int | None, typer.Option(help="vCPUs of the CPU server that --price-cpu is for.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
) -> None:
    """Write a commented profile; what no option says is asked for on a terminal, and left at its default elsewhere."""
    from castbench.errors import InputError
    from castbench.pipeline import write_out
    from castbench.workload.interview import answers_of
    from castbench.workload.template import render

    if path.exists() and not force:
        raise InputError(f"{path} exists already; name another file, or overwrite it with --force")
    given = {
        "name": name, "layers": layers, "embed_dim": embed_dim, "num_heads": heads, "lengths": lengths,
        "requests_per_second": rate, "gpu": gpu, "usd_per_hour": price, "cpu_usd_per_hour": price_cpu,
        "cpu_vcpus": vcpus,
    }  # fmt: skip
    known = _read_options({key: value for key, value in given.items() if value is not None})
    if _is_terminal():
        known = _asked(known)
    text = render(answers_of(known))
    _require_valid(text, path)
    write_out(text.encode(), path, force=force)
    typer.echo(f"Wrote {path}. Next: castbench workload check {path}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of profiles, for editors."""
    from castbench.workload.profile import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


app.command("from-trace")(from_trace_command)


def _is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _read_options(given: dict[str, Any]) -> dict[str, Any]:
    """The options as answers; InputError for lengths that are none."""
    from castbench.errors import InputError
    from castbench.workload.template import parse_lengths

    if "lengths" not in given:
        return given
    try:
        return {**given, "lengths": parse_lengths(given["lengths"])}
    except InputError as error:
        raise InputError(f"--lengths: {error}") from None


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    """The options and the answers of a person, who is asked for the rest; InputError at once for a bad option."""
    from castbench.errors import InputError
    from castbench.workload.interview import answer_problems, device_of, next_question

    problems = answer_problems(given)
    if problems:
        raise InputError.of("nothing was written", problems)
    device = device_of(given)
    known = given if device is None else {**given, "device": device}
    while question := next_question(known):
        known = {**known, question.key: _ask(question, known)}
    return known


def _ask(question: Question, known: dict[str, Any]) -> Any:
    """The answer to one question, asked again until it can be used."""
    return typer.prompt(
        question.words,
        default=question.offered(known),
        show_default=question.default is not None,
        value_proc=lambda text: _usable(question, text, known),
    )


def _usable(question: Question, text: str, known: dict[str, Any]) -> Any:
    """The value of an answer; typer's BadParameter, which asks again, where it cannot be used."""
    from castbench.cli.plan_text import wrapped
    from castbench.errors import InputError
    from castbench.report.terminal import shown_on

    try:
        return question.answer(_in_catalogue(text) if question.key == "gpu" else text, known)
    except InputError as error:
        lines = wrapped([f"Error: {error}"], shown_on(sys.stdout)[0])
        raise typer.BadParameter("\n".join(lines).removeprefix("Error: ")) from None


def _in_catalogue(name: str) -> str:
    """The catalogue's spelling of a GPU's name, or nothing for nothing; InputError with near names for another."""
    from castbench.errors import InputError
    from castbench.hardware.datasheet import find_gpu, unknown_gpu_sentence

    if not name.strip():
        return ""
    gpu = find_gpu(name)
    if gpu is None:
        raise InputError(f"{unknown_gpu_sentence(name)} (leave it empty if it is none of these)")
    return gpu.name


def _require_valid(text: str, path: Path) -> None:
    """InputError naming every answer that makes no valid profile; nothing is written then."""
    from castbench.errors import InputError
    from castbench.workload.profile import parse_profile

    problems = parse_profile(text, str(path), path.parent).problems
    if problems:
        raise InputError.of("nothing was written", problems)
