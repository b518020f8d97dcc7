"""Encodings, full disks and closed pipes change neither the result nor the meaning of the exit code."""

import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest

from muse_cli.main import main
from muse_core.errors import ExitCode
from muse_core.json_text import json_text, utf8
from muse_core.runs import RunFolder
from tests.cli.conftest import Muse
from tests.field.conftest import Case
from tests.field.streams import NOT_UTF8, Capture, Patch, ended_with, image, written

# ------------------------------------------------------------------ encodings, and names that are not UTF-8


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
def test_h1_a_terminal_of_any_encoding_gets_the_whole_document(
    case: Case, encoding: str, monkeypatch: Patch, tmp_path: Path
) -> None:
    case("h1-ascii-terminal")
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    arguments = ("infer", "ünï 日本.jpg", "--checkpoint", "tiny", "--size-px", "16", "--out", "o", "--json")
    with monkeypatch.context() as patch:
        code = ended_with(stream, patch, *arguments)
    assert code == 0
    assert json.loads(written(stream).decode(encoding))["images"][0]["image"] == "ünï 日本.jpg"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_h1_text_for_people_and_help_are_printed_in_any_encoding(encoding: str, case: Case, monkeypatch: Patch) -> None:
    case("h1-ascii-terminal")
    for arguments in (
        ("infer", "ünï 日本.jpg", "--checkpoint", "tiny", "--size-px", "16"),
        ("--help",),
        ("ls", "sizes"),
    ):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as patch:
            assert ended_with(stream, patch, *arguments) == 0
        assert written(stream).decode(encoding).strip()


def test_a_missing_file_whose_name_is_not_utf8_is_named_in_both_ways(muse: Muse) -> None:
    ended = muse("infer", f"{NOT_UTF8}.png", "--checkpoint", "tiny", "--json")
    assert ended.code == ExitCode.FILE
    assert f"{NOT_UTF8}.png" in ended.json["error"]
    assert "d\\udcff.png" in ended.err


@pytest.mark.slow
def test_files_and_folders_whose_names_are_not_utf8_go_through_every_command(muse: Muse, tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(2):
            image(tmp_path / NOT_UTF8 / f"{name}{NOT_UTF8}" / f"{number}{NOT_UTF8}.png")
    (tmp_path / NOT_UTF8 / f"a{NOT_UTF8}" / f"x{NOT_UTF8}.png").write_bytes(b"no image")
    assert muse("shard", NOT_UTF8, "--classes", "folders").code == 0
    made = tmp_path / f"{NOT_UTF8}-shards"
    assert json.loads((made / "index.json").read_text(encoding="utf-8"))["classes"] == ["ad\\xff", "bd\\xff"]
    assert os.fsencode(f"x{NOT_UTF8}.png") in (made / "skipped.csv").read_bytes()
    for arguments in (
        ("eval", "tiny", "--data", str(made), "--metric", "psnr", "--out", f"{NOT_UTF8}.json"),
        ("zeroshot", "tiny", "--data", str(made), "--out", f"{NOT_UTF8}-z.json"),
        ("infer", str(made), "--checkpoint", "tiny", "--latents", f"{NOT_UTF8}-latents"),
        ("infer", f"{NOT_UTF8}/a{NOT_UTF8}", "--checkpoint", "tiny", "--features", f"{NOT_UTF8}.npz"),
        ("inspect", str(made)),
    ):
        ended = muse(*arguments, "--json")
        assert ended.code == 0, ended.err
        assert ended.json
    assert json.loads((tmp_path / f"{NOT_UTF8}.json").read_text(encoding="utf-8"))["metrics"]["psnr"] > 0


def test_a_run_keeps_settings_log_and_numbers_of_any_kind(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / NOT_UTF8, {"data": NOT_UTF8}, {"data": NOT_UTF8})
    run.log(NOT_UTF8)
    run.append_metrics({"step": 1, "val/psnr": float("inf"), "loss": float("nan")})
    run.update(step=1, best=float("nan"), where=NOT_UTF8)
    assert run.settings() == {"data": NOT_UTF8}
    assert run.status.details == {"best": None, "where": NOT_UTF8}
    assert run.metrics() == [{"step": 1, "val/psnr": None, "loss": None}]
    for file in run.path.iterdir():
        file.read_text(encoding="utf-8")


def test_json_is_json_for_every_parser() -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    text = json_text({"a": [float("nan"), (float("-inf"), 1.5)], NOT_UTF8: "ü"})
    assert json.loads(utf8(text), parse_constant=refuse) == {"a": [None, [None, 1.5]], NOT_UTF8: "ü"}
    assert json_text({"a": "ü"}) == '{\n  "a": "ü"\n}'


# --------------------------------------------------------------------------------------- full disks, closed pipes


FULL = (
    "ls metrics",
    "ls metrics --json",
    "--help",
    "eval --help",
    "config keys train",
    "config schema eval",
    "plugins",
)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("line", FULL)
def test_h2_a_full_disk_behind_stdout_is_a_sentence_and_4(line: str, monkeypatch: Patch, capsys: Capture) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full, monkeypatch.context() as patch:  # noqa: PTH123
        code = ended_with(full, patch, *line.split())
    assert code == ExitCode.FILE
    assert "error: the disk is full" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(("line", "code"), [("ls nothing", 2), ("ls nothing --json", 2), ("ls stages --json", 0)])
def test_h2_a_full_disk_behind_stderr_changes_nothing(
    line: str, code: int, monkeypatch: Patch, capsys: Capture
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full, monkeypatch.context() as patch:  # noqa: PTH123
        patch.setattr(sys, "stderr", full)
        assert main(line.split()) == code
    said = capsys.readouterr().out
    assert not said or json.loads(said).get("exit_code", 0) == code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_h2_progress_that_cannot_be_told_does_not_end_the_work(muse: Muse, case: Case, monkeypatch: Patch) -> None:
    case("h4-progress")
    monkeypatch.setattr("muse_cli.progress.LINE_EVERY_S", 0.0)
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", full)
        ended = muse("eval", "tiny", "--data", "t", "--metric", "psnr", "--size-px", "16", "--json")
    assert ended.code == 0
    assert ended.json["counts"]["seen"] == 50


@pytest.mark.parametrize("line", ["ls metrics", "ls metrics --json", "--help"])
def test_a_reader_that_left_is_no_error_and_nothing_is_said(line: str, monkeypatch: Patch, capsys: Capture) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as pipe, monkeypatch.context() as patch:  # noqa: PTH123
        code = ended_with(pipe, patch, *line.split())
    assert code == int(ExitCode.UNREAD)
    assert code == 141
    assert capsys.readouterr().err == ""


def test_a_failure_keeps_its_code_when_it_cannot_be_printed(monkeypatch: Patch, capsys: Capture) -> None:
    class Broken(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        assert ended_with(Broken(), patch, "ls", "nothing", "--json") == ExitCode.USAGE
        assert ended_with(Broken(), patch, "ls", "stages", "--json") == ExitCode.FILE
    assert "Input/output error" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-", "<&-"])
def test_streams_that_are_closed_from_the_start_are_no_error(closed: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = f"PYTHONPATH={root} {sys.executable} -m muse_cli ls stages --json {closed}"
    assert os.waitstatus_to_exitcode(os.system(command)) == 0
