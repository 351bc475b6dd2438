"""What a projection stands on, in statements with their numbers and sources."""

from __future__ import annotations

from collections.abc import Iterator

from castbench.cost.cash import RESERVED, is_committed
from castbench.cost.objective import Objective
from castbench.cost.spec import Configuration, Price
from castbench.records import Environment
from castbench.said import Quantity, Statement, Unit, Value, statement
from castbench.units import HOURS_PER_MONTH
from castbench.workload.spec import Demand, LengthDistribution


def assumptions(
    *,
    price: Price | None,
    demand: Demand | None,
    mix: LengthDistribution,
    today: Configuration | None,
    stated_today: Configuration | None,
    baseline: Configuration | None,
    attention_share: float | None,
    environment: Environment,
) -> tuple[Statement, ...]:
    """Every assumption that a figure of the projection rests on.

    `today` is None where it has no complete measurement, `stated_today` where the profile does not state it.
    """
    said = [
        statement(
            "assumption.lengths", mean=Quantity(mix.mean_tokens, Unit.TOKENS),
            longest=Quantity(mix.tokens[-1], Unit.COUNT), source=mix.source,
        ),
        statement("assumption.batches"),
    ]  # fmt: skip
    if today is None and stated_today is not None:
        said.append(statement("assumption.today_unmeasured", today=stated_today.said))
    if baseline is not None and today is not None:
        key = "assumption.baseline" if stated_today is None else "assumption.baseline_stated"
        said.append(statement(key, baseline=baseline.said, today=today.said))
    if attention_share is not None:
        said.append(statement("assumption.attention", share=Quantity(attention_share * 100, Unit.PERCENT)))
    return (*said, *_of_demand(demand), *_of_price(price), *_of_size(price, environment))


def price_said(price: Price) -> Iterator[Statement]:
    """The price with its source and date, and every doubt about it."""
    said: dict[str, Value] = {
        "price": Quantity(price.usd_per_hour, Unit.GIVEN), "name": price.name, "plan": price.plan,
        "source": price.source,
    }  # fmt: skip
    yield statement("price.dated", date=price.as_of, **said) if price.as_of else statement("price.stated", **said)
    yield from (statement("price.doubt", doubt=flag) for flag in price.flags)


def _of_size(price: Price | None, environment: Environment) -> Iterator[Statement]:
    """What is assumed of the priced CPU server's size; a GPU's is its name."""
    if price is None or environment.device != "cpu":
        return
    threads = None if environment.threads is None else Quantity(environment.threads, Unit.COUNT)
    cpu = environment.cpu or statement("this_cpu")
    if price.vcpus is None:
        yield statement("assumption.unknown_size", threads=threads, cpu=cpu)
    else:
        yield statement("assumption.size", threads=threads, cpu=cpu, vcpus=Quantity(price.vcpus, Unit.COUNT))


def _of_demand(demand: Demand | None) -> Iterator[Statement]:
    """What is assumed of the traffic."""
    if demand is None:
        yield statement("assumption.no_demand")
        return
    yield statement(
        "assumption.demand", rate=Quantity(demand.requests_per_second, Unit.GIVEN),
        utilization=Quantity(demand.max_utilization * 100, Unit.PERCENT),
    )  # fmt: skip
    objective = Objective.of_demand(demand)
    if objective.floor > 1 or objective.spare:
        yield statement(
            "assumption.redundancy", floor=Quantity(objective.floor, Unit.COUNT),
            zones=Quantity(objective.zones, Unit.COUNT), spare=Quantity(objective.spare, Unit.COUNT),
        )  # fmt: skip
    yield statement("assumption.rate_alone")


def _of_price(price: Price | None) -> Iterator[Statement]:
    """What is assumed of the price."""
    if price is None:
        return
    yield from price_said(price)
    yield statement("assumption.month", hours=Quantity(HOURS_PER_MONTH, Unit.GIVEN))
    yield _commitment(price)


def _commitment(price: Price) -> Statement:
    """What of a server's price is saved when it is given back."""
    if not is_committed(price):
        return statement("assumption.whole_servers")
    if price.plan == RESERVED:
        years = None if price.term_years is None else Quantity(price.term_years, Unit.GIVEN)
        return statement("assumption.reserved" if years is None else "assumption.reserved_term", years=years)
    if price.electricity_usd_per_hour is None:
        return statement("assumption.owned")
    return statement(
        "assumption.owned_electricity", electricity=Quantity(price.electricity_usd_per_hour, Unit.USD_PER_HOUR)
    )
