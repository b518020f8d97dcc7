"""`muse config`, as far as a user sees it: origins, all problems at once, keys and schema."""

from pathlib import Path

import pytest

from muse_core.errors import ExitCode
from tests.cli.conftest import Muse


@pytest.mark.parametrize("text", ["run:", "run: 3", "run: {size: [1]}", "run: {stage: {a: b}}"])
def test_a_section_of_another_kind_is_a_problem_of_the_file(muse: Muse, text: str) -> None:
    Path("odd.yaml").write_text(text)
    ended = muse("config", "check", "odd.yaml", "--json")
    assert (ended.code, len(ended.json["problems"])) == (ExitCode.PROBLEMS, 1)


def test_a_value_set_in_all_four_layers_shows_the_winner_and_its_origin(
    muse: Muse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("optim: {lr: 0.3, beta1: 0.8, weight_decay: 0.2}\n")
    monkeypatch.setenv("MUSE_TRAIN__OPTIM__LR", "0.2")
    monkeypatch.setenv("MUSE_TRAIN__OPTIM__BETA1", "0.7")
    show = ["config", "show", "train", "--size", "tiny", "--stage", "1", "--config", str(file)]
    shown = muse(*show, "--set", "optim.lr=0.1", "--json").json
    values, origins = shown["settings"]["optim"], shown["origins"]
    assert (values["lr"], origins["optim.lr"]) == (0.1, "command line")
    assert (values["beta1"], origins["optim.beta1"]) == (0.7, "MUSE_TRAIN__OPTIM__BETA1")
    assert (values["weight_decay"], origins["optim.weight_decay"]) == (0.2, str(file))
    assert origins["optim.warmup_steps"] == "preset"
    assert (shown["settings"]["run"]["seed"], origins["run.seed"]) == (0, "default")
    text = muse(*show, "--set", "optim.lr=0.1").out
    line = next(line for line in text.splitlines() if line.strip().startswith("lr:"))
    assert line.split("#") == [line.split("#")[0], " command line"]


def test_what_show_prints_is_a_settings_file(muse: Muse, tmp_path: Path) -> None:
    shown = muse("config", "show", "train", "--size", "tiny", "--stage", "3")
    (tmp_path / "again.yaml").write_text(shown.out)
    again = muse("config", "show", "train", "--config", "again.yaml", "--json").json
    assert (
        again["settings"]
        == muse("config", "show", "train", "--size", "tiny", "--stage", "3", "--json").json["settings"]
    )
    assert muse("config", "check", "again.yaml").out == "again.yaml is good for muse train\n"


def test_check_names_every_problem_and_ends_with_8(muse: Muse, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("optim: {lr: -1, warm_steps: 2}\nrun: {size: huge}\n")
    ended = muse("config", "check", "bad.yaml")
    assert ended.code == ExitCode.PROBLEMS
    assert ended.out.splitlines() == [
        "run.size: must be tiny, 1b or 3b, got 'huge' (from bad.yaml)",
        "optim.lr: must be greater than 0, got -1 (from bad.yaml)",
        "optim.warm_steps: no such setting (from bad.yaml); did you mean optim.warmup_steps?",
    ]
    assert len(muse("config", "check", "bad.yaml", "--json").json["problems"]) == 3


def test_a_wrong_setting_of_a_command_ends_with_3(muse: Muse) -> None:
    ended = muse("train", "--stage", "1", "--size", "tiny", "--set", "optim.lr=-1")
    assert ended.code == ExitCode.SETTINGS
    assert "error: optim.lr: must be greater than 0, got -1 (from command line)" in ended.err


def test_keys_tell_type_default_limits_and_a_sentence(muse: Muse) -> None:
    lines = muse("config", "keys", "train").out.splitlines()
    at = lines.index("optim.lr  (float, above 0; default 0.0004)")
    assert lines[at + 1] == "    peak learning rate"


@pytest.mark.parametrize("command", ["train", "eval", "zeroshot", "probe", "probe-linear", "infer", "attn-viz"])
def test_every_command_with_settings_has_keys_and_a_schema(muse: Muse, command: str) -> None:
    assert muse("config", "keys", command, "--json").json["keys"]
    assert muse("config", "schema", command, "--json").json["type"] == "object"
    assert muse("config", "show", command).code == 0


def test_a_command_without_settings_lists_those_that_have_some(muse: Muse) -> None:
    ended = muse("config", "keys", "doctor")
    assert ended.code == ExitCode.USAGE
    assert "choose from train, eval" in ended.err


def test_a_variable_that_fits_nothing_warns_and_the_command_goes_on(
    muse: Muse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_TRAIN__OPTM__LR", "1")
    monkeypatch.setenv("MUSE_EVAL__LIMIT", "3")
    ended = muse("config", "show", "train", "--size", "tiny")
    assert ended.code == 0
    assert ended.err == "warning: MUSE_TRAIN__OPTM__LR fits no setting; did you mean MUSE_TRAIN__OPTIM__LR?\n"
