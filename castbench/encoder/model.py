"""The served encoder that mechanisms are swapped into, with the same weights whatever the mechanism, and its steps.

    tokens ─▶ embedding + positions ─▶ ( norm ─ attention ─ + ─ norm ─ GELU network ─ + ) × layers ─▶ norm ─ mean ─ head

Shape suffixes: B batch, N tokens, M width, F width of the feed-forward network.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from castbench.encoder.inputs import Batch
from castbench.encoder.work import HEAD_OUTPUTS
from castbench.mechanisms import params as mechanism_params
from castbench.mechanisms import registry
from castbench.plan import Arm, ServedModel
from castbench.workload.spec import ModelSpec, Phase


class Block(nn.Module):
    """Pre-norm block: x + attention(norm(x)), then x + network(norm(x)); shapes BNM."""

    def __init__(self, model: ModelSpec, attention: nn.Module) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(model.embed_dim)
        self.attention = attention
        self.network_norm = nn.LayerNorm(model.embed_dim)
        self.up = _undrawn_linear(model.embed_dim, model.ffn_dim)
        self.down = _undrawn_linear(model.ffn_dim, model.embed_dim)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None) -> Tensor:
        """The next hidden states."""
        x_BNM = x_BNM + self.attention(self.attention_norm(x_BNM), key_padding_mask_BN)
        widened_BNF = functional.gelu(self.up(self.network_norm(x_BNM)))
        return x_BNM + cast(Tensor, self.down(widened_BNF))


class Encoder(nn.Module):
    """Tokens to HEAD_OUTPUTS numbers per row: `forward(tokens_BN, key_padding_mask_BN=None)`, mask True = padding.

    `attention` makes the attention module of one layer. Parameters are not drawn yet: see `draw_weights`.
    """

    def __init__(self, model: ModelSpec, max_seq_len: int, attention: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.tokens = nn.Embedding(
            model.vocab_size, model.embed_dim, _weight=torch.empty(model.vocab_size, model.embed_dim)
        )
        self.positions = nn.Parameter(torch.empty(max_seq_len, model.embed_dim))
        self.blocks = nn.ModuleList(Block(model, attention()) for _ in range(model.layers))
        self.norm = nn.LayerNorm(model.embed_dim)
        self.head = _undrawn_linear(model.embed_dim, HEAD_OUTPUTS)

    def forward(self, tokens_BN: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """The head's outputs, B × HEAD_OUTPUTS."""
        x_BNM = self.tokens(tokens_BN) + self.positions[: tokens_BN.shape[1]]
        for block in self.blocks:
            x_BNM = block(x_BNM, key_padding_mask_BN)
        outputs: Tensor = self.head(mean_of_real(self.norm(x_BNM), key_padding_mask_BN))
        return outputs


def build_encoder(served: ServedModel, arm: Arm) -> Encoder:
    """The encoder with an arm's mechanism in every layer, float32 on the CPU, weights drawn from the served seed; so is
    what else a mechanism draws when it is made (features, hashes, blocks), whatever was built before.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(served.seed)
        encoder = Encoder(served.model, served.max_seq_len, lambda: _attention(served, arm))
    draw_weights(encoder, served.seed)
    return encoder


def build_timed(served: ServedModel, arm: Arm) -> nn.Module:
    """What is timed: the encoder, or one attention module for scope attention."""
    if served.scope == "encoder":
        return build_encoder(served, arm)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(served.seed)
        module = _attention(served, arm)
    draw_weights(module, served.seed)
    return module


def draw_weights(module: nn.Module, seed: int) -> None:
    """Draw every parameter from a seed made of `seed`, its name and its shape, so that equal ones agree everywhere.

    Matrices: uniform with variance 1 / last dimension, which keeps hidden states near unit size. Biases: zero. Other
    vectors (the scales of norms) keep the constants they were built with.
    """
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim > 1:
            generator = torch.Generator().manual_seed(_seed_of(seed, name, parameter.shape))
            bound = math.sqrt(3.0 / parameter.shape[-1])
            nn.init.uniform_(parameter, -bound, bound, generator=generator)


def mean_of_real(x_BNM: Tensor, key_padding_mask_BN: Tensor | None) -> Tensor:
    """Mean over the real tokens of each row, BM; zero where a row has none."""
    if key_padding_mask_BN is None:
        return x_BNM.mean(1)
    real_BN1 = (~key_padding_mask_BN).unsqueeze(-1)
    return x_BNM.masked_fill(~real_BN1, 0.0).sum(1) / real_BN1.sum(1).clamp(min=1)


def make_step(module: nn.Module, pool: Sequence[Batch], phase: Phase) -> Callable[[int], Tensor]:
    """The timed step: `step(i)` runs the i-th batch of the rotating pool, and returns what must be finite.

    inference: a forward pass under inference_mode, its output. training: forward, backward and optimiser step, the
    loss.
    """
    if phase == "training":
        return _training_step(module, pool)

    @torch.inference_mode()
    def infer(index: int) -> Tensor:
        batch = pool[index % len(pool)]
        outputs: Tensor = module(batch.inputs, batch.key_padding_mask)
        return outputs

    return infer


def _training_step(module: nn.Module, pool: Sequence[Batch]) -> Callable[[int], Tensor]:
    """A step with AdamW on the mean square of the outputs; hidden states get gradients too, as inside a network."""
    parameters = list(module.parameters())
    optimiser = torch.optim.AdamW(parameters, fused=True) if parameters else None

    def train(index: int) -> Tensor:
        batch = pool[index % len(pool)]
        inputs = batch.inputs.detach()
        outputs = module(inputs.requires_grad_(inputs.is_floating_point()), batch.key_padding_mask)
        loss: Tensor = outputs.float().square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        if optimiser is not None:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    return train


def _attention(served: ServedModel, arm: Arm) -> nn.Module:
    """A fresh attention module of an arm."""
    spec = registry.get(arm.mechanism)
    params = mechanism_params.make(spec, dict(arm.params))
    module: nn.Module = registry.load(spec.build)(
        params, embed_dim=served.model.embed_dim, num_heads=served.model.num_heads
    )
    return module


def _seed_of(seed: int, name: str, shape: torch.Size) -> int:
    """A seed of 63 bits; a module inside a wrapper (`inner`) draws what it would draw without it."""
    name = ".".join(part for part in name.split(".") if part != "inner")
    digest = hashlib.sha256(f"{seed}|{name}|{tuple(shape)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _undrawn_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer without the time nn.Linear takes to draw weights that `draw_weights` draws anew."""
    return cast(nn.Linear, nn.utils.skip_init(nn.Linear, inputs, outputs))  # type: ignore[no-untyped-call]
