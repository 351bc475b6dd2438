"""What a projection stands on, in sentences with their numbers and sources."""

from __future__ import annotations

from castbench.cost.spec import Configuration, Price
from castbench.records import Environment
from castbench.units import HOURS_PER_MONTH
from castbench.workload.spec import Demand, LengthDistribution


def assumptions(
    *,
    price: Price | None,
    demand: Demand | None,
    mix: LengthDistribution,
    today: Configuration | None,
    baseline: Configuration | None,
    attention_share: float | None,
    environment: Environment,
) -> tuple[str, ...]:
    """Every assumption that a figure of the projection rests on."""
    said = [
        f"Lengths: {mix.mean_tokens:.0f} tokens on average, at most {mix.tokens[-1]}; {mix.source}.",
        "Batches are full; a bucketed batch holds requests of one length, a padded one is as long as its longest.",
    ]
    if baseline is not None and today is not None:
        said.append(
            f"Savings are counted against {baseline}, the cheapest configuration that needs no new model; "
            f"today's label at its best is {today}."
        )
    if attention_share is not None:
        said.append(f"Attention modules are {attention_share:.0%} of a request today (the profile's attention_share).")
    return (*said, *_of_demand(demand), *_of_price(price), *_of_size(price, environment))


def _of_size(price: Price | None, environment: Environment) -> list[str]:
    """What is assumed of the priced CPU server's size; a GPU's is its name."""
    if price is None or environment.device != "cpu":
        return []
    measured = f"{environment.threads} threads of {environment.cpu or 'this CPU'}"
    size = "a size nobody stated (price_cpu.vcpus)" if price.vcpus is None else f"{price.vcpus} vCPUs"
    return [f"Measured on {measured}; the priced server has {size} and is taken to be as fast."]


def _of_demand(demand: Demand | None) -> list[str]:
    """What is assumed of the traffic."""
    if demand is None:
        return ["No rate is stated: costs per million tokens are at full load."]
    return [
        f"Demand: {demand.requests_per_second:g} requests per second at all hours, servers at most "
        f"{demand.max_utilization:.0%} busy; costs per million tokens are at that utilisation.",
        "Servers follow from the rate alone: no latency objective was tested.",
    ]


def _of_price(price: Price | None) -> list[str]:
    """What is assumed of the price."""
    if price is None:
        return []
    when = f", {price.as_of}" if price.as_of else ""
    return [
        f"Price: {price.usd_per_hour:g} USD per hour for {price.name} ({price.plan}); {price.source}{when}.",
        *(f"Doubt about the price: {flag}." for flag in price.flags),
        f"A month has {HOURS_PER_MONTH:g} hours.",
        "Servers are bought whole and given back at once: with no commitments known, the cash saved is the saving.",
    ]
