"""The commented profile that `workload init` writes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from castbench.errors import InputError
from castbench.workload.yaml_text import resolve, shown


@dataclass(frozen=True, slots=True)
class Answers:
    """What `workload init` needs to know; the defaults make a small encoder that a CPU measures in a minute or two.

    lengths   (tokens, share) of the documents
    gpu       the GPU the workload runs on; None: it runs on CPUs, or on a GPU that is not named
    cpu_vcpus vCPUs of the CPU server that the price is for
    """

    name: str = "my-workload"
    layers: int = 4
    embed_dim: int = 256
    num_heads: int = 4
    lengths: tuple[tuple[int, float], ...] = ((512, 0.5), (2048, 0.5))
    requests_per_second: float | None = None
    gpu: str | None = None
    usd_per_hour: float | None = None
    cpu_usd_per_hour: float | None = None
    cpu_vcpus: int | None = None


def parse_lengths(text: str) -> tuple[tuple[int, float], ...]:
    """(tokens, share) pairs of a text such as 512:0.5,2048:0.5; InputError shows the right spelling."""
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return tuple((int(tokens), float(share)) for tokens, share in pairs)
    except ValueError:
        raise InputError(f"expected tokens:share pairs such as 512:0.5,2048:0.5, got {shown(text)}") from None


def render(answers: Answers) -> str:
    """The profile as commented YAML; what was not answered is shown as a comment to fill in."""
    lengths = "\n".join(f"  - {{tokens: {tokens}, share: {share:.12g}}}" for tokens, share in answers.lengths)
    rate, gpu = answers.requests_per_second, answers.gpu
    return _TEMPLATE.format(
        name=yaml_scalar(answers.name),
        layers=answers.layers,
        embed_dim=answers.embed_dim,
        num_heads=answers.num_heads,
        lengths=lengths,
        dtype="bf16" if gpu else "fp32",
        gpu=f"gpu: {yaml_scalar(gpu)}" if gpu else "# gpu: A100-PCIe-80GB",
        demand=_line("demand", {"requests_per_second": rate}, "requests_per_second: 40"),
        price=_line("price", {"usd_per_hour": answers.usd_per_hour}, "usd_per_hour: 3.673"),
        price_cpu=_line(
            "price_cpu",
            {"usd_per_hour": answers.cpu_usd_per_hour, "vcpus": answers.cpu_vcpus},
            "usd_per_hour: 0.20, vcpus: 4",
        ),
    )


def _line(key: str, answers: dict[str, float | None], example: str) -> str:
    """`key: {inner: answer}` of what was answered, or an example that is commented out."""
    told = ", ".join(f"{inner}: {answer:.12g}" for inner, answer in answers.items() if answer is not None)
    return f"{key}: {{{told}}}" if told else f"# {key}: {{{example}}}"


def yaml_scalar(text: str) -> str:
    """Text as a YAML scalar that is read back as the same text."""
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) and isinstance(resolve(text), str)
    return text if plain else json.dumps(text)


_TEMPLATE = """\
# A castbench workload: what you serve, and what to measure for it.
#   castbench workload check FILE     what will be measured, and how long it takes
#   castbench profile FILE            measure it
# Every key is explained in docs/profile.md; `castbench workload schema` prints the JSON Schema for editors.

name: {name}

# The encoder that the mechanisms are swapped into. num_heads must divide embed_dim; ffn_dim is 4 x embed_dim
# unless it is given.
model:
  layers: {layers}
  embed_dim: {embed_dim}
  num_heads: {num_heads}

# Document lengths in tokens with their share of the requests (together 1). Every length is measured. If you know
# quantiles, or have a file with one length per line, write one of these instead:
#   lengths: {{quantiles: {{p0: 20, p50: 900, p90: 2400, p100: 4000}}}}
#   lengths: {{file: lengths.csv, column: tokens}}
lengths:
{lengths}

# Requests served together. Batches are tried bucketed (equal lengths) and padded, and each mechanism gets its best.
batch_sizes: [1]

phase: inference        # or training: forward, backward and optimiser step
dtype: {dtype}             # fp32, bf16 or fp16
seed: 0

# The GPU this runs on; a run on another one says so.
{gpu}

# The mechanism you run today, by its label, and how it is served; without the latter, at its best.
baseline: sdpa
# today: {{batch_size: 1, regime: eager}}

# What to compare; `castbench mechanisms` lists them with their parameters. A label may be given:
#   - {{cast: {{num_clusters: 32}}, label: cast-32}}
mechanisms:
  - sdpa
  - naive
  - cast

# Traffic and prices turn milliseconds into servers and money per hour. Without them only times and memory are
# reported. A price is what one server costs per hour: your contract's, or {{cloud: …, instance: …}} from the
# catalogue. Runs on the CPU use price_cpu; vcpus is the size of that server, compared with the threads measured.
{demand}
{price}
{price_cpu}

# What your bill and your monitoring say, to check the model by; savings are counted against what it explains:
#   observed: {{gpu_hours_per_month: 5840, requests_per_month: 98000000, p50_ms: 90}}

# For a break-even, for energy and CO2, and for amounts in another currency as well (see docs/profile.md):
#   one_off: {{retraining_usd: 8000, validation_usd: 2000, dual_running_days: 14}}
#   energy: {{pue: 1.3, usd_per_kwh: 0.15, kg_co2_per_kwh: 0.4}}
#   currency: {{code: JPY, per_usd: 155}}

# When to stop measuring: at this half-width of the interval of a time ratio, or after this many seconds per case.
sampling:
  target_ci: 0.02
  max_seconds_per_case: 60
"""
