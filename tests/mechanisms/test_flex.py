from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from castbench.mechanisms import registry
from castbench.mechanisms.dense_reference import reference
from castbench.mechanisms.flex import FlexParams
from castbench.mechanisms.flex.module import BLOCK, FlexAttention, blocks_of_real_tokens, blocks_of_whole_rows
from castbench.mechanisms.spec import Problem
from tests.mechanisms.cases import Case, cases, roused

SPEC = registry.get("flex")
CLOSE = {"rtol": 1e-8, "atol": 1e-9}
CPU = torch.device("cpu")


def eager(case: Case, dtype: torch.dtype = torch.float64) -> FlexAttention:
    """A module that runs uncompiled, weights drawn."""
    torch.manual_seed(case.seed)
    return roused(FlexAttention(case.width, case.heads, impl="eager")).to(dtype)


@contextmanager
def untraced() -> Iterator[None]:
    """Inference by FlexAttention's step-by-step form alone, without the tracing that takes most of its time."""
    theirs = import_module("torch.nn.attention.flex_attention")
    with patch.object(theirs, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True), torch.inference_mode():
        yield


@given(case=cases())
@settings(max_examples=25)
def test_it_equals_its_reference(case: Case) -> None:
    """In float64 module and reference agree on real tokens, with padding anywhere and without; padding is finite."""
    module, x_BNM, mask_BN = eager(case), case.inputs(), case.mask()
    with untraced():
        for mask, read_BN in ((None, torch.ones_like(mask_BN)), (mask_BN, ~mask_BN)):
            found_BNM, wanted_BNM = module(x_BNM, mask), reference(module, x_BNM, mask)
            torch.testing.assert_close(found_BNM[read_BN], wanted_BNM[read_BN], **CLOSE)
            assert bool(torch.isfinite(found_BNM).all())
    assert module.ran_as == "eager"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
@given(case=cases())
@settings(max_examples=8)
def test_low_precision_stays_near_the_reference(dtype: torch.dtype, tolerance: float, case: Case) -> None:
    """In fp32 and bf16 the module keeps its dtype and is near its float64 reference, relative to the largest value."""
    module, x_BNM, mask_BN = eager(case, dtype), case.inputs(dtype), case.mask()
    with torch.inference_mode():
        found_BNM, wanted_BNM = module(x_BNM, mask_BN), reference(module, x_BNM, mask_BN)
    assert found_BNM.dtype == dtype
    error = float((found_BNM.double() - wanted_BNM)[~mask_BN].abs().max())
    assert error <= tolerance * float(wanted_BNM[~mask_BN].abs().max())


@given(case=cases())
@settings(max_examples=10)
def test_the_content_of_padding_matters_to_no_real_token(case: Case) -> None:
    """Other content at padding leaves every real token's output as it was."""
    module, x_BNM, mask_BN = eager(case), case.inputs(), case.mask()
    other_BNM = torch.where(mask_BN.unsqueeze(-1), 100 * torch.randn_like(x_BNM), x_BNM)
    with untraced():
        before_BNM, after_BNM = module(x_BNM, mask_BN), module(other_BNM, mask_BN)
    torch.testing.assert_close(after_BNM[~mask_BN], before_BNM[~mask_BN], **CLOSE)


def pairs_of(blocks: BlockMask, batch: int, *, by_key: bool) -> tuple[Tensor, Tensor]:
    """Which pairs of blocks are listed as partly and as wholly read, as B×Q×K, from the lists by query or by key."""
    lists = (
        (blocks.q_num_blocks, blocks.q_indices, blocks.full_q_num_blocks, blocks.full_q_indices)
        if by_key
        else (blocks.kv_num_blocks, blocks.kv_indices, blocks.full_kv_num_blocks, blocks.full_kv_indices)
    )
    found = []
    for number, order in (lists[:2], lists[2:]):
        assert number is not None
        assert order is not None
        assert number.dtype == order.dtype == torch.int32
        count = number.shape[-1]
        pairs = torch.zeros(batch, count, count, dtype=torch.bool)
        for b in range(batch):
            for block in range(count):
                pairs[b, block, order[b, 0, block, : number[b, 0, block]].long()] = True
        found.append(pairs.transpose(1, 2) if by_key else pairs)
    return found[0], found[1]


@given(st.integers(1, 3), st.integers(1, 4 * BLOCK), st.integers(0, 2**31))
@settings(max_examples=40)
def test_blocks_are_those_that_hold_real_pairs(batch: int, length: int, seed: int) -> None:
    """A pair of blocks is read wholly where every key is real, partly where some are, and not at all where either side
    is padding only; the lists by key say the same as those by query.
    """
    drawn = torch.Generator().manual_seed(seed)
    ends_B1 = torch.randint(0, length + 1, (batch, 1), generator=drawn)
    mask_BN = (torch.arange(length) >= ends_B1) | (torch.rand(batch, length, generator=drawn) < 0.002)
    counts_BK = torch.stack([part.sum(1) for part in (~mask_BN).split(BLOCK, 1)], 1)
    holds_BK, full_BK = counts_BK > 0, counts_BK == BLOCK
    partly_BQK = holds_BK.unsqueeze(2) & (holds_BK & ~full_BK).unsqueeze(1)
    wholly_BQK = holds_BK.unsqueeze(2) & full_BK.unsqueeze(1)
    blocks = blocks_of_real_tokens(mask_BN)
    for by_key in (False, True):
        found = pairs_of(blocks, batch, by_key=by_key)
        assert torch.equal(found[0], partly_BQK)
        assert torch.equal(found[1], wholly_BQK)
    some = torch.tensor([0]), torch.tensor([0]), torch.tensor([0])
    for n in (0, length - 1):
        assert bool(blocks.mask_mod(*some, torch.tensor([n]))) != bool(mask_BN[0, n])


@pytest.mark.parametrize("length", [1, BLOCK, 3 * BLOCK + 5])
def test_whole_rows_are_blocks_on_a_cpu_and_nothing_elsewhere(length: int) -> None:
    """Without padding a CPU gets every pair of blocks, and a GPU, whose kernel is best without, no blocks at all."""
    blocks = blocks_of_whole_rows(length, CPU)
    assert blocks is not None
    assert blocks.shape == (1, 1, length, length)
    partly, wholly = pairs_of(blocks, 1, by_key=False)
    assert bool(wholly.all())
    assert not bool(partly.any())
    assert blocks_of_whole_rows(length, torch.device("cuda")) is None


def test_training_on_a_cpu_is_refused_in_a_sentence() -> None:
    """PyTorch has no backward pass of it there; inference runs, also with weights that could be trained."""
    for impl in ("auto", "eager"):
        with pytest.raises(
            NotImplementedError, match=r"^FlexAttention has no backward pass on a CPU; measure it for inf"
        ):
            FlexAttention(16, 2, impl=impl)(torch.randn(1, 4, 16))  # type: ignore[arg-type]
    with torch.no_grad():
        FlexAttention(16, 2, impl="eager")(torch.randn(1, 4, 16))


def test_it_says_whether_it_compiles() -> None:
    """`compiles` tells a rig that the first pass of a shape is no measure of the next."""
    assert [FlexAttention(8, 2, impl=impl).compiles for impl in ("auto", "compiled", "eager")] == [True, True, False]
    with pytest.raises(ValueError, match="impl: expected 'auto' or 'compiled' or 'eager', got 'fast'"):
        FlexParams("fast")  # type: ignore[arg-type]


def test_its_work_is_that_of_softmax_attention() -> None:
    """Compiled it counts as sdpa, uncompiled as sdpa's unfused kernel; weights are the four projections."""
    sdpa, problem = registry.get("sdpa"), Problem(2, 64, 32, 4, 4, training=True)
    assert SPEC.work(SPEC.params(), problem) == sdpa.work(sdpa.params(), problem)
    assert SPEC.work(SPEC.params("eager"), problem) == sdpa.work(sdpa.params("math"), problem)
    assert SPEC.weights(SPEC.params(), 32, 4) == sum(p.numel() for p in FlexAttention(32, 4).parameters())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler (g++)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch._prims_common.check` is deprecated:FutureWarning")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
def test_the_compiled_kernel_gives_what_the_reference_gives(dtype: torch.dtype, tolerance: float) -> None:
    """Compiled, with padding behind, in between, over whole blocks and rows, and without: near the reference."""
    torch._dynamo.reset()  # what other tests compiled does not count against its limit of shapes
    torch.manual_seed(1)
    module: Any = roused(FlexAttention(32, 2)).to(dtype)
    length = 2 * BLOCK + 44
    x_BNM = torch.randn(4, length, 32).to(dtype)
    mask_BN = torch.arange(length) >= torch.tensor([length, 70, 0, length]).unsqueeze(1)
    mask_BN[3] = torch.rand(length) < 0.3
    with torch.inference_mode():
        for mask, read_BN in ((None, torch.ones_like(mask_BN)), (mask_BN, ~mask_BN)):
            found_BNM, wanted_BNM = module(x_BNM, mask), reference(module, x_BNM, mask)
            assert found_BNM.dtype == dtype
            assert bool(torch.isfinite(found_BNM).all())
            error = float((found_BNM.double() - wanted_BNM)[read_BN].abs().max())
            assert error <= tolerance * float(wanted_BNM[read_BN].abs().max())
    assert module.ran_as == "compiled"


@pytest.mark.extra
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler (g++)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch._prims_common.check` is deprecated:FutureWarning")
def test_it_compiles_within_a_larger_graph() -> None:
    """torch.compile takes projections, blocks and kernel as one graph, with padding and without."""
    torch._dynamo.reset()
    module, x_BNM = roused(FlexAttention(32, 2)).eval(), torch.randn(2, 200, 32)
    compiled = torch.compile(module, fullgraph=True, dynamic=False)
    mask_BN = torch.arange(200) >= torch.tensor([[200], [70]])
    with torch.inference_mode():
        for mask, read_BN in ((None, torch.ones_like(mask_BN)), (mask_BN, ~mask_BN)):
            wanted_BNM = reference(module, x_BNM, mask)[read_BN]
            error = float((compiled(x_BNM, mask)[read_BN].double() - wanted_BNM).abs().max())
            assert error <= 1e-4 * float(wanted_BNM.abs().max())


@pytest.mark.gpu
@pytest.mark.parametrize("masked", [False, True])
def test_it_trains_on_cuda(masked: bool) -> None:
    """On a CUDA device the compiled kernel gives the reference's outputs, and sdpa's gradients."""
    from castbench.mechanisms.sdpa.module import SdpaAttention

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    ours, theirs = roused(FlexAttention(64, 2)).cuda(), SdpaAttention(64, 2).cuda()
    theirs.load_state_dict(ours.state_dict())
    x_BNM = torch.randn(3, 300, 64, device="cuda")
    mask_BN = torch.arange(300, device="cuda") >= torch.tensor([300, 70, 130], device="cuda").unsqueeze(1)
    read_BN1 = (~mask_BN if masked else torch.ones_like(mask_BN)).unsqueeze(-1)
    found = []
    for module in (ours, theirs):
        y_BNM = module(x_BNM, mask_BN if masked else None) * read_BN1
        y_BNM.square().sum().backward()
        found.append((y_BNM, module.in_proj.weight.grad))
    for mine, others in zip(*found, strict=True):
        assert float((mine - others).abs().max()) < 1e-2 * float(others.abs().max())
