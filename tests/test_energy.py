from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.energy import DISAGREEMENT_LIMIT, energy_caveats, summarise
from castbench.records import Caveat, EnergyBlock, EnergyRecord

IDLE = (EnergyBlock(0, 4.0, 200.0, 208.0), EnergyBlock(0, 4.0, 240.0, 240.0))
BLOCKS = (
    EnergyBlock(100, 2.0, 590.0, 600.0), EnergyBlock(100, 2.0, 600.0, 612.0), EnergyBlock(200, 4.0, 1220.0, 1248.0),
)  # fmt: skip
RECORD = EnergyRecord("nvml-counter", "gpu", 0.02, IDLE, BLOCKS)


def test_energy_per_step_sequence_and_token_by_hand() -> None:
    """Blocks of 5.9, 6.0 and 6.1 J per step: mean 6.0, t interval 4.303 * 0.1 / sqrt(3); net less 55 W for 20 ms,
    its interval wider by half the drift from 50 to 60 W.
    """
    found = summarise(RECORD, batch_size=8, tokens_per_step=500.0)
    assert found is not None
    gross, net = found.gross_j_per_step, found.net_j_per_step
    half = 4.3027 * 0.1 / 3**0.5
    assert (gross.value, gross.low, gross.high) == pytest.approx((6.0, 6.0 - half, 6.0 + half), rel=1e-4)
    assert net is not None
    assert (net.value, net.low, net.high) == pytest.approx((4.9, 4.9 - half - 0.1, 4.9 + half + 0.1), rel=1e-4)
    assert found.gross_j_per_sequence.value == pytest.approx(0.75)
    assert found.gross_j_per_1k_tokens.value == pytest.approx(12.0)
    assert found.net_j_per_sequence is not None
    assert found.net_j_per_sequence.high == pytest.approx((net.high or 0) / 8)
    assert found.net_j_per_1k_tokens is not None
    assert found.net_j_per_1k_tokens.low == pytest.approx((net.low or 0) * 2)
    assert (found.idle_w, found.idle_drift) == pytest.approx((55.0, 0.2))
    assert found.mean_power_w == pytest.approx(2410 / 8)
    assert found.disagreement == pytest.approx(2460 / 2410 - 1)
    assert (found.source, found.scope, found.blocks, found.dropped) == ("nvml-counter", "gpu", 3, 0)


def test_integrated_power_counts_where_it_is_the_source() -> None:
    """With source nvml-power everything is integrated: blocks and idling."""
    found = summarise(replace(RECORD, source="nvml-power"), 1, 1.0)
    assert found is not None
    assert found.gross_j_per_step.value == pytest.approx((6.0 + 6.12 + 6.24) / 3)
    assert found.idle_w == pytest.approx((52.0 + 60.0) / 2)


def test_a_block_without_a_reading_is_counted_as_dropped() -> None:
    """It adds nothing to the figures, not even to the disagreement, and is told."""
    with_one_lost = replace(RECORD, blocks=(*BLOCKS, EnergyBlock(100, 2.0, None, 9999.0)))
    found, without = summarise(with_one_lost, 1, 1.0), summarise(RECORD, 1, 1.0)
    assert found is not None
    assert without is not None
    assert found.dropped == 1
    assert replace(found, dropped=0) == without


def test_below_three_blocks_there_is_no_figure() -> None:
    """Two usable blocks, or no record at all, are not measured: None and a caveat, never 0."""
    assert summarise(replace(RECORD, blocks=BLOCKS[:2]), 1, 1.0) is None
    assert summarise(None, 1, 1.0) is None
    assert energy_caveats(None) == (Caveat.ENERGY_UNMEASURED,)


def test_without_idling_there_is_gross_and_no_net() -> None:
    """An unknown idle baseline is not one of 0 W."""
    found = summarise(replace(RECORD, idle=()), 1, 1.0)
    assert found is not None
    assert found.gross_j_per_step.value == pytest.approx(6.0)
    assert (found.net_j_per_step, found.idle_w, found.idle_drift) == (None, None, None)
    assert (found.net_j_per_sequence, found.net_j_per_1k_tokens) == (None, None)


@pytest.mark.parametrize(
    ("factor", "caveats"),
    [
        (1 + DISAGREEMENT_LIMIT + 0.001, (Caveat.ENERGY_DISAGREES,)), (1 + DISAGREEMENT_LIMIT - 0.001, ()),
        (1 - DISAGREEMENT_LIMIT - 0.001, (Caveat.ENERGY_DISAGREES,)), (1 - DISAGREEMENT_LIMIT + 0.001, ()),
    ],
)  # fmt: skip
def test_a_disagreement_beyond_ten_percent_is_a_caveat(factor: float, caveats: tuple[Caveat, ...]) -> None:
    """Either way, from 10 % on; without a second reading there is nothing to disagree."""
    blocks = tuple(replace(b, integrated_j=(b.counter_j or 0) * factor) for b in BLOCKS)
    assert energy_caveats(summarise(replace(RECORD, blocks=blocks), 1, 1.0)) == caveats
    alone = summarise(replace(RECORD, blocks=tuple(replace(b, integrated_j=None) for b in BLOCKS)), 1, 1.0)
    assert alone is not None
    assert alone.disagreement is None
    assert energy_caveats(alone) == ()


@given(factor=st.floats(1e-3, 1e3))
def test_a_meter_in_another_unit_changes_every_figure_by_the_factor(factor: float) -> None:
    """All joules times k: gross, net, idle and power times k, the relative figures as they were."""

    def scaled(blocks: tuple[EnergyBlock, ...]) -> tuple[EnergyBlock, ...]:
        return tuple(
            replace(b, counter_j=(b.counter_j or 0) * factor, integrated_j=(b.integrated_j or 0) * factor)
            for b in blocks
        )

    one = summarise(RECORD, 2, 3.0)
    other = summarise(replace(RECORD, idle=scaled(IDLE), blocks=scaled(BLOCKS)), 2, 3.0)
    assert one is not None
    assert other is not None
    assert one.net_j_per_step is not None
    assert other.net_j_per_step is not None
    assert other.gross_j_per_step.value == pytest.approx(one.gross_j_per_step.value * factor)
    assert other.net_j_per_step.low == pytest.approx((one.net_j_per_step.low or 0) * factor)
    assert (other.idle_w, other.mean_power_w) == pytest.approx(((one.idle_w or 0) * factor, one.mean_power_w * factor))
    assert (other.disagreement, other.idle_drift) == pytest.approx((one.disagreement, one.idle_drift))
