"""Four layers, merged per leaf; every error at once, each with key, value and origin."""

from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, model_validator

from muse_core.errors import ExitCode, MuseError
from muse_core.settings import Origins, Section, SettingsError, describe_keys, resolve


class Stage(IntEnum):
    TOPOLOGY = 1
    SEMANTICS = 2


class Adversarial(Section):
    weight: float = Field(0.5, ge=0, description="Weight in the total.")
    start: int = 0


class Optim(Section):
    lr: float = Field(1e-4, gt=0, description="Peak learning rate.")
    warmup_steps: int = Field(100, ge=0)


class Run(Section):
    stage: Stage = Stage.TOPOLOGY
    name: str = "run"
    seed: int = 0
    init: str | None = None
    out: Path | None = None


class Losses(Section):
    weights: dict[str, float] = Field(default_factory=dict)
    adversarial: Adversarial | None = None
    routing: Literal["strict", "open", "no"] = "strict"


class Settings(Section):
    run: Run = Run()
    optim: Optim = Optim()
    losses: Losses = Losses()

    @model_validator(mode="after")
    def _adversarial_needs_pixels(self) -> "Settings":
        if self.losses.adversarial and self.losses.weights.get("pixel") == 0:
            raise ValueError("losses.adversarial needs losses.weights.pixel above 0")
        return self


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text("optim: {lr: 2.0e-3, warmup_steps: 7}\nrun: {name: from file}\n")
    return path


def solve(environ: dict[str, str] | None = None, **layers: Any) -> tuple[Settings, Origins]:
    return resolve(Settings, command="train", environ=environ or {}, **layers)


def test_every_layer_wins_over_the_one_below_per_leaf(file: Path) -> None:
    preset = {"run": {"name": "preset", "seed": 5}, "optim": {"lr": 1e-5, "warmup_steps": 1}}
    settings, origins = solve(
        {"MUSE_TRAIN__OPTIM__LR": "3e-3"},
        file=file,
        preset=preset,
        sets=["optim.warmup_steps=9"],
        flags={"run.seed": None},
    )
    assert (settings.optim.lr, settings.optim.warmup_steps) == (3e-3, 9)
    assert (settings.run.name, settings.run.seed) == ("from file", 5)
    assert origins["optim.lr"] == "MUSE_TRAIN__OPTIM__LR"
    assert origins["optim.warmup_steps"] == "command line"
    assert origins["run.name"] == str(file)
    assert origins["run.seed"] == "preset"
    assert origins["run.stage"] == "default"


def test_a_preset_may_depend_on_what_the_other_layers_say() -> None:
    def preset(partial: dict[str, Any]) -> dict[str, Any]:
        return {"optim": {"warmup_steps": 10 * int(partial["run"]["stage"])}}

    settings, _ = solve({"MUSE_TRAIN__RUN__STAGE": "2"}, preset=preset)
    assert settings.optim.warmup_steps == 20


def test_set_is_read_as_yaml_but_text_settings_keep_what_was_typed() -> None:
    settings, _ = solve(sets=["run.name=007", "losses.routing=no", "run.init=null", "run.out=./x", "optim.lr=3e-4"])
    assert settings.run.name == "007"
    assert settings.losses.routing == "no"
    assert settings.run.init is None
    assert settings.run.out == Path("x")
    assert settings.optim.lr == 3e-4


def test_tables_merge_key_by_key_and_a_section_can_be_switched_off_or_on() -> None:
    preset = {"losses": {"weights": {"pixel": 1.0, "topology": 2.0}, "adversarial": {"weight": 0.7}}}
    settings, origins = solve(preset=preset, sets=["losses.weights.pixel=3", "losses.adversarial=null"])
    assert settings.losses.weights == {"pixel": 3.0, "topology": 2.0}
    assert settings.losses.adversarial is None
    assert origins["losses.weights.topology"] == "preset"
    settings, _ = solve(preset={"losses": {"adversarial": None}}, sets=["losses.adversarial.start=4"])
    assert settings.losses.adversarial == Adversarial(start=4)


def test_all_errors_come_at_once_with_key_value_and_layer(file: Path) -> None:
    file.write_text("optim: {warm_steps: 3}\nruns: 1\n")
    with pytest.raises(SettingsError) as caught:
        solve({"MUSE_TRAIN__OPTIM__LR": "-1"}, file=file, sets=["run.stage=7", "losses.adversarial.weight=x"])
    assert caught.value.exit_code == ExitCode.SETTINGS
    assert sorted(caught.value.problems) == [
        "losses.adversarial.weight: must be a number, got 'x' (from command line)",
        "optim.lr: must be greater than 0, got -1 (from MUSE_TRAIN__OPTIM__LR)",
        f"optim.warm_steps: no such setting (from {file}); did you mean optim.warmup_steps?",
        "run.stage: must be 1 or 2, got 7 (from command line)",
        f"runs: no such setting (from {file}); did you mean run?",
    ]
    assert "muse config keys train" in str(caught.value.hint)


def test_a_contradiction_is_told_in_the_words_of_its_rule() -> None:
    with pytest.raises(SettingsError, match="losses.adversarial needs losses.weights.pixel above 0"):
        solve(sets=["losses.weights.pixel=0", "losses.adversarial.weight=1"])


def test_general_variables_count_for_every_command_and_lose_to_the_commands_own() -> None:
    assert solve({"MUSE_SEED": "3"})[0].run.seed == 3
    settings, origins = solve({"MUSE_SEED": "3", "MUSE_TRAIN__RUN__SEED": "4"})
    assert (settings.run.seed, origins["run.seed"]) == (4, "MUSE_TRAIN__RUN__SEED")


def test_a_variable_that_fits_nothing_is_a_warning_with_the_nearest_name() -> None:
    _, origins = solve({"MUSE_TRAIN__OPTM__LR": "1", "MUSE_SEDE": "1", "MUSE_RUNS": "x", "OTHER": "y"})
    assert origins.warnings == (
        "MUSE_SEDE fits no setting; did you mean MUSE_SEED?",
        "MUSE_TRAIN__OPTM__LR fits no setting; did you mean MUSE_TRAIN__OPTIM__LR?",
    )


def test_variables_reach_into_tables_and_whole_sections() -> None:
    settings, _ = solve(
        {"MUSE_TRAIN__LOSSES__WEIGHTS__PIXEL": "2", "MUSE_TRAIN__OPTIM": "{lr: 1}", "MUSE_TRAIN__OPTIM__LR": "2"}
    )
    assert settings.losses.weights == {"pixel": 2.0}
    assert settings.optim.lr == 2


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "does not exist"), ("a: [", "cannot be read as yaml"), ("- 1", "holds a list, expected keys with values")],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, text: str) -> None:
    path = tmp_path / "bad.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(MuseError, match=text) as caught:
        solve(file=path)
    assert caught.value.exit_code == ExitCode.FILE
    assert str(path) in str(caught.value)


def test_a_day_is_text_whether_a_calendar_has_it_or_not(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    for day in ("2026-99-99", "2026-11-27"):
        path.write_text(f"run: {{name: {day}}}")
        assert solve(file=path)[0].run.name == solve(sets=[f"run.name={day}"])[0].run.name == day


def test_set_without_a_value_is_a_mistake_of_the_command_line() -> None:
    with pytest.raises(MuseError, match="expected KEY=VALUE") as caught:
        solve(sets=["optim.lr"])
    assert caught.value.exit_code == ExitCode.USAGE


def test_keys_are_described_in_words() -> None:
    described = {info.key: info for info in describe_keys(Settings)}
    assert described["optim.lr"].type == "float"
    assert described["optim.lr"].limits == "above 0"
    assert described["optim.lr"].default == 1e-4
    assert described["optim.lr"].help == "Peak learning rate."
    assert described["losses.routing"].type == "strict, open or no"
    assert described["run.stage"].type == "1 or 2"
    assert described["run.init"].type == "text or null"
    assert described["losses.weights"].type == "table of float"
    assert "losses.adversarial.weight" in described
