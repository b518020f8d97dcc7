"""`muse ls`, `muse doctor`, and where a command looks when nothing was named."""

from pathlib import Path

import pytest

from muse_cli.tokenizer import chosen_or_newest
from muse_core.errors import ExitCode
from muse_core.runs import RunFolder
from tests.cli.conftest import Muse
from tests.fixtures.published import write_convnext, write_everything


def test_presets_tell_the_recipe_of_each_size_and_stage(muse: Muse) -> None:
    presets = muse("ls", "presets", "--json").json["presets"]
    assert [(row["size"], row["stage"]) for row in presets] == [(s, n) for s in ("tiny", "1b", "3b") for n in (1, 2, 3)]
    released = next(row for row in presets if (row["size"], row["stage"]) == ("1b", 2))
    assert (released["steps"], released["batch"], released["lr"]) == (50_000, 384, 2e-4)


def test_runs_tell_how_they_are(muse: Muse) -> None:
    assert muse("ls", "runs").out == "no runs\n"
    run = RunFolder.create(Path("runs/mine"), {}, {}, stage=2, size="tiny", steps=10)
    run.update(step=4, psnr=21.53219)
    assert muse("ls", "runs", "--json").json["runs"] == [
        {
            "run": "runs/mine",
            "kind": "tokenizer",
            "size": "tiny",
            "stage": 2,
            "state": "running",
            "step": "4/10",
            "best": "psnr 21.53",
        }
    ]
    assert "runs/mine" in muse("ls", "runs").out


def test_a_run_that_was_killed_is_listed_as_stopped_with_the_way_on(muse: Muse) -> None:
    for name in ("killed", "at work"):
        RunFolder.create(Path("runs") / name, {}, {}, stage=2, size="tiny", steps=10).update(step=4)
    with RunFolder(Path("runs/killed")).held():
        pass  # and nothing was written when it was given back, as after SIGKILL
    with RunFolder(Path("runs/at work")).held():
        ended = muse("ls", "runs", "--json")
    rows = {row["run"]: (row["state"], row["step"]) for row in ended.json["runs"]}
    assert rows == {"runs/killed": ("stopped", "4/10"), "runs/at work": ("running", "4/10")}
    assert (
        "runs/killed stopped at step 4 of 10, and no process writes to it: muse train --resume runs/killed" in ended.err
    )
    assert "stopped at step 4 of 10" in muse("inspect", "runs/killed").out
    refused = muse("eval", "latest", "--data", "demo:val:2")
    assert " is stopped at step 4 of 10" in refused.err


def test_a_run_that_cannot_be_read_does_not_hide_the_others(muse: Muse) -> None:
    for name in ("mine", "torn"):
        RunFolder.create(Path("runs") / name, {}, {}, stage=2, size="tiny", steps=10)
    Path("runs/torn/status.json").write_text('{"state": ')
    ended = muse("ls", "runs", "--json")
    assert [(row["run"], row["state"]) for row in ended.json["runs"]] == [
        ("runs/mine", "running"),
        ("runs/torn", "unreadable"),
    ]
    assert "warning: " in ended.err
    assert "runs/torn/status.json" in ended.err


@pytest.mark.parametrize("kind", ["sizes", "stages", "probes", "metrics", "tokenizers"])
def test_everything_listable_is_listed(muse: Muse, kind: str) -> None:
    assert muse("ls", kind, "--json").json[kind]


def test_an_unknown_kind_is_a_mistake_that_names_the_known_ones(muse: Muse) -> None:
    ended = muse("ls", "probs")
    assert ended.code == ExitCode.USAGE
    assert "'probes'" in ended.err


def test_doctor_lists_what_a_size_lacks_and_where_to_put_it(
    muse: Muse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    ended = muse("doctor", "--size", "1b")
    assert ended.code == ExitCode.PROBLEMS
    assert "OpenGVLab/InternVL3-1B: not found; it is the vision encoder" in ended.err
    assert str(tmp_path / "weights" / "OpenGVLab" / "InternVL3-1B") in ended.err
    document = muse("doctor", "--size", "1b", "--json").json
    assert document["exit_code"] == 8
    assert document["versions"]["torch"]
    assert len(document["problems"]) == 7


def test_doctor_says_of_each_part_what_it_is_for_and_under_which_licence(
    muse: Muse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_everything(tmp_path / "weights", "3b")
    write_convnext(weights)
    monkeypatch.setenv("MUSE_WEIGHTS", str(weights))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    ended = muse("doctor", "--size", "3b")
    assert ended.code == 0, ended.err
    found = next(line for line in ended.out.splitlines() if line.startswith("OpenGVLab/InternVL3-2B"))
    assert str(weights / "OpenGVLab" / "InternVL3-2B") in found
    assert "vision encoder; licence: MIT" in found
    inception = next(line for line in ended.out.splitlines() if line.startswith("toshas/torch-fidelity"))
    assert "missing; without it rFID is not measured" in inception

    shard = weights / "OpenGVLab" / "InternVL3-2B" / "model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:500])
    ended = muse("doctor", "--size", "3b")
    assert ended.code == ExitCode.PROBLEMS
    assert f"{shard.name} is no complete safetensors file" in ended.err
    assert "hf download OpenGVLab/InternVL3-2B" in ended.err


def test_doctor_is_content_with_tiny(muse: Muse) -> None:
    ended = muse("doctor")
    assert ended.code == 0
    assert "cpu" in ended.out


def test_doctor_tries_to_write(muse: Muse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("muse_cli.commands.doctor.tempfile.NamedTemporaryFile", refuse)
    ended = muse("doctor")
    assert ended.code == ExitCode.PROBLEMS
    assert "runs folder: cannot be written: Permission denied" in ended.err


def test_without_a_name_the_newest_finished_run_is_used_and_else_the_shipped_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert chosen_or_newest(None) == "tiny"
    assert "using the tokenizer that ships with muse" in capsys.readouterr().err
    run = RunFolder.create(Path("runs/mine"), {}, {}, stage=3, size="tiny")
    with run.checkpoint(1) as folder:
        (folder / "state.json").write_text("{}")
    run.finish(1)
    assert chosen_or_newest(None) == "runs/mine"
    assert "using runs/mine, the newest finished run" in capsys.readouterr().err
    assert chosen_or_newest("other") == "other"


@pytest.mark.parametrize(
    ("system", "said"),
    [("Linux", "tested"), ("Darwin", "expected to work, not tested"), ("Windows", "not supported")],
)
def test_doctor_says_how_far_a_system_is_supported(
    muse: Muse, monkeypatch: pytest.MonkeyPatch, system: str, said: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    assert f" ({said})\n" in muse("doctor").out
    assert muse("doctor", "--json").json["support"] == said
