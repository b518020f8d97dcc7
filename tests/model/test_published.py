"""The published parts, from files in exactly their layouts: tiny random weights, real names."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from muse_core.errors import ExitCode, MuseError
from muse_core.losses.perceptual import LPIPS
from muse_core.model.architecture import PUBLISHED, vision_arguments
from muse_core.model.build import ConnectorSpec, build_network
from muse_core.model.weights import published
from muse_core.model.weights.filling import digest_of
from muse_core.model.weights.parts import PARTS, find_part
from tests.fixtures import published as tiny_parts

FIXTURES = Path(__file__).parents[1] / "fixtures" / "baselines"
SPEC = ConnectorSpec("muse", width=32, heads=4, blocks=2, latent_channels=8, inject=True, resolution=56)
INTERNVL = Path("OpenGVLab/InternVL3-1B")
DC_AE = Path("mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers")
DINOV3 = Path("facebook/dinov3-vith16plus-pretrain-lvd1689m")
CLIP = Path("laion/CLIP-ViT-L-14-laion2B-s32B-b82K")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty MUSE_WEIGHTS."""
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return tmp_path / "weights"


def load_encoder() -> nn.Module:
    encoder: nn.Module = published.load_encoder("1b", published.architecture("1b"))
    return encoder


def load_decoder() -> nn.Module:
    decoder: nn.Module = published.load_decoder("1b", published.architecture("1b"))
    return decoder


def equal(one: nn.Module, other: Mapping[str, Tensor]) -> bool:
    ours = one.state_dict()
    return ours.keys() == other.keys() and all(torch.equal(ours[name], other[name].float()) for name in ours)


def refusal(call: Any) -> MuseError:
    with pytest.raises(MuseError) as caught:
        call()
    assert (caught.value.exit_code, "\n" in caught.value.what) == (ExitCode.FILE, False)
    assert caught.value.hint
    return caught.value


# The vision tower.


def test_both_layouts_of_internvl3_are_the_same_tower(weights: Path) -> None:
    tiny_parts.write_internvl3(weights / INTERNVL)
    remote = load_encoder()
    (weights / INTERNVL).rename(weights / "aside")
    tiny_parts.write_internvl3_hf(weights / "OpenGVLab" / "InternVL3-1B-hf", remote.state_dict())
    assert equal(load_encoder(), remote.state_dict())
    assert digest_of(load_encoder()) == digest_of(remote)


def test_the_tower_computes_in_float32_whatever_it_was_published_in(weights: Path) -> None:
    tiny_parts.write_internvl3(weights / INTERNVL)
    encoder = load_encoder()
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}
    assert not any(weight.requires_grad for weight in encoder.parameters())
    assert not encoder.training


@pytest.mark.parametrize("shards", [1, 3])
def test_the_language_model_is_never_read(weights: Path, shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from muse_core.model.weights import reading

    tiny_parts.write_internvl3(weights / INTERNVL, shards=shards)
    read: list[str] = []
    keep = reading._read_one

    def watched(handle: Any, name: str) -> Tensor:
        read.append(name)
        return keep(handle, name)

    monkeypatch.setattr(reading, "_read_one", watched)
    load_encoder()
    assert read
    assert all(name.startswith("vision_model.") for name in read)


def given(key: str, shape: list[int], salt: str) -> Tensor:
    """A weight of the baselines' fixtures, drawn from its name."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32((salt + key).encode())))
    if len(shape) >= 2:
        return x / torch.tensor(shape[1:]).prod() ** 0.5 if key.endswith("weight") else 0.5 * x
    gain = key.rsplit(".", 1)[-1] in ("weight", "ls1", "ls2", "gamma")
    return 1 + 0.1 * x if gain else 0.1 * x


def fixture(system: str) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Tensor], list[Tensor]]:
    """The weights, config, outputs and inputs that the public code was run with."""
    manifest = json.loads((FIXTURES / "manifest.json").read_text())
    entry, salt = manifest["systems"][system], manifest["salt"]
    tensors = {key: given(key, shape, salt) for key, shape in entry["keys"].items()}
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    inputs = []
    for described in entry["inputs"].values():
        seed = zlib.crc32((salt + "input." + described["name"]).encode())
        drawn = torch.rand(described["shape"], generator=torch.Generator().manual_seed(seed))
        inputs.append((drawn - mean) / std)
    return tensors, entry["config"], load_file(FIXTURES / f"{system}.safetensors"), inputs


def assert_near(ours: Tensor, stored: Tensor) -> None:
    assert (ours - stored).abs().max() <= 5e-5 * max(1.0, float(stored.abs().max()))


@torch.no_grad()
def test_internvit_computes_what_its_own_code_computes(weights: Path) -> None:
    tensors, config, outputs, inputs = fixture("internvit")
    folder = weights / INTERNVL
    tiny_parts.write_config(folder, {"vision_config": config})
    save_file({f"vision_model.{name}": tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    encoder = load_encoder()
    for index, pixels in enumerate(inputs):
        assert_near(encoder(pixels).last_hidden_state, outputs[f"last{index}"])
    norms = [module for module in encoder.modules() if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6}


def test_the_published_tower_is_what_its_config_says() -> None:
    remote = {"hidden_size": 1024, "image_size": 448, "patch_size": 14, "qkv_bias": True, "qk_normalization": False}
    assert vision_arguments(remote) == dict(PUBLISHED.encoder)


# The decoder.


@pytest.mark.parametrize("hub", [PARTS["1b"][1].hub, *PARTS["1b"][1].also])
def test_dc_ae_is_read_under_each_of_its_names_without_its_encoder(weights: Path, hub: str) -> None:
    autoencoder = tiny_parts.small_autoencoder()
    autoencoder.save_pretrained(weights / hub)
    assert equal(load_decoder(), autoencoder.decoder.state_dict())
    assert published.architecture("1b").decoder_channels == 8


# The structure teacher.


def test_both_layouts_of_dinov3_are_the_same_teacher(weights: Path) -> None:
    model = tiny_parts.small_teacher()
    model.save_pretrained(weights / DINOV3)
    assert equal(published.load_teacher("1b"), model.state_dict())
    (weights / DINOV3 / "model.safetensors").unlink()
    tiny_parts.write_teacher_pth(weights / DINOV3, model)
    assert equal(published.load_teacher("1b"), model.state_dict())


@torch.no_grad()
def test_dinov3_computes_what_its_own_code_computes(weights: Path) -> None:
    tensors, config, outputs, inputs = fixture("dinov3")
    sizes = {"hidden_size": config["embed_dim"], "num_hidden_layers": config["depth"], "intermediate_size": 256}
    sizes |= {"num_attention_heads": config["num_heads"], "num_register_tokens": 4, "patch_size": 16}
    tiny_parts.write_config(weights / DINOV3, {**sizes, "use_gated_mlp": True, "hidden_act": "silu"})
    torch.save(tensors, weights / DINOV3 / "dinov3_vith16plus_pretrain_lvd1689m-7c1da9a5.pth")
    model = published.load_teacher("1b")
    model.set_attn_implementation("eager")
    for index, pixels in enumerate(inputs):
        out = model(pixels, output_attentions=True)
        assert_near(out.last_hidden_state[:, 0], outputs[f"cls{index}"])
        assert_near(out.last_hidden_state[:, 5:], outputs[f"patch{index}"])
        assert_near(out.attentions[-1], outputs[f"attention_last{index}"])
    assert {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)} == {1e-5}


# The text tower.

SENTENCES = ["a photo of a dog", "two red circles left of a green square, and a very long story about them", ""]


@torch.no_grad()
def test_an_open_clip_folder_reads_captions_as_open_clip_does(weights: Path) -> None:
    model = tiny_parts.write_open_clip(weights / CLIP)
    tower = published.load_text("1b")
    expected = model.encode_text(published.clip_tokenizer(77)(SENTENCES), normalize=True)
    torch.testing.assert_close(tower(SENTENCES), expected, rtol=1e-4, atol=1e-5)
    assert (tower.width, tower.context, tower.name) == (tiny_parts.CAPTIONS, 77, str(CLIP))


@torch.no_grad()
def test_a_transformers_folder_reads_captions_as_transformers_does(weights: Path) -> None:
    model = tiny_parts.write_clip(weights / CLIP)
    tower = published.load_text("1b")
    ids = published.clip_tokenizer(77)(SENTENCES)
    pooled = model.text_projection(model.text_model(input_ids=ids).pooler_output)
    torch.testing.assert_close(tower(SENTENCES), nn.functional.normalize(pooled, dim=-1), rtol=1e-4, atol=1e-5)


# The perceptual networks.


def test_vgg_and_its_heads_make_lpips(weights: Path) -> None:
    tiny_parts.write_lpips(weights)
    lpips = LPIPS.from_states(*published.load_lpips_states("1b"))
    images = torch.rand(2, 3, 32, 32)
    assert lpips(images, images).item() == 0
    assert lpips(images, images.flip(-1)).item() > 0


def test_convnext_keeps_its_classifier(weights: Path) -> None:
    tiny_parts.write_convnext(weights)
    model = published.load_convnext("1b")
    assert sum(weight.numel() for weight in model.parameters()) == 50_223_688
    assert {weight.stride(-1) for weight in model.parameters() if weight.shape[-1] > 1} == {1}


# A network of them.


@torch.no_grad()
@pytest.mark.parametrize("size", ["1b", "3b"])
def test_a_network_is_built_from_the_published_parts(weights: Path, size: str) -> None:
    tiny_parts.write_everything(weights, size)
    network = build_network(size, SPEC)
    assert network.connector.caption_width == tiny_parts.CAPTIONS
    assert network(torch.rand(1, 3, 60, 50)).shape == (1, 3, 60, 50)
    assert not any(weight.is_meta for weight in network.state_dict().values())


# What is missing or wrong: one line with file, part and remedy.


@pytest.mark.parametrize("role", ["encoder", "decoder", "teacher", "text", "convnext_s", "lpips", "vgg16"])
def test_a_missing_part_says_what_it_is_for_and_where_to_put_it(weights: Path, role: str) -> None:
    error = refusal(lambda: published.need("1b", role))
    part = find_part("1b", role).part
    assert part.purpose in error.what
    assert part.hub in error.what
    assert str(weights / part.hub) in str(error.hint)


def spoil(weights: Path, how: str) -> Path:
    """Spoil the encoder's folder in one way; returns the file that must be named."""
    folder = tiny_parts.write_internvl3(weights / INTERNVL)
    index, shard = folder / "model.safetensors.index.json", folder / "model-00002-of-00002.safetensors"
    if how == "a shard is missing":
        shard.unlink()
    elif how == "a shard is half there":
        shard.write_bytes(shard.read_bytes()[:2000])
    elif how == "the index is no index":
        index.write_text("[]")
    elif how == "another model":
        save_file({"model.layers.0.weight": torch.zeros(2)}, folder / "model.safetensors")
        return folder / "model.safetensors"
    elif how == "another size":
        document = json.loads((folder / "config.json").read_text())
        document["vision_config"]["hidden_size"] = 64
        (folder / "config.json").write_text(json.dumps(document))
    elif how == "a tensor too few":
        tower = tiny_parts.remote_vision()
        del tower["encoder.layers.0.ls1"]
        tiny_parts.write_internvl3(folder, tower)
    return index


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("a shard is missing", "names model-00002-of-00002.safetensors, which is not there"),
        ("a shard is half there", "model-00002-of-00002.safetensors is no complete safetensors file"),
        ("the index is no index", "is not an index of shards"),
        ("another model", "holds no vision tower"),
        ("another size", "of another shape"),
        ("a tensor too few", "1 missing (encoder.layer: 1)"),
    ],
)
def test_a_spoilt_part_is_named_with_its_file_and_remedy(weights: Path, how: str, said: str) -> None:
    file = spoil(weights, how)
    error = refusal(load_encoder)
    assert f"{file} (vision encoder)" in error.what
    assert said in error.what
    assert "hf download OpenGVLab/InternVL3-1B" in str(error.hint)


def test_c12_a_teacher_with_code_in_it_is_not_run(weights: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (weights / "ran").mkdir, ()

    folder = tiny_parts.write_teacher_pth(weights / DINOV3, tiny_parts.small_teacher())
    torch.save({"cls_token": Attack()}, folder / "dinov3_vith16plus_pretrain_lvd1689m-7c1da9a5.pth")
    assert "would run code" in refusal(lambda: published.load_teacher("1b")).what
    assert not (weights / "ran").exists()


def test_a_part_in_the_hubs_own_cache_is_found(weights: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "hub" / "models--OpenGVLab--InternVL3-1B" / "snapshots" / "abc"
    tiny_parts.write_internvl3(snapshot)
    assert find_part("1b", "encoder").folder == snapshot
    tiny_parts.write_internvl3(weights / INTERNVL)
    assert find_part("1b", "encoder").folder == weights / INTERNVL, "MUSE_WEIGHTS comes first"
