"""Every rival equals its authors' code: same weights in, same tensors out (fixtures/baselines)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from muse_baselines.files import Published
from muse_baselines.vision import vision_attention
from muse_baselines.vtp import load as load_vtp
from torch import Tensor

from muse_core.evaluation.pairs import Pairs
from muse_core.model.images import imagenet_normalize
from muse_core.model.latent_stats import LatentStats
from muse_core.model.tokenizer import Origin
from tests.baselines import published, reference
from tests.baselines.conftest import Load
from tests.parity.closeness import assert_close

TOLERANCE = 5e-5
"""The fixtures' own, tighter than what the project asks for."""


def close(ours: Tensor, system: str, name: str, tolerance: float = TOLERANCE) -> None:
    stored = reference.outputs(system)[name]
    assert_close(ours.float(), stored.float(), tolerance * max(1.0, 1 / float(stored.abs().max())))


def as_tokens(patch: Tensor) -> Tensor:
    return patch.flatten(2).mT


@pytest.mark.parametrize("system", reference.SYSTEMS)
def test_weights_are_redrawn_exactly(system: str) -> None:
    for key, first in reference.entry(system)["witness"].items():
        drawn = reference.weights(system)[key].flatten()[: len(first)]
        torch.testing.assert_close(drawn, torch.tensor(first), rtol=0, atol=1e-6)


# --- VA-VAE -----------------------------------------------------------------------------------------------------------


def test_va_vae_posterior(rival: Load) -> None:
    va_vae, image = rival("va-vae"), reference.image("vavae", "image")
    posterior = va_vae.model.encode(2 * image - 1).latent_dist
    close(va_vae.encode(image).z, "vavae", "mean")
    close(posterior.logvar, "vavae", "logvar")


def test_va_vae_reconstruction_and_its_bytes(rival: Load) -> None:
    image, stored = reference.image("vavae", "image"), reference.outputs("vavae")
    decoded = rival("va-vae").decode(stored["mean"], (64, 96))
    close(2 * decoded - 1, "vavae", "recon")
    ours = Pairs(image, decoded).reconstruction
    # The reference rounds halves up, the ruler to even: they may differ by one level, and almost never do.
    difference = (ours.int() - stored["recon_uint8"].int()).abs()
    assert difference.max() <= 1
    assert difference.float().mean() < 0.001


def test_va_vae_features_and_attention(rival: Load) -> None:
    va_vae, image = rival("va-vae"), reference.image("vavae", "image")
    close(va_vae.features(image).patch, "vavae", "encoder_mid")
    shown = va_vae.attention(image)
    assert (shown.prefix, shown.grid) == (0, (4, 6))
    close(shown.weights[:, 0], "vavae", "attention_mid")


def test_va_vae_statistics_stay_beside_it(rival: Load, tmp_path: Path) -> None:
    published.va_vae(tmp_path)
    stats = LatentStats.from_file(tmp_path / "latents_stats.pt")
    close(torch.tensor(stats.mean)[None, :, None, None], "vavae", "stat_mean")
    close(torch.tensor(stats.std)[None, :, None, None], "vavae", "stat_std")
    z = reference.outputs("vavae")["mean"]
    close(stats.normalize(z), "vavae", "normalised")
    torch.testing.assert_close(stats.denormalize(stats.normalize(z)), z)


# --- VQGAN ------------------------------------------------------------------------------------------------------------


def test_vqgan_codes(rival: Load) -> None:
    vqgan, image = rival("vqgan"), reference.image("vqgan", "image")
    close(vqgan.model.encode(2 * image - 1).latents, "vqgan", "prequant")
    latents = vqgan.encode(image)
    assert torch.equal(latents.indices, reference.outputs("vqgan")["indices"])
    close(latents.z, "vqgan", "quant")


@pytest.mark.parametrize("name", ["quant", "prequant"])
def test_vqgan_takes_the_nearest_code_when_it_decodes(rival: Load, name: str) -> None:
    decoded = rival("vqgan").decode(reference.outputs("vqgan")[name], (64, 64))
    close(2 * decoded - 1, "vqgan", "recon")


def test_llamagen_compares_unit_vectors(rival: Load) -> None:
    """No output of its own code is stored; the network is VQGAN's, so only the matching is its own."""
    llamagen, vqgan, image = rival("llamagen-vq"), rival("vqgan"), reference.image("vqgan", "image")
    before = llamagen.model.encode(2 * image - 1).latents
    close(before, "vqgan", "prequant")
    codes = torch.nn.functional.normalize(reference.weights("vqgan")["quantize.embedding.weight"], dim=-1)
    cosine = torch.einsum("bchw,nc->bnhw", torch.nn.functional.normalize(before, dim=1), codes)
    found = llamagen.encode(image)
    assert torch.equal(found.indices, cosine.argmax(1))
    torch.testing.assert_close(found.z.norm(dim=1), torch.ones(2, 4, 4))
    plain = vqgan.model.decode(found.z, force_not_quantize=True).sample
    torch.testing.assert_close(llamagen.decode(before, (64, 64)), (plain + 1) / 2)


# --- UniLIP -----------------------------------------------------------------------------------------------------------

RULES = {"224": "unilip", "pad256": "unilip-padded", "448": "unilip-448"}


@pytest.mark.parametrize("size", RULES)
def test_unilip_latents_and_what_a_language_model_reads(rival: Load, size: str) -> None:
    tokenizer, image = rival(RULES[size]), reference.image("unilip", f"image_{size}")
    close(tokenizer.encode(image).z, "unilip", f"latents_{size}")
    close(as_tokens(tokenizer.features(image, "llm").patch), "unilip", f"mlp1_{size}")


@pytest.mark.parametrize("size", RULES)
def test_unilip_decodes_by_the_rule_of_its_size(rival: Load, size: str) -> None:
    side = int(size.removeprefix("pad"))
    decoded = rival(RULES[size]).decode(reference.outputs("unilip")[f"latents_{size}"], (side, side))
    raw = 2 * decoded - 1
    close(raw[:, :, 1::4, 2::4], "unilip", f"recon_{size}_sub")
    close(torch.stack([raw.mean(), raw.std(), raw.abs().max()]), "unilip", f"recon_{size}_stats")


def test_unilip_features_and_attention(rival: Load) -> None:
    tokenizer, image = rival("unilip"), reference.image("unilip", "image_224")
    tower, pixels = tokenizer.network.encoder, imagenet_normalize(image)
    close(tower(pixels).last_hidden_state, "unilip", "vit_last_224")
    torch.testing.assert_close(
        as_tokens(tokenizer.features(image).patch), tower(pixels).last_hidden_state[:, 1:], rtol=0, atol=0
    )
    embedded = tower(pixels, output_hidden_states=True).hidden_states[0]
    close(embedded[:, ::16], "unilip", "vit_embed_224_sub")
    shown = tokenizer.attention(image)
    assert (shown.prefix, shown.grid) == (1, (16, 16))
    close(shown.weights[:, :, 0], "unilip", "attention_last_cls_224")
    close(shown.weights[:, :, ::16], "unilip", "attention_last_sub_224")


# --- InternViT and DINOv3 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1])
def test_internvit(rival: Load, index: int) -> None:
    tokenizer, image = rival("internvit"), reference.image("internvit", f"image{index}")
    every = tokenizer.model(imagenet_normalize(image), output_hidden_states=True)
    close(every.last_hidden_state, "internvit", f"last{index}")
    close(every.hidden_states[1], "internvit", f"hidden{index}_1")
    found = tokenizer.features(image)
    stored = reference.outputs("internvit")[f"last{index}"]
    torch.testing.assert_close(found.pooled, stored[:, 0], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(as_tokens(found.patch), stored[:, 1:], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("index", [0, 1])
def test_dinov3(rival: Load, index: int) -> None:
    tokenizer, image = rival("dinov3"), reference.image("dinov3", f"image{index}")
    found = tokenizer.features(image)
    close(found.pooled, "dinov3", f"cls{index}")
    close(as_tokens(found.patch), "dinov3", f"patch{index}")
    tokens = tokenizer.model(imagenet_normalize(image)).last_hidden_state
    close(tokens[:, 1:5], "dinov3", f"reg{index}")
    shown = tokenizer.attention(image)
    assert shown.prefix == 5
    close(shown.weights, "dinov3", f"attention_last{index}")


# --- VTP --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["vtp_rms", "vtp_ln"])
def vtp(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    system: str = request.param
    folder = published.vtp_fixture(tmp_path_factory.mktemp(system), system)
    origin = Origin("VTP", str(folder), "", 64)
    return system, load_vtp(str(folder), "cpu", Published("vtp", "VTP", ("x",)), origin)


def test_vtp_latents_and_reconstruction(vtp: tuple[str, Any]) -> None:
    system, tokenizer = vtp
    image = reference.image(system, "image")
    close(tokenizer.encode(image).z, system, "latents_rope32")
    decoded = tokenizer.decode(reference.outputs(system)["latents_rope32"], tuple(image.shape[-2:]))
    close(imagenet_normalize(decoded), system, "recon_rope32")


def test_vtp_features(vtp: tuple[str, Any]) -> None:
    system, tokenizer = vtp
    found = tokenizer.features(reference.image(system, "image"))
    close(found.pooled, system, "cls_token_rope32")
    close(as_tokens(found.patch), system, "patch_tokens_rope32")


@pytest.mark.parametrize(("place", "layer"), [("last", -1), ("first", 0)])
def test_vtp_attention(vtp: tuple[str, Any], place: str, layer: int) -> None:
    system, tokenizer = vtp
    shown = tokenizer.attention(reference.image(system, "image"), layer)
    assert shown.prefix == 1
    close(shown.weights, system, f"attention_{place}_rope32")


def test_vtp_alignment(vtp: tuple[str, Any]) -> None:
    system, tokenizer = vtp
    ids = reference.outputs(system)["text_tokens"]
    close(tokenizer.image_embed(reference.image(system, "image")), system, "clip_image_norm_rope32")
    close(tokenizer.network.text(ids), system, "clip_text")
    close(tokenizer.embed_ids(ids), system, "clip_text_norm")


def test_vtp_is_near_the_reference_whose_rotation_is_rounded(vtp: tuple[str, Any]) -> None:
    """Told only to know that one is near: 1e-6 of noise moves the reference itself by 0.008."""
    system, tokenizer = vtp
    image, stored = reference.image(system, "image"), reference.outputs(system)
    pairs = {"latents": tokenizer.encode(image).z, "clip_image_norm": tokenizer.image_embed(image)}
    pairs["clip_image"] = tokenizer.network.image(tokenizer.pixels(image))
    pairs["cls_token"] = tokenizer.features(image).pooled
    pairs["patch_tokens"] = as_tokens(tokenizer.features(image).patch)
    pairs["attention_last"], pairs["attention_first"] = (tokenizer.attention(image, i).weights for i in (-1, 0))
    pairs["recon"] = imagenet_normalize(tokenizer.decode(stored["latents"], tuple(image.shape[-2:])))
    depth = len(tokenizer.network.trunk.blocks)
    for index in (0, 1):
        # The last two blocks, each after the final norm, the earlier one first.
        found = tokenizer.features(image, f"block-{2 - index}")
        pairs |= {f"inter{index}_patch": as_tokens(found.patch), f"inter{index}_cls": found.pooled}
    assert depth >= 2
    for name, ours in pairs.items():
        torch.testing.assert_close(ours, stored[name], rtol=0, atol=5e-2, msg=name)


def test_vtp_rotates_by_the_published_periods(vtp: tuple[str, Any]) -> None:
    system, tokenizer = vtp
    for name, network in (("trunk", tokenizer.network.trunk), ("decoder", tokenizer.network.decoder)):
        stored = reference.outputs(system)[f"periods_{name}"]
        torch.testing.assert_close(network.rope.periods, stored, rtol=4e-3, atol=0)  # stored in bfloat16's precision


def test_attention_of_every_transformer_sums_to_one(rival: Load) -> None:
    image = torch.rand(1, 3, 64, 64)
    for name in ("vqgan", "va-vae", "unilip", "vtp", "internvit", "dinov3", "openclip"):
        shown = rival(name).attention(image)
        tokens = shown.prefix + shown.grid[0] * shown.grid[1]
        assert shown.weights.shape[-2:] == (tokens, tokens), name
        torch.testing.assert_close(shown.weights.sum(-1), torch.ones(shown.weights.shape[:-1]), rtol=0, atol=1e-5)


def test_a_layer_that_is_not_there_is_refused(rival: Load) -> None:
    with pytest.raises(Exception, match="no layer 9"):
        vision_attention(rival("dinov3").model, torch.zeros(1, 3, 32, 32), 9)
