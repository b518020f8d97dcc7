"""What a step computes: the named losses of a batch, unweighted, and their weighted total.

Letters: B images, R of them decoded, N tokens, E caption width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from muse_core.data.sample import Batch
from muse_core.losses.contrastive import caption_groups, contrastive_loss
from muse_core.losses.perceptual import Perceptual
from muse_core.losses.pixel import PixelKind, pixel_loss
from muse_core.losses.topology import topology_loss
from muse_core.model.captions import CaptionCache
from muse_core.model.connector import ConnectorOutput
from muse_core.model.images import pad_to_multiple
from muse_core.model.network import MuseNetwork
from muse_core.model.numbers import WHOLE, Lowered
from muse_core.model.routing import Routing
from muse_core.model.teacher import StructureTeacher


@dataclass(frozen=True)
class Decoded:
    """Which images of this process are decoded: rows (R,) int64, and how much a mean over them counts in the mean of
    the processes, so that this is the mean over the decoded images of all, which need not be shared out evenly."""

    rows: Tensor
    share: float


@dataclass(frozen=True)
class StepOutput:
    """padded: the images as the encoder saw them; out of the connector for all of them; reconstruction (R, 3, S, S)
    of those that are decoded; embeds, one (B, E) per supervised block."""

    padded: Tensor
    out: ConnectorOutput
    reconstruction: Tensor
    embeds: tuple[Tensor, ...]
    decoded: Decoded


def spread(total: int, count: int) -> list[int]:
    """Choose `count` rows evenly over `total`.

    Neighbours come from one lane of the data: of the first rows alone, whole lanes would never be seen.
    """
    return [index * total // count for index in range(count)]


@dataclass(frozen=True)
class Decoding:
    """How many images are decoded of those that all processes read at once (None: all), and which process this is."""

    count: int | None
    rank: int = 0
    world: int = 1

    def of(self, local: int, device: torch.device) -> Decoded:
        """Choose among the `local` images of this process what one process with all of them would have decoded."""
        return _decoded(self, local, device)


@lru_cache(maxsize=16)  # a list on its way to a device is waited for
def _decoded(decoding: Decoding, local: int, device: torch.device) -> Decoded:
    total = local * decoding.world
    count = min(decoding.count or total, total)
    first = decoding.rank * local
    mine = [row - first for row in spread(total, count) if first <= row < first + local]
    # A process without any decodes one that does not count: the others wait for its part of every gradient.
    return Decoded(torch.tensor(mine or [0], device=device), decoding.world * len(mine) / count)


class Trainee(nn.Module):
    """The network as one call, so that a data-parallel wrapper sees every trained weight in one forward.

    A frozen encoder is held aside: it is then no child, so no `train()`, average or wrapper touches it.
    """

    def __init__(
        self,
        network: MuseNetwork,
        *,
        train_encoder: bool,
        routing: Routing,
        gradient_scale: float,
        lowered: Lowered = WHOLE,
    ) -> None:
        super().__init__()
        self.lowered = WHOLE if train_encoder else lowered
        self.connector = network.connector
        self.decoder = network.decoder
        if train_encoder:
            self.encoder = network.encoder
        self._network = (network,)
        self.train_encoder = train_encoder
        self.routing = routing
        self.gradient_scale = gradient_scale

    def forward(
        self, images: Tensor, decoded: Decoded, mapped: tuple[int, ...], embed_blocks: tuple[int, ...]
    ) -> StepOutput:
        """Run on images (B, 3, S, S), decode some of them, map the attention of blocks, embed the anchors of blocks."""
        (network,) = self._network
        padded = pad_to_multiple(images, network.cell)
        learns = self.train_encoder and torch.is_grad_enabled()
        with torch.set_grad_enabled(learns), self.lowered.on(images.device):
            tokens = network.encoder(padded)
        out = self.connector(self.lowered.back(tokens), self.routing, self.gradient_scale, mapped)
        size = (images.shape[-2], images.shape[-1])
        reconstruction = network.decode(out.latents.index_select(0, decoded.rows), size)
        embeds = tuple(self.connector.embed(out.anchors[i]) for i in embed_blocks)
        return StepOutput(padded, out, reconstruction, embeds, decoded)


@dataclass(frozen=True)
class Judges:
    """What the losses compare with; each is None where its loss is off."""

    teacher: StructureTeacher | None
    text: CaptionCache | None
    perceptual: Perceptual | None


@dataclass(frozen=True)
class Objective:
    """The losses of a stage. `weights` names every active one; the others are not computed."""

    weights: Mapping[str, float]
    judges: Judges
    pixel_kind: PixelKind
    topology_blocks: tuple[int, ...]
    contrastive_blocks: tuple[int, ...]
    decoding: Decoding
    lowered: Lowered = WHOLE

    def run(self, trainee: nn.Module, batch: Batch) -> StepOutput:
        """Run the trainee on a batch."""
        embed_blocks = self.contrastive_blocks if "contrastive" in self.weights else ()
        mapped = self.topology_blocks if "topology" in self.weights else ()
        decoded = self.decoding.of(len(batch.images), batch.images.device)
        output: StepOutput = trainee(batch.images, decoded, mapped, embed_blocks)
        return output

    def terms(self, output: StepOutput, batch: Batch, log_scale: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the active losses but the adversarial one, and how many negatives the contrastive loss had.

        Each is one process's, made so that the mean over the processes is the loss of the whole batch.
        """
        share, target = output.decoded.share, batch.images.index_select(0, output.decoded.rows)
        terms: dict[str, Tensor] = {}
        negatives = None
        if "pixel" in self.weights:
            terms["pixel"] = share * pixel_loss(output.reconstruction, target, self.pixel_kind)
        if self.judges.perceptual and "perceptual" in self.weights:
            with self.lowered.on(target.device):
                terms["perceptual"] = share * self.judges.perceptual(output.reconstruction, target)
        if self.judges.teacher and "topology" in self.weights:
            with self.lowered.on(target.device):
                wanted = self.judges.teacher(output.padded, output.out.grid)
            terms["topology"] = self._topology(output, wanted)
        if self.judges.text and "contrastive" in self.weights:
            terms["contrastive"], negatives = self._contrastive(output, batch, self.judges.text, log_scale)
        return terms, negatives

    def _topology(self, output: StepOutput, target: Tensor) -> Tensor:
        losses = [topology_loss(attention, target) for attention in output.out.attentions]
        return torch.stack(losses).mean()

    def _contrastive(
        self, output: StepOutput, batch: Batch, text: CaptionCache, log_scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        device = output.reconstruction.device
        groups = caption_groups(batch.captions, device)
        with self.lowered.on(device):
            embedded = text(batch.captions)
        results = [
            contrastive_loss(image, embedded, log_scale, positives=groups.positives, groups=groups.groups)
            for image in output.embeds
        ]
        return torch.stack([result.loss for result in results]).mean(), results[0].negatives

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Add the terms up, each with its weight."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
