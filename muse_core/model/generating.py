"""What a generator of latents can be asked for, and how one is loaded: it is what gFID is measured with.

Letters: B samples, C latent channels, h x w cells.
"""

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from torch import Tensor

from muse_core.model.latent_stats import LatentStats
from muse_core.registry import find


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn.

    points: times from noise to data, both ends included; one step fewer is made. shift: below 1, more of them lie near
    the noise. guidance: 1 for none. guidance_channels: it acts on the first so many, None for all. guidance_start: it
    acts from this time on, 0 being noise.
    """

    points: int = 250
    shift: float = 0.3
    guidance: float = 1.0
    guidance_channels: int | None = None
    guidance_start: float = 0.0


@dataclass(frozen=True)
class GeneratorInfo:
    """What there is to know about a generator.

    architecture: the network in words, without its training. channels, grid: C and (h, w) of what it makes; grid is
    None when its file does not tell. classes: that can be asked for. stats: what its latents were normalised with, None
    when no such file lies beside it.
    """

    name: str
    source: str
    licence: str
    architecture: str
    channels: int
    grid: tuple[int, int] | None
    classes: int
    parameters: int
    stats: LatentStats | None = None


@runtime_checkable
class Generates(Protocol):
    """Noise and classes to latents."""

    @property
    def info(self) -> GeneratorInfo:
        """What it is."""
        ...

    def generate(self, noise: Tensor, labels: Tensor, sampling: Sampling) -> Tensor:
        """Turn noise (B, C, h, w) into normalised latents of that shape, of the classes (B,) int64."""
        ...


def load_generator(where: str, device: str = "cpu") -> Generates:
    """Load a generator by NAME:PATH.

    Raises:
        MuseError: nothing of that name is installed, or its file is missing, damaged or of something else.
    """
    name, _, path = where.partition(":")
    return cast(Generates, find("muse.generators", name).code()(path or None, device))
