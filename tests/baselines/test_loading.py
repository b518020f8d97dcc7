"""A rival from a file: strictly, safely, with errors that say what to type; and what each announces is what it has."""

import json
import re
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from diffusers import AutoencoderDC
from muse_baselines import vtp as vtp_module
from muse_baselines.convolutional_keys import from_llamagen, library_names
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from muse_core.errors import ExitCode, MuseError
from muse_core.model.abilities import abilities
from muse_core.model.latent_stats import LatentStats
from muse_core.model.load import load_tokenizer
from muse_core.registry import discover
from tests.baselines import published, reference
from tests.baselines.conftest import Load

RIVALS = tuple(published.WRITERS)


@pytest.mark.parametrize("name", RIVALS)
def test_announced_abilities_and_licence_are_those_of_the_object(name: str, rival: Load) -> None:
    announced = discover("muse.tokenizers")[name].load()
    assert abilities(rival(name)) == announced.abilities
    assert rival(name).info.licence == announced.licence != ""


@pytest.mark.parametrize("name", RIVALS)
def test_every_ability_keeps_the_shapes_that_info_tells(name: str, rival: Load) -> None:
    tokenizer, image = rival(name), torch.rand(2, 3, 56, 84)
    info, grid = tokenizer.info, tokenizer.info.tokens_at(56, 84)
    if "encodes" in abilities(tokenizer):
        z = tokenizer.encode(image).z
        assert z.shape == (2, info.latent_channels, *grid)
        assert tokenizer.decode(z, (56, 84)).shape == image.shape  # padding is cut off again
    for layer, told in info.feature_layers.items():
        found = tokenizer.features(image, layer)
        assert found.patch.shape[1] == told.width == found.pooled.shape[1]
    if "aligns" in abilities(tokenizer):
        images, texts = tokenizer.image_embed(image), tokenizer.text_embed(["a photo of a dog.", "a cat"])
        torch.testing.assert_close(images.norm(dim=-1), torch.ones(2))
        assert (images @ texts.T).shape == (2, 2)
        assert tokenizer.logit_scale > 0
    assert sum(info.parameters.values()) > 0


@pytest.mark.parametrize("name", RIVALS)
def test_a_layer_that_a_rival_does_not_have_is_refused(name: str, rival: Load) -> None:
    with pytest.raises(MuseError, match="has no feature layer 'elsewhere'"):
        rival(name).features(torch.rand(1, 3, 64, 64), "elsewhere")


def test_epsilons() -> None:
    """A wrong one moves outputs by less than the fixtures' tolerance, so they are asserted themselves."""
    sizes = {name: reference.config(name) for name in ("vtp_rms", "vtp_ln")}
    rms, ln = (vtp_module.VtpNetwork(sizes[name]) for name in ("vtp_rms", "vtp_ln"))
    norms = {
        rms.trunk.norm: 1e-5,
        rms.trunk.blocks[0].attn.q_norm: 1e-5,
        rms.decoder.norm: 1e-6,
        rms.decoder.blocks[0].attn.k_norm: 1e-5,  # queries and keys: root mean square also beside LayerNorm blocks
        ln.trunk.blocks[0].norm1: 1e-6,
        ln.decoder.norm: 1e-5,
        rms.text.ln_final: 1e-5,
    }
    assert {norm: norm.eps for norm in norms} == norms


@pytest.mark.parametrize(
    ("name", "kind", "eps"),
    [("vqgan", nn.GroupNorm, 1e-6), ("va-vae", nn.GroupNorm, 1e-6), ("internvit", nn.LayerNorm, 1e-6)]
    + [("dinov3", nn.LayerNorm, 1e-5)],
)
def test_epsilons_of_one_kind(name: str, kind: type[nn.Module], eps: float, rival: Load) -> None:
    found = {norm.eps for norm in rival(name).model.modules() if isinstance(norm, kind)}
    assert found == {eps}


def test_epsilons_of_unilip(rival: Load) -> None:
    network = rival("unilip").network
    assert network.mlp1[0].eps == network.down_mlp[0].eps == 1e-5
    assert {block.mlp[0].eps for block in network.down_blocks} == {1e-6}
    assert {norm.eps for norm in network.encoder.modules() if isinstance(norm, nn.LayerNorm)} == {1e-6}
    assert network.decoder.norm_out.eps == 1e-5


def test_a_posterior_is_sampled_when_asked(rival: Load) -> None:
    image = reference.image("vavae", "image")
    once, again = (
        rival("va-vae").encode(image, sample=True, generator=torch.Generator().manual_seed(1)).z for _ in range(2)
    )
    torch.testing.assert_close(once, again)
    assert not torch.allclose(once, rival("va-vae").encode(image).z)


def test_a_scale_is_the_same_thing_as_statistics() -> None:
    z = torch.randn(1, 4, 2, 2)
    torch.testing.assert_close(LatentStats.from_scale(0.3611, 0.1159).normalize(z), (z - 0.1159) * 0.3611)


def test_openclip_is_open_clip(rival: Load, tmp_path: Path) -> None:
    published.openclip(tmp_path)
    model = open_clip.CLIP(**published.TINY_CLIP).eval()
    model.load_state_dict(load_file(tmp_path / "open_clip_model.safetensors"))
    image, texts = torch.rand(2, 3, 64, 64), ["a red cup", "a dog"]
    ids = open_clip.SimpleTokenizer(context_length=16)(texts)
    with torch.no_grad():
        seen, read = model.encode_image(2 * image - 1, normalize=True), model.encode_text(ids, normalize=True)
    tokenizer = rival("openclip")
    torch.testing.assert_close(tokenizer.image_embed(image), seen)
    torch.testing.assert_close(tokenizer.text_embed(texts), read)
    tokenizer.attention(image)  # asking for the weights leaves nothing behind
    torch.testing.assert_close(tokenizer.image_embed(image), seen)


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_names_of_an_autoencoder() -> None:
    rename = library_names(levels=5)
    expected = {
        "encoder.down.4.attn.1.proj_out.weight": "encoder.down_blocks.4.attentions.1.to_out.0.weight",
        "encoder.down.0.downsample.conv.bias": "encoder.down_blocks.0.downsamplers.0.conv.bias",
        "decoder.up.4.block.2.nin_shortcut.weight": "decoder.up_blocks.0.resnets.2.conv_shortcut.weight",
        "decoder.mid.attn_1.norm.weight": "decoder.mid_block.attentions.0.group_norm.weight",
        "decoder.norm_out.weight": "decoder.conv_norm_out.weight",
        "quantize.embedding.weight": "quantize.embedding.weight",
    }
    assert {key: rename(key)[0] for key in expected} == expected
    assert rename("loss.discriminator.main.0.weight") == rename("linear_proj.weight") == []
    assert from_llamagen("decoder.conv_blocks.0.res.1.conv1.weight", 5) == "decoder.up.4.block.1.conv1.weight"


def test_dc_ae_loads_from_the_authors_layout_too(rival: Load, tmp_path: Path) -> None:
    model = rival("dc-ae").model
    torch.save({"state_dict": _authors_dc_ae(model)}, tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps(published.TINY_DC_AE))
    again = load_tokenizer(f"dc-ae:{tmp_path}/model.pt")
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again.encode(image).z, rival("dc-ae").encode(image).z)
    z = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(again.decode(z, (16, 16)), rival("dc-ae").decode(z, (16, 16)))


def _authors_dc_ae(model: AutoencoderDC) -> dict[str, Tensor]:
    """efficientvit's names for a network: what the library's converter reads."""
    state, rules = dict(model.state_dict()), (
        (r"^(\w+)\.conv_in\.", r"\1.project_in.conv."),
        (r"^encoder\.conv_out\.", "encoder.project_out.0.conv."),
        (r"^decoder\.conv_out\.", "decoder.project_out.2.conv."),
        (r"^decoder\.norm_out\.", "decoder.project_out.0."),
        (r"\.(?:down|up)_blocks\.(\d+)\.(\d+)\.", r".stages.\1.op_list.\2."),
        (r"\.conv_out\.conv_(inverted|depth|point)\.", r".local_module.main.\1_conv.conv."),
        (r"\.conv_out\.norm\.", ".local_module.main.point_conv.norm."),
        (r"\.attn\.to_qkv_multiscale\.0\.proj_in", ".context_module.main.aggreg.0.0"),
        (r"\.attn\.to_qkv_multiscale\.0\.proj_out", ".context_module.main.aggreg.0.1"),
        (r"\.attn\.norm_out", ".context_module.main.proj.norm"),
        (r"(op_list\.\d+)\.(conv[12])\.", r"\1.main.\2.conv."),
        (r"(op_list\.\d+)\.norm\.", r"\1.main.conv2.norm."),
        (r"(op_list\.\d+)\.conv\.(?!conv)", r"\1.main.conv.conv."),
    )  # fmt: skip
    named: dict[str, Tensor] = {}
    for key in list(state):
        if key.endswith(".attn.to_q.weight"):
            place = key.removesuffix("to_q.weight")
            fused = torch.cat([state.pop(f"{place}to_{part}.weight") for part in "qkv"])[..., None, None]
            out = state.pop(f"{place}to_out.weight")[..., None, None]
            state |= {f"{place}qkv.conv.weight": fused, f"{place}proj.conv.weight": out}
    for key, value in state.items():
        for pattern, new in rules:
            key = re.sub(pattern, new, key)
        named[key.replace(".attn.", ".context_module.main.")] = value
    return named


def test_a_complete_unilip_model_gives_its_tokenizer(rival: Load, tmp_path: Path) -> None:
    spelled = {
        "encoder.": "model.vision_tower.",
        "mlp1.": "model.multi_modal_projector.",
        "decoder.": "model.vae_decoder.",
    }
    state = {"model.language_model.layers.0.w": torch.zeros(2), "lm_head.weight": torch.zeros(2)}
    for key, value in reference.weights("unilip").items():
        first = key.partition(".")[0] + "."
        state[spelled.get(first, f"model.{first}") + key.removeprefix(first)] = value
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": reference.config("unilip")["vision"]}))
    image = reference.image("unilip", "image_224")
    again = load_tokenizer(f"unilip:{tmp_path}")
    torch.testing.assert_close(again.encode(image).z, rival("unilip").encode(image).z)


@pytest.mark.parametrize("name", ["internvit", "dinov3"])
def test_an_encoder_loads_from_a_transformers_folder_too(name: str, rival: Load, tmp_path: Path) -> None:
    rival(name).model.save_pretrained(tmp_path)
    image = torch.rand(1, 3, 64, 64)
    again = load_tokenizer(f"{name}:{tmp_path}")
    torch.testing.assert_close(again.features(image).patch, rival(name).features(image).patch)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def refusal(where: str) -> MuseError:
    with pytest.raises(MuseError) as caught:
        load_tokenizer(where)
    assert caught.value.exit_code == ExitCode.FILE
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", RIVALS)
def test_without_a_path_and_without_installed_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path))
    error = refusal(name)
    assert f"{name} needs the path of its weights" in str(error)
    assert f"{name}:FOLDER" in str(error.hint)


def test_installed_weights_need_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path))
    published.write("vtp", tmp_path / "MiniMaxAI" / "VTP-Base-f16d64")
    assert load_tokenizer("vtp").info.name == "VTP-B"


@pytest.mark.parametrize(("folder", "title"), [("VTP-Small-f16d64", "VTP-S"), ("VTP-Large-f16d64", "VTP-L")])
def test_the_three_sizes_of_vtp_have_three_names(folder: str, title: str, tmp_path: Path) -> None:
    assert load_tokenizer(published.write("vtp", tmp_path / folder)).info.name == title


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    state = reference.weights("vavae").copy()
    for key in [key for key in state if ".down.4.attn.1." in key]:
        del state[key]  # attention that is half there
    torch.save({"state_dict": state}, tmp_path / "vavae.pt")
    assert "10 missing (encoder.down_blocks: 10)" in str(refusal(f"va-vae:{tmp_path}/vavae.pt"))


def test_a_tensor_too_many_is_named(tmp_path: Path) -> None:
    torch.save(reference.weights("dinov3") | {"blocks.0.attn.sink": torch.zeros(2)}, tmp_path / "x.pth")
    assert "1 unexpected" in str(refusal(f"dinov3:{tmp_path}/x.pth"))


@pytest.mark.parametrize("name", ["vqgan", "unilip", "vtp", "internvit", "dinov3", "openclip", "dc-ae", "sd-vae"])
def test_the_file_of_another_network_is_refused(name: str, tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    error = refusal(f"{name}:{tmp_path}")
    assert "model.safetensors" in str(error)
    assert error.hint


@pytest.mark.parametrize("name", ["vqgan", "unilip", "dinov3"])
def test_nothing_in_a_file_is_run(name: str, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": {"w": torch.zeros(1)}, "callbacks": Trap()}, tmp_path / "x.ckpt")
    assert "would run code" not in str(refusal(f"{name}:{tmp_path}/x.ckpt"))  # passed over; it is another network
    torch.save({"state_dict": {"w": torch.zeros(1), "x": Trap()}}, tmp_path / "x.ckpt")
    assert "would run code" in str(refusal(f"{name}:{tmp_path}/x.ckpt"))
    assert not (tmp_path / "ran").exists()


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    published.write("vtp", tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "no complete safetensors file" in str(refusal(f"vtp:{tmp_path}"))


def test_several_files_are_not_guessed_between(tmp_path: Path) -> None:
    for name in ("a.ckpt", "b.ckpt"):
        torch.save({"w": torch.zeros(1)}, tmp_path / name)
    error = refusal(f"vqgan:{tmp_path}")
    assert "several files" in str(error)
    assert error.hint == f"vqgan:{tmp_path}/a.ckpt"


def test_vtp_without_its_config_says_so(tmp_path: Path) -> None:
    published.write("vtp", tmp_path)
    (tmp_path / "config.json").unlink()
    assert "needs the config.json" in str(refusal(f"vtp:{tmp_path}"))


def test_a_clip_with_a_foreign_text_tower_is_refused(tmp_path: Path) -> None:
    published.openclip(tmp_path)
    foreign = published.TINY_CLIP | {"text_cfg": {"hf_model_name": "someone/bert"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": foreign}))
    assert "tokenizer from the hub" in str(refusal(f"openclip:{tmp_path}"))
