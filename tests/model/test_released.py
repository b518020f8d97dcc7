"""Checkpoints of the public code: every wrapper that occurs is opened, everything else is refused with a reason."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from muse_core.errors import ExitCode, MuseError
from muse_core.model.abilities import Aligns, Attends, Decodes, Encodes, Featurizes
from muse_core.model.load import load_tokenizer
from muse_core.model.tokenizer import MuseTokenizer
from tests.fixtures.regenerate import image, reference_tensors
from tests.parity.closeness import assert_close
from tests.parity.released import flat, network, write_released

IMAGES = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def no_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture's checkpoint as a file; do not write to it."""
    return write_released(tmp_path_factory.mktemp("whole"))


def without(*prefixes: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in flat().items() if not name.startswith(prefixes)}


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in without("dino_teacher").items()}


def same_network(tokenizer: MuseTokenizer) -> bool:
    ours, expected = tokenizer.network.state_dict(), network().state_dict()
    return ours.keys() == expected.keys() and all(torch.equal(ours[name], expected[name]) for name in ours)


def refusal(file: Path) -> MuseError:
    """How a file is refused: one line that names it, a remedy, and exit code 4."""
    with pytest.raises(MuseError) as caught:
        load_tokenizer(file)
    error = caught.value
    assert (error.exit_code, "\n" in error.what) == (ExitCode.FILE, False)
    assert str(file) in error.what
    assert error.hint
    return error


# What a loaded file computes.


def test_a_released_file_computes_what_the_public_code_computes(whole: Path) -> None:
    tokenizer, reference = load_tokenizer(whole), reference_tensors()
    for name in ("main", "alt"):
        assert_close(tokenizer.encode(image(name)).z, reference[f"{name}.z_map"])
    z = tokenizer.encode(image("main")[:1]).z
    assert_close(tokenizer.decode(z, (224, 224)) * 2 - 1, reference["main.reconstruction_0"])
    assert_close(tokenizer.attention(image("main")[:1]).weights, reference["main.attn_last"])
    anchor = tokenizer.features(image("main"), "semantic").patch.flatten(2).mT
    assert_close(anchor, reference["main.feat_itc"])
    assert_close(tokenizer.network.connector.embed(anchor), reference["main.image_embeds"])


def test_it_has_the_abilities_that_its_files_support(whole: Path) -> None:
    tokenizer = load_tokenizer(whole)
    for ability in (Encodes, Decodes, Featurizes, Attends):
        assert isinstance(tokenizer, ability)
    assert not isinstance(tokenizer, Aligns), "there is no text tower on this machine"
    assert "CLIP-ViT-L-14" in tokenizer.info.notes[0]


def test_sizes_are_read_off_the_file(whole: Path) -> None:
    info = load_tokenizer(whole).info
    assert (info.attention_layers, info.latent_channels, info.resolution) == (3, 32, 224)
    assert info.tokens_at(448, 224) == (16, 8)


def test_the_depth_is_read_from_the_keys(tmp_path: Path) -> None:
    shallow = load_tokenizer(write_released(tmp_path, without("muse_blocks.2.", "dino_teacher")))
    assert shallow.info.attention_layers == 2


def test_two_latent_widths_are_joined_by_an_adapter(tmp_path: Path) -> None:
    narrow = without("dino_teacher") | {
        "to_latent.weight": torch.zeros(16, 512),
        "to_latent.bias": torch.ones(16),
        "decoder_adapter.weight": torch.ones(32, 16, 1, 1),
        "decoder_adapter.bias": torch.zeros(32),
    }
    tokenizer = load_tokenizer(write_released(tmp_path, narrow))
    latents = tokenizer.encode(IMAGES).z
    assert latents.shape == (1, 16, 2, 2)
    assert tokenizer.decode(latents, (56, 56)).shape == IMAGES.shape


# Wrappers.


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: {"ema_model": flat()},
        lambda: {"model": flat()},
        lambda: {"model": without("dino_teacher"), "step": 7, "lr": 0.1},
        lambda: {"model": {name: torch.zeros_like(value) for name, value in flat().items()}, "ema_model": flat()},
        lambda: prefixed("module."),
        lambda: prefixed("_orig_mod."),
        lambda: prefixed("module._orig_mod."),
        lambda: {"ema_model": prefixed("module.")},
        lambda: without("dino_teacher"),
    ],
    ids=["ema", "model", "beside numbers", "average wins", "ddp", "compiled", "both", "ema of ddp", "no teacher"],
)
def test_c10_every_wrapper_is_taken_off(wrap: Callable[[], Any], tmp_path: Path) -> None:
    assert same_network(load_tokenizer(write_released(tmp_path, wrap())))


def test_a_file_in_safetensors_is_the_same(tmp_path: Path) -> None:
    folder = write_released(tmp_path).parent
    (folder / "pytorch_model.bin").unlink()
    save_file(without("dino_teacher"), folder / "model.safetensors")
    assert same_network(load_tokenizer(folder))
    assert same_network(load_tokenizer(folder / "model.safetensors"))


def test_only_a_whole_prefix_is_taken_off(tmp_path: Path) -> None:
    """Four of the public scripts strip "module." anywhere in a key."""
    strange = without("dino_teacher") | {"encoder.module.weight": torch.zeros(1)}
    assert "1 unexpected (encoder.vision: 1)" in refusal(write_released(tmp_path, strange)).what


def test_a_folder_of_the_public_trainer_gives_its_average(whole: Path, tmp_path: Path) -> None:
    raw = {name: torch.zeros_like(tensor) for name, tensor in without("dino_teacher").items()}
    write_released(tmp_path, raw, "unwrapped_model/pytorch_model.bin")
    write_released(tmp_path, None, "ema_model/pytorch_model.bin")
    assert same_network(load_tokenizer(tmp_path))


def test_a_file_of_stage_1_has_no_captions(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_released(tmp_path, without("semantic_projector.", "logit_scale", "dino_teacher")))
    assert tokenizer.info.name == "muse-released-stage1"
    assert not isinstance(tokenizer, Aligns)
    # Encoding holds no attention as a whole, connecting does: the last digits differ.
    torch.testing.assert_close(tokenizer.encode(IMAGES).z, encoded(), rtol=0, atol=1e-5)
    assert all(weight.isfinite().all() for weight in tokenizer.network.state_dict().values())


def encoded() -> Tensor:
    with torch.no_grad():
        return network().connect(IMAGES).latents


# Refusals.


def test_c10_a_file_whose_names_match_nothing_is_refused(tmp_path: Path) -> None:
    what = refusal(write_released(tmp_path, {"layer1.conv.weight": torch.zeros(3)})).what
    assert "holds no MUSE network: its names are layer1.conv: 1" in what


def test_c11_an_average_without_names_is_refused(tmp_path: Path) -> None:
    error = refusal(write_released(tmp_path, {"decay": 0.999, "shadow_params": [torch.zeros(2), torch.zeros(3)]}))
    assert "its tensors have no names" in error.what
    assert "ema_model/pytorch_model.bin" in str(error.hint)


class Attack:
    """What a pickle can hold: a call that is made while it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("place", ["top", "inside", "beside"])
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_c12_a_pickle_with_code_in_it_is_refused_and_nothing_runs(place: str, how: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    tensors: dict[str, Any] = {"to_latent.weight": torch.zeros(2, 2)}
    document: Any = {"top": Attack(ran), "inside": {"model": {**tensors, "x": Attack(ran)}}, "beside": [Attack(ran)]}
    file = write_released(tmp_path / "got", tensors)
    if how == "torch":
        torch.save(document[place], file)
    else:
        file.write_bytes(pickle.dumps(document[place]))
    what = refusal(file).what
    assert "would run code" in what or "cannot be read" in what
    assert not ran.exists()


def test_c12_a_pickle_says_what_it_would_have_run(tmp_path: Path) -> None:
    file = write_released(tmp_path, {"x": Attack(tmp_path / "ran")})
    assert "holds more than tensors (posix.mkdir): reading it would run code" in refusal(file).what


def test_a_number_among_the_tensors_is_refused(tmp_path: Path) -> None:
    assert "holds epoch beside tensors" in refusal(write_released(tmp_path, {**flat(), "epoch": 3})).what


@pytest.mark.parametrize("document", [[], {}, [torch.zeros(2)], "text", {"model": {}}, {"model": "text"}])
def test_a_wrapper_of_nothing_is_refused(document: Any, tmp_path: Path) -> None:
    refusal(write_released(tmp_path, document))


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    wrong = without("dino_teacher") | {"muse_blocks.1.proj.weight": torch.zeros(512, 256)}
    assert "1 of another shape (connector.blocks: 1)" in refusal(write_released(tmp_path, wrong)).what


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("decoder.", "missing (decoder.decoder"),
        ("muse_blocks.1.", "has blocks 0, 2: some are missing"),
        ("muse_blocks.0.q_norm", "has no complete block 0"),
        ("logit_scale", "1 missing (connector.logit_scale: 1)"),
        ("encoder.encoder.layers.1.ls1", "1 missing (encoder.vision: 1)"),
    ],
)
def test_a_missing_part_is_named(lost: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(write_released(tmp_path, without(lost, "dino_teacher"))).what


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_file_half_downloaded_is_refused(name: str, kept: float, tmp_path: Path) -> None:
    small = {"to_latent.weight": torch.zeros(32, 512), "muse_blocks.0.q_topo.weight": torch.zeros(512, 512)}
    file = tmp_path / name
    if name.endswith(".bin"):
        torch.save(small, file)
    else:
        save_file(small, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    assert "cannot be read" in (what := refusal(file).what) or "no complete safetensors file" in what


def test_c13_no_teacher_of_a_file_is_read(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from muse_core.model.weights import reading

    read: list[str] = []
    keep = reading.LazyTensors.__getitem__

    def watched(self: reading.LazyTensors, name: str) -> Tensor:
        read.append(name)
        return keep(self, name)

    monkeypatch.setattr(reading.LazyTensors, "__getitem__", watched)
    tokenizer = load_tokenizer(whole)
    assert read
    assert not [name for name in read if name.startswith("dino_")]
    assert set(tokenizer.info.parameters) == {"encoder", "connector", "decoder"}
