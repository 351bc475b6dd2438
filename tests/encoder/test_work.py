from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from castbench.encoder.model import build_timed
from castbench.encoder.work import step_work, weights_bytes
from castbench.mechanisms.spec import KernelWork
from castbench.workload.spec import Scope, Shape
from tests.encoder.served import MODEL, SERVED, arm, served

SHAPE = Shape(3, 24)
MECHANISMS = ("cast", "naive", "sdpa", "busy", "mixing_ceiling", "module_ceiling")


def work(mechanism: str, shape: Shape = SHAPE, params: dict[str, Any] | None = None, **changes: Any) -> KernelWork:
    """Work of one step of SERVED with changes."""
    return step_work(served(**changes), arm(mechanism, **(params or {})), shape)


@pytest.mark.parametrize("scope", ["encoder", "attention"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_bytes_of_weights_are_those_of_the_model_built(mechanism: str, scope: Scope) -> None:
    """Counted without torch, the weights weigh what the model that is built weighs, in fp32 and in bf16."""
    module = build_timed(served(scope=scope), arm(mechanism))
    numbers = sum(parameter.numel() for parameter in module.parameters())
    assert weights_bytes(served(scope=scope), arm(mechanism)) == 4 * numbers
    assert weights_bytes(served(scope=scope, dtype="bf16"), arm(mechanism)) == 2 * numbers


@pytest.mark.parametrize("mechanism", ["cast", "naive", "sdpa", "mixing_ceiling", "module_ceiling"])
def test_flops_of_an_encoder_step_are_those_torch_counts(mechanism: str) -> None:
    """The counted FLOPs of a forward pass are what torch's counter sees, but for the scores of cast's surrogate tokens,
    which are a product where they are one more query of their cluster: 2 per member and width.
    """
    encoder = build_timed(SERVED, arm(mechanism))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        encoder(torch.zeros(3, 24, dtype=torch.int64))
    members = 3 * 4 * 6
    scores = MODEL.layers * 2 * members * MODEL.embed_dim if mechanism == "cast" else 0
    assert counter.get_total_flops() - scores == work(mechanism).flops


def test_training_is_counted_as_three_forward_passes() -> None:
    """FLOPs of a training step are three times the forward's, and it needs more memory."""
    forward, training = work("cast"), work("cast", phase="training")
    assert training.flops == pytest.approx(3 * forward.flops)
    assert training.activation_bytes > forward.activation_bytes


@pytest.mark.parametrize("phase", ["inference", "training"])
def test_busy_waits_once_per_layer_and_not_in_backward(phase: str) -> None:
    """A stated wait of 2 ms is 4 ms in two layers, in training too, and 2 ms for the module alone."""
    assert work("busy", params={"ms": 2.0}, phase=phase).wait_s == pytest.approx(4e-3)
    assert work("busy", params={"ms": 2.0}, phase=phase, scope="attention").wait_s == pytest.approx(2e-3)


def test_plus_makes_the_attention_module_alone_longer() -> None:
    """plus(percent=10) adds a tenth of the attention's FLOPs to the encoder, not a tenth of the encoder's."""
    attention = work("sdpa", scope="attention").flops
    added = work("plus").flops - work("sdpa").flops
    assert added == pytest.approx(0.1 * MODEL.layers * attention)


def test_ceilings_bound_every_mechanism() -> None:
    """No mechanism that keeps its projections has less work than the mixing ceiling, nor that than no module."""
    for mechanism in ("cast", "naive", "sdpa"):
        for figure in ("flops", "elementwise_bytes", "launches"):
            at_most = getattr(work("mixing_ceiling"), figure)
            assert getattr(work("module_ceiling"), figure) < at_most < getattr(work(mechanism), figure)


def test_long_rows_cost_cast_less_than_dense_attention() -> None:
    """At 4096 tokens cast counts fewer FLOPs than sdpa and naive needs most memory; at 8 tokens sdpa is cheaper."""
    long, short = Shape(1, 4096), Shape(1, 8)
    assert work("cast", long, {"num_clusters": 52}).flops < work("sdpa", long).flops
    assert work("cast", short).flops > work("sdpa", short).flops
    assert work("naive", long).activation_bytes > 10 * work("sdpa", long).activation_bytes
