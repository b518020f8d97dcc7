"""What a run says before it begins: what it will do, and everything it lacks."""

import re
from pathlib import Path

import pytest

from muse_core.errors import ExitCode, MuseError
from muse_core.model.weights.parts import PARTS
from muse_core.settings.layers import resolve
from muse_core.settings.presets import preset
from muse_core.settings.train import TrainSettings
from muse_core.stages.plan import make_plan
from muse_core.training.plan import Plan
from tests.training.mini import begin, lean


@pytest.fixture
def nothing_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No published weights anywhere, not in the hub's cache either."""
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def plan_1b(stage: int = 2) -> Plan:
    flags = {"run.size": "1b", "run.stage": stage}
    settings, _ = resolve(TrainSettings, command="train", flags=flags, preset=preset("1b", stage), environ={})
    return make_plan(settings)


def line(plan: Plan, title: str) -> str:
    (found,) = [text for text in plan.lines if text.startswith(title)]
    return found


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan_1b()


def test_everything_missing_is_one_error(nothing_on_this_machine: None, tmp_path: Path) -> None:
    plan = plan_1b()
    with pytest.raises(MuseError) as caught:
        plan.refuse_if_incomplete()
    assert caught.value.exit_code == ExitCode.FILE
    what = caught.value.what
    for part in PARTS["1b"]:
        assert part.hub in what, part.role
        assert str(tmp_path / "weights" / part.hub) in what, part.role
    assert "no finished stage 1 of size 1b" in what
    assert "--data" in what
    assert what.count("\n  - ") == len(plan.missing) == len(PARTS["1b"]) + 2


def test_only_what_the_losses_need_is_missed(nothing_on_this_machine: None) -> None:
    missing = "\n".join(plan_1b(1).missing)
    assert "text tower" not in missing
    assert "structure teacher" in missing
    assert "no finished stage" not in missing


def test_a_part_that_is_there_is_not_missed(nothing_on_this_machine: None, tmp_path: Path) -> None:
    decoder = next(part for part in PARTS["1b"] if part.role == "decoder")
    folder = tmp_path / "weights" / decoder.hub
    folder.mkdir(parents=True)
    (folder / decoder.files[0]).touch()
    assert not any(decoder.hub in entry for entry in plan_1b().missing)


def test_the_plan_of_1b_counts_the_published_model(planned: Plan) -> None:
    """The fact sheet's numbers for layout `released`; ours has no gains in its norms, but gates."""
    trains, frozen = line(planned, "trains"), line(planned, "frozen")
    assert "adapter 2,101,248" in trains
    assert "decoder 159,223,171" in trains
    assert "304,012,288 weights: stage 2 does not train the encoder" in frozen
    assert "topology 5 block" not in trains
    assert re.search(r"losses +pixel 1, perceptual 1.1, topology 5, contrastive 0.2$", line(planned, "losses"))


def test_a_plan_counts_what_really_trains(tmp_path: Path) -> None:
    for stage in (1, 2, 3):
        plan = make_plan(lean(stage))
        run = begin(stage, tmp_path / f"stage{stage}")
        trained = sum(weight.numel() for weight in run.weights.values())
        everything = sum(weight.numel() for weight in run.network.parameters())
        assert f"trains   {trained:,} weights" in line(plan, "trains")
        frozen = [int(text.split()[1].replace(",", "")) for text in plan.lines if text.startswith("frozen")]
        assert sum(frozen) == everything - trained


def test_a_plan_names_what_a_setting_freezes() -> None:
    plan = make_plan(lean(3, {"losses.topology_blocks": "last", "losses.contrastive": 0}))
    reasons = {text.split(" weights: ")[1] for text in plan.lines if text.startswith("frozen")}
    assert reasons == {
        "the topology loss is on the last block only",
        "no contrastive loss",
        "its anchor is untrained without a contrastive loss",
    }


def test_a_plan_says_how_a_batch_is_split() -> None:
    plan = make_plan(lean(2, {"training.accumulation": 2, "training.batch_size": 16}), world=2)
    assert "16 images = 2 process(es) x 2 part(s) x 4; 1 of each 4 decoded" in line(plan, "batch")
    assert "4 lanes, 2 per process" in line(plan, "data")
    assert "8 captions at once, so at most 56 pairs" in line(plan, "contrast")


def test_a_plan_says_what_will_not_be_measured_and_how_long_warm_up_really_is() -> None:
    plan = make_plan(lean(1, {"optim.warmup_steps": 100}))
    assert "nothing is measured" in line(plan, "held out")
    assert "after 2 warm-up steps" in line(plan, "steps")
    assert not any(text.startswith("contrast") for text in plan.lines)


def test_data_that_cannot_be_read_is_missed_with_its_split(tmp_path: Path) -> None:
    plan = make_plan(lean(1, {"data.train": str(tmp_path / "no-shards"), "data.val": "demo:nonsense"}))
    assert [entry.split(":")[0] for entry in plan.missing] == ["train data", "val data"]
