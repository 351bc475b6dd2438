"""A Report as a page: headings, paragraphs, bullets and tables of finished text, drawn by any exporter for people.

Report ─▶ Page(blocks) ─▶ terminal | markdown
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from castbench.cost.spec import ArmProjection, Recommendation
from castbench.records import Caveat, Environment, GpuFacts
from castbench.report import chart_view, text
from castbench.report import format as fmt
from castbench.report.blocks import Block, Bullets, Commands, Heading, Paragraph, Table
from castbench.report.claims_page import claims
from castbench.report.energy_money_page import electricity
from castbench.report.figures import figure, is_rough
from castbench.report.method_page import method
from castbench.report.nouns import Money, Report, RunFacts
from castbench.report.objective_page import objective
from castbench.report.outlook_page import in_currency, outlook
from castbench.report.plan_page import introduction
from castbench.report.quality_page import quality
from castbench.report.risks_page import risks
from castbench.report.savings_page import headroom, savings
from castbench.report.shapes_page import column, energy, memory, no_energy, optional, shapes
from castbench.report.trim import first_cases, rest
from castbench.report.view import replicas_estimate
from castbench.said import Quantity, Statement, Unit, Value, statement
from castbench.units import mib

_SAID_ABOVE = (Caveat.CPU_RUN, Caveat.FAKE_DEVICE, Caveat.WRONG_DEVICE, Caveat.ENERGY_UNMEASURED)
"""Caveats that stand as warnings over the headline, or are told with their reason."""

_SWITCH = {True: "switch.on", False: "switch.off"}
_LOCKED = {True: "clocks.locked", False: "clocks.free"}


def of_report(report: Report, *, most_cases: int | None = None) -> tuple[Block, ...]:
    """The page of a report, in the order of reading; at most `most_cases` rows of cases, where that is given."""
    groups, left_out = first_cases(report.groups, most_cases)
    return (
        _title(report.run),
        *(Paragraph(text.say(said), "warning") for said in report.warnings),
        *(Paragraph(text.say(said), "lead") for said in report.headline),
        *in_currency(report),
        *_summary(report),
        *chart_view.by_cost(report),
        *savings(report),
        *_listed("use", (_use(arm) for arm in report.mechanisms)),
        *objective(report.at_objective),
        *outlook(report),
        *electricity(report),
        *quality(report),
        *_listed("ceilings", (text.say(said) for said in report.ceilings)),
        *chart_view.split(report),
        *chart_view.over_length(report),
        *shapes(groups),
        *energy(groups),
        *memory(groups),
        *headroom(report),
        *rest(left_out, report.run),
        *claims(report),
        *introduction(report),
        *risks(report),
        *_listed("assumptions", (text.say(said) for said in report.assumptions)),
        *_listed("caveats", _caveats(report)),
        *method(report),
        *_listed("environment", _environment(report.run)),
        Heading(text.HEADINGS["reproduce"]),
        Commands(report.reproduce),
    )


def _title(run: RunFacts) -> Heading:
    """The page's title, with the profile's name where it has one."""
    key = "report" if run.profile_name else "report.nameless"
    return Heading(text.heading(key, profile=run.profile_name), 1)


def _listed(heading: str, items: Iterable[str]) -> Iterator[Block]:
    """A heading with its list; nothing where the list is empty."""
    listed = tuple(items)
    if listed:
        yield Heading(text.HEADINGS[heading])
        yield Bullets(listed)


def _summary(report: Report) -> Iterator[Block]:
    """The table by mechanism; without money only what was measured."""
    with_money = report.money.missing is None
    yield Heading(text.HEADINGS["summary" if with_money else "summary.speed"])
    baseline, stays = report.money.baseline, kept_label(report.mechanisms, report.money)
    rows = tuple(
        _summary_row(arm, baseline is not None and arm.configuration == baseline, arm.arm.label == stays)
        for arm in report.mechanisms
    )
    names = ("label", "cost", "saving", "speedup", "probability", "memory", "recommendation")
    kept = [i for i, name in enumerate(names) if with_money or name not in ("cost", "saving", "probability")]
    columns = tuple(column(names[i]) for i in kept)
    marked = tuple(i for i, arm in enumerate(report.mechanisms) if arm.recommendation.value in ("PILOT", "ROLL-OUT"))
    yield Table(columns, tuple(tuple(row[i] for i in kept) for row in rows), marked)
    if baseline is not None:
        has_ranges = not all(is_rough(arm) for arm in report.mechanisms if arm.configuration is not None)
        note = text.WORDS["summary.note" if has_ranges else "summary.unranged"]
        yield Paragraph(note.format(baseline=text.say(baseline.said)), "note")
    if any(is_rough(arm) for arm in report.mechanisms):
        yield Paragraph(text.WORDS["summary.rough"], "note")
    yield Paragraph(" ".join(_names(report.mechanisms)), "note")


def _names(mechanisms: Iterable[ArmProjection]) -> Iterator[str]:
    """What the names mean, of those mechanisms that everybody meets, and of the advice."""
    labels: dict[str, list[str]] = {}
    for arm in mechanisms:
        labels.setdefault(arm.arm.mechanism, []).append(arm.arm.label)
    for mechanism, called in labels.items():
        if mechanism in text.NAMES:
            yield text.NAMES[mechanism].format(labels=", ".join(called))
    yield text.NAMES["words"]


def kept_label(mechanisms: Iterable[ArmProjection], money: Money) -> str | None:
    """The label that KEEP is said of: today's, unless something exact is to take its place first."""
    kept = money.today or money.baseline
    replaced = any(arm.recommendation is Recommendation.TUNE_FIRST for arm in mechanisms)
    return None if kept is None or replaced else kept.label


def _summary_row(arm: ArmProjection, is_baseline: bool, is_kept: bool) -> tuple[str, ...]:
    """Cells of the summary; the baseline saves nothing against itself, and rough figures have no range."""
    rough = is_rough(arm)
    probability = None if is_baseline or rough else arm.probability_saving_positive
    return (
        arm.arm.label,
        figure(Quantity.of(arm.cost_usd_per_hour, Unit.USD_PER_HOUR), rough=rough, ranged=False),
        text.WORDS["baseline"]
        if is_baseline
        else figure(Quantity.of(arm.saving_usd_per_hour, Unit.USD_PER_HOUR), rough=rough),
        figure(Quantity.of(arm.speedup, Unit.TIMES), rough=rough and not is_baseline),
        fmt.value(optional(probability, Unit.PROBABILITY)),
        fmt.value(optional(None if arm.peak_memory_bytes is None else mib(arm.peak_memory_bytes), Unit.MIB)),
        advice(arm, is_kept),
    )


def advice(arm: ArmProjection, is_kept: bool) -> str:
    """What to do; KEEP only where something runs today that can be kept, so that nobody keeps a rival."""
    idle = arm.recommendation is Recommendation.KEEP and not is_kept
    return fmt.NOTHING if arm.configuration is None or idle else arm.recommendation.value


def _use(arm: ArmProjection) -> str:
    """How one mechanism would run: its configuration, parameters, servers and what a token costs."""
    sentences = [_use_configuration(arm)]
    if arm.interpolation_error is not None:
        error = Quantity(abs(arm.interpolation_error) * 100, Unit.PERCENT)
        sentences.append(text.say(statement("use.interpolation", error=error)))
    if is_rough(arm):
        sentences.append(text.say(statement("use.rough")))
    if arm.arm.params:
        parameters = text.named(f"{name}={value}" for name, value in arm.arm.params if value is not None)
        sentences.append(text.say(statement("use.parameters", parameters=parameters)))
    return text.WORDS["space"].join(sentences)


def _use_configuration(arm: ArmProjection) -> str:
    """The configuration with its servers, or why there is none."""
    if arm.configuration is None:
        return text.say(statement("use.none", label=arm.arm.label, reason=arm.reason))
    tokens_cost = Quantity.of(arm.usd_per_million_tokens, Unit.USD_PER_MILLION_TOKENS)
    said: dict[str, Value] = {
        "configuration": arm.configuration.said, "verdict": arm.verdict.value, "tokens_cost": tokens_cost,
    }  # fmt: skip
    if arm.replicas is None or arm.utilization is None:
        return text.say(statement("use.speed" if tokens_cost is None else "use.tokens", **said))
    replicas = Quantity.of(replicas_estimate(arm), Unit.COUNT)
    busy = Quantity(arm.utilization * 100, Unit.PERCENT)
    said["full_cost"] = Quantity.of(arm.usd_per_million_tokens_full_load, Unit.USD_PER_MILLION_TOKENS)
    key = "use.unpriced" if tokens_cost is None else "use.servers"
    return text.say(statement(key, replicas=replicas, utilization=busy, **said))


def _caveats(report: Report) -> Iterator[str]:
    """A sentence for every doubt, with the mechanisms it touches where it is not all of them."""
    everybody = {arm.arm.label for arm in report.mechanisms}
    missing = no_energy(report.groups, asked=report.run.energy_asked)
    if missing is not None:
        yield missing
    for note in report.caveats:
        if note.caveat not in _SAID_ABOVE:
            yield text.doubt(note.caveat, note.labels, everybody)


def _environment(run: RunFacts) -> Iterator[str]:
    """The run, the machine and the software."""
    here = run.environment
    named = run.profile_name or run.profile_source
    source = "" if run.profile_source == named else text.word("path", path=run.profile_source)
    facts = [
        statement("run.identity", run_id=run.run_id, created_at=run.created_at, profile=named, source=source),
        statement(
            "run.scope", scope=run.scope, phase=run.phase, dtype=run.dtype,
            regimes=tuple(statement("regime", regime=regime) for regime in run.regimes),
        ),
        *([statement("run.windows", mode=run.mode)] if here.device.startswith("cuda") else []),
        statement("run.device", device_name=here.device_name, device=here.device, host=here.host, os=here.os),
        *([] if here.gpu is None else [_gpu(here.gpu)]),
        _threads(here),
        statement(
            "run.software", castbench=here.castbench, python=here.python, torch=here.torch, cuda=here.cuda,
            driver=here.driver,
        ),
    ]  # fmt: skip
    if run.resumed:
        facts.append(statement("run.resumed", times=Quantity(run.resumed, Unit.COUNT)))
    return (text.say(fact) for fact in facts)


def _gpu(gpu: GpuFacts) -> Statement:
    """What of a GPU's settings moves its times; what is not known stays a dash."""
    return statement(
        "run.gpu", uuid=gpu.uuid, ecc=_word(_SWITCH, gpu.ecc), mig=_word(_SWITCH, gpu.mig),
        compute_mode=gpu.compute_mode, persistence=_word(_SWITCH, gpu.persistence),
        limit=optional(gpu.power_limit_w, Unit.WATTS), shipped=optional(gpu.power_default_w, Unit.WATTS),
        clocks=_word(_LOCKED, gpu.clocks_locked),
    )  # fmt: skip


def _threads(here: Environment) -> Statement:
    """Threads, the cores they may run on, and what steers them."""
    settings = text.named(f"{name}={value}" for name, value in here.thread_settings)
    return statement(
        "run.threads", threads=optional(here.threads, Unit.COUNT), settings=settings or text.WORDS["unbound"],
        cores=None if here.affinity is None else text.named(map(str, here.affinity)),
    )  # fmt: skip


def _word(words: dict[bool, str], fact: bool | None) -> str | None:
    """A fact's word, which stands under this name; None stays None."""
    return None if fact is None else text.WORDS[words[fact]]
