"""Which rows of a price list look wrong beside their neighbours, by the rules of docs/prices.md; pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from statistics import median

from castbench.cost.spec import Price
from castbench.records import Caveat

OLD_DAYS = 90
LOWEST_OF_MEDIAN, HIGHEST_OF_MEDIAN = 0.8, 1.25
LEAST_OVER_SPOT = 1.1
"""On demand at most this times the spot price: one of the two is probably another product's."""
ALIKE_HOST = 1.5
"""vCPUs and GiB per GPU of two units that differ by no more than this count as the same host: a T4 with 48 vCPUs
costs twice one with 4, and neither price is wrong."""
MOST_BETWEEN_COUNTS = 1.15
"""Price per GPU of two counts in one region: clouds give up to a tenth off for a whole machine (lambda, H100-SXM)."""

_WITH_MEMORY = re.compile(r"(?P<chip>.+)-(?P<gigabytes>\d+)GB")


_Gpu = tuple[str | None, str | None]
"""Cloud and GPU."""
_Host = tuple[float | None, float | None]
"""vCPUs and GiB per GPU."""


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """The rows that others are held against, those that state no doubt of their own: by GPU and host, and by region.

    medians   USD per GPU and hour among like hosts, kept as they are worked out: long lists have few kinds of host
    """

    of_gpu: Mapping[_Gpu, Mapping[_Host, Sequence[Price]]]
    of_region: Mapping[tuple[_Gpu, str | None], Sequence[Price]]
    medians: dict[tuple[_Gpu, _Host], float | None]

    @classmethod
    def among(cls, prices: Sequence[Price]) -> _Neighbours:
        """Those among these rows; CPU servers have none."""
        of_gpu: dict[_Gpu, dict[_Host, list[Price]]] = defaultdict(lambda: defaultdict(list))
        of_region: dict[tuple[_Gpu, str | None], list[Price]] = defaultdict(list)
        for price in prices:
            if not price.flags and price.usd_per_hour > 0 and price.accelerator is not None:
                of_gpu[_gpu(price)][_host(price)].append(price)
                of_region[_gpu(price), price.region].append(price)
        return cls(of_gpu, of_region, {})

    def median_of(self, gpu: _Gpu, host: _Host = (None, None)) -> float | None:
        """USD per GPU and hour in the middle of a cloud's units with a host like that; None where there are none."""
        if (gpu, host) not in self.medians:
            alike = [p for other, rows in self.of_gpu.get(gpu, {}).items() if _alike(other, host) for p in rows]
            self.medians[gpu, host] = median(map(_per_gpu, alike)) if alike else None
        return self.medians[gpu, host]


def doubted(prices: Sequence[Price]) -> tuple[Price, ...]:
    """The rows, each with why it may be wrong (`flags`, and the caveat price-suspect), the doubt it states first."""
    neighbours = _Neighbours.among(prices)
    return tuple(_flagged(price, tuple(_suspicions(price, neighbours))) for price in prices)


def aged(price: Price, on_date: date) -> Price:
    """The price, flagged where it is older than 90 days on that date; an old price is used all the same."""
    days = age_days(price, on_date)
    if days is None or days <= OLD_DAYS:
        return price
    flag = f"it was {days} days old on the day of the run"
    return replace(price, flags=(*price.flags, flag), caveats=(*price.caveats, Caveat.PRICE_OLD))


def age_days(price: Price, on_date: date) -> int | None:
    """Days since the price was taken down; None where the day is not known."""
    return None if price.as_of is None else (on_date - date.fromisoformat(price.as_of)).days


def _flagged(price: Price, found: tuple[str, ...]) -> Price:
    """The row with what it says of itself and what was found."""
    flags = (*price.flags, *found)
    return replace(price, flags=flags, caveats=(Caveat.PRICE_SUSPECT,)) if flags else price


def _suspicions(price: Price, neighbours: _Neighbours) -> Iterator[str]:
    """Why a row may be wrong, by each of the rules."""
    if price.usd_per_hour == 0:
        yield "the price is 0"
    spot = price.spot_usd_per_hour
    if spot is not None and price.usd_per_hour <= LEAST_OVER_SPOT * spot:
        yield f"{price.usd_per_hour:g} on demand is hardly above {spot:g} spot"
    if price.accelerator is None:
        return
    yield from _far_from_median(price, neighbours)
    yield from _cheaper_than_smaller(price, neighbours)
    yield from _uneven(price, neighbours)


def _far_from_median(price: Price, neighbours: _Neighbours) -> Iterator[str]:
    """Under 0.8 or over 1.25 times the cloud's median per GPU, among units with a host alike."""
    middle, own = neighbours.median_of(_gpu(price), _host(price)), _per_gpu(price)
    if middle is not None and not LOWEST_OF_MEDIAN * middle <= own <= HIGHEST_OF_MEDIAN * middle:
        yield f"{own:.4g} per GPU is far from {middle:.4g}, the median of {price.cloud} for {price.accelerator}"


def _cheaper_than_smaller(price: Price, neighbours: _Neighbours) -> Iterator[str]:
    """Below the median of the same chip with less memory, in its region or else in the whole cloud."""
    for cloud, accelerator in neighbours.of_gpu:
        if cloud != price.cloud or not _has_less_memory(accelerator, price.accelerator):
            continue
        near = neighbours.of_region.get(((cloud, accelerator), price.region))
        least = median(map(_per_gpu, near)) if near else neighbours.median_of((cloud, accelerator))
        if least is not None and _per_gpu(price) < least:
            yield f"{_per_gpu(price):.4g} per GPU is below {least:.4g} for {accelerator}, which has less memory"


def _uneven(price: Price, neighbours: _Neighbours) -> Iterator[str]:
    """Per GPU another price than with more or fewer GPUs, in one region and with a host alike."""
    others = [
        p for p in neighbours.of_region.get((_gpu(price), price.region), ())
        if p.gpus != price.gpus and _alike(_host(p), _host(price))
    ]  # fmt: skip
    own = _per_gpu(price)
    for other in sorted(others, key=lambda p: -_apart(_per_gpu(p), own))[:1]:
        if _apart(_per_gpu(other), own) > MOST_BETWEEN_COUNTS:
            yield f"{own:.4g} per GPU with {price.gpus}, but {_per_gpu(other):.4g} with {other.gpus} ({other.instance})"


def _gpu(price: Price) -> _Gpu:
    """Whose GPU it is, and which."""
    return price.cloud, price.accelerator


def _host(price: Price) -> _Host:
    """How much host there is per GPU, as far as it is known."""
    vcpus, memory_gib = price.vcpus, price.memory_gib
    return (
        None if vcpus is None else vcpus / price.devices,
        None if memory_gib is None else memory_gib / price.devices,
    )  # fmt: skip


def _per_gpu(price: Price) -> float:
    """USD per hour of one GPU."""
    return price.usd_per_hour / price.devices


def _apart(one: float, other: float) -> float:
    """How many times the larger is the smaller; infinite beside 0."""
    low, high = sorted((one, other))
    return high / low if low > 0 else float("inf")


def _alike(one: _Host, other: _Host) -> bool:
    """Whether two units have about as much host per GPU; what is not known is no difference."""
    pairs = zip(one, other, strict=True)
    return all(a is None or b is None or _apart(a, b) <= ALIKE_HOST for a, b in pairs)


def _has_less_memory(one: str | None, than: str | None) -> bool:
    """Whether two names are of one chip and form factor, and the first has less memory."""
    first, second = (_WITH_MEMORY.fullmatch(name or "") for name in (one, than))
    if first is None or second is None or first["chip"] != second["chip"]:
        return False
    return int(first["gigabytes"]) < int(second["gigabytes"])
