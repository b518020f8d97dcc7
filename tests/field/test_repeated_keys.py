"""A key that stands twice in settings is refused with its lines, wherever settings are read."""

import json
from pathlib import Path

import pytest
import yaml

from muse_core.errors import ExitCode, MuseError
from muse_core.files import read_json
from muse_core.runs import RunFolder
from muse_core.text_files import RepeatedKeyError
from muse_core.yaml_files import yaml_of
from tests.field.conftest import Case, Muse
from tests.field.inputs import put


def test_a_section_that_stands_twice(case: Case, muse: Muse) -> None:
    case("c4-section-twice")
    shown = muse("config", "show", "train", "--config", "s.yaml")
    assert (shown.code, "s.yaml: run is given twice, in line 1 and in line 5" in shown.err) == (ExitCode.SETTINGS, True)
    checked = muse("config", "check", "s.yaml", "--json")
    assert checked.code == ExitCode.PROBLEMS
    assert "run is given twice, in line 1 and in line 5" in checked.out
    trained = muse("train", "--config", "s.yaml", "--dry-run")
    assert (trained.code, "run is given twice" in trained.err) == (ExitCode.SETTINGS, True)


@pytest.mark.parametrize(
    "text",
    [
        "run:\n  seed: 7\n  seed: 8\n",
        "run: {seed: 7, seed: 8}\n",
        'run:\n  seed: 7\n  "seed": 8\n',
        '{"run": {"seed": 7, "seed": 8}}',
        "\ufeffrun:\r\n  seed: 7\r\n  seed: 8\r\n",
        "a: &a {seed: 1}\nrun:\n  <<: *a\n  seed: 7\n  seed: 8\n",
    ],
)
@pytest.mark.parametrize("name", ["s.yaml", "s.json"])
def test_a_key_that_stands_twice(muse: Muse, text: str, name: str) -> None:
    put(Path(name), text)
    ended = muse("config", "check", name)
    assert (ended.code, "seed is given twice" in ended.out) == (ExitCode.PROBLEMS, True)


@pytest.mark.parametrize("command", ["eval", "shard", "probe-linear", "zeroshot", "segment"])
def test_settings_of_every_command(muse: Muse, command: str) -> None:
    put(Path("s.yaml"), "a: 1\nb: 2\na: 3\nb: 4\n")
    ended = muse("config", "check", "s.yaml", "--for", command, "--json")
    assert ended.code == ExitCode.PROBLEMS
    assert "a is given twice, in line 1 and in line 3" in ended.out
    assert "b is given twice, in line 2 and in line 4" in ended.out


def test_a_command_that_measures(muse: Muse) -> None:
    put(Path("s.yaml"), "seed: 1\nseed: 2\n")
    ended = muse("eval", "tiny", "--data", "demo:val:2", "--config", "s.yaml")
    assert (ended.code, "seed is given twice" in ended.err) == (ExitCode.SETTINGS, True)


def test_a_value_of_set_that_names_a_key_twice(muse: Muse, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = muse("config", "show", "train", "--set", "run={seed: 1, seed: 2}")
    assert (ended.code, "run: seed is given twice" in ended.err) == (ExitCode.SETTINGS, True)
    monkeypatch.setenv("MUSE_TRAIN__DATA", "{lanes: 1, lanes: 2}")
    assert muse("config", "show", "train").code == ExitCode.SETTINGS


def test_text_stays_text(muse: Muse) -> None:
    ended = muse("config", "show", "train", "--set", "data.train={a, a}", "--json")
    assert ended.json["settings"]["data"]["train"] == "{a, a}"


def test_set_itself_may_be_given_twice_and_the_last_wins(muse: Muse) -> None:
    ended = muse("config", "show", "train", "--set", "run.seed=1", "--set", "run.seed=2", "--json")
    assert ended.json["settings"]["run"]["seed"] == 2


def test_settings_of_a_run_and_its_documents(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {"seed": 1}, {}, stage=1, size="tiny", steps=1)
    assert run.settings() == {"seed": 1}
    put(run.path / "config.yaml", "seed: 1\nseed: 2\n")
    with pytest.raises(MuseError, match="seed is given twice"):
        run.settings()
    put(tmp_path / "x.json", '{"a": 1, "b": {"c": 1, "c": 2}}')
    with pytest.raises(MuseError, match="c is given twice"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_settings_of_every_editor(muse: Muse, mark: str, end: str) -> None:
    put(Path("s.yaml"), mark + end.join(["run:", "  seed: 7", ""]))
    assert muse("config", "show", "train", "--config", "s.yaml", "--json").json["settings"]["run"]["seed"] == 7


def test_settings_in_another_encoding_are_refused_with_it(muse: Muse) -> None:
    put(Path("s.yaml"), "run: {seed: 7}".encode("utf-16"))
    ended = muse("config", "show", "train", "--config", "s.yaml")
    assert (ended.code, "UTF-16" in ended.err) == (ExitCode.FILE, True)


def test_keys_that_only_look_alike_are_two() -> None:
    document = {"a": {"b": 1}, "b": {"b": 2}, "c": [{"b": 1}, {"b": 2}]}
    assert yaml_of(yaml.safe_dump(document)) == yaml_of(json.dumps(document)) == document
    merged = "x: &x {a: 1, b: 2}\ny: &y {<<: *x, a: 3}\nz: {<<: [*x, *y], b: 4}\n"
    assert yaml_of(merged) == yaml.safe_load(merged)


def test_every_repeated_key_is_named() -> None:
    with pytest.raises(RepeatedKeyError) as caught:
        yaml_of("a: 1\na: {b: 1, b: 2}\n")
    assert len(caught.value.problems) == 2
