"""A trained checkpoint as an object with abilities."""

from pathlib import Path

import pytest
import torch

from muse_core.errors import MuseError
from muse_core.model.abilities import Aligns, Attends, Decodes, Described, Encodes, Featurizes, abilities
from muse_core.model.load import load_tokenizer
from muse_core.model.tokenizer import AlignedMuseTokenizer, MuseTokenizer

SIZES = [(64, 64), (40, 72), (61, 83), (7, 9)]
CELL = 8


@pytest.fixture(scope="module")
def tokenizers(checkpoints: dict[int, Path]) -> dict[int, MuseTokenizer]:
    return {stage: load_tokenizer(path) for stage, path in checkpoints.items()}


@pytest.fixture(scope="module")
def aligned(tokenizers: dict[int, MuseTokenizer]) -> AlignedMuseTokenizer:
    found = tokenizers[3]
    assert isinstance(found, AlignedMuseTokenizer)
    return found


def images(*size: int) -> torch.Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def cells(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // CELL), -(-size[1] // CELL)


def test_a_stage_says_by_its_class_what_it_can_do(tokenizers: dict[int, MuseTokenizer]) -> None:
    for stage, tokenizer in tokenizers.items():
        for ability in (Described, Encodes, Decodes, Featurizes, Attends):
            assert isinstance(tokenizer, ability)
        assert isinstance(tokenizer, Aligns) == (stage > 1)
    assert abilities(tokenizers[1]) == ("encodes", "decodes", "featurizes", "attends")
    assert abilities(tokenizers[2]) == ("encodes", "decodes", "featurizes", "aligns", "attends")


def test_its_description_is_true(tokenizers: dict[int, MuseTokenizer], checkpoints: dict[int, Path]) -> None:
    for stage, tokenizer in tokenizers.items():
        info = tokenizer.info
        assert info.name == f"muse-tiny-stage{stage}"
        assert info.source == str(checkpoints[stage])
        assert (info.resolution, info.multiple, info.square_only) == (32, 1, False)
        assert (info.latent_channels, info.attention_layers) == (16, 2)
        assert info.text_context == (None if stage == 1 else 20)
        assert sum(info.parameters.values()) == sum(weight.numel() for weight in tokenizer.network.parameters())
        assert info.layer_for["classify"] in info.feature_layers
        assert info.layer_for["segment"] in info.feature_layers
        assert any("masks" in note for note in info.notes), "the teacher's masks must be admitted"


@pytest.mark.parametrize("size", SIZES)
def test_any_image_is_encoded_and_decoded_at_its_own_size(
    tokenizers: dict[int, MuseTokenizer], size: tuple[int, int]
) -> None:
    tokenizer = tokenizers[1]
    latents = tokenizer.encode(images(*size))
    assert latents.indices is None
    assert latents.z.shape == (2, 16, *tokenizer.info.tokens_at(*size)) == (2, 16, *cells(size))
    decoded = tokenizer.decode(latents.z, size)
    assert decoded.shape == (2, 3, *size)
    assert decoded.dtype == latents.z.dtype == torch.float32
    assert torch.isfinite(decoded).all()


def test_encoding_has_no_chance_in_it(aligned: AlignedMuseTokenizer) -> None:
    first = aligned.encode(images(64, 64), sample=True).z
    assert torch.equal(first, aligned.encode(images(64, 64)).z)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layer", ["encoder", "semantic", "texture", "latent", "block-1", "block-2"])
def test_features_have_the_announced_width_and_stride(
    aligned: AlignedMuseTokenizer, layer: str, size: tuple[int, int]
) -> None:
    announced = aligned.info.feature_layers[layer]
    found = aligned.features(images(*size), layer)
    grid = tuple(count * CELL // announced.stride for count in cells(size))  # of the padded image
    assert found.patch.shape == (2, announced.width, *grid)
    torch.testing.assert_close(found.pooled, found.patch.mean((-2, -1)))


def test_every_announced_layer_was_tried(aligned: AlignedMuseTokenizer) -> None:
    assert set(aligned.info.feature_layers) == {"encoder", "semantic", "texture", "latent", "block-1", "block-2"}


def test_blocks_are_counted_from_the_last(aligned: AlignedMuseTokenizer) -> None:
    last, before = (aligned.features(images(64, 64), f"block-{place}").patch for place in (1, 2))
    assert torch.equal(last, aligned.features(images(64, 64), "semantic").patch)
    assert not torch.equal(last, before)


def test_features_default_to_the_layer_for_classifying(tokenizers: dict[int, MuseTokenizer]) -> None:
    for stage, layer in ((1, "encoder"), (3, "semantic")):
        tokenizer = tokenizers[stage]
        assert tokenizer.info.layer_for["classify"] == layer
        found, expected = tokenizer.features(images(64, 64)), tokenizer.features(images(64, 64), layer)
        assert torch.equal(found.pooled, expected.pooled)


def test_latent_features_are_the_latents(aligned: AlignedMuseTokenizer) -> None:
    assert torch.equal(aligned.features(images(64, 64), "latent").patch, aligned.encode(images(64, 64)).z)


def test_an_unknown_feature_layer_is_refused_with_the_known_ones(aligned: AlignedMuseTokenizer) -> None:
    with pytest.raises(MuseError) as caught:
        aligned.features(images(64, 64), "nonsense")
    assert caught.value.hint is not None
    assert all(layer in caught.value.hint for layer in aligned.info.feature_layers)


@pytest.mark.parametrize("size", SIZES)
def test_attention_rows_sum_to_one_on_the_grid_of_the_latents(
    aligned: AlignedMuseTokenizer, size: tuple[int, int]
) -> None:
    shown = aligned.attention(images(*size))
    count = cells(size)[0] * cells(size)[1]
    assert (shown.prefix, shown.grid) == (0, cells(size))
    assert shown.weights.shape == (2, 4, count, count)
    torch.testing.assert_close(shown.weights.sum(-1), torch.ones(2, 4, count))


def test_layers_of_attention_are_counted_from_either_end(aligned: AlignedMuseTokenizer) -> None:
    first, last = (aligned.attention(images(64, 64), layer).weights for layer in (0, 1))
    assert torch.equal(aligned.attention(images(64, 64), -2).weights, first)
    assert torch.equal(aligned.attention(images(64, 64)).weights, last)
    assert not torch.equal(first, last)
    for layer in (2, -3):
        with pytest.raises(MuseError, match=f"no block {layer}"):
            aligned.attention(images(64, 64), layer)


def test_images_and_sentences_meet_as_unit_rows(aligned: AlignedMuseTokenizer) -> None:
    seen, said = aligned.image_embed(images(50, 70)), aligned.text_embed(["a cat", "a dog on grass", ""])
    assert seen.shape == (2, 96)
    assert said.shape == (3, 96)
    for rows in (seen, said):
        torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(rows)))
    assert not torch.equal(said[0], said[1])


def test_the_logit_scale_is_exponentiated_and_capped(aligned: AlignedMuseTokenizer) -> None:
    log_scale = aligned.network.connector.logit_scale
    before = log_scale.detach().clone()
    assert aligned.logit_scale == pytest.approx(before.exp().item())
    log_scale.fill_(50.0)
    assert aligned.logit_scale == pytest.approx(100.0)
    log_scale.copy_(before)


def test_a_tokenizer_never_trains(tokenizers: dict[int, MuseTokenizer]) -> None:
    for tokenizer in tokenizers.values():
        assert not any(module.training for module in tokenizer.network.modules())
        assert not any(weight.requires_grad for weight in tokenizer.network.parameters())
        assert not tokenizer.features(images(64, 64)).patch.requires_grad
