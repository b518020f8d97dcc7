"""A whole network small enough to ask for hundreds of gradients: cells of 4 x 4 pixels, three blocks of width 16."""

import torch
from torch import Tensor, nn
from transformers import InternVLVisionConfig, InternVLVisionModel

from muse_core.losses.contrastive import contrastive_loss
from muse_core.losses.pixel import pixel_loss
from muse_core.losses.topology import topology_loss
from muse_core.model.connector import Connector, ConnectorOutput, Layout
from muse_core.model.decoder import PixelDecoder
from muse_core.model.encoder import VisionEncoder
from muse_core.model.network import MuseNetwork
from muse_core.model.routing import Routing

BLOCKS = 3
CELL = 4
LATENT_CHANNELS = 5
WIDTH = 16
STREAMS = ("pixels", "topology", "contrastive")


def small_network(layout: Layout = "muse", inject: bool = True, blocks: int = BLOCKS) -> MuseNetwork:
    """Random weights, always the same; gates are not 0, so that no gradient vanishes by chance."""
    torch.manual_seed(0)
    vision = InternVLVisionModel(
        InternVLVisionConfig(
            image_size=[16, 16],
            patch_size=[2, 2],
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            attention_bias=True,
            norm_type="layer_norm",
            use_mean_pooling=True,
            layer_scale_init_value=1.0,
        )
    ).eval()
    connector = Connector(
        encoder_width=8,
        width=WIDTH,
        heads=2,
        blocks=blocks,
        latent_channels=LATENT_CHANNELS,
        caption_width=8,
        layout=layout,
        inject=inject,
    )
    decoder = PixelDecoder(nn.Conv2d(LATENT_CHANNELS, 3, 1), LATENT_CHANNELS, LATENT_CHANNELS)
    network = MuseNetwork(VisionEncoder(vision), connector, decoder)
    for name, weight in network.named_parameters():
        if name.endswith(".gate"):
            nn.init.normal_(weight)
    return network


def small_images(count: int = 3, height: int = 16, width: int = 16) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def loss_of(stream: str, network: MuseNetwork, routing: Routing, images: Tensor) -> Tensor:
    """The loss of one stream on its own, on every block where it can be."""
    out = network.connect(images, routing)
    if stream == "pixels":
        return pixel_loss(network.decode(out.latents, (images.shape[-2], images.shape[-1])), images)
    if stream == "topology":
        return torch.stack([topology_loss(attention, _target(attention)) for attention in out.attentions]).mean()
    return contrastive(network, out)


def contrastive(network: MuseNetwork, out: ConnectorOutput) -> Tensor:
    """Every block's anchor against captions made up once."""
    texts = torch.randn(len(out.tokens), 8, generator=torch.Generator().manual_seed(2))
    texts = nn.functional.normalize(texts, dim=-1)
    rows = [network.connector.embed(anchor) for anchor in out.anchors]
    scale = network.connector.logit_scale
    return torch.stack([contrastive_loss(row, texts, scale).loss for row in rows]).mean()


def _target(attention: Tensor) -> Tensor:
    logits = torch.randn(attention.shape[0], *attention.shape[2:], generator=torch.Generator().manual_seed(3))
    return logits.softmax(-1)


def gradients(
    stream: str, network: MuseNetwork, routing: Routing, images: Tensor | None = None
) -> dict[str, Tensor | None]:
    """The gradient of one stream's loss for every weight of the network; None where no path leads there."""
    named = dict(network.named_parameters())
    loss = loss_of(stream, network, routing, small_images() if images is None else images)
    return dict(zip(named, torch.autograd.grad(loss, list(named.values()), allow_unused=True), strict=True))


def reached(stream: str, network: MuseNetwork, routing: Routing) -> set[str]:
    """Names of the weights that a stream's loss has a path to."""
    return {name for name, gradient in gradients(stream, network, routing).items() if gradient is not None}
