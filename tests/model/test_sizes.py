"""Images of any size, square or not, through the network and back."""

import pytest
import torch
from torch import nn

from muse_core.model.connector import fold
from muse_core.model.decoder import PixelDecoder
from muse_core.model.images import IMAGENET_MEAN, IMAGENET_STD, imagenet_normalize, pad_to_multiple
from muse_core.model.network import MuseNetwork
from tests.model.small import CELL, LATENT_CHANNELS, small_images, small_network

SIZES = [(16, 16), (8, 24), (13, 22), (4, 4), (3, 5), (1, 1), (17, 4), (21, 37)]


@pytest.fixture(scope="module")
def network() -> MuseNetwork:
    return small_network().eval()


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_a11_latents_cover_the_image_and_decode_to_its_size(network: MuseNetwork, size: tuple[int, int]) -> None:
    images = small_images(2, *size)
    latents = network.connect(images).latents
    assert latents.shape == (2, LATENT_CHANNELS, -(-size[0] // CELL), -(-size[1] // CELL))
    assert network.decode(latents, size).shape == images.shape
    assert network(images).shape == images.shape


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_what_was_padded_is_cut_off_again(network: MuseNetwork, size: tuple[int, int]) -> None:
    images = small_images(1, *size)
    padded = pad_to_multiple(images, CELL)
    whole = network(padded)
    assert torch.equal(network(images), whole[..., : size[0], : size[1]])


def test_padding_repeats_the_border_on_the_right_and_at_the_bottom() -> None:
    images = torch.arange(6.0).view(1, 1, 2, 3)
    expected = torch.tensor([[0.0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]])
    assert torch.equal(pad_to_multiple(images, 4)[0, 0], expected)
    assert pad_to_multiple(images, 1) is images


@torch.no_grad()
def test_a_batch_gives_what_its_images_give_alone(network: MuseNetwork) -> None:
    images = small_images(3, 13, 22)
    together = network(images)
    for image, result in zip(images, together, strict=True):
        torch.testing.assert_close(network(image[None])[0], result)


@torch.no_grad()
def test_a_wide_image_is_not_read_as_a_tall_one(network: MuseNetwork) -> None:
    wide = network.connect(small_images(1, 8, 24))
    assert wide.grid == (2, 6)
    assert wide.attentions[0].shape[-2:] == (12, 12)
    assert network.connect(small_images(1, 24, 8)).grid == (6, 2)


def test_folding_reads_cells_row_by_row_and_inside_a_cell_likewise() -> None:
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    tokens = torch.stack((rows, columns), -1)[None]  # every token says where it is
    cells = fold(tokens)
    assert cells.shape == (1, 2, 3, 8)
    for i in range(2):
        for j in range(3):
            expected = [2 * i, 2 * j, 2 * i, 2 * j + 1, 2 * i + 1, 2 * j, 2 * i + 1, 2 * j + 1]
            assert cells[0, i, j].tolist() == expected


def test_folding_loses_no_token_of_whole_cells() -> None:
    tokens = torch.randn(2, 6, 8, 3)
    assert torch.equal(fold(tokens).flatten().sort().values, tokens.flatten().sort().values)
    assert torch.equal(fold(tokens, 1), tokens)


def test_a_decoder_whose_cells_are_larger_is_resized_to_the_image() -> None:
    """At 1b a cell of 28 pixels is decoded as 32."""
    decoder = PixelDecoder(nn.Upsample(scale_factor=5), 3, 3)
    z = torch.full((1, 3, 2, 3), 0.5)
    assert torch.equal(decoder(z, (8, 12)), torch.full((1, 3, 8, 12), 0.75))


def test_other_latent_channels_than_the_decoders_get_an_adapter() -> None:
    assert isinstance(PixelDecoder(nn.Identity(), 3, 3).adapter, nn.Identity)
    assert PixelDecoder(nn.Identity(), 5, 3)(torch.randn(1, 5, 4, 4), (4, 4)).shape == (1, 3, 4, 4)


def test_a7_decoded_pixels_are_not_clamped_and_all_have_a_gradient() -> None:
    decoder = PixelDecoder(nn.Identity(), 3, 3)
    z = torch.tensor([-5.0, 0.0, 5.0]).view(1, 3, 1, 1).requires_grad_()
    image = decoder(z, (1, 1))
    assert image.flatten().tolist() == [-2.0, 0.5, 3.0]
    image.sum().backward()
    assert z.grad is not None
    assert (z.grad == 0.5).all()


def test_normalising_takes_the_imagenet_mean_to_zero_and_one_deviation_to_one() -> None:
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(imagenet_normalize(mean), torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(imagenet_normalize(mean + deviation), torch.ones(1, 3, 1, 1))
