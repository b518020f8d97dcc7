"""What a checkpoint holds, and what is refused when one is read."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from muse_core.errors import ExitCode, MuseError
from muse_core.model.checkpoint import (
    describe,
    fill,
    is_checkpoint,
    load_network,
    read_state,
    read_tensors,
    write_tensors,
)
from muse_core.model.load import load_tokenizer
from muse_core.model.weights import tiny
from tests.model.small import small_network


@pytest.fixture
def copied(checkpoints: dict[int, Path], tmp_path: Path) -> Callable[[int], Path]:
    """A copy of a stage's checkpoint, to be spoilt."""

    def copy(stage: int) -> Path:
        return Path(shutil.copytree(checkpoints[stage], tmp_path / f"stage{stage}"))

    return copy


def refusal(folder: Path) -> MuseError:
    """How reading a checkpoint is refused: as a file that is not as needed, whoever asks."""
    with pytest.raises(MuseError) as caught:
        load_network(folder)
    with pytest.raises(MuseError) as through_the_door:
        load_tokenizer(folder)
    assert str(caught.value) == str(through_the_door.value)
    assert caught.value.exit_code == ExitCode.FILE
    assert str(folder) in caught.value.what
    return caught.value


def change_state(folder: Path, **changes: Any) -> None:
    file = folder / "state.json"
    document = json.loads(file.read_text())
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (document[section] if section else document)[name] = value
    file.write_text(json.dumps(document))


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], object], file: str = "model") -> None:
    tensors = read_tensors(folder / f"{file}.safetensors")
    change(tensors)
    save_file(tensors, folder / f"{file}.safetensors")
    change_state(folder, digests={})  # as if they had been written so


# What is in it.


def test_a_frozen_encoder_is_not_stored_but_read_again(checkpoints: dict[int, Path]) -> None:
    for stage in (1, 2):
        stored = read_tensors(checkpoints[stage] / "model.safetensors")
        assert {name.partition(".")[0] for name in stored} == {"connector", "decoder"}
        network, state = load_network(checkpoints[stage])
        assert not state.encoder_trained
        pack = tiny.load_backbone().state_dict()
        assert all(torch.equal(weight, pack[name]) for name, weight in network.encoder.vision.state_dict().items())


def test_an_encoder_that_trained_is_stored(checkpoints: dict[int, Path]) -> None:
    stored = read_tensors(checkpoints[3] / "model.safetensors")
    network, state = load_network(checkpoints[3], average=False)
    assert state.encoder_trained
    assert "backbone" not in state.frozen
    assert stored.keys() == network.state_dict().keys()


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_network_comes_back_as_it_was_saved(checkpoints: dict[int, Path], stage: int) -> None:
    network, _ = load_network(checkpoints[stage], average=False)
    weights = network.state_dict()
    stored = read_tensors(checkpoints[stage] / "model.safetensors")
    assert stored
    assert all(torch.equal(weights[name], weight) for name, weight in stored.items())


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_average_is_what_a_user_gets(checkpoints: dict[int, Path], stage: int) -> None:
    current = read_tensors(checkpoints[stage] / "model.safetensors")
    average = read_tensors(checkpoints[stage] / "average.safetensors")
    loaded = load_network(checkpoints[stage])[0].state_dict()
    assert all(torch.equal(loaded[name], average.get(name, current[name])) for name in current)
    assert any(not torch.equal(average[name], current[name]) for name in average)


def test_d6_a_checkpoint_says_all_that_is_needed_to_load_it(checkpoints: dict[int, Path], tmp_path: Path) -> None:
    alone = Path(shutil.copytree(checkpoints[3], tmp_path / "alone"))
    (alone / "training.safetensors").unlink()
    network, state = load_network(alone)
    assert (state.size, state.stage, state.step, state.spec.blocks, state.spec.width) == ("tiny", 3, 4, 2, 32)
    assert len(network.connector.blocks) == 2
    assert "stage 3" in describe(state)
    assert "muse" in describe(state)


@pytest.mark.parametrize("file", ["model", "average"])
def test_a_single_bit_of_the_weights_that_changed_is_noticed(copied: Callable[[int], Path], file: str) -> None:
    folder = copied(1)
    path = folder / f"{file}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert refusal(folder).what == f"{path} is not as it was written: its checksum differs"
    change_state(folder, digests={})  # as in checkpoints of before there were any
    load_network(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec__width": 2**40}, {"spec__heads": 0}, {"spec__heads": 7}, {"spec__blocks": -1}, {"spec__width": "32"},
        {"spec__layout": "round"}, {"stage": None}, {"frozen": [1]}, {"training": 3}, {"schema": "x"},
    ],
)  # fmt: skip
def test_a_state_that_cannot_be_is_refused_before_anything_is_built(
    copied: Callable[[int], Path], changes: dict[str, Any]
) -> None:
    folder = copied(1)
    change_state(folder, **changes)
    assert "is not the state of a muse checkpoint" in refusal(folder).what


def test_a_disk_that_refuses_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No such file") as refused:
        write_tensors({"x": torch.zeros(10)}, tmp_path / "nowhere" / "x.safetensors")
    assert refused.value.errno == errno.ENOENT

    def full(*_: object) -> None:  # in the library's words; a device such as /dev/full would be replaced by a file
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("muse_core.tensor_files.save_file", full)
    with pytest.raises(OSError, match="No space left on device") as refused:
        write_tensors({"x": torch.zeros(10)}, tmp_path / "x.safetensors")
    assert (refused.value.errno, refused.value.filename) == (errno.ENOSPC, str(tmp_path / "x.safetensors"))


def test_c12_nothing_in_a_checkpoint_has_to_be_unpickled(checkpoints: dict[int, Path]) -> None:
    for checkpoint in checkpoints.values():
        assert {file.suffix for file in checkpoint.iterdir()} == {".safetensors", ".json"}


def test_a_folder_is_a_checkpoint_when_it_has_weights_and_a_state(checkpoints: dict[int, Path], tmp_path: Path) -> None:
    assert is_checkpoint(checkpoints[1])
    assert not is_checkpoint(tmp_path)


# Weights that do not fit, by name.


def test_c10_missing_unexpected_and_misshapen_weights_are_counted_by_prefix() -> None:
    network = small_network()
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    for name in [name for name in weights if name.startswith("decoder.")]:
        del weights[name]
    weights["module.connector.to_latent.weight"] = weights.pop("connector.to_latent.weight")
    weights["connector.blocks.0.out.weight"] = torch.zeros(3, 3)
    with pytest.raises(MuseError) as caught:
        fill(network, weights, absent=(), source="this file")
    what = caught.value.what
    assert what.startswith("this file does not fit the network: ")
    assert "3 missing (connector.to_latent: 1, decoder.decoder: 2)" in what
    assert "1 unexpected (module.connector: 1)" in what
    assert "1 of another shape (connector.blocks: 1)" in what


def test_only_declared_prefixes_may_be_absent() -> None:
    network = small_network()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    weights = {name: weight + 1 for name, weight in before.items() if not name.startswith("encoder.")}
    with pytest.raises(MuseError, match="missing"):
        fill(network, weights, absent=("decoder.",), source="x")
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items()), "half loaded"
    fill(network, weights, absent=("encoder.",), source="x")
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name] + (0 if name.startswith("encoder.") else 1))


def test_a_checkpoint_with_a_weight_too_few_is_refused(copied: Callable[[int], Path]) -> None:
    folder = copied(2)
    change_tensors(folder, lambda tensors: tensors.pop("connector.blocks.1.gate"), "model")
    change_tensors(folder, lambda tensors: tensors.pop("connector.blocks.1.gate"), "average")
    assert "1 missing (connector.blocks: 1)" in refusal(folder).what


def test_a_checkpoint_with_a_strange_weight_is_refused(copied: Callable[[int], Path]) -> None:
    folder = copied(2)
    change_tensors(folder, lambda tensors: tensors.update({"teacher.layer.weight": torch.zeros(2)}))
    assert "1 unexpected (teacher.layer: 1)" in refusal(folder).what


def test_an_average_of_another_shape_is_refused(copied: Callable[[int], Path]) -> None:
    folder = copied(2)
    change_tensors(folder, lambda tensors: tensors.update({"connector.to_latent.bias": torch.zeros(3)}), "average")
    assert "1 of another shape (connector.to_latent: 1)" in refusal(folder).what


@pytest.mark.parametrize(
    ("number", "value", "complaint"),
    [
        ("blocks", 3, "missing (connector.blocks"),
        ("blocks", 1, "unexpected (connector.blocks"),
        ("width", 64, "of another shape"),
        ("latent_channels", 8, "of another shape"),
        ("layout", "released", "unexpected (connector.blocks"),
        ("inject", False, "unexpected (connector.blocks: 2)"),
    ],
)
def test_a_state_that_does_not_describe_the_weights_is_refused(
    copied: Callable[[int], Path], number: str, value: object, complaint: str
) -> None:
    folder = copied(2)
    change_state(folder, **{f"spec__{number}": value})
    assert complaint in refusal(folder).what


# Files that are damaged.


@pytest.mark.parametrize("file", ["model", "average"])
@pytest.mark.parametrize("kept", [0.0, 0.0001, 0.5, 0.999])
def test_a_file_cut_short_is_named(copied: Callable[[int], Path], file: str, kept: float) -> None:
    folder = copied(1)
    path = folder / f"{file}.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert str(path) in refusal(folder).what


def test_weights_that_are_no_weights_are_named(copied: Callable[[int], Path]) -> None:
    folder = copied(1)
    (folder / "model.safetensors").write_text("these are not weights, although there are enough of them" * 100)
    assert "model.safetensors cannot be read" in refusal(folder).what


@pytest.mark.parametrize("content", ["", "{", "[]", '{"size": "tiny"}', '{"spec": 3}', '{"spec": {}, "size": 1}'])
def test_a_state_that_is_no_state_is_named(copied: Callable[[int], Path], content: str) -> None:
    folder = copied(1)
    (folder / "state.json").write_text(content)
    assert "state.json" in refusal(folder).what


def test_a_checkpoint_of_a_newer_muse_is_refused(copied: Callable[[int], Path]) -> None:
    folder = copied(1)
    change_state(folder, schema=99)
    error = refusal(folder)
    assert "newer muse" in error.what
    assert error.hint == "update muse"


def test_a_missing_file_is_named(copied: Callable[[int], Path]) -> None:
    folder = copied(1)
    (folder / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refusal(folder).what


# Frozen parts.


@pytest.mark.parametrize("role", ["backbone", "teacher", "text"])
def test_b3_a_frozen_part_that_has_changed_since_is_refused(copied: Callable[[int], Path], role: str) -> None:
    folder = copied(2)
    frozen = dict(read_state(folder).frozen)
    assert len(frozen[role]) == 64
    change_state(folder, frozen={**frozen, role: "0" * 64})
    error = refusal(folder)
    assert f"another {role} of the tiny pack" in error.what
    assert error.hint
