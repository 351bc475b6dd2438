"""Small served models and arms for tests of the encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from castbench.plan import Arm, Group, ServedModel
from castbench.workload.lengths import from_shares
from castbench.workload.spec import ModelSpec, Shape

MODEL = ModelSpec(layers=2, embed_dim=32, num_heads=4, ffn_dim=64, vocab_size=100)
SERVED = ServedModel(MODEL, "encoder", "inference", "fp32", seed=3, max_seq_len=48)
MIX = from_shares([(8, 0.5), (24, 0.5)])
PADDED, BUCKETED = (Group(Shape(4, 24), batching) for batching in ("padded", "bucketed"))
CAST = (("num_clusters", 4), ("cluster_size", None), ("clustering", "top_k"), ("impl", "auto"))


def served(**changes: Any) -> ServedModel:
    """SERVED with changes."""
    return replace(SERVED, **changes)


def arm(mechanism: str, **params: Any) -> Arm:
    """An arm of a mechanism; cast with four clusters unless told otherwise."""
    pairs = {**(dict(CAST) if mechanism == "cast" else {}), **params}
    return Arm(mechanism, mechanism, tuple(pairs.items()), "candidate", mechanism in {"naive", "sdpa"})
