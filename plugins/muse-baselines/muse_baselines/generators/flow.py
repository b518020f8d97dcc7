"""From noise to data along a velocity: the path, the times, guidance, and Euler's steps.

Time 0 is noise and time 1 is data. Letters: B latents, C channels, h x w cells.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from muse_core.model.generating import Sampling

Velocity = Callable[[Tensor, Tensor], Tensor]
"""From latents (B, C, h, w) and their time (B,) to where they should move."""


def on_the_way(noise: Tensor, data: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Return the point at time (B,) on the straight way from noise to data, and its velocity."""
    t = time[:, None, None, None].to(data)
    return t * data + (1 - t) * noise, data - noise


def time_points(points: int, shift: float) -> Tensor:
    """Return so many times (points,) from 0 to 1; a shift below 1 spends more of them near the noise.

    Diffusers counts time the other way round: the same shift is called 1 / shift there.
    """
    even = torch.linspace(0, 1, points)
    return shift * even / (1 + (shift - 1) * even)


def guided(velocity: Velocity, unasked: Velocity, sampling: Sampling) -> Velocity:
    """Push a velocity away from the one for no class: on the first channels only, and late only, if so asked."""
    if sampling.guidance == 1:
        return velocity

    def pushed(x: Tensor, time: Tensor) -> Tensor:
        asked = velocity(x, time)
        if float(time[0]) < sampling.guidance_start:
            return asked
        some = slice(sampling.guidance_channels)
        free = unasked(x, time)[:, some]
        return torch.cat([free + sampling.guidance * (asked[:, some] - free), asked[:, asked[:, some].shape[1] :]], 1)

    return pushed


@torch.no_grad()
def follow(velocity: Velocity, noise: Tensor, times: Tensor) -> Tensor:
    """Follow a velocity from noise (B, C, h, w) in Euler's steps, one fewer than there are times."""
    x = noise
    for now, then in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        x = x + (then - now) * velocity(x, x.new_full((len(x),), now))
    return x
