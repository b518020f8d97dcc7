"""The ablation: what it compares, the rule that was fixed beforehand, and that nothing is made twice."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from muse_core.errors import MuseError
from muse_core.runs import RunFolder
from muse_core.settings.layers import resolve
from muse_core.settings.presets import STAGES, preset
from muse_core.settings.train import TrainSettings
from muse_core.training import loop
from muse_core.training.checkpointing import save
from muse_core.training.trainer import Trainer

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
EVEN = {"psnr": 20.0, "ssim": 0.5, "fd": 30.0, "zeroshot": 0.5, "linear": 0.5, "miou": 0.1, "kl": 0.02, "auc": 0.9}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def found(load: Any) -> Any:
    """Results of three seeds: everything equal but what a test changes; every number moves by 1 % between seeds."""

    def make(changes: dict[str, dict[str, float]], seeds: int = 3) -> Any:
        factors, rule = load("ablation_factors"), load("ablation_rule")
        runs = {
            one.name: {
                seed: {name: value * (1 + 0.01 * seed) for name, value in {**EVEN, **changes.get(one.name, {})}.items()}
                for seed in range(seeds)
            }
            for one in factors.CONFIGURATIONS
        }
        return rule.Results(runs)

    return make


def test_each_configuration_is_a_recipe_that_exists(load: Any) -> None:
    configurations = load("ablation_factors").CONFIGURATIONS
    assert [one.name for one in configurations if one.kind == "factor"] == [
        "default",
        "open",
        "joint",
        "no-topology",
        "last-block",
        "not-injected",
        "raw-anchor",
        "released",
    ]
    recipes = set()
    for one in configurations:
        for stage in STAGES:
            flags = one.settings(stage)
            base = preset("tiny", stage, flags.get("run.recipe", "muse"))
            settings, _ = resolve(TrainSettings, command="train", flags=flags, preset=base, environ={})
            recipes.add((stage, settings.model_dump_json()))
    assert len(recipes) >= 3 * len(configurations) - 3  # in stage 3 the paper's default is open already


def test_the_rule_takes_a_gain_in_miou_that_costs_nothing(load: Any, found: Any) -> None:
    rule = load("ablation_rule")
    assert rule.decision(found({})) == "default"
    assert rule.decision(found({"last-block": {"miou": 0.2}})) == "last-block"
    assert rule.decision(found({"last-block": {"miou": 0.2, "psnr": 18.0}})) == "default"
    assert rule.decision(found({"last-block": {"miou": 0.2, "zeroshot": 0.4}})) == "default"
    assert rule.decision(found({"last-block": {"miou": 0.1005}})) == "default"  # within two standard errors
    assert rule.decision(found({"last-block": {"miou": 0.2}, "released": {"miou": 0.3}})) == "released"
    assert rule.decision(found({"stress": {"miou": 0.9}, "joint-no-topology": {"miou": 0.9}})) == "default"


def test_nothing_is_decided_by_one_seed(load: Any, found: Any) -> None:
    rule = load("ablation_rule")
    single = found({"last-block": {"miou": 0.9}}, seeds=1)
    assert rule.decision(single) == "default"
    assert rule.qualifies(single, "last-block") is None


def test_the_error_of_a_difference_is_the_pooled_spread_over_both_counts(found: Any) -> None:
    results = found({"last-block": {"miou": 0.1}})
    effect = results.effect("last-block", "miou")
    assert effect.gain == pytest.approx(0)
    assert effect.error == pytest.approx(0.001 * (2 / 3) ** 0.5)  # 0.1, 0.101, 0.102 deviate by 0.001
    assert results.effect("last-block", "fd").gain == pytest.approx(0)
    assert found({"last-block": {"fd": 60.0}}).effect("last-block", "fd").gain < 0  # lower is better


def test_the_page_says_what_was_not_run_and_what_follows(load: Any, found: Any) -> None:
    page, scale = load("ablation_page"), load("ablation").Scale(0.5, 8, 100, 50, 60, 2)
    results = found({"last-block": {"miou": 0.2}})
    text = "\n".join(page.page(results, {}, {"linear": 0.7}, scale, 4))
    assert "tiny leaves the paper's default for `last-block`" in text
    assert "`default` (3 of 4 seeds)" in text
    assert "short runs" in text
    assert "trained **with masks**" in text
    assert "| linear probe top-1 | 70.0% | 50.5% (50.0% to 51.0%) | **no** |" in text
    assert "| Topology on the last block only segments best | `last-block` over `default` | mIoU | **+10.10 ± " in text
    whole = load("ablation").Scale(1.0, None, 100, 50, 60, 2)
    text = "\n".join(page.page(found({}), {}, {}, whole, 3))
    assert "short runs" not in text
    assert "Every planned run was made." in text
    assert "Tiny keeps the paper's defaults" in text


def test_the_page_tells_whether_the_choice_holds_in_longer_runs(load: Any, found: Any) -> None:
    page, ablation, rule = load("ablation_page"), load("ablation"), load("ablation_rule")
    short, whole = ablation.Scale(0.25, 8, 100, 50, 60, 2), ablation.Scale(1.0, None, 200, 50, 60, 2)
    results = found({"joint": {"miou": 0.2}})

    def told(miou: float) -> str:
        runs = found({"joint": {"miou": miou}}).runs
        longer = page.Longer(rule.Results({name: runs[name] for name in ("default", "joint")}), whole)
        return "\n".join(page.page(results, {}, {}, short, 3, longer))

    assert "By the rule, tiny leaves the paper's default for `joint`.**" in told(0.2)
    assert "280 + 160 + 320 steps" in told(0.2)
    assert "By the rule, tiny keeps the paper's defaults.** In runs this short, `joint` would meet the rule" in told(
        0.1
    )
    assert "Not run at this length: `open`, `no-topology`" in told(0.1)


def test_interference_is_destructive_only_beyond_what_seeds_explain(load: Any) -> None:
    conflict = load("ablation_conflict")

    def said(*cosines: float) -> str:
        rows = [[{"weights": "encoder", "pair": "a-b", "cosine": c}] for c in cosines]
        runs = {seed: {"tables": {"where streams meet": row}} for seed, row in enumerate(rows)}
        return str(conflict.interference({"joint": runs}, ("joint",)))

    assert "is **refuted**" in said(-0.40, -0.41, -0.42)
    assert "is **confirmed**" in said(-0.40, 0.30, -0.20)
    assert "is **confirmed**" in said(-0.04, -0.05, -0.045)
    assert "too few seeds" in said(-0.4)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_and_what_is_finished_is_left_alone(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ablation, factors = load("ablation"), load("ablation_factors")
    place = ablation.Place(tmp_path, ablation.Scale(0.014, 8, 128, 24, 48, 1))
    ablation.prepare(place)
    (one,) = [each for each in factors.CONFIGURATIONS if each.name == "raw-anchor"]

    def save_and_stop(trainer: Trainer, done: int) -> None:
        save(trainer, done)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            ablation.run_missing(place, 1, [one])
    stage = RunFolder.open(place.run("raw-anchor", 0) / "stage1")
    assert (stage.status.state, stage.last_checkpoint()) == ("interrupted", stage.checkpoints()[0])
    (stage.path / "mark").touch()

    ablation.run_missing(place, 1, [one])
    assert (stage.path / "mark").exists()  # it went on in its folder; a new run would have refused it
    assert stage.status.state == "finished"
    assert ablation.is_finished(place, "raw-anchor", 0)
    results, _, raw = ablation.collect(place, 1)
    assert set(results.runs["raw-anchor"][0]) == set(EVEN)
    assert 0 < raw["miou"] < 1

    (place.run("raw-anchor", 0) / "finished.json").unlink()
    (place.run("raw-anchor", 0) / "scores" / "topology.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    ablation.run_missing(place, 1, [one])
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert {path.name for path in after if after[path] != before.get(path)} == {"finished.json", "topology.json"}

    with pytest.raises(MuseError, match="was begun with"):
        ablation.prepare(ablation.Place(tmp_path, ablation.Scale(1.0, 8, 128, 24, 48, 1)))


def test_two_processes_never_make_the_same_run(load: Any, tmp_path: Path) -> None:
    ablation = load("ablation")
    with ablation.claimed(tmp_path / "run") as first, ablation.claimed(tmp_path / "run") as second:
        assert (first, second) == (True, False)
    with ablation.claimed(tmp_path / "run") as again:
        assert again
