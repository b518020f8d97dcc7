"""Where gradients go. A routing never changes a value that is computed, only which losses reach which weights.

`split` is how the topology and the semantic stream read a block's input; `shield` is the stop-gradient on what they
hand to the texture stream, so that structure stays in W_Q and W_K and meaning in W_V.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Routing:
    """One way of sending gradients through the blocks.

    split:
        stop: the streams read sg(x); their losses end inside the block.
        straight: sg(x) + (h0 - sg(h0)); the losses skip all earlier blocks and reach adapter and encoder.
        through: x itself; the losses also train every earlier block.
    """

    split: Literal["stop", "straight", "through"]
    shield: bool

    def read(self, x: Tensor, origin: Tensor) -> Tensor:
        """What the topology and semantic streams see of block input `x`; `origin` is the adapter's output h0."""
        if self.split == "through":
            return x
        if self.split == "straight":
            return x.detach() + (origin - origin.detach())
        return x.detach()

    def stop(self, handed: Tensor) -> Tensor:
        """Hand an attention map or an anchor to the texture stream."""
        return handed.detach() if self.shield else handed


ROUTINGS: Mapping[str, Routing] = {
    "strict": Routing("stop", shield=True),
    "open": Routing("straight", shield=True),
    "joint": Routing("through", shield=False),
    "released": Routing("through", shield=True),
}
"""strict: stages 1 and 2. open: stage 3. joint: the ablation the paper argues against. released: the public code."""
