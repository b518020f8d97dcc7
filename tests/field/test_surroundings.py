"""What stands around a command changes neither its result nor the meaning of its exit code."""

import io
import os
import sys
import warnings
from pathlib import Path

import pytest

from muse_cli.main import main
from muse_cli.output import Output
from muse_cli.progress import BarProgress, LineProgress
from muse_core.data.source import open_source
from muse_core.errors import ExitCode
from muse_core.home import cache_folder
from muse_core.runs import RunFolder
from tests.cli.conftest import Muse
from tests.field.conftest import Case
from tests.field.streams import Capture, Patch, shards

# ------------------------------------------------------------------------------------------------------- variables


@pytest.mark.parametrize("level", ["trace", "loud", "-1"])
def test_h3_an_unknown_log_level_is_a_warning_with_the_levels(level: str, muse: Muse, monkeypatch: Patch) -> None:
    monkeypatch.setenv("MUSE_LOG_LEVEL", level)
    for arguments in (("--help",), ("ls", "stages"), ("ls", "stages", "--json")):
        ended = muse(*arguments)
        assert ended.code == 0
        assert f"warning: MUSE_LOG_LEVEL={level}: unknown level; choose debug, info, warning" in ended.err


@pytest.mark.parametrize("level", ["", " ", "10", "info", "DEBUG", "Warning", "0"])
def test_h3_levels_by_name_and_number_and_none_at_all(level: str, muse: Muse, monkeypatch: Patch) -> None:
    monkeypatch.setenv("MUSE_LOG_LEVEL", level)
    ended = muse("ls", "stages")
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("text", ["1", "true", "YES", "on", " 1 "])
def test_a_switch_is_on_by_any_usual_word(text: str, muse: Muse, monkeypatch: Patch) -> None:
    monkeypatch.setenv("MUSE_DEBUG", text)
    monkeypatch.setenv("MUSE_OFFLINE", text)
    assert "Traceback" in muse("ls", "nothing").err
    refused = muse("eval", "tiny", "--data", "https://example.com/{0..1}.tar", "--metric", "psnr")
    assert "MUSE_OFFLINE" in refused.err


@pytest.mark.parametrize("text", ["", "0", "false", "No", "off"])
def test_a_switch_is_off_by_any_usual_word(text: str, muse: Muse, monkeypatch: Patch) -> None:
    monkeypatch.setenv("MUSE_DEBUG", text)
    monkeypatch.setenv("MUSE_ALLOW_PIPE", text)
    assert "Traceback" not in muse("ls", "nothing").err
    assert "is refused" in muse("eval", "tiny", "--data", "pipe:cat x", "--metric", "psnr").err


@pytest.mark.parametrize("name", ["MUSE_DEBUG", "MUSE_OFFLINE"])
def test_a_switch_that_says_neither_is_a_mistake_of_the_settings(name: str, muse: Muse, monkeypatch: Patch) -> None:
    monkeypatch.setenv(name, "maybe")
    ended = muse("ls", "stages", "--json")
    assert ended.code == ExitCode.SETTINGS
    assert ended.json["error"] == f"{name}=maybe: neither on nor off"


@pytest.mark.parametrize(
    "name", ["MUSE_SEED", "MUSE_DATA", "MUSE_DEVICES", "MUSE_PRECISION", "MUSE_TRAIN__RUN__SEED", "MUSE_TRIAN__X"]
)
def test_an_empty_variable_is_as_good_as_none(name: str, muse: Muse, monkeypatch: Patch) -> None:
    expected = muse("config", "show", "train").out
    monkeypatch.setenv(name, "")
    ended = muse("config", "show", "train")
    assert (ended.code, ended.out, ended.err) == (0, expected, "")


@pytest.mark.parametrize("name", ["MUSE_SEED", "MUSE_TRAIN__RUN__SEED"])
def test_a_wrong_value_names_its_variable(name: str, muse: Muse, monkeypatch: Patch) -> None:
    monkeypatch.setenv(name, "many")
    ended = muse("config", "show", "train")
    assert ended.code == ExitCode.SETTINGS
    assert f"got 'many' (from {name})" in ended.err


# --------------------------------------------------------------------------------------------------------- terminals


@pytest.mark.parametrize("columns", ["0", "-5", "7", "wide", "", "99999999999999", "²"])
def test_help_has_80_columns_where_columns_are_no_width(columns: str, muse: Muse, monkeypatch: Patch) -> None:
    with monkeypatch.context() as terminal:  # ended before pytest writes its own line by these widths
        terminal.setenv("COLUMNS", columns)
        terminal.setenv("TERMINAL_WIDTH", columns)
        ended = muse("--help")
        assert os.environ["COLUMNS"] == columns
    assert max(map(len, ended.out.splitlines())) == 80


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "arguments", "colored"),
    [
        ({}, [], True),
        ({"NO_COLOR": "1"}, [], False),
        ({"NO_COLOR": "0"}, [], False),
        ({"NO_COLOR": ""}, [], True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, [], False),
        ({"TERM": "dumb"}, [], False),
        ({}, ["--no-color"], False),
    ],
)
def test_whoever_asks_for_plain_output_gets_it(
    variables: dict[str, str], arguments: list[str], colored: bool, monkeypatch: Patch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["config", "show", "nothing", *arguments]) == ExitCode.USAGE
    assert ("\x1b[" in terminal.getvalue()) == colored
    assert os.environ.get("NO_COLOR") == variables.get("NO_COLOR")


def test_colors_can_be_forced_into_a_pipe(muse: Muse, monkeypatch: Patch) -> None:
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31merror" in muse("config", "show", "nothing").err
    monkeypatch.setenv("FORCE_COLOR", "0")
    assert "\x1b[" not in muse("config", "show", "nothing").err


# ----------------------------------------------------------------------------------------------------------- progress


def test_h4_a_log_of_unknown_length_has_count_and_rate(muse: Muse, case: Case, monkeypatch: Patch) -> None:
    case("h4-progress")
    monkeypatch.setattr("muse_cli.progress.LINE_EVERY_S", 0.0)
    monkeypatch.setattr("muse_core.progress.SETTLING_S", 0.0)  # the rate is told from the first image on
    ended = muse("eval", "tiny", "--data", "t", "--metric", "psnr", "--size-px", "16", "--batch-size", "5")
    lines = [line for line in ended.err.splitlines() if line.startswith("eval of") or "/s" in line or " in " in line]
    assert ended.code == 0
    assert any(" 45 " in line and "/s" in line for line in lines)
    assert not [line for line in lines if "/0" in line or "left" in line]


@pytest.mark.parametrize(("total", "shown"), [(0, ["5", "10"]), (8, ["5/8", "10"]), (10, ["5/10", "10/10"])])
def test_h4_a_total_is_shown_as_long_as_it_is_one(
    total: int, shown: list[str], capsys: Capture, monkeypatch: Patch
) -> None:
    now = [0.0]
    monkeypatch.setattr("muse_cli.progress.time.monotonic", lambda: now[0])
    with LineProgress(Output()).track("read", total) as tracker:
        for _ in range(2):
            now[0] += 40
            tracker.advance(5)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines[:2]] == shown
    assert [("left" in line) for line in lines[:2]] == ["/" in count for count in shown]
    assert "-" not in "".join(lines)


@pytest.mark.parametrize(("total", "expected"), [(0, "10 "), (8, "10 "), (10, "10/10"), (20, "10/20")])
def test_h4_a_bar_is_drawn_only_of_what_is_known(total: int, expected: str) -> None:
    from rich.console import Console

    bars = BarProgress(Output())
    drawn = io.StringIO()
    with bars.track("read", total) as tracker:
        tracker.advance(5)
        tracker.advance(5)
        Console(file=drawn, width=100).print(bars.drawn())
    line = drawn.getvalue()
    assert f"{expected} " in line.rstrip() + "  "
    assert ("━" in line) == (total >= 10)
    assert "/0" not in line
    assert ":" not in line or total >= 10


# -------------------------------------------------------------------------------- what only helps: caches, other runs


DAMAGES = (b"", b"\xff\xfe", b"[]", b"{", b'{"state": 7}', b'{"state": "finished", "details": null}', b'{"step": "x"}')


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_damaged_status_hides_no_other_run(damage: bytes, muse: Muse, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        run = RunFolder.create(tmp_path / "runs" / name, {}, {}, stage=1, size="tiny", steps=1)
        with run.checkpoint(1) as folder:
            (folder / "state.json").write_text("{}")
        run.finish(1)
    (tmp_path / "runs" / "bad" / "status.json").write_bytes(damage)
    listed = muse("ls", "runs", "--json")
    assert (listed.code, len(listed.json["runs"])) == (0, 2)
    for arguments in (("inspect", "latest"), ("train", "--stage", "2", "--size", "tiny", "--dry-run"), ("ls",)):
        ended = muse(*arguments)
        assert ended.code in (0, ExitCode.PROBLEMS), ended.err
        assert ended.err.count("bad/status.json") == 1
        assert "runs/good" in ended.out + ended.err
    refused = muse("train", "--resume", "latest")
    assert "every run in runs is finished" in refused.err
    assert refused.err.count("bad/status.json") == 1


def test_in_python_a_damaged_run_is_a_warning_like_any_other(tmp_path: Path) -> None:
    from muse_core.run_search import newest_finished

    (tmp_path / "runs" / "bad").mkdir(parents=True)
    (tmp_path / "runs" / "bad" / "status.json").touch()
    with pytest.warns(UserWarning, match="this run is passed over"):
        assert newest_finished() is None


@pytest.mark.parametrize("where", ["file", "file/below", "~nobody-has-this-name/x", "/proc/nothing/x"])
def test_a_cache_that_cannot_be_written_costs_a_warning(where: str, tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MUSE_CACHE", where)
    with pytest.warns(UserWarning, match="nothing is kept for the next time"):
        folder = cache_folder()
    (folder / "x").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache_folder() == folder
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file"]


@pytest.mark.slow
@pytest.mark.parametrize("line", ["probe knn tiny --k 1", "zeroshot tiny", "segment tiny --epochs 1"])
def test_scores_do_not_depend_on_a_cache(line: str, muse: Muse, tmp_path: Path, monkeypatch: Patch) -> None:
    shards(tmp_path / "a", 4)
    shards(tmp_path / "b", 6)
    data = ("--data", "a") if line.startswith("zeroshot") else ("--data", "a", "--val-data", "b")
    more = ("--classes", "classes.txt") if line.startswith("zeroshot") else ()
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    expected = muse(*line.split(), *data, *more, "--json")
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "classes.txt"))
    ended = muse(*line.split(), *data, *more, "--json")
    assert (expected.code, ended.code) == (0, 0), ended.err
    assert ended.json["metrics"] == expected.json["metrics"]
    assert ended.err.count("warning: nothing is kept") == 1


def test_without_a_home_there_are_still_caches_and_weights(muse: Muse, monkeypatch: Patch) -> None:
    from muse_core.model.weights.parts import find_parts

    for name in ("HOME", "MUSE_CACHE", "XDG_CACHE_HOME", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user whom nobody knows
    assert all(found.folder is None for found in find_parts("1b"))
    with pytest.warns(UserWarning, match="no such home folder"):
        assert cache_folder().is_dir()


# -------------------------------------------------------------------------------------------------- names and numbers


@pytest.mark.parametrize("name", ["odd + name", "set{1,2}", "a::b", "0.7 a", "x{", "[ab]*", "~nobody-has-this-name"])
def test_a_name_that_exists_is_that_folder(name: str, tmp_path: Path, muse: Muse) -> None:
    shards(tmp_path / name, 3)
    shards(tmp_path / "a", 2)
    assert sum(1 for _ in open_source(name).once()) == 3
    assert sum(1 for _ in open_source(f"{name}/0.tar").once()) == 3
    assert muse("inspect", name, "--json").json["samples"] == 3


@pytest.mark.parametrize("where", ["x{000..", "x}", "{1,2", "a + x{0..", "a::{", "~nobody-has-this-name/x", "x" * 5000])
def test_data_that_are_no_name_and_no_pattern_have_a_sentence(where: str, tmp_path: Path, muse: Muse) -> None:
    shards(tmp_path / "a", 1)
    for arguments in (("eval", "tiny", "--data", where, "--metric", "psnr"), ("inspect", where)):
        ended = muse(*arguments)
        assert ended.code == ExitCode.FILE
        assert "a bug" not in ended.err


@pytest.mark.parametrize("where", ["demo", "demo:val:1", "x.tar", "https://example.com/0.tar", "a"])
def test_infer_says_which_option_takes_data(where: str, tmp_path: Path, muse: Muse) -> None:
    shards(tmp_path / "a", 1)
    ended = muse("infer", where)
    assert ended.code == ExitCode.FILE
    assert f"muse infer {where} --latents DIR" in ended.err


TYPED = [
    ("train", "run.seed=010", 10),
    ("train", "run.seed=08", 8),
    ("train", "run.seed=0x10", 16),
    ("train", "training.steps=1e3", 1000),
    ("train", "training.steps=2.5E+2", 250),
    ("train", "optim.lr=1e-4", 1e-4),
    ("train", "data.train=no", "no"),
    ("train", "data.train=007", "007"),
    ("train", "data.train=1e3", "1e3"),
    ("train", "data.train=2026-11-27", "2026-11-27"),
    ("train", "training.compile=yes", True),
    ("train", "training.track=none", ["none"]),
    ("eval", "metrics=psnr,ssim", ["psnr", "ssim"]),
    ("eval", "metrics=[psnr, ssim]", ["psnr", "ssim"]),
    ("zeroshot", "top=1,5", [1, 5]),
    ("zeroshot", "top=5", [5]),
]


@pytest.mark.parametrize(("command", "text", "value"), TYPED)
def test_what_is_typed_means_what_it_says(
    command: str, text: str, value: object, muse: Muse, monkeypatch: Patch
) -> None:
    key, _, typed = text.partition("=")

    def shown(*arguments: str) -> object:
        settings = muse("config", "show", command, *arguments, "--json").json["settings"]
        for part in key.split("."):
            settings = settings[part]
        return settings

    assert shown("--set", text) == value
    monkeypatch.setenv(f"MUSE_{command}__{key.replace('.', '__')}".upper(), typed)
    assert shown() == value


@pytest.mark.parametrize(("text", "value"), [("seed: 010", 10), ("seed: 1e3", 1000), ("seed: 0x10", 16)])
def test_numbers_in_a_file_are_those_of_the_command_line(text: str, value: int, muse: Muse, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"run: {{{text}}}\ndata: {{train: no}}\ntraining: {{compile: yes, track: none}}\n")
    settings = muse("config", "show", "train", "--config", "s.yaml", "--json").json["settings"]
    assert settings["run"]["seed"] == value
    assert settings["data"]["train"] == "no"
    assert settings["training"]["compile"] is True
    assert settings["training"]["track"] == ["none"]


@pytest.mark.parametrize(
    "text", ["run.seed=1:30", "run.seed=yes", "run.seed=true", "training.steps=1e-3", "training.steps=1.5"]
)
def test_what_is_no_whole_number_is_refused_as_typed(text: str, muse: Muse) -> None:
    ended = muse("config", "show", "train", "--set", text)
    assert ended.code == ExitCode.SETTINGS
    assert f"got {text.partition('=')[2]}" in ended.err.replace("'", "")


# ------------------------------------------------------------------ a folder that is gone


@pytest.mark.parametrize(
    "line", ["ls stages --json", "ls runs", "eval tiny --data demo:val:1 --metric psnr --size-px 16"]
)
def test_a_working_folder_that_is_gone_is_no_bug(line: str, muse: Muse, tmp_path: Path, monkeypatch: Patch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ended = muse(*line.split())
    assert ended.code == ExitCode.FILE
    assert "the folder in which this was typed no longer exists" in ended.err
    assert muse("ls", "--help").code == 0
