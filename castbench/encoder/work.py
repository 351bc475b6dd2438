"""The counted work of one timed step, for estimates and for the fake device; no torch.

Letters: B batch, N tokens, M width, F feed-forward width, V vocabulary, L layers.
"""

from __future__ import annotations

from castbench.mechanisms import params as mechanism_params
from castbench.mechanisms import registry
from castbench.mechanisms.spec import KernelWork
from castbench.plan import Arm, ServedModel, attention_problem
from castbench.workload.spec import ELEMENT_BYTES, Shape

TRAINING_FACTOR = 3.0
"""A backward pass costs about two forward passes."""
_NORM_PASSES = 4
"""Reads and writes of x around two LayerNorms and two residual additions, in units of one tensor each way."""


def step_work(served: ServedModel, arm: Arm, shape: Shape) -> KernelWork:
    """Work of one step: of the module alone in scope attention, else of the whole encoder.

    A layer adds 4·B·N·M·F FLOPs of feed-forward to the attention's work. Training multiplies by TRAINING_FACTOR
    and keeps the activations of every layer instead of one.
    """
    spec = registry.get(arm.mechanism)
    attention = spec.work(mechanism_params.make(spec, dict(arm.params)), attention_problem(served, shape))
    training = served.phase == "training"
    if served.scope == "attention":
        return attention.scaled(TRAINING_FACTOR) if training else attention
    layer = attention + _layer_beside_attention(served, shape)
    whole = layer.scaled(served.model.layers) + _ends(served, shape)
    kept = layer.activation_bytes * (served.model.layers if training else 1)
    whole = KernelWork(**{**_figures(whole), "activation_bytes": kept})
    return whole.scaled(TRAINING_FACTOR) if training else whole


def weights_bytes(served: ServedModel, arm: Arm) -> int:
    """Bytes of all weights of what is timed."""
    spec, model = registry.get(arm.mechanism), served.model
    width = model.embed_dim
    attention = spec.weights(mechanism_params.make(spec, dict(arm.params)), width, model.num_heads)
    if served.scope == "attention":
        return attention * ELEMENT_BYTES[served.dtype]
    feed_forward = 2 * width * model.ffn_dim + width + model.ffn_dim
    norms = 4 * width
    tables = (model.vocab_size + served.max_seq_len) * width
    head = 2 * width + width * HEAD_OUTPUTS + HEAD_OUTPUTS
    return (model.layers * (attention + feed_forward + norms) + tables + head) * ELEMENT_BYTES[served.dtype]


HEAD_OUTPUTS = 2
"""Classes of the encoder's head; two is the smallest classifier."""


def _layer_beside_attention(served: ServedModel, shape: Shape) -> KernelWork:
    """Feed-forward, norms and residuals of one layer."""
    model, size = served.model, ELEMENT_BYTES[served.dtype]
    tokens = shape.batch_size * shape.seq_len
    row_bytes = float(tokens * model.embed_dim * size)
    hidden_bytes = float(tokens * model.ffn_dim * size)
    return KernelWork(
        gemm_flops=4.0 * tokens * model.embed_dim * model.ffn_dim,
        elementwise_bytes=2 * _NORM_PASSES * row_bytes + 4 * hidden_bytes,
        launches=7,
        activation_bytes=2 * hidden_bytes + 2 * row_bytes,
    )


def _ends(served: ServedModel, shape: Shape) -> KernelWork:
    """Embedding lookup, final norm, pool and head."""
    model = served.model
    row_bytes = float(shape.batch_size * shape.seq_len * model.embed_dim * ELEMENT_BYTES[served.dtype])
    return KernelWork(
        gemm_flops=2.0 * shape.batch_size * model.embed_dim * HEAD_OUTPUTS,
        elementwise_bytes=4 * row_bytes,
        gather_bytes=2 * row_bytes,
        launches=6,
    )


def _figures(work: KernelWork) -> dict[str, float]:
    """The fields of a KernelWork by name."""
    return {name: getattr(work, name) for name in KernelWork.__dataclass_fields__}
