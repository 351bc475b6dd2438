from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from castbench.mechanisms.cast import SLICE_BYTES, CastAttention, together
from castbench.mechanisms.cast.choice import Members
from castbench.mechanisms.cast.reference import reference
from tests.mechanisms.cases import CLUSTERINGS, Case, cases, dense, roused

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
FIXED_NAMES = {
    "in_proj.weight": (24, 8), "in_proj.bias": (24,), "gate.weight": (1, 8), "gate.bias": (1,),
    "surrogate_tokens": (3, 2, 4), "out_proj.weight": (8, 8), "out_proj.bias": (8,),
}  # fmt: skip


def real(y_BNM: Tensor, mask_BN: Tensor) -> Tensor:
    """What stands at real tokens."""
    return y_BNM[~mask_BN]


@given(cases())
def test_the_module_equals_the_loops_over_tokens_and_clusters(case: Case) -> None:
    """Vectorised and looped CAST agree to rounding, with and without padding, for every shape and clustering."""
    module, x_BNM, mask_BN = case.module(), case.inputs(), case.mask()
    torch.testing.assert_close(module(x_BNM), reference(module, x_BNM), **CLOSE)
    found_BNM, wanted_BNM = module(x_BNM, mask_BN), reference(module, x_BNM, mask_BN)
    torch.testing.assert_close(real(found_BNM, mask_BN), real(wanted_BNM, mask_BN), **CLOSE)


@given(cases(), st.sampled_from([torch.float32, torch.bfloat16]))
@settings(max_examples=40)
def test_low_precision_stays_near_the_float64_loops(case: Case, dtype: torch.dtype) -> None:
    """In fp32 and bf16 the module is near the float64 loops that were given the same members."""
    module, x_BNM, mask_BN = case.module(dtype), case.inputs(dtype), case.mask()
    with torch.inference_mode():
        found_BNM, wanted_BNM = module(x_BNM, mask_BN), reference(module, x_BNM, mask_BN)
    error = float((found_BNM.double() - wanted_BNM)[~mask_BN].abs().max())
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    assert found_BNM.dtype == dtype
    assert error <= tolerance * float(wanted_BNM[~mask_BN].abs().max())


@pytest.mark.parametrize("clustering", CLUSTERINGS)
@given(data=st.data())
@settings(max_examples=30)
def test_one_cluster_that_holds_all_is_dense_attention(clustering: Any, data: st.DataObject) -> None:
    """With C = 1 and K >= N, CAST is softmax attention with the same projections."""
    drawn = data.draw(cases(clustering))
    case = Case(drawn.batch, drawn.tokens, drawn.heads, drawn.head_dim, 1, drawn.tokens + 2, clustering, drawn.seed)
    module, x_BNM = case.module(), case.inputs()
    torch.testing.assert_close(module(x_BNM), dense(module, case.heads, x_BNM), **CLOSE)


@given(cases("top_k"))
@settings(max_examples=30)
def test_top_k_clusters_that_each_hold_all_are_dense_attention(drawn: Case) -> None:
    """With top_k and K >= N, CAST is softmax attention whatever the number of clusters, padding included."""
    module = drawn.module(cluster_size=drawn.tokens + 1)
    x_BNM, mask_BN = drawn.inputs(), drawn.mask()
    mask_BN[mask_BN.all(1)] = False
    torch.testing.assert_close(module(x_BNM), dense(module, drawn.heads, x_BNM), **CLOSE)
    wanted_BNM = dense(module, drawn.heads, x_BNM, mask_BN)
    torch.testing.assert_close(real(module(x_BNM, mask_BN), mask_BN), real(wanted_BNM, mask_BN), **CLOSE)


def with_values_that_name_their_token(case: Case, tokens: int) -> tuple[CastAttention, Tensor]:
    """A module whose output is, per head, the implied N×N matrix: v is the identity, out_proj too; D >= N."""
    module, x_BNM = case.module(), case.inputs()
    width, head_dim = case.width, case.head_dim
    x_BNM[..., -tokens:] = torch.eye(tokens, dtype=x_BNM.dtype)
    with torch.no_grad():
        module.in_proj.weight[2 * width :] = 0
        module.in_proj.bias[2 * width :] = 0
        for head in range(case.heads):
            first = 2 * width + head * head_dim
            module.in_proj.weight[first : first + tokens, -tokens:] = torch.eye(tokens, dtype=x_BNM.dtype)
        module.out_proj.weight.copy_(torch.eye(width))
        module.out_proj.bias.zero_()
    return module, x_BNM


@given(cases())
@settings(max_examples=40)
def test_the_implied_matrix_is_row_stochastic(drawn: Case) -> None:
    """Every real token's output is a weighted mean of real values: weights are not negative and add up to 1."""
    case = Case(
        drawn.batch, drawn.tokens, drawn.heads, 12, drawn.clusters, drawn.cluster_size, drawn.clustering, drawn.seed
    )
    module, x_BNM = with_values_that_name_their_token(case, drawn.tokens)
    mask_BN = case.mask()
    weight_BNHN = module(x_BNM, mask_BN).detach().unflatten(-1, (case.heads, 12))[..., : drawn.tokens]
    of_padding = weight_BNHN.masked_select(mask_BN[:, None, None, :] & ~mask_BN[:, :, None, None])
    torch.testing.assert_close(of_padding, torch.zeros_like(of_padding), **CLOSE)
    rows = weight_BNHN[~mask_BN]
    assert float(rows.min()) >= -1e-12
    torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]), **CLOSE)


@given(cases())
@settings(max_examples=40)
def test_permuting_tokens_permutes_outputs(case: Case) -> None:
    """CAST knows no order of tokens, away from ties (with one cluster all tokens tie)."""
    assume(case.clusters > 1)
    module, x_BNM = case.module(), case.inputs()
    order_N = torch.randperm(case.tokens, generator=torch.Generator().manual_seed(case.seed))
    torch.testing.assert_close(module(x_BNM[:, order_N]), module(x_BNM)[:, order_N], **CLOSE)


@given(cases())
def test_every_row_of_a_padded_batch_gets_what_it_gets_alone(case: Case) -> None:
    """Batching and padding change no real token's output, and all outputs are finite."""
    module, x_BNM, mask_BN = case.module(), case.inputs(), case.mask()
    y_BNM = module(x_BNM, mask_BN)
    assert bool(torch.isfinite(y_BNM).all())
    for row, padding_N in enumerate(mask_BN):
        if not bool(padding_N.all()):
            alone_1NM = module(x_BNM[row : row + 1, ~padding_N])
            torch.testing.assert_close(y_BNM[row, ~padding_N], alone_1NM[0], **CLOSE)


@given(cases(), st.sampled_from([1.0, 1e6, float("inf")]))
@settings(max_examples=40)
def test_the_content_of_padding_matters_to_no_real_token(case: Case, size: float) -> None:
    """Other content at padding, infinity included, leaves every real token's output as it was, to the last bit."""
    module, x_BNM, mask_BN = case.module(), case.inputs(), case.mask()
    changed_BNM = torch.where(mask_BN.unsqueeze(-1), size * torch.randn_like(x_BNM), x_BNM)
    assert torch.equal(real(module(changed_BNM, mask_BN), mask_BN), real(module(x_BNM, mask_BN), mask_BN))


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_a_row_of_padding_alone_mixes_nothing(clustering: Any) -> None:
    """All-padding rows have R = 0: only out_proj's bias is left."""
    case = Case(3, 6, 2, 3, 3, None, clustering, 5)
    module = case.module()
    y_BNM = module(case.inputs(), case.mask())
    torch.testing.assert_close(y_BNM[2], module.out_proj.bias.expand_as(y_BNM[2]))


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_gradients_reach_every_parameter(clustering: Any) -> None:
    """For C > 1 and K < N the loss depends on projections, gate and surrogate tokens alike."""
    case = Case(2, 9, 2, 3, 3, 3, clustering, 11)
    module = case.module()
    module(case.inputs(), case.mask()).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 1e-6, name


@pytest.mark.parametrize("clustering", CLUSTERINGS)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_finite_differences(clustering: Any, masked: bool) -> None:
    """Away from ties, gradcheck passes for the input and for every parameter."""
    case = Case(2, 5, 2, 2, 2, 3, clustering, 7)
    module, mask_BN = case.module(), case.mask() if masked else None
    names = [name for name, _ in module.named_parameters()]

    def run(x_BNM: Tensor, *parameters: Tensor) -> Tensor:
        y_BNM = torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x_BNM, mask_BN))
        return y_BNM if mask_BN is None else y_BNM.masked_fill(mask_BN.unsqueeze(-1), 0.0)

    assert torch.autograd.gradcheck(run, (case.inputs().requires_grad_(), *module.parameters()), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("step", [1, 0])
@given(cases())
@settings(max_examples=20)
def test_slices_of_clusters_change_nothing(step: int, case: Case) -> None:
    """In inference, one cluster at a time gives what all at once give; by products and, at step 0, by the kernel."""
    module, x_BNM = case.module(), case.inputs()
    for mask_BN in (None, case.mask()):
        at_once_BNM = module(x_BNM, mask_BN)
        with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
            patch.setitem(SLICE_BYTES, "cpu", 1)
            patch.setattr(together, "clusters_at_once", lambda *_: step)
            torch.testing.assert_close(module(x_BNM, mask_BN), at_once_BNM, **CLOSE)


@pytest.mark.parametrize(
    ("tokens", "clusters", "dtype", "fits"),
    [(1024, 16, torch.float32, True), (1024, 1, torch.float32, False), (1024, 16, torch.bfloat16, False)],
)
def test_scores_of_a_whole_cluster_are_made_only_where_they_fit(
    tokens: int, clusters: int, dtype: torch.dtype, fits: bool
) -> None:
    """Products take small clusters in full precision; a cluster as long as the row stays with the fused kernel."""
    qkv_BNX = torch.zeros(1, tokens, 3 * 64, dtype=dtype)
    members = Members(torch.zeros(1, clusters, tokens // clusters, dtype=torch.int64), None)
    step = together.clusters_at_once(qkv_BNX, members, 4)
    assert (step > 0) is fits
    assert step * (tokens // clusters) ** 2 * 4 * qkv_BNX.element_size() <= together.MOST_BYTES


@given(cases())
@settings(max_examples=10)
def test_the_reference_can_be_asked_for_by_name(case: Case) -> None:
    """impl: reference runs the loops and says so; auto and torch say torch."""
    x_BNM, mask_BN = case.inputs(), case.mask()
    looped, vectorised, chosen = (case.module(impl=impl) for impl in ("reference", "torch", "auto"))
    for module in (looped, vectorised, chosen):
        torch.testing.assert_close(
            real(module(x_BNM, mask_BN), mask_BN), real(chosen(x_BNM, mask_BN), mask_BN), **CLOSE
        )
    assert (looped.ran_as, vectorised.ran_as, chosen.ran_as) == ("reference", "torch", "torch")


def test_names_and_shapes_of_weights_are_fixed() -> None:
    """Checkpoints and users depend on the state dict: names and shapes as documented."""
    state = CastAttention(8, 2, num_clusters=3).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == FIXED_NAMES


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"causal": True}, "causal form of CAST is not there yet"),
        ({"clustering": "k_means"}, "clustering: expected 'top_k' or 'single_assignment' or 'balanced', got 'k_means'"),
        ({"impl": "cuda"}, "impl: expected 'auto' or 'reference' or 'torch' or 'triton', got 'cuda'"),
        ({"impl": "triton", "summaries": False}, "summaries: the Triton kernels always add them"),
        ({"num_heads": 3}, "embed_dim: expected a multiple of num_heads = 3, got 8"),
        ({"num_clusters": 0}, "num_clusters: expected a whole number of at least 1, got 0"),
        ({"cluster_size": 0}, "cluster_size: expected a whole number of at least 1, got 0"),
    ],
)
def test_arguments_that_cannot_be_are_refused_with_a_sentence(arguments: dict[str, Any], sentence: str) -> None:
    """Nothing is silently replaced: what cannot run is a ValueError that says why."""
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        CastAttention(8, **{"num_heads": 2, "num_clusters": 2, **arguments})


def test_facts_say_how_tokens_share_the_clusters() -> None:
    """Equal tokens are ties, so top_k puts the same first K into every cluster: coverage K/N, multiplicity C·K/N."""
    module = roused(CastAttention(8, 2, num_clusters=3, cluster_size=2)).double()
    x_BNM = torch.ones(1, 8, 8, dtype=torch.float64)
    facts = module.describe(x_BNM)
    assert facts == {"num_clusters": 3.0, "cluster_size": 2.0, "coverage": 2 / 8, "multiplicity": 6 / 8}
    mask_BN = torch.tensor([[False] * 4 + [True] * 4])
    assert module.describe(x_BNM, mask_BN)["coverage"] == 2 / 4


class Largest(TorchDispatchMode):
    """Remembers the largest tensor any operation gave back."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and look at what it gave."""
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_no_tensor_grows_with_tokens_times_clusters_times_width(clustering: Any, inference: bool) -> None:
    """The largest tensor of a pass is the packed q, k, v: nothing of N×C×D or N×C×C is ever built."""
    case = Case(1, 256, 4, 16, 16, None, clustering, 3)
    module, x_BNM = case.module(torch.float32), case.inputs(torch.float32)
    with torch.inference_mode(inference), Largest() as seen:
        module(x_BNM)
    assert seen.numel == 3 * 256 * 64
    assert seen.numel < 256 * 16 * 64


def test_a_bad_choice_is_told_apart_from_a_bad_result() -> None:
    """The reference takes over the members of a low-precision module, but not if they are clearly not the best."""
    case = Case(1, 12, 2, 4, 3, 2, "top_k", 1)
    module, x_BNM = case.module(torch.float32), case.inputs(torch.float32)
    held_CK = module.choose(x_BNM).index[0].tolist()
    left_out = [[n for n in range(case.tokens) if n not in held_K][:2] for held_K in held_CK]
    module.choose = lambda *_: Members(torch.tensor([left_out]), None)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"token \d+ is in cluster \d+ with A_g"):
        reference(module, x_BNM)
