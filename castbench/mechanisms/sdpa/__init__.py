"""SDPA: PyTorch's fused softmax attention, the usual choice today; described without torch."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.accounting import projection_parameters, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem


@dataclass(frozen=True, slots=True)
class SdpaParams:
    """SDPA has no parameters; PyTorch chooses the kernel, and the run records which one it was."""


def work(params: SdpaParams, problem: Problem) -> KernelWork:
    """Projections, and 4·B·N²·M FLOPs of attention whose scores never reach memory.

    Bytes of the attention: q, k, v and the result, once each. Training keeps one float32 per query and head beside
    the result, from which the scores are computed again.
    """
    tokens = problem.batch_size * problem.seq_len
    row_bytes = float(tokens * problem.embed_dim * problem.element_bytes)
    attention = KernelWork(
        attention_flops=4.0 * tokens * problem.seq_len * problem.embed_dim,
        elementwise_bytes=4 * row_bytes,
        launches=1,
        activation_bytes=row_bytes + 4.0 * tokens * problem.num_heads * problem.training,
    )
    return projections(problem) + attention


def weights(params: SdpaParams, embed_dim: int, num_heads: int) -> int:
    """The four projections."""
    return projection_parameters(embed_dim)


SPEC = MechanismSpec(
    name="sdpa",
    title="Fused softmax attention (PyTorch SDPA)",
    summary="softmax attention in one fused kernel; scores never reach memory",
    params=SdpaParams,
    build="castbench.mechanisms.sdpa.module:build",
    reference="castbench.mechanisms.dense_reference:reference",
    work=work,
    complexity="O(N²) time, O(N) memory",
    paper="Dao et al., arXiv:2205.14135",
    year=2022,
    exact=True,
    weights=weights,
)
