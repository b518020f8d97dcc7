"""A generated pack loads through the library classes and says how it was made."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from muse_core.data.scenes import WORDS
from muse_core.errors import MuseError
from muse_core.evaluation.options import LinearOptions
from muse_core.model.images import imagenet_normalize
from muse_core.model.teacher import StructureTeacher
from muse_core.model.untouched import UntouchedEncoder
from muse_core.model.weights import tiny
from muse_core.training.foundation import __main__ as command, backbone, pixels, teacher
from muse_core.training.foundation.backbone import CaptionModel, some_patches
from muse_core.training.foundation.card import CARD, FIGURES, measure_pack, write_card
from muse_core.training.foundation.card_text import render
from muse_core.training.foundation.loop import Recipe
from muse_core.training.foundation.stream import fixed_scenes

PARTS = ("backbone", "text", "pixels", "teacher")


def test_weights_come_back_as_half_precision_kept_them(pack: Path, captioned: CaptionModel) -> None:
    loaded = tiny.load_backbone(pack).state_dict()
    for name, value in captioned.backbone.state_dict().items():
        assert torch.equal(loaded[name], value.half().float()), name


def test_an_exported_backbone_sees_what_the_trained_one_saw(pack: Path, captioned: CaptionModel) -> None:
    images = next(fixed_scenes("val", 8, batch_size=8)).images
    with torch.no_grad():
        every = some_patches(8, 256, 256)
        trained = captioned.projection(captioned.tokens(imagenet_normalize(images), every).mean(1))
    assert torch.allclose(tiny.load_image_tower(pack)(images), trained, atol=0.01)


def test_an_exported_text_tower_reads_what_the_trained_one_read(pack: Path, captioned: CaptionModel) -> None:
    captions = next(fixed_scenes("val", 8, batch_size=8)).captions
    with torch.no_grad():
        rows = captioned.text(input_ids=captioned.tokenizer(captions)).text_embeds
    expected = torch.nn.functional.normalize(rows, dim=-1)
    assert torch.allclose(tiny.load_text(pack)(captions), expected, atol=0.01)
    assert tiny.load_words(pack) == tuple(WORDS)


def test_every_part_loads_through_its_library_class(pack: Path) -> None:
    images = next(fixed_scenes("val", 2, batch_size=2)).images
    encoder = UntouchedEncoder(tiny.load_image_tower(pack), tiny.load_text(pack))
    assert encoder.features(images).patch.shape == (2, tiny.WIDTH, 16, 16)
    assert torch.allclose(encoder.text_embed(["a cat"]).norm(dim=-1), torch.ones(1))
    assert tiny.load_pixels(pack)(torch.zeros(2, 16, 8, 8)).shape == (2, 3, 64, 64)
    maps = StructureTeacher(tiny.load_teacher_model(pack))(images, (8, 8))
    assert torch.allclose(maps.sum(-1), torch.ones(2, 64))


def test_parts_are_half_precision_and_small(pack: Path) -> None:
    files = list(pack.rglob("*.safetensors"))
    assert {tensor.dtype for file in files for tensor in load_file(file).values()} == {torch.float16}
    assert sum(file.stat().st_size for file in files) < 5e6


def test_every_part_says_how_it_was_trained(pack: Path) -> None:
    notes = {part: json.loads((pack / part / "training.json").read_text()) for part in PARTS}
    assert "masks" in notes["teacher"]["supervision"]
    assert all("mask" not in notes[part]["supervision"] for part in PARTS if part != "teacher")
    assert all(note["recipe"]["seed"] == 0 for note in notes.values())
    assert notes["pixels"]["measured"]["psnr val"] > 0


def test_the_card_tells_what_was_measured_and_warns_of_the_masks(pack: Path) -> None:
    quick = LinearOptions(least_steps=5, epochs=1, rates=(0.1,), decays=(0.0,))
    found = measure_pack(pack, images=8, probe_scenes=16, probe=quick)
    text = write_card(pack, found).read_text()
    assert "trained WITH MASKS" in text
    assert "**held out**" in text
    for split in ("val", "ood"):
        assert f"{found['attention'][split]['metrics']['auc']:.4f}" in text
        assert f"{found['attention'][split]['baselines']['distance only']['auc']:.4f}" in text
        assert f"{found['zero-shot'][split]['metrics']['top1']:.3f}" in text
        assert f"{found['parts']['pixels']['training']['measured'][f'psnr {split}']:.2f} dB" in text
    assert json.loads((pack / "measured.json").read_text()) == found
    (pack / CARD).unlink()


def test_a_card_of_half_a_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MuseError, match="lacks backbone, text, pixels, teacher"):
        measure_pack(tmp_path)


def test_the_command_trains_writes_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["teacher", "--out", str(tmp_path), "--steps", "1"]
    assert command.main(ask) == 0
    first = (tmp_path / "pack/teacher/model.safetensors").read_bytes()
    assert command.main(ask) == 0
    assert (tmp_path / "pack/teacher/model.safetensors").read_bytes() == first
    assert json.loads((tmp_path / "pack/teacher/training.json").read_text())["samples"] == 64
    assert command.main(["teacher", "--out", str(tmp_path), "--steps", "2"]) == 3
    assert "another recipe" in capsys.readouterr().err


def test_the_shipped_card_says_what_its_figures_say() -> None:
    figures = json.loads((tiny.PACK / FIGURES).read_text(encoding="utf-8"))
    assert (tiny.PACK / CARD).read_text(encoding="utf-8") == render(figures)


@pytest.mark.parametrize("part", PARTS)
def test_the_shipped_part_is_the_one_that_was_measured(part: str) -> None:
    figures = json.loads((tiny.PACK / FIGURES).read_text(encoding="utf-8"))["parts"][part]
    assert figures["training"] == json.loads((tiny.PACK / part / "training.json").read_text(encoding="utf-8"))
    assert figures["bytes"] == sum(file.stat().st_size for file in (tiny.PACK / part).glob("*.safetensors"))


@pytest.mark.parametrize(
    ("part", "recipe"),
    [("backbone", backbone.RECIPE), ("text", backbone.RECIPE), ("pixels", pixels.RECIPE), ("teacher", teacher.RECIPE)],
)
def test_the_command_trains_by_the_recipe_of_the_shipped_part(part: str, recipe: Recipe) -> None:
    note = json.loads((tiny.PACK / part / "training.json").read_text(encoding="utf-8"))
    assert note["recipe"] == asdict(recipe)
    assert note["samples"] == recipe.steps * recipe.batch_size
