"""A way out of what torch.compile traces; imports torch's compiler, so it is imported only where that is at work."""

# torch.compiler.disable has no types.
# mypy: disable-error-code="no-untyped-call, untyped-decorator"

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.compiler.disable(reason="its shapes are those of the rows at hand, which would be compiled anew for every batch")
def uncompiled(function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """The function's result, as Python runs it."""
    return function(*arguments)
