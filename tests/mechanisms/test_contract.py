"""What every attention mechanism owes, whoever wrote it: parametrised over the variants named in variants/*.yaml.

A variant file is a list of parameter mappings; hidden mechanisms (known answers, ceilings) mix nothing and owe nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from castbench.mechanisms import params as mechanism_params
from castbench.mechanisms import registry
from castbench.mechanisms.spec import LengthMix, MechanismSpec, Problem
from tests.mechanisms.cases import bytes_kept, roused

CLOSE = {"rtol": 1e-8, "atol": 1e-9}
HOME = Path(__file__).parent / "variants"


@dataclass(frozen=True)
class Variant:
    """A mechanism with parameters."""

    name: str
    given: tuple[tuple[str, Any], ...]

    @property
    def spec(self) -> MechanismSpec:
        """Its description."""
        return registry.get(self.name)

    def params(self, tokens: int) -> Any:
        """Its parameters, `auto` resolved for rows of so many tokens."""
        made = mechanism_params.make(self.spec, dict(self.given))
        return self.spec.resolve(made, LengthMix((tokens,), (1.0,)))

    def refusal(self, batch: int, tokens: int, width: int, heads: int) -> str | None:
        """Why it cannot run such a problem."""
        return self.spec.limits(self.params(tokens), Problem(batch, tokens, width, heads, 8))

    def module(self, tokens: int, width: int, heads: int, seed: int = 0) -> Any:
        """A module with weights drawn from the seed, biases too, as evaluated and not trained."""
        torch.manual_seed(seed)
        made = registry.load(self.spec.build)(self.params(tokens), embed_dim=width, num_heads=heads)
        return roused(made).eval()

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.given)])


def variants() -> list[Variant]:
    """All there are: those of the files, and without parameters what has no file."""
    found = []
    for name, spec in registry.all_specs().items():
        file = HOME / f"{name}.yaml"
        listed = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else [{}]
        found += [] if spec.hidden else [Variant(name, tuple(given.items())) for given in listed]
    return found


VARIANTS = variants()
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)


@dataclass(frozen=True)
class Rows:
    """A batch of rows with their real lengths, and the mask that says so."""

    variant: Variant
    module: Any
    x_BNM: Tensor
    mask_BN: Tensor

    @property
    def reference(self) -> Any:
        """The readable way to the same result."""
        return registry.load(self.variant.spec.reference)


def drawn_rows(data: st.DataObject, variant: Variant, dtype: torch.dtype = torch.float64) -> Rows:
    """Any small problem that the mechanism can run; padding at the right where positions matter to it."""
    batch, tokens, heads = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 33)), data.draw(st.integers(1, 3))
    width, seed = heads * 4 * data.draw(st.integers(1, 2)), data.draw(st.integers(0, 2**31))
    assume(variant.refusal(batch, tokens, width, heads) is None)
    module = variant.module(tokens, width, heads, seed).to(dtype)
    x_BNM = torch.randn(batch, tokens, width, generator=torch.Generator().manual_seed(seed)).to(dtype)
    lengths_B = torch.tensor([tokens, *(data.draw(st.integers(0, tokens)) for _ in range(batch - 1))])
    mask_BN = torch.arange(tokens) >= lengths_B.unsqueeze(1)
    if not variant.spec.right_padding:
        mask_BN = torch.stack([row_N[torch.randperm(tokens)] for row_N in mask_BN])
    return Rows(variant, module, x_BNM, mask_BN)


@every_variant
@given(data=st.data())
@settings(max_examples=12)
def test_a_mechanism_equals_its_reference(variant: Variant, data: st.DataObject) -> None:
    """In float64 module and reference agree to rounding on real tokens, with padding and without."""
    rows = drawn_rows(data, variant)
    for mask_BN in (None, rows.mask_BN):
        read_BN = torch.ones_like(rows.mask_BN) if mask_BN is None else ~mask_BN
        wanted_BNM = rows.reference(rows.module, rows.x_BNM, mask_BN)
        assert wanted_BNM.dtype == torch.float64
        torch.testing.assert_close(rows.module(rows.x_BNM, mask_BN)[read_BN], wanted_BNM[read_BN], **CLOSE)
    assert isinstance(rows.module.ran_as, str)


@every_variant
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
@given(data=st.data())
@settings(max_examples=8)
def test_low_precision_stays_near_the_reference(
    variant: Variant, dtype: torch.dtype, tolerance: float, data: st.DataObject
) -> None:
    """In fp32 and bf16 the module is near its float64 reference, relative to the largest value, and keeps its dtype."""
    rows = drawn_rows(data, variant, dtype)
    assume(bool((~rows.mask_BN).any()))
    with torch.inference_mode():
        found_BNM = rows.module(rows.x_BNM, rows.mask_BN)
        wanted_BNM = rows.reference(rows.module, rows.x_BNM, rows.mask_BN)[~rows.mask_BN]
    assert found_BNM.dtype == dtype
    error = float((found_BNM[~rows.mask_BN].double() - wanted_BNM).abs().max())
    assert error <= tolerance * float(wanted_BNM.abs().max())


@every_variant
@given(data=st.data())
@settings(max_examples=10)
def test_every_row_of_a_padded_batch_gets_what_it_gets_alone(variant: Variant, data: st.DataObject) -> None:
    """A row's real tokens taken out and run alone, unmasked, give what they give within the batch."""
    rows = drawn_rows(data, variant)
    y_BNM = rows.module(rows.x_BNM, rows.mask_BN)
    assert bool(torch.isfinite(y_BNM).all())
    for x_NM, y_NM, mask_N in zip(rows.x_BNM, y_BNM, rows.mask_BN, strict=True):
        real = int((~mask_N).sum())
        if real and variant.refusal(1, real, x_NM.shape[1], rows.module.num_heads) is None:
            alone_NM = rows.module(x_NM[~mask_N].unsqueeze(0))[0]
            torch.testing.assert_close(y_NM[~mask_N], alone_NM, **CLOSE)


@every_variant
@given(data=st.data())
@settings(max_examples=10)
def test_the_content_of_padding_matters_to_no_real_token(variant: Variant, data: st.DataObject) -> None:
    """Other content at padding leaves every real token's output as it was."""
    rows = drawn_rows(data, variant)
    other_BNM = torch.where(rows.mask_BN.unsqueeze(-1), 100 * torch.randn_like(rows.x_BNM), rows.x_BNM)
    before_BNM, after_BNM = rows.module(rows.x_BNM, rows.mask_BN), rows.module(other_BNM, rows.mask_BN)
    torch.testing.assert_close(after_BNM[~rows.mask_BN], before_BNM[~rows.mask_BN], **CLOSE)


@every_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_of_padding_alone_stays_finite(variant: Variant, dtype: torch.dtype) -> None:
    """All-padding rows give finite outputs and gradients; a NaN there would end a training."""
    module = variant.module(16, 16, 2).to(dtype)
    x_BNM = torch.randn(2, 16, 16).to(dtype).requires_grad_()
    y_BNM = module(x_BNM, torch.tensor([[False] * 16, [True] * 16]))
    y_BNM.float().sum().backward()
    assert bool(torch.isfinite(y_BNM).all())
    assert x_BNM.grad is not None
    assert bool(torch.isfinite(x_BNM.grad).all())


@every_variant
def test_equal_inputs_give_equal_outputs(variant: Variant) -> None:
    """Nothing is drawn while a module runs: two passes are equal to the last bit, as are two modules of one seed."""
    x_BNM = torch.randn(2, 24, 16)
    mask_BN = torch.arange(24) >= torch.tensor([[24], [17]])
    module = variant.module(24, 16, 2)
    first_BNM = module(x_BNM, mask_BN)
    assert torch.equal(module(x_BNM, mask_BN), first_BNM)
    assert torch.equal(variant.module(24, 16, 2)(x_BNM, mask_BN), first_BNM)


@every_variant
def test_gradients_reach_every_parameter(variant: Variant) -> None:
    """The loss depends on every weight the module holds, and on every real token of the input."""
    module = variant.module(32, 16, 2).double()
    x_BNM = torch.randn(2, 32, 16, dtype=torch.float64, requires_grad=True)
    (module(x_BNM) * torch.randn(2, 32, 16)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name
    assert x_BNM.grad is not None
    assert bool((x_BNM.grad.abs().amax(-1) > 0).all())


@every_variant
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_finite_differences(variant: Variant, masked: bool) -> None:
    """Gradcheck passes for the input, away from the ties of what chooses."""
    module = variant.module(8, 8, 2, seed=3).double()
    x_BNM = torch.randn(2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).requires_grad_()
    mask_BN = torch.arange(8) >= torch.tensor([[8], [6]]) if masked else None

    def real(x_BNM: Tensor) -> Tensor:
        y_BNM: Tensor = module(x_BNM, mask_BN)
        return y_BNM if mask_BN is None else y_BNM[~mask_BN]

    assert torch.autograd.gradcheck(real, (x_BNM,), fast_mode=True)


@every_variant
def test_weights_are_counted_as_they_are(variant: Variant) -> None:
    """A spec's number of weights is the number its module holds."""
    module = variant.module(24, 32, 4)
    counted = variant.spec.weights(variant.params(24), 32, 4)
    assert counted == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant.name != "cast"], ids=str)
@pytest.mark.parametrize(("tokens", "width", "heads"), [(64, 32, 4), (96, 64, 2)])
def test_counted_flops_are_those_torch_counts(variant: Variant, tokens: int, width: int, heads: int) -> None:
    """A spec's FLOPs of products are, to a hundredth, what torch's counter sees in a pass in inference; those of cast's
    summaries are counted as they need be, see test_specs.py.
    """
    module = variant.module(tokens, width, heads)
    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        torch.inference_mode(),
    ):
        module(torch.randn(2, tokens, width))
    counted = variant.spec.work(variant.params(tokens), Problem(2, tokens, width, heads, 4)).flops
    assert counted - variant.spec.uncounted_flops(variant.params(tokens), Problem(2, tokens, width, heads, 4)) == (
        pytest.approx(counter.get_total_flops(), rel=0.01)
    )


@every_variant
def test_memory_of_training_is_what_autograd_keeps(variant: Variant) -> None:
    """The activations counted for training are, to a tenth, the tensors a forward pass keeps for its backward pass."""
    measured = bytes_kept(variant.module(256, 64, 4), torch.randn(2, 256, 64, requires_grad=True))
    problem = Problem(2, 256, 64, 4, 4, training=True)
    assert variant.spec.work(variant.params(256), problem).activation_bytes == pytest.approx(measured, rel=0.1)
