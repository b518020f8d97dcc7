"""LightningDiT from its file, as a generator of normalised latents."""

from dataclasses import dataclass

import torch
from torch import Tensor

from muse_baselines.describing import device_of
from muse_baselines.files import Published, open_weights
from muse_baselines.generators import LIGHTNINGDIT
from muse_baselines.generators.flow import follow, guided, time_points
from muse_baselines.generators.keys import library_names, sizes_of
from muse_baselines.generators.network import LightningDiT
from muse_core.model.architecture import refuse_empty, without_weights
from muse_core.model.generating import GeneratorInfo, Sampling
from muse_core.model.latent_stats import LatentStats
from muse_core.model.weights.filling import fill
from muse_core.model.weights.reading import take

_PUBLISHED = Published(
    "lightningdit", "LightningDiT, a .pt of its authors", ("hustvl/lightningdit-xl-imagenet256-800ep",)
)


@dataclass(frozen=True)
class LightningDiTGenerator:
    """A loaded LightningDiT."""

    network: LightningDiT
    info: GeneratorInfo

    @torch.no_grad()
    def generate(self, noise: Tensor, labels: Tensor, sampling: Sampling) -> Tensor:
        """Turn noise (B, C, h, w) into normalised latents of the classes (B,) that are asked for."""
        device = device_of(self.network)
        labels = labels.to(device)
        nothing = torch.full_like(labels, self.info.classes)
        velocity = guided(
            lambda x, time: self.network(x, time, labels), lambda x, time: self.network(x, time, nothing), sampling
        )
        return follow(velocity, noise.to(device), time_points(sampling.points, sampling.shift))


def lightningdit(path: str | None, device: str) -> LightningDiTGenerator:
    """Load LightningDiT, its averaged weights where the file has them; a statistics file beside it comes along.

    Raises:
        MuseError: the file is missing, unsafe, or of another network.
    """
    found = open_weights(path, _PUBLISHED)
    tensors = found.tensors.renamed(lambda name: name.removeprefix("module."))
    try:
        sizes = sizes_of(tensors.shapes, found.config)
    except (KeyError, ValueError) as error:
        raise tensors.refuse(f"is no LightningDiT: {error} is missing") from None
    with without_weights():
        network = LightningDiT(sizes)
    fill(network, take(tensors, library_names), source=tensors.source, assign=True, remedy=tensors.remedy)
    refuse_empty(network, tensors.source)
    info = GeneratorInfo(
        name="LightningDiT",
        source=str(found.file),
        licence=LIGHTNINGDIT.licence,
        architecture=f"LightningDiT, {sizes.depth} layers of {sizes.width}, patch {sizes.patch}",
        channels=sizes.channels,
        grid=sizes.grid,
        classes=sizes.classes,
        parameters=sum(weight.numel() for weight in network.parameters()),
        stats=LatentStats.beside(found.file),
    )
    return LightningDiTGenerator(network.eval().requires_grad_(False).to(device), info)
