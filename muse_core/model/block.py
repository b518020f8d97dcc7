"""The synergistic block: structure in W_Q and W_K, meaning in W_V, pixels in the rest (MUSE, Figure 2, right).

Letters: B images, N tokens, D width, H heads, C = D / H.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from muse_core.model.rotary import Rotary
from muse_core.model.routing import Routing

EPS = 1e-6
SemanticInput = Literal["normalized", "raw"]


@dataclass(frozen=True)
class BlockOutput:
    """x (B, N, D) goes on; attention (B, H, N, N) meets the teacher, None where it is not wanted; anchor (B, N, D)
    meets the captions."""

    x: Tensor
    attention: Tensor | None
    anchor: Tensor


class Block(Protocol):
    """Either layout, as the connector sees it."""

    def __call__(self, x: Tensor, origin: Tensor, routing: Routing, rotary: Rotary, mapped: bool = True) -> BlockOutput:
        """Run the block on x (B, N, D); unless it is to be `mapped`, its attention is never held as a whole."""
        ...


def normalize(x: Tensor) -> Tensor:
    """x / rms(x), without a gain: a gain would be a weight that all three streams share."""
    return functional.rms_norm(x, (x.shape[-1],), eps=EPS)


class FeedForward(nn.Module):
    """SwiGLU: W3 (silu(W1 x) * W2 x); the hidden width is 8/3 of D, rounded down."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = int(2 * (4 * width) / 3)
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(width, hidden, bias=False)
        self.w3 = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        out: Tensor = self.w3(functional.silu(self.w1(x)) * self.w2(x))
        return out


class Topology(nn.Module):
    """The structure stream: which token looks where, softmax(rope(q) rope(k)^T / sqrt(C))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.query_norm = nn.RMSNorm(width // heads, eps=EPS)
        self.key_norm = nn.RMSNorm(width // heads, eps=EPS)

    def forward(self, x: Tensor, rotary: Rotary, mapped: bool = True) -> "Looks":
        """Map tokens (B, N, D) to where each of them looks."""
        q = rearrange(self.query(x), "b n (h c) -> b h n c", h=self.heads)
        k = rearrange(self.key(x), "b n (h c) -> b h n c", h=self.heads)
        q, k = rotary(self.query_norm(q)), rotary(self.key_norm(k))
        return Looks(q, k, torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1) if mapped else None)


@dataclass(frozen=True)
class Looks:
    """Queries and keys (B, H, N, C), and the attention (B, H, N, N) they make, where somebody wants to see it."""

    queries: Tensor
    keys: Tensor
    map: Tensor | None

    def mix(self, values: Tensor, routing: Routing) -> Tensor:
        """Mix values (B, N, D) by the attention, each head its own channels."""
        heads = rearrange(values, "b n (h c) -> b h n c", h=self.queries.shape[1])
        if self.map is not None:
            mixed = routing.hand_attention(self.map).to(heads.dtype) @ heads
        else:
            queries, keys = (routing.hand_attention(one).to(heads.dtype) for one in (self.queries, self.keys))
            mixed = functional.scaled_dot_product_attention(queries, keys, heads)
        return rearrange(mixed, "b h n c -> b n (h c)")


class SynergisticBlock(nn.Module):
    """One block of layout `muse`: three streams whose losses meet in no weight of the block.

    The texture stream takes the other two as given: it is mixed by their attention and adds their anchor, both
    behind a stop-gradient. `gate` starts at 0, so that an untrained anchor pollutes nothing. `semantic_input` says
    whether the anchor reads n(r), as the structure does, or r itself, as the public code has it.
    """

    def __init__(
        self, width: int, heads: int, inject: bool = True, semantic_input: SemanticInput = "normalized"
    ) -> None:
        super().__init__()
        self.semantic_input = semantic_input
        self.topology = Topology(width, heads)
        self.semantic = nn.Linear(width, width, bias=False)
        self.texture = nn.Linear(width, width, bias=False)
        self.gate = nn.Parameter(torch.zeros(width)) if inject else None
        self.out = nn.Linear(width, width, bias=False)
        self.feed_forward = FeedForward(width)

    def forward(self, x: Tensor, origin: Tensor, routing: Routing, rotary: Rotary, mapped: bool = True) -> BlockOutput:
        """Run the three streams on x (B, N, D); `origin` (B, N, D) is the adapter's output."""
        raw = routing.read(x, origin)
        read = normalize(raw)  # B N D
        looks = self.topology(read, rotary, mapped)  # B H N N  taught by the structure teacher
        meant = read if self.semantic_input == "normalized" else raw
        anchor: Tensor = self.semantic(meant)  # B N D    taught by the captions

        values = self.texture(normalize(x))  # B N D    taught by the pixels
        if self.gate is not None:
            values = values + self.gate * routing.hand_anchor(normalize(anchor))
        x = x + self.out(looks.mix(values, routing))
        return BlockOutput(x + self.feed_forward(normalize(x)), looks.map, anchor)


class ReleasedBlock(nn.Module):
    """One block of layout `released`: what the public code computes, to the digit.

    The norms carry gains that all streams share, the semantic values read the un-normalised input and are
    exported but never mixed in.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.topology = Topology(width, heads)
        self.semantic = nn.Linear(width, width, bias=False)
        self.texture = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_forward = FeedForward(width)
        self.norm1 = nn.RMSNorm(width, eps=EPS)
        self.norm2 = nn.RMSNorm(width, eps=EPS)

    def forward(self, x: Tensor, origin: Tensor, routing: Routing, rotary: Rotary, mapped: bool = True) -> BlockOutput:
        """Run the block on x (B, N, D); `origin` is read by routing `open` only."""
        read = routing.read(x, origin)  # B N D
        looks = self.topology(self.norm1(read), rotary, mapped)  # B H N N
        anchor: Tensor = self.semantic(read)  # B N D
        x = x + self.out(looks.mix(self.texture(self.norm1(x)), routing))
        return BlockOutput(x + self.feed_forward(self.norm2(x)), looks.map, anchor)
