"""From a name or a path to a tokenizer, and what is said when that does not work."""

import shutil
from pathlib import Path

import pytest
import torch

from muse_core.errors import ExitCode, MuseError
from muse_core.model import load
from muse_core.model.abilities import Aligns, Attends, Decodes, Featurizes
from muse_core.model.load import load_teacher, load_tokenizer, untouched_baseline
from muse_core.model.tokenizer import MuseTokenizer
from muse_core.runs import RunFolder
from muse_core.stages.start import RunSummary

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def same(one: MuseTokenizer, other: MuseTokenizer) -> bool:
    return torch.equal(one.encode(IMAGES).z, other.encode(IMAGES).z)


def refusal(where: str | Path) -> MuseError:
    with pytest.raises(MuseError) as caught:
        load_tokenizer(where)
    assert caught.value.hint
    return caught.value


def test_a_run_and_its_checkpoint_are_the_same_tokenizer(
    three_stages: dict[int, RunSummary], checkpoints: dict[int, Path]
) -> None:
    run = three_stages[3].folder
    assert same(load_tokenizer(run), load_tokenizer(checkpoints[3]))
    assert same(load_tokenizer(str(run)), load_tokenizer(str(checkpoints[3])))


def test_an_earlier_checkpoint_of_a_run_can_be_had(three_stages: dict[int, RunSummary]) -> None:
    earlier, last = RunFolder(three_stages[3].folder).checkpoints()
    assert not same(load_tokenizer(earlier), load_tokenizer(last))


def test_latest_is_the_newest_finished_run(
    three_stages: dict[int, RunSummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    for stage in (1, 2):
        shutil.copytree(three_stages[stage].folder, runs / f"stage{stage}")
    RunFolder(runs / "stage1").finish(4)  # now the one updated last
    assert load_tokenizer("latest").info.name == "muse-tiny-stage1"
    RunFolder(runs / "stage1").fail(MuseError("broken"))
    assert load_tokenizer("latest").info.name == "muse-tiny-stage2"


def test_latest_without_any_run_says_how_to_get_one() -> None:
    error = refusal("latest")
    assert error.exit_code == ExitCode.FILE
    assert "muse demo" in str(error.hint)


@pytest.mark.parametrize("where", ["nothing-of-this-name", "runs/none", "/nowhere/at/all"])
def test_a_name_that_means_nothing_is_refused(where: str) -> None:
    error = refusal(where)
    assert (error.exit_code, error.what) == (ExitCode.FILE, f"{where} does not exist")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    assert "neither a run nor a checkpoint" in refusal(tmp_path).what


def test_a_run_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "new", {}, {}, stage=1, size="tiny")
    with pytest.raises(MuseError, match="no checkpoint yet"):
        load_tokenizer(tmp_path / "new")


def test_tiny_is_what_ships(checkpoints: dict[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SHIPPED", checkpoints[3])
    shipped = load_tokenizer("tiny")
    assert shipped.info.name == "muse-tiny"
    assert same(shipped, load_tokenizer(checkpoints[3]))


def test_without_a_shipped_checkpoint_tiny_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SHIPPED", tmp_path)
    error = refusal("tiny")
    assert (error.exit_code, error.hint) == (ExitCode.FILE, "muse demo")


def test_a_path_behind_a_shipped_name_is_not_ignored(checkpoints: dict[int, Path], tmp_path: Path) -> None:
    assert same(load_tokenizer(f"tiny:{checkpoints[1]}"), load_tokenizer(checkpoints[1]))
    assert "does not exist" in refusal(f"tiny:{tmp_path / 'gone'}").what
    assert "takes no path" in refusal("tiny-encoder:somewhere").what


def test_the_untouched_encoder_has_no_pixels() -> None:
    untouched = load_tokenizer("tiny-encoder")
    for ability in (Featurizes, Aligns, Attends):
        assert isinstance(untouched, ability)
    assert not isinstance(untouched, Decodes)


def test_c13_loading_a_tokenizer_loads_no_teacher(
    checkpoints: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AssertionError("the teacher was loaded")

    monkeypatch.setattr("muse_core.model.weights.tiny.load_teacher_model", refuse)
    tokenizer = load_tokenizer(checkpoints[3])
    tokenizer.attention(IMAGES)
    with pytest.raises(AssertionError):
        load_teacher(tokenizer)


def test_a_teacher_and_a_baseline_belong_to_muse_tokenizers_only(checkpoints: dict[int, Path]) -> None:
    tokenizer = load_tokenizer(checkpoints[2])
    assert load_teacher(tokenizer)(IMAGES, (8, 8)).shape == (2, 64, 64)
    assert untouched_baseline(tokenizer) is not None
    assert untouched_baseline(object()) is None
    with pytest.raises(MuseError) as caught:
        load_teacher(object())
    assert caught.value.exit_code == ExitCode.USAGE
