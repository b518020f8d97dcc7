"""What a run measures and draws on held-out images while it trains.

Letters: B images, N tokens, h x w cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO

import torch
from torch import Tensor

from muse_core.data.sample import Batch
from muse_core.evaluation.pixels import psnr, to_bytes
from muse_core.losses.topology import topology_loss
from muse_core.model.network import MuseNetwork
from muse_core.stages.objective import Objective
from muse_core.viz.grids import sample_labels, sample_strip
from muse_core.viz.pixels import Floats, common_end

DRAWN = 6


@dataclass(frozen=True)
class Validation:
    """Held-out batches, read once."""

    batches: Sequence[Batch]

    @torch.no_grad()
    def measure(self, network: MuseNetwork, objective: Objective) -> dict[str, float]:
        """Return PSNR (dB) and, where there is a teacher, the topology KL of the last block (nats)."""
        ratios: list[Tensor] = []
        divergence = 0.0
        images = sum(len(batch.images) for batch in self.batches)
        for batch in self.batches:
            out = network.connect(batch.images, mapped=(_last(network),) if objective.judges.teacher else ())
            size = (batch.images.shape[-2], batch.images.shape[-1])
            ratios.append(psnr(to_bytes(batch.images), to_bytes(network.decode(out.latents, size))))
            if objective.judges.teacher:
                target = objective.judges.teacher(batch.images, out.grid)
                divergence += float(topology_loss(out.attentions[-1], target)) * len(batch.images) / images
        scores = {"psnr": float(torch.cat(ratios).mean())}
        return scores | ({"topology": divergence} if objective.judges.teacher else {})

    @torch.no_grad()
    def draw(self, network: MuseNetwork, objective: Objective) -> bytes:
        """Return a strip as a PNG: input, reconstruction, where the patch in the middle looks, and the teacher's view.

        Maps are multiples of uniform on one scale, whose end stands above them.
        """
        images = self.batches[0].images[:DRAWN]
        out = network.connect(images, mapped=(_last(network),))
        size = (images.shape[-2], images.shape[-1])
        pictures = network.decode(out.latents, size).clamp(0, 1)
        query = (out.grid[0] // 2) * out.grid[1] + out.grid[1] // 2
        own = _times_uniform(out.attentions[-1].mean(1)[:, query], out.grid)
        teacher = objective.judges.teacher
        goals = _times_uniform(teacher(images, out.grid)[:, query], out.grid) if teacher else [None] * len(images)
        rows = [
            [image.cpu().numpy(), picture.float().cpu().numpy(), seen, goal]
            for image, picture, seen, goal in zip(images, pictures, own, goals, strict=True)
        ]
        picture_file = BytesIO()
        end = common_end([values for values in (*own, *goals) if values is not None])
        middle = ((out.grid[1] // 2 + 0.5) / out.grid[1], (out.grid[0] // 2 + 0.5) / out.grid[0])
        strip = sample_strip(rows, sample_labels(end), side=128, across=2, end=end, queries=[middle] * len(rows))
        strip.save(picture_file, "PNG", optimize=True)
        return picture_file.getvalue()


def _last(network: MuseNetwork) -> int:
    return len(network.connector.blocks) - 1


def _times_uniform(weights: Tensor, grid: tuple[int, int]) -> list[Floats]:
    """Turn attention (B, N) into maps (h, w) in multiples of what each patch gets when all are alike."""
    return list((weights.float() * weights.shape[-1]).unflatten(-1, grid).cpu().numpy())


def without_masks(batch: Batch) -> Batch:
    """Drop what validation while training does not read."""
    return replace(batch, masks=None)
