"""Trackers hear what the run folder holds, go on where they were, and never end a training."""

import io
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from muse_core.errors import ExitCode, MuseError
from muse_core.offline import OFFLINE, REPORTS, tell_libraries
from muse_core.runs import RunFolder
from muse_core.training import tracker_kinds
from muse_core.training.tracker_kinds import KINDS, Beginning, Identity, refuse
from muse_core.training.trackers import FILE, Trackers, ended_on_error
from tests.cli.conftest import Muse, clean as clean, muse as muse
from tests.training.mini import StopAt, train_lean

SETTINGS = {"run": {"seed": 0}, "data": {"train": "https://me:hidden@host/{0..3}.tar", "val": None}}


class Fake:
    """A library that writes down what it is told, and fails in the method that `fails` names."""

    fails = ""
    made: list["Fake"] = []
    place = "here"

    def __init__(self, beginning: Beginning) -> None:
        self.beginning, self.calls = beginning, list[tuple[object, ...]]()
        self.identity: Identity = {"id": beginning.known.get("id", f"id-{len(Fake.made)}")}
        Fake.made.append(self)
        self._note("start")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._note("log", step, dict(numbers))

    def figure(self, step: int, name: str, path: Path) -> None:
        self._note("figure", step, name, path)

    def text(self, name: str, text: str) -> None:
        self._note("text", name, text)

    def end(self, ok: bool) -> None:
        self._note("end", ok)

    def _note(self, *call: object) -> None:
        self.calls.append(call)
        print("something on the way")
        if call[0] == self.fails:
            raise RuntimeError(f"no {call[0]} at https://me:hidden@host\nand a second line")


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    """Fakes in the place of wandb and mlflow; all that were made."""
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(KINDS, name, Fake)
    monkeypatch.setattr(tracker_kinds, "missing", lambda name: False)
    monkeypatch.setattr(Fake, "made", [])
    return Fake.made


def failing(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Let mlflow fail, and wandb not."""
    monkeypatch.setitem(KINDS, "mlflow", type("Failing", (Fake,), {"fails": method}))


class Heard(StopAt):
    """Progress that keeps lines and warnings apart, and stops nothing."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)


def begun(folder: Path, heard: Heard, names: tuple[str, ...] = ("wandb", "mlflow")) -> Trackers:
    folder.mkdir(exist_ok=True)
    return Trackers.begin(names, folder, SETTINGS, heard)


def test_every_tracker_is_told_everything(tmp_path: Path, fakes: list[Fake]) -> None:
    trackers = begun(tmp_path, heard := Heard())
    trackers.text("plan", "reads https://me:hidden@host/x")
    trackers.log(3, {"loss/a": 0.5, "val/b": None})
    trackers.figure(3, "samples", tmp_path / "x.png")
    trackers.finish({"psnr": 20.0, "unknown": None})
    trackers.close()
    for fake in fakes:
        assert fake.calls == [
            ("start",),
            ("text", "plan", "reads https://***@host/x"),
            ("log", 3, {"loss/a": 0.5}),
            ("figure", 3, "samples", tmp_path / "x.png"),
            ("log", 3, {"final/psnr": 20.0}),
            ("end", True),
        ]
        assert fake.beginning.settings == {
            "run.seed": 0,
            "data.train": "https://***@host/{0..3}.tar",
            "data.val": "None",
        }
    assert heard.said == ["tracks   wandb: here", "tracks   mlflow: here"]
    assert not heard.warned


def test_only_the_first_process_has_any(tmp_path: Path, fakes: list[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muse_core.training.trackers.is_first", lambda: False)
    trackers = begun(tmp_path, Heard())
    trackers.log(1, {"a": 1.0})
    trackers.finish({})
    assert not fakes
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("method", ["start", "log", "figure", "text", "end"])
def test_one_that_fails_is_left_out_after_one_warning(
    tmp_path: Path, fakes: list[Fake], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    failing(monkeypatch, method)
    trackers = begun(tmp_path, heard := Heard(), ("mlflow", "wandb"))
    for step in (1, 2):
        trackers.log(step, {"a": 1.0})
        trackers.figure(step, "samples", tmp_path / "x.png")
        trackers.text("plan", "x")
    trackers.finish({})
    assert [call[0] for call in fakes[1].calls] == ["start", *["log", "figure", "text"] * 2, "end"]
    assert fakes[0].calls[-1] == (("start",) if method == "start" else ("end", False))
    assert heard.warned == [
        f"no tracking with mlflow from here on, training goes on: no {method} at https://***@host",
    ]


def test_a_training_whose_tracker_fails_finishes(
    tmp_path: Path, fakes: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "log")
    changes = {"training.track": ("mlflow", "wandb"), "training.steps": 2}
    summary = train_lean(1, tmp_path / "run", changes, heard := Heard())
    run = RunFolder(summary.folder)
    assert run.status.state == "finished"
    assert len(heard.warned) == 1
    logged = [call for call in fakes[1].calls if call[0] == "log"]
    assert logged == [("log", line.pop("step"), line) for line in run.metrics()]
    assert fakes[1].calls[-1] == ("end", True)
    (name, plan) = next(call[1:] for call in fakes[1].calls if call[0] == "text")
    assert name == "plan"
    assert "losses   pixel" in str(plan)


def test_a_training_that_is_stopped_ends_its_trackers(tmp_path: Path, fakes: list[Fake]) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_lean(1, tmp_path / "run", {"training.track": ("wandb",)}, StopAt(2))
    assert fakes[0].calls[-1] == ("end", False)


def test_an_error_ends_them_and_passes(tmp_path: Path, fakes: list[Fake]) -> None:
    trackers = begun(tmp_path, Heard())
    with pytest.raises(ZeroDivisionError), ended_on_error(trackers):
        raise ZeroDivisionError
    assert [fake.calls[-1] for fake in fakes] == [("end", False)] * 2


def test_a_resumed_run_goes_on_in_the_same_tracker_run(tmp_path: Path, fakes: list[Fake]) -> None:
    begun(tmp_path, Heard()).close()
    kept = json.loads((tmp_path / FILE).read_text())
    assert kept == {"wandb": {"id": "id-0"}, "mlflow": {"id": "id-1"}}
    begun(tmp_path, Heard(), ("wandb",)).close()
    begun(tmp_path, Heard(), ("mlflow",)).close()
    assert [fake.beginning.known for fake in fakes] == [{}, {}, kept["wandb"], kept["mlflow"]]
    assert json.loads((tmp_path / FILE).read_text()) == kept


def test_one_that_fails_at_the_start_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path, Heard()).close()
    kept = (tmp_path / FILE).read_text()
    failing(monkeypatch, "start")
    begun(tmp_path, heard := Heard()).close()
    assert heard.warned
    assert (tmp_path / FILE).read_text() == kept


def test_a_damaged_file_costs_the_place_only(tmp_path: Path, fakes: list[Fake]) -> None:
    (tmp_path / FILE).write_text('{"wandb": {"id"')
    begun(tmp_path, Heard()).close()
    assert json.loads((tmp_path / FILE).read_text()) == {"wandb": {"id": "id-0"}, "mlflow": {"id": "id-1"}}


def test_none_and_names_that_are_repeated_count_for_nothing(tmp_path: Path, fakes: list[Fake]) -> None:
    begun(tmp_path, Heard(), ("none", "wandb", "none", "wandb")).close()
    assert len(fakes) == 1


def test_nothing_is_printed_and_nothing_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Asking(Fake):
        def end(self, ok: bool) -> None:
            input("which account? ")

    monkeypatch.setitem(KINDS, "wandb", Asking)
    monkeypatch.setattr(sys, "stdin", io.StringIO("mine\n"))
    trackers = begun(tmp_path, heard := Heard(), ("wandb",))
    trackers.finish({})
    assert heard.warned == ["no tracking with wandb from here on, training goes on: EOF when reading a line"]
    assert capsys.readouterr().out == ""
    assert sys.stdin.readline() == "mine\n"


def test_a_missing_package_is_one_line(tmp_path: Path, fakes: list[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_kinds, "missing", lambda name: name == "wandb")
    begun(tmp_path, heard := Heard())
    assert len(heard.warned) == 1
    assert heard.warned[0].endswith('the package wandb is not installed: pip install "muse-tokenizer[wandb]"')
    assert len(fakes) == 1


def test_a_command_says_so_before_it_begins(muse: Muse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_kinds, "missing", lambda name: name != "tensorboard")
    command = ["train", "--stage", "1", "--size", "tiny", "--data", "demo", "--devices", "cpu", "--out", "run"]
    ended = muse(*command, "--track", "tensorboard", "--track", "wandb")
    assert ended.code == ExitCode.MACHINE
    assert "the package wandb is not installed" in ended.err
    assert 'pip install "muse-tokenizer[wandb]"' in ended.err
    assert not Path("run").exists()
    ended = muse(*command, "--track", "wandb", "--track", "trackio", "--dry-run")
    assert ended.code == ExitCode.PROBLEMS
    assert all(f"muse-tokenizer[{name}]" in ended.err for name in ("wandb", "trackio"))


AWAY = [
    ("mlflow", "MLFLOW_TRACKING_URI", "http://127.0.0.1:5000"),
    ("mlflow", "MLFLOW_TRACKING_URI", "https://host"),
    ("mlflow", "MLFLOW_TRACKING_URI", "databricks"),
    ("mlflow", "MLFLOW_TRACKING_URI", "postgresql://host/db"),
    ("wandb", "WANDB_BASE_URL", "https://wandb.example"),
    ("trackio", "TRACKIO_SPACE_ID", "me/space"),
    ("trackio", "TRACKIO_SERVER_URL", "http://127.0.0.1:7860/?write_token=x"),
]


@pytest.mark.parametrize(("name", "variable", "value"), AWAY)
def test_offline_no_tracker_is_at_an_address(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str, value: str
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv(variable, value)
    refuse(name)
    monkeypatch.setenv(OFFLINE, "1")
    with pytest.raises(MuseError, match=f"{name} would send to {variable}=.* and MUSE_OFFLINE=1 forbids"):
        refuse(name)


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("mlflow", "MLFLOW_TRACKING_URI", "sqlite:////store/mlflow.db"),
        ("mlflow", "MLFLOW_TRACKING_URI", "file:///store"),
        ("mlflow", "MLFLOW_TRACKING_URI", "/store"),
        ("wandb", "WANDB_PROJECT", "mine"),
        ("trackio", "TRACKIO_DIR", "/store"),
    ],
)
def test_offline_those_of_this_machine_track(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv(OFFLINE, "1")
    refuse(name)


def test_an_address_of_wandb_is_not_asked_while_it_is_offline_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv(OFFLINE, "1")
    refuse("wandb")


@pytest.mark.parametrize(("offline", "mode"), [("1", "offline"), ("0", None)])
def test_offline_wandb_writes_to_the_disk_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: str, mode: str | None
) -> None:
    class Tracker:
        """Stands for accelerate's."""

        def __init__(self, project: str, **options: object) -> None:
            assert (project, options.get("mode"), options["id"]) == ("muse", mode, "known")
            self.tracker = SimpleNamespace(id="known", url=None, dir=str(tmp_path / "wandb" / "files"))

        def start(self) -> None: ...

        def store_init_configuration(self, values: Mapping[str, object]) -> None: ...

    monkeypatch.setattr("accelerate.tracking.WandBTracker", Tracker)
    for variable in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(OFFLINE, offline)
    wandb = tracker_kinds.WandB(Beginning(tmp_path, {}, {"id": "known"}))
    assert wandb.identity == {"id": "known", "project": "muse"}
    assert wandb.place == f"{tmp_path / 'wandb'}, for wandb sync"


def test_reports_are_switched_off_unless_the_user_set_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in REPORTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    tell_libraries()
    assert {name: os.environ[name] for name in REPORTS} == {**REPORTS, "MLFLOW_DISABLE_TELEMETRY": "false"}


def test_they_are_switched_off_before_a_tracker_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Looking(Fake):
        def __init__(self, beginning: Beginning) -> None:
            super().__init__(beginning)
            self.place = os.environ["WANDB_ERROR_REPORTING"]

    monkeypatch.setitem(KINDS, "wandb", Looking)
    monkeypatch.delenv("WANDB_ERROR_REPORTING", raising=False)
    begun(tmp_path, heard := Heard(), ("wandb",))
    assert heard.said == ["tracks   wandb: false"]


def test_tensorboard_holds_all_numbers_figures_and_the_plan(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    changes = {"training.track": ("tensorboard",), "training.steps": 2, "data.val": "demo:val:8"}
    summary = train_lean(1, tmp_path / "run", changes)
    events = EventAccumulator(str(summary.folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    shown = {
        (tag, event.step): event.value
        for tag in tags["scalars"]
        for event in events.Scalars(tag)
        if not tag.startswith("final/")
    }
    lines = RunFolder(summary.folder).metrics()
    numbers = {(tag, line["step"]): value for line in lines for tag, value in line.items() if tag != "step"}
    assert shown == pytest.approx({key: value for key, value in numbers.items() if value is not None})
    final = {tag: events.Scalars(tag)[0].value for tag in tags["scalars"] if tag.startswith("final/")}
    assert final == pytest.approx({f"final/{k.removeprefix('val/')}": v for k, v in summary.validation.items()})
    assert [event.step for event in events.Images("samples")] == [2]
    assert tags["tensors"] == ["plan/text_summary"]
    assert b"losses   pixel" in events.Tensors("plan/text_summary")[0].tensor_proto.string_val[0]


def test_the_picture_that_tensorboard_shows_is_the_sample(tmp_path: Path) -> None:
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.new("RGB", (5, 3), (200, 10, 60)).save(tmp_path / "x.png")
    trackers = Trackers.begin(("tensorboard",), tmp_path, SETTINGS, Heard())
    trackers.figure(7, "samples", tmp_path / "x.png")
    trackers.finish({})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = Image.open(io.BytesIO(events.Images("samples")[0].encoded_image_string))
    assert (shown.size, shown.getpixel((4, 2))) == ((5, 3), (200, 10, 60))
