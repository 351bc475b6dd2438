"""The encoder that is timed: pre-norm blocks around a swapped-in attention, and the step that a window repeats.

Shape suffixes: B batch, N tokens, M width, O outputs of the head.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from castbench.encoder.inputs import Batch
from castbench.encoder.work import HEAD_OUTPUTS
from castbench.mechanisms import params as mechanism_params
from castbench.mechanisms import registry
from castbench.plan import Arm, ServedModel
from castbench.workload.spec import Phase

LEARNING_RATE = 1e-6
"""Small enough that a training run of benchmark steps leaves the weights what they are."""


class Block(nn.Module):
    """One layer: x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, served: ServedModel, attention: nn.Module) -> None:
        super().__init__()
        width, hidden = served.model.embed_dim, served.model.ffn_dim
        self.attention_norm = nn.LayerNorm(width)
        self.attention = attention
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None) -> Tensor:
        """One layer's output, BNM."""
        x_BNM = x_BNM + self.attention(self.attention_norm(x_BNM), key_padding_mask_BN)
        result: Tensor = x_BNM + self.ffn(self.ffn_norm(x_BNM))
        return result


class Encoder(nn.Module):
    """Embedding with learned positions, blocks, final norm, masked mean pool, a linear head."""

    def __init__(self, served: ServedModel, attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        model = served.model
        # Tables start empty: draw_weights fills them, and their default initialisation would double the build time.
        self.tokens = nn.Embedding.from_pretrained(torch.empty(model.vocab_size, model.embed_dim), freeze=False)
        self.positions = nn.Embedding.from_pretrained(torch.empty(served.max_seq_len, model.embed_dim), freeze=False)
        self.blocks = nn.ModuleList(Block(served, attention) for attention in attentions)
        self.norm = nn.LayerNorm(model.embed_dim)
        self.head = nn.Linear(model.embed_dim, HEAD_OUTPUTS)

    def forward(self, tokens_BN: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """Logits BO of token rows; mask True = padding."""
        places_N = torch.arange(tokens_BN.shape[1], device=tokens_BN.device)
        x_BNM = self.tokens(tokens_BN) + self.positions(places_N)
        for block in self.blocks:
            x_BNM = block(x_BNM, key_padding_mask_BN)
        logits_BO: Tensor = self.head(masked_mean(self.norm(x_BNM), key_padding_mask_BN))
        return logits_BO


def masked_mean(x_BNM: Tensor, key_padding_mask_BN: Tensor | None) -> Tensor:
    """Mean over real tokens, BM; zeros for a row of padding alone."""
    if key_padding_mask_BN is None:
        return x_BNM.mean(1)
    real_BN1 = (~key_padding_mask_BN).unsqueeze(-1)
    return (x_BNM * real_BN1).sum(1) / real_BN1.sum(1).clamp(min=1)


def build_timed(served: ServedModel, arm: Arm) -> nn.Module:
    """What is timed for an arm: an Encoder, or in scope attention one attention module; weights from the seed.

    Parameters of equal name and shape have equal values in all arms. Raises what the mechanism raises for
    parameters that do not fit.
    """
    spec = registry.get(arm.mechanism)
    params = mechanism_params.make(spec, dict(arm.params))
    build = registry.load(spec.build)
    count = 1 if served.scope == "attention" else served.model.layers
    torch.manual_seed(served.seed)
    attentions = [
        build(params, embed_dim=served.model.embed_dim, num_heads=served.model.num_heads) for _ in range(count)
    ]
    module: nn.Module = attentions[0] if served.scope == "attention" else Encoder(served, attentions)
    draw_weights(module, served.seed)
    return module.train(served.phase == "training")


@torch.no_grad()
def draw_weights(module: nn.Module, seed: int) -> None:
    """Fill all parameters, each from a generator seeded by (seed, name, shape): norms 1 and 0, biases 0, the rest
    normal with variance 1 / inputs."""
    for name, parameter in module.named_parameters():
        if parameter.dim() == 1:
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
            continue
        key = f"{seed}|{name}|{tuple(parameter.shape)}".encode()
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:8]) >> 1)
        parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)


def make_step(module: nn.Module, pool: Sequence[Batch], phase: Phase) -> Callable[[int], Tensor]:
    """The i-th step on the i-th batch of the pool, going round: a forward pass, or a whole training step."""
    if phase == "training":
        return _training_step(module, pool)

    @torch.inference_mode()
    def forward(index: int) -> Tensor:
        batch = pool[index % len(pool)]
        output: Tensor = module(batch.inputs, batch.key_padding_mask_BN)
        return output

    return forward


def _training_step(module: nn.Module, pool: Sequence[Batch]) -> Callable[[int], Tensor]:
    """Forward, backward and optimiser step; the loss is the mean square of the output."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=LEARNING_RATE, fused=True) if trained else None

    def step(index: int) -> Tensor:
        batch = pool[index % len(pool)]
        output: Tensor = module(batch.inputs, batch.key_padding_mask_BN)
        if optimiser is not None:
            optimiser.zero_grad(set_to_none=True)
            output.float().square().mean().backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimiser.step()
        return output.detach()

    return step
