"""`fd-dinov2` and `fd-clip` equal torch-fidelity's own command on saved images, with random weights on both sides.

The networks are small, since both sides take their size from the weights; what is published differs in nothing else.
DINOv2's authors' code is not installed here: transformers' implementation stands in for what torch-fidelity downloads.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity import calculate_metrics, feature_extractor_dinov2 as their_dinov2
from torch_fidelity.feature_extractor_clip import CLIPVisual
from transformers import Dinov2Config, Dinov2Model

from muse_core.errors import MuseError
from muse_core.evaluation.builtin import FD_CLIP, FD_DINOV2, PSNR
from muse_core.evaluation.fidelity import FidelityExtractor
from muse_core.evaluation.foundation import load_clip, load_dinov2
from muse_core.evaluation.metrics import Frechet
from muse_core.evaluation.pairs import Pairs
from muse_core.evaluation.reconstruction import evaluate
from muse_core.evaluation.weights import CLIP, DINOV2, find_weights
from tests.evaluation.fakes import Passes, data, sample
from tests.evaluation.test_fidelity import image_pairs, put, save_images

COUNT, WIDTH, BLOCKS = 80, 64, 2


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for weights, and none anywhere else."""
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "weights"


def ours(extractor: FidelityExtractor, tap: str, images: tuple[Tensor, Tensor]) -> float:
    metric = Frechet("fd", extractor, tap)
    for a, b in zip(*(torch.split(part, 32) for part in images), strict=True):
        metric.update(Pairs(a / 255, b / 255))
    return metric.result().values["fd"]


def their_command(images: tuple[Tensor, Tensor], folder: Path, extractor: str, tap: str, **more: Any) -> float:
    original, made = (save_images(part, folder / name) for part, name in zip(images, ("real", "made"), strict=True))
    found = calculate_metrics(
        input1=made, input2=original, fid=True, feature_extractor=extractor, feature_layer_fid=tap,
        cuda=False, cache=False, verbose=False, save_cpu_ram=True, **more,
    )  # fmt: skip
    return float(found["frechet_inception_distance"])


def clip_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    tower = CLIPVisual(16, 64, BLOCKS, WIDTH, 32)
    state = {name: value.half().float() for name, value in tower.state_dict().items()}  # published in half precision
    return {**state, "text_projection": torch.rand(WIDTH, 16), "logit_scale": torch.ones(())}


class Whole(nn.Module):
    """CLIP as a TorchScript file has it: towers, and what is beside them."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.visual = CLIPVisual(16, 64, BLOCKS, WIDTH, 32).visual
        self.text_projection = nn.Parameter(state["text_projection"])
        self.logit_scale = nn.Parameter(state["logit_scale"])
        self.load_state_dict(state)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.text_projection.sum()


def test_fd_clip_equals_torch_fidelitys_command(tmp_path: Path, weights: Path) -> None:
    state, images = clip_state(), image_pairs(COUNT, 16)
    torch.jit.trace(Whole(state), torch.zeros(1)).save(str(tmp_path / "clip.pt"))
    expected = their_command(
        images, tmp_path, "clip-vit-b-32", "clip", feature_extractor_weights_path=str(tmp_path / "clip.pt")
    )
    put(state, weights / CLIP.hub / "open_clip_pytorch_model.bin")
    found = ours(load_clip(find_weights(CLIP), "cpu"), "clip", images)
    assert found == pytest.approx(expected, rel=1e-5)
    assert found > 1e-4


def dinov2_state(grid: int) -> dict[str, Tensor]:
    """Random weights under the names of DINOv2's authors, their places drawn on a square grid."""
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH), "mask_token": (1, WIDTH), "pos_embed": (1, 1 + grid**2, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 14, 14), "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,), "norm.bias": (WIDTH,),
    }  # fmt: skip
    for block in range(BLOCKS):
        linear = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for name, (rows, columns) in linear.items():
            shapes[f"blocks.{block}.{name}.weight"] = (rows * WIDTH, columns * WIDTH)
            shapes[f"blocks.{block}.{name}.bias"] = (rows * WIDTH,)
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            shapes[f"blocks.{block}.{name}"] = (WIDTH,)
    return {name: 0.2 * torch.randn(shape) for name, shape in shapes.items()}


class TheirDinov2(nn.Module):
    """transformers' DINOv2 with the authors' weights; returns the normalised class token, as theirs does."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        config = Dinov2Config(
            hidden_size=WIDTH, num_hidden_layers=BLOCKS, num_attention_heads=1, image_size=224, patch_size=14
        )
        self.network = Dinov2Model(config).eval()
        self.network.load_state_dict(self.renamed(state))

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        side = math.isqrt(state["pos_embed"].shape[1] - 1)
        square = state["pos_embed"][:, 1:].reshape(1, side, side, WIDTH).permute(0, 3, 1, 2)
        factor = (224 // 14 + 0.1) / side  # the authors stretch by a tenth of a patch more than fits
        drawn = nn.functional.interpolate(square, scale_factor=(factor, factor), mode="bicubic", align_corners=False)
        places = torch.cat([state["pos_embed"][:, :1], drawn.permute(0, 2, 3, 1).reshape(1, -1, WIDTH)], 1)
        found = {
            "embeddings.cls_token": state["cls_token"],
            "embeddings.mask_token": state["mask_token"],
            "embeddings.position_embeddings": places if side != 16 else state["pos_embed"],
            "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
            "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
            "layernorm.weight": state["norm.weight"],
            "layernorm.bias": state["norm.bias"],
        }
        for block in range(BLOCKS):
            ours, theirs = f"blocks.{block}.", f"encoder.layer.{block}."
            for kind in ("weight", "bias"):
                parts = state[f"{ours}attn.qkv.{kind}"].chunk(3)
                for name, part in zip("qkv", parts, strict=True):
                    found[f"{theirs}attention.{name}_proj.{kind}"] = part
                found[f"{theirs}attention.o_proj.{kind}"] = state[f"{ours}attn.proj.{kind}"]
                for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                    found[f"{theirs}{name}.{kind}"] = state[f"{ours}{name}.{kind}"]
            for number in (1, 2):
                found[f"{theirs}layer_scale{number}.lambda1"] = state[f"{ours}ls{number}.gamma"]
        return found

    def forward(self, pixels: Tensor) -> Tensor:
        token: Tensor = self.network(pixels).last_hidden_state[:, 0]
        return token


@pytest.mark.parametrize("grid", [16, 37])
def test_fd_dinov2_equals_torch_fidelitys_command(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, grid: int
) -> None:
    state, images = dinov2_state(grid), image_pairs(COUNT, 16)
    monkeypatch.setattr(their_dinov2.torch.hub, "load", lambda *_: TheirDinov2(state))
    expected = their_command(images, tmp_path, "dinov2-vit-s-14", "dinov2")
    put(state, weights / DINOV2.hub / "dinov2_vits14_pretrain.pth")
    found = ours(load_dinov2(find_weights(DINOV2), "cpu"), "dinov2", images)
    assert found == pytest.approx(expected, rel=1e-4)
    assert found > 1e-4


def test_without_weights_each_says_where_to_put_them(weights: Path, tmp_path: Path) -> None:
    metrics = {"psnr": PSNR, "fd-dinov2": FD_DINOV2, "fd-clip": FD_CLIP}
    scores = evaluate(Passes(0.1), data([sample(1), sample(2)]), metrics)
    assert set(scores.not_measured) == {"fd-dinov2", "fd-clip"}
    assert str(weights / DINOV2.hub) in scores.not_measured["fd-dinov2"]
    with pytest.raises(MuseError) as caught:
        evaluate(Passes(0.1), data([sample(1)]), {"fd-clip": FD_CLIP}, required=["fd-clip"])
    assert caught.value.hint == f"put open_clip_model.safetensors into {weights / CLIP.hub}"
    cached = put({"x": torch.ones(1)}, tmp_path / "torch" / "hub" / "checkpoints" / "dinov2_vitb14_pretrain.pth")
    assert find_weights(DINOV2) == cached


@pytest.mark.parametrize(("part", "metric"), [(DINOV2, FD_DINOV2), (CLIP, FD_CLIP)])
def test_weights_of_another_network_are_refused(weights: Path, part: Any, metric: Any) -> None:
    put({"conv.weight": torch.ones(1)}, weights / part.hub / part.files[0].replace("safetensors", "pth"))
    file = weights / part.hub / part.files[-1]
    put({"visual.proj": torch.ones(2, 2), "blocks.0.x": torch.ones(1)}, file.with_name("open_clip_pytorch_model.bin"))
    with pytest.raises(MuseError, match="does not hold"):
        evaluate(Passes(0.1), data([sample(1), sample(2)]), {"fd": metric})


def test_a_torchscript_file_is_not_run(weights: Path) -> None:
    state = clip_state()
    path = weights / CLIP.hub / "open_clip_pytorch_model.bin"
    path.parent.mkdir(parents=True)
    torch.jit.trace(Whole(state), torch.zeros(1)).save(str(path))
    with pytest.raises(MuseError, match="cannot be read as tensors|would run code"):
        load_clip(path, "cpu")
