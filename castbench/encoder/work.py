"""Work of one timed step, counted from shapes alone: for the fake device and for estimates before a run.

T = B·N tokens, M width, F width of the feed-forward network, e bytes per element.
"""

from __future__ import annotations

from dataclasses import replace

from castbench.mechanisms import params as mechanism_params
from castbench.mechanisms import registry
from castbench.mechanisms.spec import KernelWork
from castbench.plan import Arm, ServedModel, attention_problem
from castbench.workload.spec import ELEMENT_BYTES, Shape

HEAD_OUTPUTS = 16
"""Outputs of the encoder's head: a small classifier's."""
TRAINING_FACTOR = 3.0
"""Forward, and twice as much backward: one product for the inputs' gradient, one for the weights'."""
_OPTIMISER_PASSES = 7
"""AdamW reads weights, gradients and two moments, and writes weights and moments."""
_OPTIMISER_COPIES = 3
"""Gradients and two moments, as large as the weights."""


def step_work(served: ServedModel, arm: Arm, shape: Shape) -> KernelWork:
    """One step of what is timed: the attention module, or the encoder around it; training as `_trained` counts it."""
    spec = registry.get(arm.mechanism)
    params = mechanism_params.make(spec, dict(arm.params))
    attention = spec.work(params, attention_problem(served, shape))
    forward = attention if served.scope == "attention" else _encoder(served, shape, attention)
    return forward if served.phase == "inference" else _trained(forward, weights_bytes(served, arm))


def weights_bytes(served: ServedModel, arm: Arm) -> int:
    """Memory of the weights of what is timed."""
    model, spec = served.model, registry.get(arm.mechanism)
    params = mechanism_params.make(spec, dict(arm.params))
    numbers = spec.weights(params, model.embed_dim, model.num_heads)
    if served.scope == "encoder":
        width, hidden = model.embed_dim, model.ffn_dim
        block = numbers + 4 * width + 2 * width * hidden + hidden + width
        embedding = (model.vocab_size + served.max_seq_len) * width
        numbers = model.layers * block + embedding + 2 * width + HEAD_OUTPUTS * (width + 1)
    return numbers * ELEMENT_BYTES[served.dtype]


def _encoder(served: ServedModel, shape: Shape, attention: KernelWork) -> KernelWork:
    """A forward pass of the encoder. Memory at its peak is one block's, in training all blocks' together."""
    layers = served.model.layers
    block = attention + _around_attention(served, shape)
    whole = block.scaled(layers) + _embedding_and_head(served, shape)
    row_bytes = _row_bytes(served, shape)
    feed_forward_bytes = 2 * row_bytes * served.model.ffn_dim / served.model.embed_dim
    if served.phase == "training":
        activations = layers * (attention.activation_bytes + feed_forward_bytes + 4 * row_bytes) + 2 * row_bytes
    else:
        activations = max(attention.activation_bytes, feed_forward_bytes + row_bytes) + 2 * row_bytes
    return replace(whole, activation_bytes=activations)


def _around_attention(served: ServedModel, shape: Shape) -> KernelWork:
    """A block without its attention: 4·T·M·F FLOPs, two norms, two residual sums, the GELU and the two weights."""
    width, hidden = served.model.embed_dim, served.model.ffn_dim
    row_bytes = _row_bytes(served, shape)
    hidden_bytes = row_bytes * hidden / width
    return KernelWork(
        gemm_flops=4.0 * _tokens(shape) * width * hidden,
        elementwise_bytes=12 * row_bytes + 4 * hidden_bytes + 2.0 * width * hidden * ELEMENT_BYTES[served.dtype],
        launches=7,
    )


def _embedding_and_head(served: ServedModel, shape: Shape) -> KernelWork:
    """Token and position rows read and added, the last norm, the pool, and a product as small as the head."""
    row_bytes = _row_bytes(served, shape)
    return KernelWork(
        gemm_flops=2.0 * shape.batch_size * served.model.embed_dim * HEAD_OUTPUTS,
        elementwise_bytes=6 * row_bytes,
        gather_bytes=2 * row_bytes,
        launches=6,
    )


def _trained(forward: KernelWork, weights: int) -> KernelWork:
    """Forward, backward and optimiser step: about three times the FLOPs, bytes and launches of the forward pass.

    A stated wait is waited for in the forward pass only.
    """
    return replace(
        forward.scaled(TRAINING_FACTOR) + KernelWork(elementwise_bytes=float(_OPTIMISER_PASSES * weights), launches=1),
        wait_s=forward.wait_s,
        activation_bytes=forward.activation_bytes + _OPTIMISER_COPIES * weights,
    )


def _tokens(shape: Shape) -> int:
    """Tokens of a batch, padding included."""
    return shape.batch_size * shape.seq_len


def _row_bytes(served: ServedModel, shape: Shape) -> float:
    """Bytes of one hidden state per token."""
    return float(_tokens(shape) * served.model.embed_dim * ELEMENT_BYTES[served.dtype])
