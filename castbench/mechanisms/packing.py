"""The real tokens of a padded batch, one row behind the other without padding, and the way back.

    row 0   a a . .
    row 1   b . . .     ─▶     b a a c c c c     lengths (1, 2, 4): shortest first, so that equal ones stand together
    row 2   c c c c

Shape suffixes: B batch, N tokens of a padded row, T real tokens of all rows, M width, X any width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, groupby

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Packing:
    """Where the real tokens of a batch are.

    shape     B and N
    lengths   real tokens of every row that has any, shortest first
    place_T   the place of each among the B·N tokens; None where all are real, and packing costs nothing
    """

    shape: tuple[int, int]
    lengths: tuple[int, ...]
    place_T: Tensor | None = None

    def packed(self, x_BNX: Tensor) -> Tensor:
        """The real tokens, TX."""
        x_TX = x_BNX.flatten(0, 1)
        return x_TX if self.place_T is None else x_TX.index_select(0, self.place_T)

    def padded(self, y_TX: Tensor) -> Tensor:
        """The real tokens at their places, zero at padding, BNX."""
        batch, length = self.shape
        if self.place_T is None:
            return y_TX.view(batch, length, -1)
        y_BNX = y_TX.new_zeros(batch * length, y_TX.shape[-1]).index_copy_(0, self.place_T, y_TX)
        return y_BNX.view(batch, length, -1)

    def groups(self) -> list[tuple[int, int]]:
        """Number of rows and their length, for every length there is."""
        return [(len(list(rows)), length) for length, rows in groupby(self.lengths)]

    def starts(self, device: torch.device) -> Tensor:
        """Where every row starts among the T, and T at the end: the cumulated lengths that kernels ask for, int32."""
        return torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32, device=device)


def whole(batch: int, length: int) -> Packing:
    """A batch without padding."""
    return Packing((batch, length), (length,) * batch)


def without_padding(mask_BN: Tensor) -> Packing:
    """The real tokens of a batch, mask True = padding. On a GPU the host waits here: it must know the lengths."""
    real_BN = ~mask_BN
    lengths: list[int] = real_BN.sum(1).tolist()
    batch, length = mask_BN.shape
    if sum(lengths) == batch * length:
        return whole(batch, length)
    place_T = real_BN.flatten().nonzero().squeeze(1)
    order = sorted(range(batch), key=lengths.__getitem__)
    if order != list(range(batch)):
        rows = torch.split(place_T, lengths)
        place_T = torch.cat([rows[row] for row in order])
    return Packing((batch, length), tuple(lengths[row] for row in order if lengths[row]), place_T)


def over_real_tokens(
    x_BNM: Tensor, mask_BN: Tensor | None, attend: Callable[[Tensor, Packing], Tensor]
) -> Tensor:  # fmt: skip
    """y_BNM of `attend`, told where the real tokens are; not traced where a mask decides how many there are."""
    if mask_BN is None:
        return attend(x_BNM, whole(*x_BNM.shape[:2]))

    def unpadded(x_BNM: Tensor, mask_BN: Tensor) -> Tensor:
        return attend(x_BNM, without_padding(mask_BN))

    if torch.compiler.is_compiling():
        from castbench.mechanisms.uncompiled import uncompiled

        y_BNM: Tensor = uncompiled(unpadded, x_BNM, mask_BN)
        return y_BNM
    return unpadded(x_BNM, mask_BN)
