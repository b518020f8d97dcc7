"""Real photographs, of shapes that fit no cell, reconstructed and attended through the public doors.

The pictures are those that scikit-image and scikit-learn ship; nothing is downloaded. How well they are reconstructed
is no matter here.
"""

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage
import sklearn
import torch
from PIL import Image

from muse_cli.main import main
from muse_core import registry
from muse_core.api import load_tokenizer
from muse_core.model.build import ConnectorSpec, build_network
from muse_core.model.checkpoint import CheckpointState, save_network
from muse_core.model.tokenizer import AlignedMuseTokenizer
from muse_core.model.weights.parts import tiny_hashes
from muse_core.pictures import read_picture

CELL = 8
PHOTOGRAPHS = {
    "astronaut": Path(skimage.__file__).parent / "data" / "astronaut.png",
    "coffee": Path(skimage.__file__).parent / "data" / "coffee.png",
    "chelsea": Path(skimage.__file__).parent / "data" / "chelsea.png",
    "china": Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg",
    "flower": Path(sklearn.__file__).parent / "datasets" / "images" / "flower.jpg",
}
SHAPES = {"astronaut": (101, 90), "coffee": (64, 99), "chelsea": (61, 83), "china": (130, 67), "flower": (45, 140)}

Muse = Callable[..., str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of the pack's parts with a new connector, as a stage-3 checkpoint."""
    torch.manual_seed(0)
    spec = ConnectorSpec("muse", width=64, heads=4, blocks=2, latent_channels=16, inject=True, resolution=64)
    frozen = {role: digest for role, digest in tiny_hashes().items() if role in ("backbone", "text", "teacher")}
    folder = tmp_path_factory.mktemp("tokenizer") / "checkpoint"
    folder.mkdir()
    state = CheckpointState("tiny", stage=3, step=0, spec=spec, encoder_trained=False, frozen=frozen)
    save_network(folder, build_network("tiny", spec), None, state)
    return folder


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> AlignedMuseTokenizer:
    loaded = load_tokenizer(checkpoint)
    assert isinstance(loaded, AlignedMuseTokenizer)
    return loaded


@pytest.fixture
def muse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Muse:
    """Run a command that must succeed in an empty folder, and return what it printed on stdout."""
    for name in [name for name in os.environ if name.startswith("MUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    registry.forget()

    def run(*arguments: str) -> str:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    return run


@pytest.fixture
def photograph(tmp_path: Path) -> Callable[[str], Path]:
    """A photograph cut to its awkward shape."""

    def cut(name: str) -> Path:
        height, width = SHAPES[name]
        with Image.open(PHOTOGRAPHS[name]) as whole:
            scale = max(height / whole.height, width / whole.width)
            shrunk = whole.convert("RGB").resize((math.ceil(whole.width * scale), math.ceil(whole.height * scale)))
        path = tmp_path / f"{name}.png"
        shrunk.crop((0, 0, width, height)).save(path)
        return path

    return cut


def test_the_shapes_are_awkward() -> None:
    assert SHAPES.keys() == PHOTOGRAPHS.keys()
    assert all(path.is_file() for path in PHOTOGRAPHS.values())
    for height, width in SHAPES.values():
        assert height != width
        assert height % CELL or width % CELL


def cells(name: str) -> tuple[int, int]:
    height, width = SHAPES[name]
    return -(-height // CELL), -(-width // CELL)


@pytest.mark.parametrize("name", list(PHOTOGRAPHS))
def test_a_photograph_is_encoded_decoded_attended_and_described(
    tokenizer: AlignedMuseTokenizer, photograph: Callable[[str], Path], name: str
) -> None:
    images = torch.from_numpy(read_picture(photograph(name)))[None]
    assert images.shape == (1, 3, *SHAPES[name])
    latents = tokenizer.encode(images)
    assert latents.z.shape == (1, 16, *cells(name))
    decoded = tokenizer.decode(latents.z, SHAPES[name])
    assert decoded.shape == images.shape
    assert torch.isfinite(decoded).all()
    attention = tokenizer.attention(images)
    assert attention.grid == cells(name)
    torch.testing.assert_close(attention.weights.sum(-1), torch.ones_like(attention.weights[..., 0]))
    for layer in tokenizer.info.feature_layers:
        assert torch.isfinite(tokenizer.features(images, layer).patch).all()
    assert tokenizer.image_embed(images).norm().item() == pytest.approx(1.0, rel=1e-5)


def test_a_photograph_does_not_change_what_its_neighbour_in_a_batch_becomes(
    tokenizer: AlignedMuseTokenizer, photograph: Callable[[str], Path]
) -> None:
    one = torch.from_numpy(read_picture(photograph("coffee")))
    other = one.flip(-1)
    together = tokenizer.encode(torch.stack((one, other))).z
    torch.testing.assert_close(tokenizer.encode(one[None]).z[0], together[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[0], together[1])


def test_photographs_are_told_apart(tokenizer: AlignedMuseTokenizer, photograph: Callable[[str], Path]) -> None:
    features = [tokenizer.features(torch.from_numpy(read_picture(photograph(name)))[None]).pooled for name in SHAPES]
    assert torch.pdist(torch.cat(features)).min() > 0


def test_infer_writes_every_photograph_at_its_own_size(
    muse: Muse, photograph: Callable[[str], Path], checkpoint: Path
) -> None:
    files = {name: photograph(name) for name in SHAPES}
    said = muse("infer", *map(str, files.values()), "--checkpoint", str(checkpoint), "--out", "made", "--json")
    entries = {Path(entry["image"]).stem: entry for entry in json.loads(said)["images"]}
    assert entries.keys() == SHAPES.keys()
    for name, (height, width) in SHAPES.items():
        assert (entries[name]["height"], entries[name]["width"]) == (height, width)
        assert entries[name]["latents"] == [16, *cells(name)]
        assert math.isfinite(entries[name]["psnr"])
        with Image.open(entries[name]["out"]) as made:
            assert made.size == (width, height)
            assert made.mode == "RGB"


def test_what_infer_writes_is_what_the_tokenizer_makes(
    muse: Muse, photograph: Callable[[str], Path], checkpoint: Path, tokenizer: AlignedMuseTokenizer
) -> None:
    path = photograph("chelsea")
    muse("infer", str(path), "--checkpoint", str(checkpoint), "--features", "pooled.npz")
    images = torch.from_numpy(read_picture(path))[None]
    expected = tokenizer.decode(tokenizer.encode(images).z, SHAPES["chelsea"])[0].clamp(0, 1) * 255
    with Image.open(path.with_name("chelsea-recon.png")) as made:
        difference = np.asarray(made, np.float64).transpose(2, 0, 1) - expected.numpy()
    assert np.abs(difference).max() <= 0.5 + 1e-3, "bytes are rounded, once"
    pooled = tokenizer.features(images).pooled[0].numpy()
    with np.load("pooled.npz") as found:
        np.testing.assert_allclose(found["pooled"][0], pooled, rtol=1e-4, atol=1e-5)


def test_infer_compares_a_whole_folder(muse: Muse, photograph: Callable[[str], Path], checkpoint: Path) -> None:
    folder = photograph("coffee").parent
    photograph("flower")
    said = muse("infer", str(folder), "--checkpoint", str(checkpoint), "--compare", "--out", "made")
    assert re.fullmatch(r"(made/(coffee|flower)-compare\.png  PSNR -?\d+\.\d\d dB\n){2}", said)
    with Image.open("made/coffee-compare.png") as strip:
        assert strip.width > 3 * SHAPES["coffee"][1] - 1


@pytest.mark.parametrize("style", ["overlay", "grid"])
def test_attention_on_a_photograph_is_drawn_with_the_teacher_beside_it(
    muse: Muse, photograph: Callable[[str], Path], checkpoint: Path, style: str
) -> None:
    arguments = ["--checkpoint", str(checkpoint), "--query", "30,20", "--query", "80,60", "--teacher", "--json"]
    said = json.loads(muse("attn-viz", str(photograph("chelsea")), *arguments, "--style", style, "--out", "seen.png"))
    with Image.open("seen.png") as drawn:
        drawn.load()
        assert min(drawn.size) > 60
    assert {entry["name"] for entry in said["maps"]} >= {"muse-tiny-stage3"}
    for entry in said["maps"]:
        assert 0 <= entry["entropy_nats"] <= math.log(cells("chelsea")[0] * cells("chelsea")[1]) + 1e-6


def test_a_photograph_straight_from_the_package_needs_nothing_but_its_path(muse: Muse, checkpoint: Path) -> None:
    said = muse("attn-viz", str(PHOTOGRAPHS["china"]), "--checkpoint", str(checkpoint), "--layer", "all")
    assert said.startswith("china-attention.png\n")
    assert said.count("entropy") == 2
    said = muse("infer", str(PHOTOGRAPHS["flower"]), "--checkpoint", str(checkpoint), "--out", "made", "--json")
    (entry,) = json.loads(said)["images"]
    assert min(entry["height"], entry["width"]) == 128, "at most twice the training size"
    assert entry["width"] / entry["height"] == pytest.approx(640 / 427, rel=0.01)
