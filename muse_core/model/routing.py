"""Where gradients go. A routing never changes a value that is computed, only which losses reach which weights.

`split` is how the topology and the semantic stream read a block's input; `attention` and `anchor` say whether a
stop-gradient stands on what the one and the other hand to the texture stream, so that structure stays in W_Q and W_K
and meaning in W_V.
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
    attention, anchor: whether pixels are kept from what made them.
    """

    split: Literal["stop", "straight", "through"]
    attention: bool
    anchor: bool

    def read(self, x: Tensor, origin: Tensor) -> Tensor:
        """What the topology and semantic streams see of block input `x`; `origin` is the adapter's output h0."""
        if self.split == "through":
            return x
        if self.split == "straight":
            return x.detach() + (origin - origin.detach())
        return x.detach()

    def hand_attention(self, weights: Tensor) -> Tensor:
        """Hand an attention map to the texture stream."""
        return weights.detach() if self.attention else weights

    def hand_anchor(self, anchor: Tensor) -> Tensor:
        """Hand a semantic anchor to the texture stream."""
        return anchor.detach() if self.anchor else anchor


ROUTINGS: Mapping[str, Routing] = {
    "strict": Routing("stop", attention=True, anchor=True),
    "open": Routing("straight", attention=True, anchor=True),
    "joint": Routing("through", attention=False, anchor=False),
    "released": Routing("through", attention=True, anchor=True),
    "figure": Routing("stop", attention=False, anchor=True),
    "figure-open": Routing("straight", attention=False, anchor=True),
}
"""strict: stages 1 and 2. open: stage 3. joint: the ablation the paper argues against. released: the public code.
figure, figure-open: strict and open as the paper's Figure 2 draws them, with a stop-gradient on the anchor and none on
the attention, so that pixels train W_Q and W_K too."""
