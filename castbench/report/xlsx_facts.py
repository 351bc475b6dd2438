"""The sheets of a workbook that say under which price, on which machine and from which files a report was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from castbench.cost.spec import Price
from castbench.report import text
from castbench.report.nouns import RunFacts
from castbench.report.xlsx_book import Cell

PRICE_FIELDS: dict[str, Callable[[Price], Cell]] = {
    "name": lambda price: text.retell(price.name),
    "usd_per_hour": lambda price: price.usd_per_hour,
    "plan": lambda price: price.plan,
    "gpus": lambda price: price.gpus,
    "cloud": lambda price: price.cloud,
    "region": lambda price: price.region,
    "instance": lambda price: price.instance,
    "accelerator": lambda price: price.accelerator,
    "vcpus": lambda price: price.vcpus,
    "memory_gib": lambda price: price.memory_gib,
    "host_included": lambda price: price.host_included,
    "spot_usd_per_hour": lambda price: price.spot_usd_per_hour,
    "term_years": lambda price: price.term_years,
    "electricity_usd_per_hour": lambda price: price.electricity_usd_per_hour,
    "contract": lambda price: price.contract,
    "as_of": lambda price: price.as_of,
    "source": lambda price: text.retell(price.source),
    "doubts": lambda price: _joined(map(text.retell, price.flags)),
    "note": lambda price: price.note,
}
"""What a price is made of, by its name in the catalogue."""

RUN_FACTS: dict[str, Callable[[RunFacts], Cell]] = {
    "run_id": lambda run: run.run_id,
    "created_at": lambda run: run.created_at,
    "complete": lambda run: run.ended is not None and run.ended.complete,
    "path": lambda run: run.path,
    "profile_name": lambda run: run.profile_name,
    "profile_source": lambda run: run.profile_source,
    "profile_sha256": lambda run: run.profile_sha256,
    "comparable_sha256": lambda run: run.comparable_sha256,
    "plan_sha256": lambda run: run.plan_sha256,
    "scope": lambda run: run.scope,
    "phase": lambda run: run.phase,
    "dtype": lambda run: run.dtype,
    "regimes": lambda run: _joined(run.regimes),
    "baseline_label": lambda run: run.baseline_label,
    "same_within": lambda run: run.same_within,
    "seed": lambda run: run.seed,
    "resumed": lambda run: run.resumed,
    "mode": lambda run: run.mode,
    "device": lambda run: run.environment.device,
    "device_name": lambda run: run.environment.device_name,
    "device_uuid": lambda run: run.environment.device_uuid,
    "host": lambda run: run.environment.host,
    "os": lambda run: run.environment.os,
    "threads": lambda run: run.environment.threads,
    "cpu_cores": lambda run: run.environment.cpu_cores,
    "affinity": lambda run: _joined(run.environment.affinity),
    "thread_settings": lambda run: _joined(f"{name}={value}" for name, value in run.environment.thread_settings),
    "castbench": lambda run: run.environment.castbench,
    "python": lambda run: run.environment.python,
    "torch": lambda run: run.environment.torch,
    "cuda": lambda run: run.environment.cuda,
    "driver": lambda run: run.environment.driver,
    "ecc": lambda run: _of_gpu(run, "ecc"),
    "mig": lambda run: _of_gpu(run, "mig"),
    "compute_mode": lambda run: _of_gpu(run, "compute_mode"),
    "persistence": lambda run: _of_gpu(run, "persistence"),
    "power_limit_w": lambda run: _of_gpu(run, "power_limit_w"),
    "power_default_w": lambda run: _of_gpu(run, "power_default_w"),
    "clocks_locked": lambda run: _of_gpu(run, "clocks_locked"),
}
"""What is known of a run and its machine, by its name in the catalogue."""


def _of_gpu(run: RunFacts, name: str) -> Any:
    """A setting of the GPU; None without one."""
    return None if run.environment.gpu is None else getattr(run.environment.gpu, name)


def _joined(several: Any) -> str | None:
    """Several words in one cell; None of none."""
    return text.WORDS["semicolon"].join(map(str, several or ())) or None
