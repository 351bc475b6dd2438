from __future__ import annotations

import pytest
import torch
from torch import nn

from castbench.encoder.inputs import Batch, make_pool
from castbench.encoder.model import build_encoder, build_timed, make_step, mean_of_real
from castbench.mechanisms.cast import CastAttention
from tests.encoder.served import BUCKETED, MIX, PADDED, SERVED, arm, served

MECHANISMS = ("cast", "naive", "sdpa", "plus", "busy", "mixing_ceiling", "module_ceiling")


def without_wrapper(name: str) -> str:
    """A parameter's name as if its mechanism stood in no wrapper."""
    return name.replace(".inner.", ".")


def drawn(module: nn.Module) -> dict[tuple[str, torch.Size], torch.Tensor]:
    """Parameters by name and shape."""
    return {(without_wrapper(name), value.shape): value for name, value in module.named_parameters()}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_weights_of_equal_name_and_shape_are_equal_across_mechanisms(mechanism: str) -> None:
    """Only the mechanism is swapped: embeddings, networks, norms and shared projections are the same numbers."""
    sdpa, other = drawn(build_encoder(SERVED, arm("sdpa"))), drawn(build_encoder(SERVED, arm(mechanism)))
    shared = sdpa.keys() & other.keys()
    assert {name for name, _ in shared} >= {"tokens.weight", "positions", "blocks.1.up.weight", "head.weight"}
    if mechanism in {"cast", "naive", "plus"}:
        assert {name for name, _ in shared} >= {
            "blocks.0.attention.in_proj.weight",
            "blocks.0.attention.out_proj.weight",
        }
    for key in shared:
        assert torch.equal(sdpa[key], other[key]), key


def test_weights_depend_on_seed_name_and_layer() -> None:
    """Another seed gives other weights, the same seed the same, and layers of one model differ."""
    one, same, other = (drawn(build_encoder(served(seed=seed), arm("cast"))) for seed in (1, 1, 2))
    matrices = [key for key, value in one.items() if value.ndim > 1]
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not any(torch.equal(one[key], other[key]) for key in matrices)
    shape = torch.Size((64, 32))
    assert not torch.equal(one["blocks.0.up.weight", shape], one["blocks.1.up.weight", shape])


def test_what_a_mechanism_draws_for_itself_depends_on_the_seed_alone() -> None:
    """Random features are equal in two builds, whatever was drawn before, differ between layers and with the seed, and
    building draws nothing from the generator that others use.
    """
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = dict(build_encoder(served(seed=1), arm("performer")).named_buffers())
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    same, other = (dict(build_encoder(served(seed=seed), arm("performer")).named_buffers()) for seed in (1, 2))
    features = [name for name in one if name.endswith("attention.projection")]
    assert len(features) == 2
    assert all(torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name]) for name in features)
    assert not torch.equal(one[features[0]], one[features[1]])


def test_building_leaves_no_parameter_undrawn() -> None:
    """Every matrix has the spread it is documented to have, every bias is zero, every norm's scale one."""
    for name, value in build_encoder(SERVED, arm("cast")).named_parameters():
        if name.endswith("bias"):
            assert not bool(value.any()), name
        elif value.ndim == 1:
            assert bool((value == 1).all()), name
        else:
            assert float(value.detach().var()) * value.shape[-1] == pytest.approx(1.0, rel=0.35), name


def test_the_pool_of_hidden_states_ignores_padding() -> None:
    """The masked mean is the mean of the real tokens, whatever stands at padding; without a mask the mean of all."""
    x_BNM = torch.tensor([[[1.0], [3.0], [100.0]], [[7.0], [float("inf")], [float("nan")]], [[5.0], [5.0], [5.0]]])
    mask_BN = torch.tensor([[False, False, True], [False, True, True], [True, True, True]])
    assert mean_of_real(x_BNM, mask_BN).flatten().tolist() == [2.0, 7.0, 0.0]
    assert mean_of_real(x_BNM[:1], None).flatten().tolist() == pytest.approx([104 / 3])


@pytest.mark.parametrize("mechanism", ["cast", "naive", "sdpa", "mixing_ceiling"])
def test_padding_changes_no_output_of_the_encoder(mechanism: str) -> None:
    """A row padded with other rows gives what it gives alone, whatever tokens stand at its padding."""
    encoder = build_encoder(SERVED, arm(mechanism)).double()
    tokens_BN = torch.randint(100, (2, 24), generator=torch.Generator().manual_seed(1))
    mask_BN = torch.arange(24) >= torch.tensor([[24], [9]])
    together = encoder(tokens_BN, mask_BN)
    torch.testing.assert_close(together[1], encoder(tokens_BN[1:, :9])[0])
    changed_BN = torch.where(mask_BN, 99 - tokens_BN, tokens_BN)
    assert torch.equal(encoder(changed_BN, mask_BN), together)


def test_order_of_tokens_matters_by_their_positions() -> None:
    """Positions are learned: the same tokens in another order give another output."""
    encoder = build_encoder(SERVED, arm("sdpa"))
    tokens_BN = torch.arange(10).unsqueeze(0)
    assert not torch.allclose(encoder(tokens_BN), encoder(tokens_BN.flip(1)), atol=1e-3)


def test_naive_and_sdpa_encoders_give_the_same() -> None:
    """With the same weights, the encoder's output does not depend on how softmax attention is computed."""
    batch = make_pool(SERVED, MIX, PADDED, 1, size=1)[0]
    naive, sdpa = (build_encoder(SERVED, arm(name))(batch.inputs, batch.key_padding_mask) for name in ("naive", "sdpa"))
    torch.testing.assert_close(naive, sdpa)


def test_scope_attention_times_one_module() -> None:
    """For scope attention what is built is the mechanism's module itself, drawn like every other."""
    module = build_timed(served(scope="attention"), arm("cast"))
    assert isinstance(module, CastAttention)
    assert torch.equal(module.in_proj.weight, build_timed(served(scope="attention"), arm("sdpa")).in_proj.weight)


def test_inference_steps_rotate_through_the_pool_without_gradients() -> None:
    """Step i runs batch i modulo the pool, forward only."""
    encoder, pool = build_encoder(SERVED, arm("sdpa")), make_pool(SERVED, MIX, BUCKETED, 1)
    step = make_step(encoder, pool, "inference")
    assert step(0).is_inference()
    assert torch.equal(step(1), step(1 + len(pool)))
    assert not torch.equal(step(0), step(1))
    torch.testing.assert_close(step(2), encoder(pool[2].inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mechanism", ["cast", "sdpa", "module_ceiling"])
def test_training_steps_lower_the_loss_of_a_batch(mechanism: str) -> None:
    """A training step is forward, backward and an optimiser step that changes every matrix and learns."""
    config = served(phase="training")
    encoder = build_timed(config, arm(mechanism))
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    step = make_step(encoder, make_pool(config, MIX, PADDED, 1, size=1), "training")
    first = float(step(0))
    later = [float(step(index)) for index in range(1, 8)]
    assert later[-1] < first
    assert all(not torch.equal(before[name], value) for name, value in encoder.named_parameters() if value.ndim > 1)
    assert all(value.grad is None for value in encoder.parameters())


@pytest.mark.parametrize("mechanism", ["cast", "busy", "module_ceiling"])
def test_an_attention_module_alone_can_be_trained(mechanism: str) -> None:
    """Scope attention steps send gradients to the hidden states too, and run where a mechanism has no weights."""
    config = served(phase="training", scope="attention")
    pool = make_pool(config, MIX, PADDED, 1, size=1)
    seen: list[torch.Tensor] = []
    module = build_timed(config, arm(mechanism))
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert bool(torch.isfinite(make_step(module, pool, "training")(0)))
    assert seen[0].grad is not None
    assert not pool[0].inputs.requires_grad


def test_encoders_run_in_bf16() -> None:
    """The whole encoder runs in bf16 on a padded batch and stays finite."""
    encoder = build_encoder(SERVED, arm("cast")).to(torch.bfloat16)
    batch: Batch = make_pool(SERVED, MIX, PADDED, 1, size=1)[0]
    assert bool(torch.isfinite(make_step(encoder, (batch,), "inference")(0)).all())
