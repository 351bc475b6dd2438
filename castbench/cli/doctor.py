"""`castbench doctor`: what this machine is, what that means for the numbers, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from castbench.cli.settings import note

if TYPE_CHECKING:
    from castbench.hardware.cpu import Host
    from castbench.hardware.gpu import Gpu
    from castbench.measure.doctor import Examination
    from castbench.measure.finding import Finding
    from castbench.pipeline import AaResult
    from castbench.report.blocks import Block

_TOO_FEW_ROUNDS = "too few for an interval; give it more time"


def doctor_command(
    context: typer.Context,
    aa: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Also time a model against itself for so long, such as 30s or 2m."),
    ] = None,
    device: Annotated[str, typer.Option(help="Check that this device can be used: auto, cpu or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what this machine is, what that means for the numbers measured on it, and what to do about it.

    Warnings do not change the exit code; a device named with --device that cannot be used gives 3.

    \b
    Examples:
      castbench doctor
      castbench doctor --aa 30s
      castbench doctor --device cuda:1
    """
    from castbench.errors import HardwareError
    from castbench.measure.doctor import device_problem, examine

    seconds = _aa_seconds(aa, _checked_device(device))
    examined = examine()
    problem = None if device == "auto" else device_problem(device, examined.inventory, examined.torch)
    resolved = None if seconds is None else _resolved(context, seconds)
    if as_json:
        _print_json(examined, resolved)
    else:
        _print_page(examined, resolved)
    if problem:
        raise HardwareError(f"--device {device}: {problem}")


def _checked_device(device: str) -> str:
    """A device that can be looked over: the fake one is not of this world."""
    from castbench.errors import InputError
    from castbench.pipeline import check_device

    if device == "fake":
        raise InputError("--device: expected auto, cpu, cuda or cuda:N; the fake device is always usable")
    return check_device(device)


def _aa_seconds(aa: str | None, device: str) -> float | None:
    """--aa in seconds; it measures where --device auto would, so that another device cannot be meant."""
    from castbench.errors import InputError
    from castbench.units import parse_duration_s

    if aa is not None and device != "auto":
        raise InputError("--aa measures on the device that --device auto takes; give only one of the two options")
    try:
        return None if aa is None else parse_duration_s(aa)
    except ValueError as error:
        raise InputError(f"--aa: {error}") from None


def _resolved(context: typer.Context, seconds: float) -> AaResult:
    """A model timed against itself."""
    from castbench.pipeline import resolve_difference

    note(context, f"Timing one model against itself for {seconds:g} s …")
    return resolve_difference(seconds)


def _print_json(examined: Examination, resolved: AaResult | None) -> None:
    """Everything that was read and found."""
    import json

    from castbench.plain import to_plain

    values: dict[str, Any] = {**to_plain(examined), "aa": to_plain(resolved)}
    typer.echo(json.dumps(values, indent=2, ensure_ascii=False))


def _print_page(examined: Examination, resolved: AaResult | None) -> None:
    """The same for people."""
    import sys

    from castbench.pipeline import write_out
    from castbench.report import terminal

    width, colour = terminal.shown_on(sys.stdout)
    write_out(terminal.draw(tuple(_page(examined, resolved)), width=width, colour=colour), None)


def _page(examined: Examination, resolved: AaResult | None) -> Iterator[Block]:
    """The machine, the findings worst first, and what can be resolved."""
    from castbench.report.blocks import Bullets, Heading, Paragraph

    yield Heading("This machine", 1)
    yield Bullets(tuple(_fact_lines(examined)))
    yield Heading("What it means for the numbers")
    for finding in examined.findings:
        yield Paragraph("")
        serious = finding.severity in ("problem", "warning")
        yield Paragraph(f"{finding.severity.upper()}: {finding.what}", "warning" if serious else "lead")
        yield Bullets(tuple(_consequences(finding)))
    if resolved is not None:
        yield Heading("What can be resolved today")
        yield Paragraph(aa_sentence(resolved))


def _fact_lines(examined: Examination) -> Iterator[str]:
    """What the machine is, a line per part."""
    from castbench.measure.doctor import torch_text

    host, inventory, torch = examined.host, examined.inventory, examined.torch
    yield f"Host: {host.hostname}, {host.os}, Python {host.python}"
    yield f"CPU: {host.cpu_model or 'unknown model'}, {_cores(host)}"
    yield f"Memory: {_gib(host.memory_available_bytes)} available of {_gib(host.memory_total_bytes)}"
    for gpu in inventory.gpus:
        yield f"GPU {gpu.facts.index}: {_gpu_text(gpu)}"
    for gpu in inventory.instances:
        yield f"MIG instance of GPU {gpu.facts.index}: {_gpu_text(gpu)}"
    for identity in examined.devices:
        found = inventory.find(identity.uuid) if identity.uuid is not None else None
        if found is not None:
            kind = "GPU" if found.facts.parent_uuid is None else "a MIG instance of GPU"
            yield f"{identity.device}: {kind} {found.facts.index}, {identity.uuid}"
    if inventory.driver:
        yield f"Driver: {inventory.driver}, supports CUDA {inventory.cuda or 'of unknown version'}"
    if inventory.reason:
        yield f"NVIDIA GPUs: {'not known' if inventory.installed else 'none'}; {inventory.reason}"
    if torch.problem is None:
        yield f"PyTorch: {torch_text(torch)}, TF32 {'on' if torch.tf32 else 'off'}"


def _gpu_text(gpu: Gpu) -> str:
    """A GPU or instance as it is now."""
    facts = gpu.facts
    parts = [facts.name or "unnamed", f"{_gib(gpu.memory_used_bytes)} used of {_gib(facts.memory_total_bytes)}"]
    if facts.parent_uuid is None:
        parts += [f"{gpu.temperature_c:.0f} °C"] if gpu.temperature_c is not None else []
        parts += [f"limit {facts.power_limit_w:.0f} W"] if facts.power_limit_w is not None else []
        parts += [f"ECC {'on' if facts.ecc else 'off'}"] if facts.ecc is not None else []
    return ", ".join((*parts, facts.uuid or "no UUID"))


def _consequences(finding: Finding) -> Iterator[str]:
    """What follows, and what to do."""
    yield f"It means: {finding.so_what}."
    if finding.do:
        yield f"To do: {finding.do}."


def _cores(host: Host) -> str:
    """Cores there are, and how many of them castbench can use."""
    total, usable = host.logical_cores, host.usable_cores
    if total is None or usable is None:
        return "unknown number of cores"
    return f"{total} core{'' if total == 1 else 's'}{f', {usable} usable' if usable < total else ''}"


def _gib(size_bytes: int | None) -> str:
    """Bytes as GiB."""
    from castbench.units import GIB

    return "unknown" if size_bytes is None else f"{size_bytes / GIB:.1f} GiB"


def aa_sentence(result: AaResult) -> str:
    """What the machine can resolve, and whether it told two equal things apart, which it should do once in twenty."""
    import math

    from castbench.report import format as fmt
    from castbench.said import Quantity, Unit

    rounds = f"{result.rounds} round{'' if result.rounds == 1 else 's'} in {result.seconds:g} s"
    low, high = result.log_ratio.low, result.log_ratio.high
    if low is None or high is None:
        return f"Only {rounds} on {result.device}: {_TOO_FEW_ROUNDS}."
    percent = fmt.value(Quantity(math.expm1(result.log_ratio.half_width) * 100, Unit.PERCENT))
    sentence = f"On this machine today ({result.device}), {rounds} resolve a difference of ±{percent} %."
    if low <= 0 <= high:
        return sentence
    return (
        f"{sentence} The model differed from itself by more than that, which one try in twenty does by chance: "
        "try again, and if it happens again something here disturbs the windows."
    )
