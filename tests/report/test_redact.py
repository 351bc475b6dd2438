from __future__ import annotations

import re
from dataclasses import replace

import pytest

from castbench.records import Outcome, Status
from castbench.report import exporters, objective_view, view
from castbench.report.nouns import AtObjective, Report, SizedArm
from castbench.report.redact import redact
from castbench.said import Quantity, Unit, statement
from castbench.workload.spec import Currency, TraceReference
from tests.report import builder

SECRETS = ("gpu-host-7", "/home/mai", "GPU-1234", "secret", "castbench-runs")
CONTRACT = replace(builder.PRICE, contract=True, source="the profile")


def _everything(report: Report) -> str:
    tables = [("terminal", None), ("json", None), ("md", None), ("csv", "summary"), ("csv", "cases")]
    return "\n".join(exporters.render(report, fmt, table=table).decode() for fmt, table in tables)


def _contract() -> Report:
    key = builder.GROUPS[2].key
    crash = Outcome("naive", Status.CRASH, "gpu-host-7 wrote /home/mai/core and C:\\Users\\secret\\x")
    record = builder.record(outcomes={(key, "naive"): crash})
    arms = (builder.sdpa(), builder.naive(), builder.winning_cast())
    return view.build(record, builder.projection(*arms, price=CONTRACT))


@pytest.mark.parametrize("secret", SECRETS)
def test_host_and_paths_are_in_no_format(secret: str) -> None:
    """What names the house is there before and gone after, in every format."""
    report = builder.failures() if secret != "secret" else _contract()
    assert secret in _everything(report)
    assert secret not in _everything(redact(report))


@pytest.mark.parametrize("amount", ["3.673", "7.346", "14.692", "14.7", "7.35", "5362", "0.0211"])
def test_a_contract_price_cannot_be_read_or_worked_out(amount: str) -> None:
    """With a contract price no amount of money is left in any format, percentages and servers are."""
    report = _contract()
    redacted = redact(report)
    assert amount in _everything(report)
    assert amount not in _everything(redacted)
    assert redacted.mechanisms[2].replicas == 2
    assert redacted.mechanisms[2].saving_percent == report.mechanisms[2].saving_percent


IDS = (
    "4242",
    "77",
    builder.UUID,
    "MIG-1b2c3d4e-1111-2222-3333-444455556666",
    "GPU-aaaaaaaa-1111-2222-3333-444455556666",
)


def _with_ids() -> Report:
    """A report whose reasons name processes and devices, known ones and others, and whose settings name a path."""
    mig, other = IDS[3:]
    crash = Outcome("naive", Status.CRASH, f"pid 4242, 77 took {other}, {mig}/1/0 and {builder.UUID}")
    silent = Outcome("cast-32", Status.OK, energy_reason=f"process 77 holds {mig}")
    key = builder.GROUPS[0].key
    facts = replace(builder.GPU, uuid=mig, parent_uuid=builder.UUID)
    machine = replace(builder.environment(), device_uuid=builder.UUID, gpu=facts,
                      thread_settings=(("KMP_SETTINGS", "/home/mai/kmp"),))  # fmt: skip
    run = builder.record(outcomes={(key, "naive"): crash, (key, "cast-32"): silent}, machine=machine)
    return view.build(
        builder.discarding(run, builder.GROUPS[1], builder.APPEARED), builder.projection(builder.sdpa())
    )  # fmt: skip


@pytest.mark.parametrize("name", [*IDS, "/home/mai/kmp"])
def test_no_process_and_no_device_can_be_told(name: str) -> None:
    """Ids of processes, GPUs and MIG instances go from reasons, discarded rounds and the environment."""
    report = _with_ids()
    told = _everything(report)
    assert name in told
    shown = _everything(redact(report))
    assert not re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", shown)


def test_words_that_only_look_like_ids_stay() -> None:
    """A count of processes or a GPU-bound kernel is no secret."""
    said = "GPU-bound work of 3 processes"
    key = builder.GROUPS[0].key
    run = builder.record(outcomes={(key, "naive"): Outcome("naive", Status.CRASH, said)})
    assert said in _everything(redact(view.build(run, builder.projection(builder.sdpa()))))


def test_a_public_price_stays() -> None:
    """A catalogue price is no secret."""
    assert redact(builder.win()).money.price == builder.PRICE


def test_a_file_of_lengths_is_not_named() -> None:
    """A relative path in the source of the lengths goes wherever it is said; a public source of a price stays."""
    mix = replace(builder.MIX, source="clients/acme.csv")
    said = (
        statement("assumption.lengths", mean=Quantity(1690, Unit.TOKENS), longest=None, source=mix.source),
        statement("price.stated", price=None, name="a server", plan="on_demand", source="aws/pricing@031e72b:a/b.go"),
    )
    report = view.build(builder.record(), builder.projection(builder.sdpa(), mix=mix, assumptions=said))
    assert "acme" in _everything(report)
    redacted = _everything(redact(report))
    assert "acme" not in redacted
    assert "aws/pricing@031e72b:a/b.go" in redacted


def test_the_measured_numbers_are_untouched() -> None:
    """Redacting takes away names, not measurements."""
    report = builder.win()
    assert redact(report).groups == report.groups


def test_a_trace_is_not_named() -> None:
    """The path of the trace that the demand was taken from is there before and gone after; its hash stays."""
    trace = TraceReference("../clients/acme/requests.csv", "ab" * 32, 100)
    arms = (builder.sdpa(), builder.naive(), builder.winning_cast())
    report = view.build(builder.record(), builder.projection(*arms, demand=replace(builder.DEMAND, trace=trace)))
    assert "acme" in _everything(report)
    clean = _everything(redact(report))
    assert "acme" not in clean
    assert "ab" * 32 in clean


def test_servers_at_the_objective_are_kept_and_their_cost_is_not() -> None:
    """Cost over servers is the contract price: neither table, headline nor JSON has it; the servers stand there."""
    sized = tuple(
        SizedArm(label, servers, servers * 38.7131, ((0.5, 0.1), (0.95, 0.2), (0.99, 0.24)), 0.5, servers, None)
        for label, servers in (("sdpa", 5), ("cast-32", 3))
    )
    report = replace(_contract(), at_objective=AtObjective("p99 ≤ 250 ms", None, 10_000, 40.0, sized, None))
    assert "193.5655" in _everything(report)
    told = " ".join(_everything(redact(report)).split())
    assert "the replayed traffic needs 5 servers of sdpa or 3 servers of cast-32." in told
    assert not any(amount in told for amount in ("193.5655", "116.1393", "194 $", "116 $", "| 194 |"))
    assert "| 194 |" in _everything(report)


def test_the_rate_of_a_currency_goes_with_the_money() -> None:
    """Without amounts nobody needs the rate that they were to be converted at."""
    report = _contract()
    report = replace(report, money=replace(report.money, currency=Currency("EUR", 0.91731)))
    assert "0.91731" in _everything(report)
    assert "0.91731" not in _everything(redact(report))


def test_the_replayed_trace_is_not_named() -> None:
    """Neither where requests came from nor why they could not be replayed tells the name of the file."""
    demand = replace(builder.DEMAND, trace=TraceReference("traces/acme-requests.csv", "0" * 64, 3))
    plain = view.build(builder.record(), builder.projection(builder.sdpa(), builder.winning_cast(), demand=demand))
    for replayed in (
        AtObjective("p99 ≤ 250 ms", "trace acme-requests.csv", 3, 1.0, (), None),
        objective_view.refused("p99 ≤ 250 ms", "acme-requests.csv is not there"),
    ):
        named = replace(plain, at_objective=replayed, headline=tuple(objective_view.sentences(replayed, "sdpa", None)))
        assert "acme" in _everything(named)
        assert "acme" not in _everything(redact(named))
