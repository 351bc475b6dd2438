from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from castbench import pipeline
from castbench.encoder.work import weights_bytes
from castbench.findings import CaseFinding, case_findings
from castbench.measure.rig import CaseFailed
from castbench.measure.runner import Silent
from castbench.measure.torch_rig import TorchRig, usable_device
from castbench.mechanisms import registry
from castbench.plan import make_plan
from castbench.records import RunRecord, Status
from castbench.stats import Verdict
from castbench.workload.lengths import from_shares
from castbench.workload.spec import MechanismChoice, ModelSpec, SamplingPolicy
from tests.examples import example_profile

PLUGIN = '''
"""Mechanisms that go wrong in the ways mechanisms do."""
import os, signal, time
from dataclasses import dataclass
from castbench.mechanisms.spec import KernelWork, MechanismSpec

@dataclass(frozen=True)
class Params:
    how: str = "segfault"

def spec():
    return MechanismSpec(
        name="faulty", title="faulty", summary="goes wrong", params=Params, build="faulty_plugin:build",
        reference="faulty_plugin:reference", work=lambda params, problem: KernelWork(gemm_flops=1e6),
        complexity="O(1)", hidden=True)

SPEC = spec()

def build(params, *, embed_dim, num_heads):
    import torch
    class Faulty(torch.nn.Module):
        ran_as = None
        def forward(self, x, mask=None):
            if params.how == "wrong":
                return x * 1.5
            if x.shape[1] <= 40:
                return x
            if params.how == "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            if params.how == "hang":
                time.sleep(3600)
            if params.how == "nan":
                return x * float("nan")
            if params.how == "hungry":
                return torch.empty(2**46, dtype=torch.uint8)
            if params.how == "greedy":
                return torch.ones(3 * 2**28).sum() + x
            if params.how == "raise":
                raise RuntimeError("the plug-in gave up")
            return x
    return Faulty()

def reference(module, x, mask=None):
    return x.double()
'''

GIB = 1024**3
MODEL = ModelSpec(layers=1, embed_dim=32, num_heads=2, ffn_dim=64, vocab_size=100)


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A third party's package, installed as pip would leave it."""
    home = tmp_path / "site"
    info = home / "faulty_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (home / "faulty_plugin.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[castbench.mechanisms]\nfaulty = faulty_plugin:SPEC\n")
    monkeypatch.syspath_prepend(str(home))
    registry.all_specs.cache_clear()
    yield
    registry.all_specs.cache_clear()
    sys.modules.pop("faulty_plugin", None)


def run(
    tmp_path: Path, *choices: MechanismChoice, memory_limit_bytes: int | None = None, **changes: object
) -> RunRecord:
    """A real run on the CPU with one thread, a small model and 64 tokens."""
    given = {
        "mechanisms": choices, "model": MODEL, "baseline": "sdpa", "lengths": from_shares([(64, 1.0)]),
        "sampling": SamplingPolicy(target_ci=0.5, min_window_ms=1.0), **changes,
    }  # fmt: skip
    profile = example_profile(**given)
    rig = TorchRig("cpu", 1, memory_limit_bytes)
    out = tmp_path / "run.jsonl"
    return pipeline.measure(profile, make_plan(profile), rig, Silent(), out=out).record


def by_label(record: RunRecord) -> dict[str, CaseFinding]:
    """The findings of the last group."""
    return {f.arm.label: f for f in case_findings(record) if f.group == record.header.plan.groups[-1]}


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("segfault", Status.CRASH, "SIGSEGV"),
        ("nan", Status.NONFINITE, "NaN"),
        ("hungry", Status.OOM, "allocate"),
        ("raise", Status.ERROR, "RuntimeError: the plug-in gave up"),
        ("wrong", Status.PARITY, "differs from its reference"),
    ],
)
def test_what_one_mechanism_does_costs_the_others_nothing(tmp_path: Path, how: str, status: Status, said: str) -> None:
    """A crash, NaN, exhausted memory, exception or wrong result is a row with status and reason; the rest completes."""
    faulty = MechanismChoice("faulty", (("how", how),), "faulty")
    found = by_label(run(tmp_path, MechanismChoice("sdpa"), faulty, MechanismChoice("naive")))
    assert found["faulty"].status is status
    assert said in (found["faulty"].reason or "")
    assert found["faulty"].mean_step_s is None
    for label in ("sdpa", "naive", "ceiling:mixing"):
        assert found[label].status is Status.OK
        assert found[label].rounds >= 8


def test_a_step_beyond_the_address_space_is_out_of_memory_and_nobody_is_killed(tmp_path: Path) -> None:
    """3 GiB under a limit of 2: the allocation fails in the worker, the case is oom, and the others complete."""
    greedy = MechanismChoice("faulty", (("how", "greedy"),), "greedy")
    found = by_label(run(tmp_path, MechanismChoice("sdpa"), greedy, memory_limit_bytes=2 * GIB))
    assert found["greedy"].status is Status.OOM
    assert "allocate" in (found["greedy"].reason or "")
    assert found["sdpa"].status is Status.OK


@pytest.mark.parametrize(("limit_bytes", "fits"), [(2 * GIB, False), (5 * GIB, True)])
def test_whether_a_step_fits_is_found_by_running_it(limit_bytes: int, fits: bool) -> None:
    """The same step fits under the larger limit and not under the smaller; a crash is no answer and is raised."""
    choices = (MechanismChoice("sdpa"), MechanismChoice("faulty", (("how", "greedy"),), "greedy"))
    plan = make_plan(example_profile(mechanisms=choices, model=MODEL, lengths=from_shares([(64, 1.0)])))
    rig = TorchRig("cpu", 1, limit_bytes)
    assert rig.fits(plan, plan.groups[0], plan.arm("greedy"), 1) is fits
    crashing = replace(plan.arm("greedy"), params=(("how", "segfault"),))
    with pytest.raises(CaseFailed, match="SIGSEGV"):
        rig.fits(plan, plan.groups[0], crashing, 1)


def test_arms_one_at_a_time_are_built_anew_for_every_window() -> None:
    """A worker told to keep one arm at a time times two in turn, and each is the one that was asked for."""
    choices = (MechanismChoice("busy", (("ms", 2.0),), "short"), MechanismChoice("busy", (("ms", 8.0),), "long"))
    plan = make_plan(example_profile(mechanisms=choices, baseline="short", scope="attention"))
    rig = TorchRig("cpu", 1)
    epoch = rig.open_epoch(plan, plan.groups[0], one_at_a_time=True)
    try:
        for label in ("short", "long"):
            epoch.prepare(plan.arm(label))
        for number, label in enumerate(("short", "long", "short", "long")):
            sample = epoch.window(plan.arm(label), number, 0, 2)
            assert sample.elapsed_s >= 2 * (0.002 if label == "short" else 0.008)
            assert sample.label == label
    finally:
        epoch.close()


def test_graphs_on_a_cpu_are_unsupported_and_eager_is_measured(tmp_path: Path) -> None:
    """A regime that the device does not have is a row with its reason, never another regime under its name."""
    record = run(tmp_path, MechanismChoice("sdpa"), MechanismChoice("naive"), regimes=("eager", "graph"))
    by_regime = {f.group.regime: f for f in case_findings(record) if f.arm.label == "sdpa"}
    assert by_regime["eager"].status is Status.OK
    assert by_regime["graph"].status is Status.UNSUPPORTED
    assert by_regime["graph"].reason == "CUDA graphs need a CUDA device"


def test_a_worker_runs_each_thread_on_a_core_of_its_own(tmp_path: Path) -> None:
    """The run records the binding, and windows how long threads stood behind others."""
    record = run(tmp_path, MechanismChoice("sdpa"))
    assert record.header.environment.thread_settings
    waited = [s.waited_s for r in record.rounds for s in r.samples]
    assert None not in waited or not Path("/proc/self/schedstat").exists()
    assert all(s.preempted is not None for r in record.rounds for s in r.samples)


def test_a_hanging_mechanism_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that never ends is ended at its deadline, with status timeout, and the rest completes."""
    monkeypatch.setattr("castbench.measure.torch_rig.STEP_TIMEOUT_FLOOR_S", 2.0)
    faulty = MechanismChoice("faulty", (("how", "hang"),), "faulty")
    policy = SamplingPolicy(target_ci=0.5, min_window_ms=1.0, max_seconds_per_case=1.0)
    found = by_label(run(tmp_path, MechanismChoice("sdpa"), faulty, sampling=policy))
    assert found["faulty"].status is Status.TIMEOUT
    assert found["sdpa"].mean_step_s is not None


def test_a_measured_case_has_everything_its_row_needs(tmp_path: Path) -> None:
    """Latency, memory, weights, what ran, parity and CAST's coverage are there for a case that is ok."""
    cast = MechanismChoice("cast", (("num_clusters", 4),), "cast")
    record = run(tmp_path, MechanismChoice("sdpa"), cast)
    found = by_label(record)["cast"]
    assert found.outcome is not None
    assert found.outcome.ran_as == "torch"
    assert found.outcome.parity_error is not None
    assert found.outcome.parity_error < 1e-4
    assert found.outcome.peak_bytes is not None
    assert found.outcome.weights_bytes == weights_bytes(record.header.plan.served, found.arm)
    facts = dict(found.outcome.facts)
    assert 0 < facts["coverage"] <= 1
    assert facts["clustered_input_time_ratio"] > 0


def test_busy_comes_out_of_a_real_run(tmp_path: Path) -> None:
    """Two stated times on the real clock: never shorter than stated, and the ratio's interval allows for 20/30."""
    choices = (MechanismChoice("busy", (("ms", 20.0),), "20"), MechanismChoice("busy", (("ms", 30.0),), "30"))
    until_clear = SamplingPolicy(target_ci=0.001, min_window_ms=1.0, confirm=False)
    found = by_label(run(tmp_path, *choices, baseline="20", scope="attention", sampling=until_clear))
    assert found["20"].latency_s is not None
    assert found["20"].latency_s.value >= 0.020
    assert found["30"].latency_s is not None
    assert found["30"].latency_s.value >= 0.030
    assert found["30"].verdict is Verdict.SLOWER


def test_a_padded_group_is_measured_with_its_mask(tmp_path: Path) -> None:
    """Batches above 1 run bucketed and padded, and CAST passes both."""
    cast = MechanismChoice("cast", (("num_clusters", 4),), "cast")
    record = run(tmp_path, MechanismChoice("sdpa"), cast, batch_sizes=(2,), lengths=from_shares([(32, 0.5), (64, 0.5)]))
    assert {g.group for g in record.groups} == {
        "b2-n32-bucketed", "b2-n64-bucketed", "b2-n32-padded", "b2-n64-padded",
    }  # fmt: skip
    assert {f.status for f in case_findings(record)} == {Status.OK}


def test_training_is_a_whole_step(tmp_path: Path) -> None:
    """Forward, backward and optimiser step take longer than forward alone, for every mechanism."""
    lengths = from_shares([(256, 1.0)])
    cast = MechanismChoice("cast", (("num_clusters", 8),), "cast")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    forward = by_label(run(tmp_path / "a", MechanismChoice("sdpa"), cast, lengths=lengths))
    whole = by_label(run(tmp_path / "b", MechanismChoice("sdpa"), cast, lengths=lengths, phase="training"))
    for label in ("sdpa", "cast"):
        assert whole[label].status is Status.OK
        assert (whole[label].mean_step_s or 0) > (forward[label].mean_step_s or 1)


def test_an_implementation_that_cannot_run_here_is_a_row_with_its_reason(tmp_path: Path) -> None:
    """CAST's Triton kernels on a CPU: unsupported in their own words, and the same mechanism in torch is measured."""
    torch_cast = MechanismChoice("cast", (("num_clusters", 8),), "cast")
    triton_cast = MechanismChoice("cast", (("num_clusters", 8), ("impl", "triton")), "cast-triton")
    found = by_label(run(tmp_path, MechanismChoice("sdpa"), torch_cast, triton_cast, lengths=from_shares([(64, 1.0)])))
    assert found["cast-triton"].status is Status.UNSUPPORTED
    assert (found["cast-triton"].reason or "").startswith("impl: triton cannot run here: ")
    assert found["cast"].status is Status.OK


def test_asking_for_a_device_that_is_not_there_says_so() -> None:
    """A CUDA device beyond those there are is a sentence that names the way out."""
    from castbench.errors import HardwareError

    with pytest.raises(HardwareError, match="--device cuda:99: torch sees"):
        usable_device("cuda:99")


def test_fp16_on_a_cpu_is_refused_with_the_reason() -> None:
    """Emulated arithmetic is not measured as if it were a deployment."""
    from castbench.errors import HardwareError

    with pytest.raises(HardwareError, match="fp16 on a CPU"):
        TorchRig("cpu", 1).require_usable("fp16")
