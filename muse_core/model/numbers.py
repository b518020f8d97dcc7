"""How exactly numbers are computed: what a loss may be computed in, and what frozen parts may."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """Widen half precision to float32, in which losses keep their digits; what is wider stays as it is."""
    return x if x.dtype == torch.float64 else x.float()


@dataclass(frozen=True)
class Lowered:
    """What frozen parts compute in; None leaves it to the weights. Their weights stay as they were published."""

    dtype: torch.dtype | None

    def on(self, device: torch.device) -> AbstractContextManager[object]:
        """Compute products and convolutions in it; sums that need digits keep them."""
        return torch.autocast(device.type, self.dtype) if self.dtype else nullcontext()

    def back(self, x: Tensor) -> Tensor:
        """Return what was computed to those that train."""
        return full(x) if self.dtype else x


WHOLE = Lowered(None)
