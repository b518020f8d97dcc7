"""An exported folder loads with nothing else, says what it carries, and tells its scores with their protocols."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.protocol import Counts, Protocol, Scores
from muse_core.model.abilities import Aligns
from muse_core.model.exporting import export
from muse_core.model.load import SHIPPED, load_tokenizer
from muse_core.runs import RunFolder
from muse_core.stages.start import RunSummary
from tests.fixtures import published as tiny_parts
from tests.parity.released import write_released

IMAGES = torch.rand(2, 3, 60, 64, generator=torch.Generator().manual_seed(0))


def alone(folder: Path, elsewhere: Path) -> Path:
    """The exported folder where nothing lies beside it."""
    return Path(shutil.move(folder, elsewhere / "alone"))


def test_the_shipped_tokenizer_comes_back_with_its_captions(tmp_path: Path) -> None:
    exported = export(SHIPPED, tmp_path / "out")
    assert exported.text == "muse/tiny-text, carried in text/"
    ours, theirs = load_tokenizer(alone(tmp_path / "out", tmp_path)), load_tokenizer("tiny")
    assert torch.equal(ours.encode(IMAGES).z, theirs.encode(IMAGES).z)
    assert torch.equal(ours.image_embed(IMAGES), theirs.image_embed(IMAGES))
    assert torch.equal(ours.text_embed(["a red cat"]), theirs.text_embed(["a red cat"]))


@pytest.mark.parametrize("stage", [1, 3])
def test_a_run_is_exported_from_its_last_checkpoint(
    three_stages: dict[int, RunSummary], stage: int, tmp_path: Path
) -> None:
    run = three_stages[stage].folder
    exported = export(run, tmp_path / "out")
    ours, theirs = load_tokenizer(tmp_path / "out"), load_tokenizer(run)
    assert type(ours) is type(theirs)
    assert torch.equal(ours.encode(IMAGES).z, theirs.encode(IMAGES).z)
    assert ("none, because stage 1" in exported.text) == (stage == 1)


def test_raw_weights_are_others_than_averaged_ones(three_stages: dict[int, RunSummary], tmp_path: Path) -> None:
    run = three_stages[3].folder
    export(run, tmp_path / "average")
    export(run, tmp_path / "raw", average=False)
    averaged, raw = (load_tokenizer(tmp_path / name).encode(IMAGES).z for name in ("average", "raw"))
    assert not torch.equal(averaged, raw)
    assert "raw weights" in (tmp_path / "raw" / "README.md").read_text()


def test_a_released_file_is_exported_in_its_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    file = write_released(tmp_path / "released")
    exported = export(file, tmp_path / "out")
    assert "so it is not named" in exported.text
    before = load_tokenizer(file).encode(IMAGES).z
    shutil.rmtree(tmp_path / "released")
    assert torch.equal(load_tokenizer(tmp_path / "out").encode(IMAGES).z, before)
    assert load_tokenizer(tmp_path / "out" / "model.safetensors").info.attention_layers == 3
    card = (tmp_path / "out" / "README.md").read_text()
    assert "OpenGVLab/InternVL3-1B" in card
    with pytest.raises(MuseError, match="no text tower to carry"):
        export(tmp_path / "out", tmp_path / "again", text="carry")


def test_a_clip_tower_is_named_or_carried_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(tiny_parts, "CAPTIONS", 768)
    tiny_parts.write_open_clip(tmp_path / "weights" / "laion" / "CLIP-ViT-L-14-laion2B-s32B-b82K")
    file = write_released(tmp_path / "released")
    assert "named and not carried" in export(file, tmp_path / "named").text
    assert "carried in text/" in export(file, tmp_path / "carried", text="carry").text
    rows = load_tokenizer(tmp_path / "named").text_embed(["a cat"])
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "elsewhere"))
    assert not isinstance(load_tokenizer(tmp_path / "named"), Aligns)
    assert torch.equal(load_tokenizer(tmp_path / "carried").text_embed(["a cat"]), rows)


def scored(run: Path) -> None:
    scores = Scores(
        "eval",
        "mine",
        {"psnr": 21.5, "rfid": float("nan")},
        Protocol({"data": "demo:val", "size": 64}),
        Counts(seen=12, skipped={}),
        notes=("a note that belongs beside it",),
    )
    scores.save(RunFolder(run).result_path("eval"))


@pytest.fixture
def run(three_stages: dict[int, RunSummary], tmp_path: Path) -> Path:
    """A finished run with scores."""
    copied = Path(shutil.copytree(three_stages[3].folder, tmp_path / "run"))
    scored(copied)
    return copied


def test_the_card_tells_each_score_with_its_protocol(run: Path, tmp_path: Path) -> None:
    assert export(run, tmp_path / "out").scores == 1
    card = (tmp_path / "out" / "README.md").read_text()
    column = Protocol({"data": "demo:val", "size": 64}).column("psnr")
    assert f"| eval | psnr | 21.5 | demo:val | 12 | `{column}` |" in card
    assert "| eval | rfid | not finite |" in card
    assert "a note that belongs beside it" in card
    assert '"size": 64' in card


def test_for_the_hub_the_card_begins_with_what_the_hub_reads(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out", to="hub")
    _, front, card = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["license"] == "apache-2.0"
    (result,) = metadata["model-index"][0]["results"]
    assert [metric["value"] for metric in result["metrics"]] == [21.5], "what is not finite is no result"
    assert card.strip().startswith("# muse-tiny-stage3")
    assert "*.safetensors filter=lfs" in (tmp_path / "out" / ".gitattributes").read_text()
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        ".gitattributes",
        "README.md",
        "config.json",
        "model.safetensors",
        "text",
    }


def test_the_hubs_own_library_reads_the_card(run: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    export(run, tmp_path / "out", to="hub")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.library_name == "muse-tokenizer"
    assert card.data.eval_results[0].metric_value == 21.5


# What is refused.


def test_nothing_of_the_users_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(MuseError, match="no exported tokenizer"):
        export(SHIPPED, tmp_path / "mine", overwrite=True)
    export(SHIPPED, tmp_path / "out")
    with pytest.raises(MuseError, match="exported tokenizer already") as caught:
        export(SHIPPED, tmp_path / "out")
    assert "--overwrite" in str(caught.value.hint)
    export(SHIPPED, tmp_path / "out", overwrite=True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"schema": 9}, "newer muse"),
        ({"spec": {}}, "no config of an exported tokenizer"),
        ({"size": None, "spec": {"width": 3}}, "no config of an exported tokenizer"),
    ],
)
def test_a_config_that_does_not_fit_is_named(spoil: dict[str, object], said: str, tmp_path: Path) -> None:
    export(SHIPPED, tmp_path / "out")
    config = tmp_path / "out" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | spoil))
    with pytest.raises(MuseError, match=said) as caught:
        load_tokenizer(tmp_path / "out")
    assert caught.value.exit_code == ExitCode.FILE
    assert str(tmp_path / "out") in caught.value.what


def test_weights_cut_short_are_named(tmp_path: Path) -> None:
    export(SHIPPED, tmp_path / "out")
    weights = tmp_path / "out" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(MuseError, match="no complete safetensors file") as caught:
        load_tokenizer(tmp_path / "out")
    assert caught.value.hint
