"""What a step computes: the named losses of a batch, unweighted, and their weighted total.

Letters: B images, R of them decoded, N tokens, E caption width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from muse_core.data.sample import Batch
from muse_core.losses.contrastive import caption_groups, contrastive_loss
from muse_core.losses.perceptual import Perceptual
from muse_core.losses.pixel import PixelKind, pixel_loss
from muse_core.losses.topology import topology_loss
from muse_core.model.connector import ConnectorOutput
from muse_core.model.images import pad_to_multiple
from muse_core.model.network import MuseNetwork
from muse_core.model.routing import Routing
from muse_core.model.teacher import StructureTeacher
from muse_core.model.text import TextTower


@dataclass(frozen=True)
class StepOutput:
    """padded: the images as the encoder saw them; out of the connector for all of them; reconstruction (R, 3, S, S)
    of those that `spread` chooses; embeds, one (B, E) per supervised block."""

    padded: Tensor
    out: ConnectorOutput
    reconstruction: Tensor
    embeds: tuple[Tensor, ...]


def spread(rows: Tensor, count: int) -> Tensor:
    """Choose `count` rows evenly over a batch.

    Neighbours come from one lane of the data: of the first rows alone, whole lanes would never be seen.
    """
    return rows[[index * len(rows) // count for index in range(count)]]


class Trainee(nn.Module):
    """The network as one call, so that a data-parallel wrapper sees every trained weight in one forward.

    A frozen encoder is held aside: it is then no child, so no `train()`, average or wrapper touches it.
    """

    def __init__(self, network: MuseNetwork, *, train_encoder: bool, routing: Routing, gradient_scale: float) -> None:
        super().__init__()
        self.connector = network.connector
        self.decoder = network.decoder
        if train_encoder:
            self.encoder = network.encoder
        self._network = (network,)
        self.train_encoder = train_encoder
        self.routing = routing
        self.gradient_scale = gradient_scale

    def forward(self, images: Tensor, decoded: int, embed_blocks: tuple[int, ...]) -> StepOutput:
        """Run on images (B, 3, S, S), decode `decoded` of them, embed the anchors of `embed_blocks`."""
        (network,) = self._network
        padded = pad_to_multiple(images, network.cell)
        with torch.set_grad_enabled(self.train_encoder and torch.is_grad_enabled()):
            tokens = network.encoder(padded)
        out = self.connector(tokens, self.routing, self.gradient_scale)
        size = (images.shape[-2], images.shape[-1])
        reconstruction = network.decode(spread(out.latents, decoded), size)
        embeds = tuple(self.connector.embed(out.anchors[i]) for i in embed_blocks)
        return StepOutput(padded, out, reconstruction, embeds)


@dataclass(frozen=True)
class Judges:
    """What the losses compare with; each is None where its loss is off."""

    teacher: StructureTeacher | None
    text: TextTower | None
    perceptual: Perceptual | None


@dataclass(frozen=True)
class Objective:
    """The losses of a stage. `weights` names every active one; the others are not computed."""

    weights: Mapping[str, float]
    judges: Judges
    pixel_kind: PixelKind
    topology_blocks: tuple[int, ...]
    contrastive_blocks: tuple[int, ...]
    decoded: int | None

    def decoded_of(self, batch_size: int) -> int:
        """How many images of a batch are decoded."""
        return min(self.decoded or batch_size, batch_size)

    def run(self, trainee: nn.Module, batch: Batch) -> StepOutput:
        """Run the trainee on a batch."""
        embed_blocks = self.contrastive_blocks if "contrastive" in self.weights else ()
        output: StepOutput = trainee(batch.images, self.decoded_of(len(batch.images)), embed_blocks)
        return output

    def terms(self, output: StepOutput, batch: Batch, log_scale: Tensor) -> tuple[dict[str, Tensor], int]:
        """Return the active losses but the adversarial one, and how many negatives the contrastive loss had."""
        target = spread(batch.images, len(output.reconstruction))
        terms: dict[str, Tensor] = {}
        negatives = 0
        if "pixel" in self.weights:
            terms["pixel"] = pixel_loss(output.reconstruction, target, self.pixel_kind)
        if self.judges.perceptual and "perceptual" in self.weights:
            terms["perceptual"] = self.judges.perceptual(output.reconstruction, target)
        if self.judges.teacher and "topology" in self.weights:
            terms["topology"] = self._topology(output, self.judges.teacher(output.padded, output.out.grid))
        if self.judges.text and "contrastive" in self.weights:
            terms["contrastive"], negatives = self._contrastive(output, batch, self.judges.text, log_scale)
        return terms, negatives

    def _topology(self, output: StepOutput, target: Tensor) -> Tensor:
        losses = [topology_loss(output.out.attentions[i], target) for i in self.topology_blocks]
        return torch.stack(losses).mean()

    def _contrastive(self, output: StepOutput, batch: Batch, text: TextTower, log_scale: Tensor) -> tuple[Tensor, int]:
        device = output.reconstruction.device
        groups = caption_groups(batch.captions, device)
        embedded = text(batch.captions)
        results = [
            contrastive_loss(image, embedded, log_scale, positives=groups.positives, groups=groups.groups)
            for image in output.embeds
        ]
        return torch.stack([result.loss for result in results]).mean(), results[0].negatives

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Add the terms up, each with its weight."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
