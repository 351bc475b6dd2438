from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from castbench import pipeline
from castbench.findings import case_findings
from castbench.measure.runner import Silent
from castbench.measure.torch_rig import TorchRig
from castbench.mechanisms.cast import CastAttention
from castbench.plan import make_plan
from castbench.records import Status
from castbench.workload.lengths import from_shares
from castbench.workload.spec import MechanismChoice, ModelSpec, SamplingPolicy
from tests.examples import example_profile

pytestmark = pytest.mark.extra


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler (g++)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings(
    "ignore:`torch._prims_common.check` is deprecated:FutureWarning"
)  # torch's own, in its compiler
def test_compiled_cast_gives_what_eager_cast_gives() -> None:
    """torch.compile traces CAST without a graph break, and the compiled module's output equals the eager one's."""
    torch.manual_seed(0)
    module = CastAttention(32, 2, num_clusters=4).eval()
    compiled = torch.compile(module, fullgraph=True)
    for length in (24, 40):
        x_BNM = torch.randn(2, length, 32)
        with torch.inference_mode():
            difference = (compiled(x_BNM) - module(x_BNM)).abs().max()
        assert float(difference) < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cast_on_cuda_gives_what_it_gives_on_the_cpu() -> None:
    """The same weights and inputs give the same output on both devices, to float32's rounding."""
    torch.manual_seed(0)
    module = CastAttention(64, 4, num_clusters=8).eval()
    x_BNM = torch.randn(2, 256, 64)
    with torch.inference_mode():
        here = module(x_BNM)
        there = module.cuda()(x_BNM.cuda()).cpu()
    assert float((here - there).abs().max()) < 1e-4 * float(here.abs().max())


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler (g++)")
def test_a_compiled_group_is_measured_beside_an_eager_one(tmp_path: Path) -> None:
    """Both regimes give numbers, compiling does not eat a case's time limit, and pairs stay within one regime."""
    profile = example_profile(
        mechanisms=(MechanismChoice("sdpa"),), regimes=("eager", "compiled"), lengths=from_shares([(64, 1.0)]),
        model=ModelSpec(layers=1, embed_dim=32, num_heads=2, ffn_dim=64, vocab_size=100),
        sampling=SamplingPolicy(target_ci=0.5, min_window_ms=1.0, max_seconds_per_case=3.0),
    )  # fmt: skip
    plan = make_plan(profile)
    record = pipeline.measure(profile, plan, TorchRig("cpu", 1), Silent(), out=tmp_path / "run.jsonl").record
    rounds = {g.group: g.rounds for g in record.groups}
    assert rounds.keys() == {"b1-n64-bucketed", "b1-n64-bucketed-compiled"}
    assert min(rounds.values()) >= 8
    assert {f.status for f in case_findings(record)} == {Status.OK}
