from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from benchmarks.kernel_report import KERNELS, Shape, work
from castbench.mechanisms.cast import CastAttention, kernels
from castbench.mechanisms.cast.choice import Members
from castbench.mechanisms.cast.reference import reference
from tests.mechanisms.cases import Case

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed (extra: kernels)")
pytestmark = [pytest.mark.extra, needs_triton]
slow_examples = settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
Arrays = dict[str, Any]
NAMES = ("qkv", "surrogate", "query_strength", "key_strength")


@dataclass(frozen=True)
class Given:
    """Arguments of kernels.mix."""

    qkv: Tensor
    surrogate: Tensor
    query_strength: Tensor
    key_strength: Tensor
    members: Members

    @classmethod
    def of(cls, module: CastAttention, x_BNM: Tensor, mask_BN: Tensor | None) -> Given:
        """What the module's own layers and choice make of an input; attached to its parameters."""
        phi_BN = module.gate(x_BNM).squeeze(-1).float()
        scale = module.head_dim**-0.5
        return cls(
            module.in_proj(x_BNM), module.surrogate_tokens, (functional.softplus(phi_BN) + 1) * scale,
            (functional.softplus(-phi_BN) + 1) * scale, module.choose(x_BNM, mask_BN),
        )  # fmt: skip

    def tensors(self) -> tuple[Tensor, ...]:
        """Those with gradients."""
        return (self.qkv, self.surrogate, self.query_strength, self.key_strength)


def arrays_of(problem: Given, grad_BNM: Tensor | None) -> Arrays:
    """The problem as NumPy arrays, which cross to the other process without sharing memory."""
    arrays: Arrays = {name: tensor.detach().numpy() for name, tensor in zip(NAMES, problem.tensors(), strict=True)}
    taken = problem.members.taken
    arrays |= {"index": problem.members.index.numpy(), "taken": None if taken is None else taken.numpy()}
    return arrays | {"grad": None if grad_BNM is None else grad_BNM.numpy()}


def mix_there(arrays: Arrays) -> Arrays:
    """Runs in the process where Triton interprets: R, and the gradients where R's gradient is given."""
    torch.set_num_threads(1)
    with torch.enable_grad():
        tensors = [torch.from_numpy(arrays[name].copy()).requires_grad_(arrays["grad"] is not None) for name in NAMES]
        taken = None if arrays["taken"] is None else torch.from_numpy(arrays["taken"].copy())
        mixed = kernels.mix(*tensors, Members(torch.from_numpy(arrays["index"].copy()), taken))
        found: Arrays = {"R": mixed.detach().numpy()}
        if arrays["grad"] is not None:
            mixed.backward(torch.from_numpy(arrays["grad"].copy()))
            found |= {name: tensor.grad.numpy() for name, tensor in zip(NAMES, tensors, strict=True)}
    return found


def compile_there(arrays: Arrays) -> Arrays:
    """Runs in the process where Triton interprets: R and gradients through torch.compile, after PyTorch's checks."""
    from castbench.mechanisms.cast.kernels.launch import mix_op

    torch.set_num_threads(1)
    tensors = [torch.from_numpy(arrays[name].copy()).requires_grad_() for name in NAMES]
    index = torch.from_numpy(arrays["index"].copy())
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(mix_op, (*tensors, index, None), test_utils=checks)
    mixed = torch.compile(kernels.mix, fullgraph=True, backend="aot_eager")(*tensors, Members(index, None))
    mixed.backward(torch.from_numpy(arrays["grad"].copy()))
    return {"R": mixed.detach().numpy()} | {n: t.grad.numpy() for n, t in zip(NAMES, tensors, strict=True)}


def bytes_there(arrays: Arrays) -> dict[str, int]:
    """Runs in the process where Triton interprets: bytes loaded and stored by every kernel of both passes."""
    from triton.runtime.interpreter import InterpreterBuilder

    from castbench.mechanisms.cast.kernels import launch

    given = launch.Given(*(torch.from_numpy(arrays[name].copy()) for name in (*NAMES, "index")), None)
    made, into, counted, seen = launch.room_for_results(given), launch.room_for_gradients(given), [0], {}
    steps = launch.forward_launches(given, made)
    steps += launch.backward_launches(given, made, torch.from_numpy(arrays["grad"].copy()), into)
    into.summary_BCHD.zero_()

    def counting(method: Any, pointers: int, mask: int, times: int) -> Any:
        """The builder's method, which finds pointers and mask at those places, and counts the bytes in the mask."""

        def count(self: Any, *handles: Any) -> Any:
            element_bytes = handles[pointers].get_element_ty().primitive_bitwidth // 8
            counted[0] += times * element_bytes * int(np.count_nonzero(handles[mask].data))
            return method(self, *handles)

        return count

    places = {"create_masked_load": (0, 1, 1), "create_masked_store": (0, 2, 1), "create_atomic_rmw": (1, 3, 2)}
    with pytest.MonkeyPatch.context() as patch:
        for name, at in places.items():
            patch.setattr(InterpreterBuilder, name, counting(getattr(InterpreterBuilder, name), *at))
        for step in steps:
            counted[0] = 0
            step.run()
            seen[step.kernel.fn.__name__] = counted[0]
    return seen


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    """A process that was told to interpret before it could import Triton, whatever else this one has imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        pool.submit(int).result()
    with pool:
        yield pool


def interpreted(pool: ProcessPoolExecutor, problem: Given, grad_BNM: Tensor | None = None) -> dict[str, Tensor]:
    """R and, where its gradient is given, gradients by the kernels."""
    found = pool.submit(mix_there, arrays_of(problem, grad_BNM)).result()
    return {name: torch.from_numpy(np.array(array)) for name, array in found.items()}


def plainly(problem: Given, grad_BNM: Tensor) -> dict[str, Tensor]:
    """R and gradients in float64 from the equations, with every pair of tokens and every A_sum in memory."""
    tensors = [tensor.detach().double().requires_grad_() for tensor in problem.tensors()]
    qkv_BNX, surrogate_CHD, query_BN, key_BN = tensors
    (batch, length, _), (clusters, heads, width) = qkv_BNX.shape, surrogate_CHD.shape
    q, k, v = qkv_BNX.view(batch, length, 3, heads, width).permute(2, 0, 3, 1, 4)
    index_BCK, taken_BCK = problem.members.index, problem.members.taken
    taken_BCK = torch.ones_like(index_BCK, dtype=torch.bool) if taken_BCK is None else taken_BCK
    held_BCN = torch.zeros(batch, clusters, length, dtype=torch.int64, device=index_BCK.device)
    held_BCN = held_BCN.scatter_add(2, index_BCK, taken_BCK.long()) > 0
    low = torch.finfo(torch.float64).min

    def softmax(logits: Tensor, allowed: Tensor) -> Tensor:
        return logits.masked_fill(~allowed, low).softmax(-1) * allowed

    query_BHNC = torch.einsum("bhnd,chd->bhnc", q, surrogate_CHD) * query_BN[:, None, :, None]
    key_BHCN = torch.einsum("bhnd,chd->bhcn", k, surrogate_CHD) * key_BN[:, None, None, :]
    share_BHNC = softmax(query_BHNC, held_BCN.any(-1)[:, None, None, :].expand_as(query_BHNC))
    inter_BHCD = softmax(key_BHCN, held_BCN[:, None].expand_as(key_BHCN)) @ v
    score_BHNN = q @ k.transpose(-1, -2) * width**-0.5
    mixed_BHND = share_BHNC @ inter_BHCD
    for c in range(clusters):
        intra_BHND = softmax(score_BHNN, held_BCN[:, None, c, None, :].expand_as(score_BHNN)) @ v
        own_BHN1 = share_BHNC[..., c, None] * held_BCN[:, None, c, :, None]
        mixed_BHND = mixed_BHND + own_BHN1 * (intra_BHND - inter_BHCD[:, :, c, None])
    mixed_BNM = mixed_BHND.transpose(1, 2).flatten(2)
    mixed_BNM.backward(grad_BNM.double())
    return {"R": mixed_BNM.detach()} | {n: t.grad for n, t in zip(NAMES, tensors, strict=True) if t.grad is not None}


def require_near(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    """Every number within a share of the problem's largest one: some gradients are sums that cancel to 0."""
    assert found.keys() == wanted.keys()
    largest = max(float(tensor.abs().max()) for tensor in wanted.values())
    for name, tensor in found.items():
        error = float((tensor.double() - wanted[name]).abs().max())
        assert error <= tolerance * largest, f"{name}: {error:.3g} at {largest:.3g}"


def real_gradient(case: Case, mask_BN: Tensor | None, dtype: torch.dtype = torch.float32) -> Tensor:
    """A gradient of R drawn from the seed; 0 at padding, which no loss looks at."""
    torch.manual_seed(case.seed + 3)
    grad_BNM = torch.randn(case.batch, case.tokens, case.width)
    return (grad_BNM if mask_BN is None else grad_BNM.masked_fill(mask_BN.unsqueeze(-1), 0.0)).to(dtype)


@st.composite
def wide_cases(draw: st.DrawFn) -> Case:
    """Problems with odd head widths, some of them longer than one block."""
    kind = draw(st.sampled_from(["top_k", "single_assignment"]))
    tokens, clusters = draw(st.integers(1, 44)), draw(st.integers(1, 5))
    fewest = -(-tokens // clusters) if kind == "single_assignment" else 1
    size = draw(st.none() | st.integers(fewest, fewest + 40))
    head_dim = draw(st.sampled_from([1, 3, 16, 17, 24, 40]))
    return Case(
        draw(st.integers(1, 3)), tokens, draw(st.integers(1, 2)), head_dim, clusters, size, kind,
        draw(st.integers(0, 2**31)),
    )  # fmt: skip


LONG = (
    pytest.param(Case(1, 170, 1, 24, 2, 150, "top_k", 4), id="K=150"),
    pytest.param(Case(1, 160, 1, 16, 1, None, "top_k", 5), id="K=N=160"),
    pytest.param(Case(1, 90, 1, 8, 70, 3, "top_k", 6), id="C=70"),
    pytest.param(Case(1, 256, 1, 16, 3, None, "single_assignment", 7), id="N=256"),
    pytest.param(Case(1, 40, 1, 128, 3, None, "top_k", 8), id="D=128"),
    pytest.param(Case(1, 40, 1, 100, 2, None, "top_k", 9), id="D=100"),
)
"""What needs more than one block of places, clusters, tokens or parts, and the widest heads."""


@given(case=wide_cases())
@slow_examples
def test_the_kernels_equal_the_loops_over_tokens_and_clusters(interpreter: ProcessPoolExecutor, case: Case) -> None:
    """In fp32 the kernels give what the float64 loops give for the same members, with and without padding."""
    module, x_BNM = case.module(torch.float32), case.inputs(torch.float32)
    for mask_BN in (None, case.mask()):
        with torch.no_grad():
            mixed_BNM = interpreted(interpreter, Given.of(module, x_BNM, mask_BN))["R"]
            found_BNM, wanted_BNM = module.out_proj(mixed_BNM), reference(module, x_BNM, mask_BN)
        assert mixed_BNM.dtype == torch.float32
        assert bool(torch.isfinite(mixed_BNM).all())
        real_BN = torch.ones_like(x_BNM[..., 0], dtype=torch.bool) if mask_BN is None else ~mask_BN
        require_near({"y": found_BNM[real_BN]}, {"y": wanted_BNM[real_BN]}, 1e-5)


@given(case=wide_cases())
@slow_examples
def test_gradients_equal_those_of_the_equations(interpreter: ProcessPoolExecutor, case: Case) -> None:
    """In fp32, R and the gradients of qkv, S and both strengths are autograd's of the plain equations in float64."""
    module, x_BNM = case.module(torch.float32), case.inputs(torch.float32)
    for mask_BN in (None, case.mask()):
        problem, grad_BNM = Given.of(module, x_BNM, mask_BN), real_gradient(case, mask_BN)
        require_near(interpreted(interpreter, problem, grad_BNM), plainly(problem, grad_BNM), 2e-5)


@pytest.mark.parametrize("case", LONG)
def test_problems_of_several_blocks_are_looped_over(interpreter: ProcessPoolExecutor, case: Case) -> None:
    """Clusters of over 128 places, more clusters than a block and the widest heads give the same, gradients too."""
    module, x_BNM, grad_BNM = case.module(torch.float32), case.inputs(torch.float32), real_gradient(case, None)
    problem = Given.of(module, x_BNM, None)
    require_near(interpreted(interpreter, problem, grad_BNM), plainly(problem, grad_BNM), 2e-5)


@pytest.mark.parametrize("clustering", ["top_k", "single_assignment"])
def test_half_precision_stays_near_the_equations(interpreter: ProcessPoolExecutor, clustering: Any) -> None:
    """In fp16, R comes in fp16 and R and all gradients are near float64's for the same members and rounded inputs."""
    case = Case(2, 80, 2, 24, 3, None, clustering, 12)
    module, x_BNM, mask_BN = case.module(torch.float16), case.inputs(torch.float16), case.mask()
    problem, grad_BNM = Given.of(module, x_BNM, mask_BN), real_gradient(case, mask_BN, torch.float16)
    found = interpreted(interpreter, problem, grad_BNM)
    assert (found["R"].dtype, found["qkv"].dtype, found["surrogate"].dtype) == (torch.float16,) * 3
    require_near(found, plainly(problem, grad_BNM), 3e-3)


@pytest.mark.parametrize("clustering", ["top_k", "single_assignment"])
def test_gradients_reach_the_modules_parameters(interpreter: ProcessPoolExecutor, clustering: Any) -> None:
    """Through in_proj, gate and S, the kernels' gradients are those of the PyTorch implementation, in fp32."""
    case = Case(3, 30, 2, 8, 4, 9, clustering, 13)
    module, x_BNM, mask_BN = case.module(torch.float32), case.inputs(torch.float32).requires_grad_(), case.mask()
    weighted_BNM = real_gradient(case, mask_BN)
    leaves = {"x": x_BNM, **{name: p for name, p in module.named_parameters() if not name.startswith("out_proj")}}
    wanted = torch.autograd.grad((module(x_BNM, mask_BN) * weighted_BNM).sum(), list(leaves.values()))
    problem = Given.of(module, x_BNM, mask_BN)
    into = interpreted(interpreter, problem, weighted_BNM @ module.out_proj.weight.detach())
    found = torch.autograd.grad(problem.tensors(), list(leaves.values()), [into[name] for name in NAMES])
    require_near(dict(zip(leaves, found, strict=True)), dict(zip(leaves, wanted, strict=True)), 2e-5)


@pytest.mark.parametrize("clustering", ["top_k", "single_assignment"])
@pytest.mark.parametrize("content", [1e6, float("inf"), float("nan")])
def test_the_content_of_padding_reaches_no_real_token(
    interpreter: ProcessPoolExecutor, clustering: Any, content: float
) -> None:
    """Huge, infinite or undefined padding leaves every real token's R as it was, to the last bit."""
    case = Case(3, 20, 2, 5, 4, None, clustering, 5)
    module, x_BNM, mask_BN = case.module(torch.float32), case.inputs(torch.float32), case.mask()
    calm = Given.of(module, x_BNM, mask_BN)
    wild_BN1 = mask_BN.unsqueeze(-1)
    wild = Given(
        calm.qkv.masked_fill(wild_BN1, content), calm.surrogate, calm.query_strength.masked_fill(mask_BN, content),
        calm.key_strength.masked_fill(mask_BN, content), calm.members,
    )  # fmt: skip
    before_BNM, after_BNM = (interpreted(interpreter, problem)["R"] for problem in (calm, wild))
    assert torch.equal(before_BNM[~mask_BN], after_BNM[~mask_BN])


@pytest.mark.parametrize("clustering", ["top_k", "single_assignment"])
def test_rows_of_padding_alone_mix_nothing(interpreter: ProcessPoolExecutor, clustering: Any) -> None:
    """A row without a real token has R = 0 and passes nothing back; its neighbours are not touched by it."""
    case = Case(3, 12, 2, 5, 3, None, clustering, 5)
    module, x_BNM, mask_BN = case.module(torch.float32), case.inputs(torch.float32), case.mask()
    found = interpreted(interpreter, Given.of(module, x_BNM, mask_BN), torch.ones(3, 12, case.width))
    assert bool(mask_BN[2].all())
    assert float(found["R"][2].abs().max()) == 0.0
    assert all(float(found[name][2].abs().max()) == 0.0 for name in ("qkv", "query_strength", "key_strength"))
    assert float(found["R"][0].abs().min()) > 0.0


def test_torch_compile_takes_the_operation_whole(interpreter: ProcessPoolExecutor) -> None:
    """PyTorch's checks of custom operations pass, and a full graph with them gives what eager gives, gradients too."""
    case = Case(2, 18, 2, 8, 3, None, "top_k", 9)
    problem = Given.of(case.module(torch.float32), case.inputs(torch.float32), None)
    grad_BNM = real_gradient(case, None)
    eager = interpreted(interpreter, problem, grad_BNM)
    compiled = interpreter.submit(compile_there, arrays_of(problem, grad_BNM)).result()
    require_near({name: torch.from_numpy(a) for name, a in compiled.items()}, eager, 1e-6)


@pytest.mark.parametrize("shape", [Shape(1, 300, 1, 16, 40), Shape(2, 100, 2, 24, 3)])
def test_the_report_counts_the_bytes_that_are_moved(interpreter: ProcessPoolExecutor, shape: Shape) -> None:
    """The formulas of benchmarks/kernel_report.py give, to the byte, what each kernel is seen to load and store."""
    case = Case(shape.batch, shape.tokens, shape.heads, shape.head_dim, shape.clusters, None, "top_k", 2)
    problem = Given.of(case.module(torch.float32), case.inputs(torch.float32), None)
    seen = interpreter.submit(bytes_there, arrays_of(problem, real_gradient(case, None))).result()
    assert seen == {kernel: work(kernel, shape, 4).moved for kernel in KERNELS}


@pytest.mark.parametrize(
    ("device", "dtype", "head_dim", "interpret", "sentence"),
    [
        ("cpu", torch.float32, 64, None, "the Triton kernels need a CUDA device, not cpu"),
        ("cpu", torch.float32, 64, "1", None),
        ("cpu", torch.float16, 128, "1", None),
        ("cpu", torch.bfloat16, 64, "1", "Triton's interpreter computes bfloat16 products wrongly"),
        ("cpu", torch.float64, 64, "1", "take float32, float16 and bfloat16, not float64"),
        ("cuda", torch.float32, 129, None, "take heads of at most 128, not 129"),
    ],
)
def test_what_cannot_run_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, device: str, dtype: Any, head_dim: int, interpret: str | None, sentence: str | None
) -> None:
    """why_not names the first thing in the way, and nothing where there is none."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    if interpret is not None:
        monkeypatch.setenv("TRITON_INTERPRET", interpret)
    said = kernels.why_not(torch.device(device), dtype, head_dim)
    assert said is None if sentence is None else sentence in str(said)


@pytest.mark.parametrize(("capability", "sentence"), [((7, 5), "this GPU has 7.5"), ((8, 0), None), ((12, 0), None)])
def test_gpus_that_were_never_compiled_for_are_refused(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], sentence: str | None
) -> None:
    """A GPU older than compute capability 8.0 is named as the reason."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    said = kernels.why_not(torch.device("cuda"), torch.bfloat16, 64)
    assert said is None if sentence is None else sentence in str(said)


def test_triton_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Triton the sentence says how to get it."""
    monkeypatch.setattr(kernels, "find_spec", lambda _: None)
    assert "castbench[kernels]" in str(kernels.why_not(torch.device("cuda"), torch.float32, 64))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("clustering", "masked"), [("top_k", False), ("top_k", True), ("single_assignment", True)])
@pytest.mark.parametrize(
    ("dtype", "tolerance", "head_dim"),
    [
        (torch.float32, 2e-5, 64), (torch.float16, 5e-3, 64), (torch.bfloat16, 3e-2, 64),
        (torch.bfloat16, 3e-2, 32), (torch.bfloat16, 3e-2, 80), (torch.bfloat16, 3e-2, 128), (torch.float32, 2e-5, 128),
    ],
)  # fmt: skip
def test_on_a_gpu_the_kernels_equal_the_equations(
    clustering: Any, masked: bool, dtype: torch.dtype, tolerance: float, head_dim: int
) -> None:
    """Compiled, R and all gradients are near float64's for the same members and rounded inputs, in every dtype."""
    case = Case(3, 333, 2, head_dim, 7, None, clustering, 21)
    module, x_BNM = case.module(dtype).cuda(), case.inputs(dtype).cuda()
    mask_BN = case.mask().cuda() if masked else None
    grad_BNM = real_gradient(case, None if mask_BN is None else mask_BN.cpu(), dtype).cuda()
    problem = Given.of(module, x_BNM, mask_BN)
    assert kernels.why_not(x_BNM.device, dtype, head_dim) is None
    tensors = [tensor.detach().requires_grad_() for tensor in problem.tensors()]
    mixed_BNM = kernels.mix(*tensors, problem.members)
    mixed_BNM.backward(grad_BNM)
    found = {"R": mixed_BNM.detach()} | {n: t.grad for n, t in zip(NAMES, tensors, strict=True) if t.grad is not None}
    require_near(found, plainly(problem, grad_BNM), tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_a_gpu_the_kernels_equal_the_module(dtype: torch.dtype) -> None:
    """Compiled, the kernels give what the PyTorch implementation gives on the same GPU, to the dtype's rounding."""
    case = Case(2, 1000, 4, 64, 16, None, "top_k", 22)
    module, x_BNM = case.module(dtype).cuda(), case.inputs(dtype).cuda()
    with torch.inference_mode():
        problem = Given.of(module, x_BNM, None)
        found_BNM = module.out_proj(kernels.mix(*problem.tensors(), problem.members))
        wanted_BNM = module(x_BNM)
    require_near({"y": found_BNM}, {"y": wanted_BNM.double()}, 1e-4 if dtype == torch.float32 else 4e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_gpu_single_assignment_gives_the_same_bits_twice() -> None:
    """Where each token is in one cluster, R and all gradients are the same to the last bit in every run."""
    case = Case(2, 2048, 4, 64, 16, None, "single_assignment", 23)
    problem = Given.of(case.module(torch.bfloat16).cuda(), case.inputs(torch.bfloat16).cuda(), None)
    grad_BNM = real_gradient(case, None, torch.bfloat16).cuda()
    runs = []
    for _ in range(3):
        tensors = [tensor.detach().requires_grad_() for tensor in problem.tensors()]
        mixed_BNM = kernels.mix(*tensors, problem.members)
        mixed_BNM.backward(grad_BNM)
        runs.append([mixed_BNM.detach(), *(tensor.grad for tensor in tensors)])
    for later in runs[1:]:
        for one, other in zip(runs[0], later, strict=True):
            assert one is not None
            assert other is not None
            assert torch.equal(one, other)
