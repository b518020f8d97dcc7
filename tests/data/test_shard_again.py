"""The same pictures give the same bytes: by one process or many, interrupted or not, here or at an address."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import fsspec
import pytest

from muse_core.data.sharding import steps
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.places import Place
from muse_core.data.sharding.shard import shard
from muse_core.data.sharding.tar import TarWriter
from muse_core.data.sharding.tree import Beside, tree
from muse_core.distributed import Rank, rank_of
from muse_core.errors import MuseError
from tests.data.conftest import picture
from tests.data.test_shard_tree import put

OPTIONS = ShardOptions(per_shard=5, split={"train": 0.7, "val": 0.3}, shuffle=True)
COMMAND = ["--per-shard", "5", "--split", "train=0.7,val=0.3", "--shuffle"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 captioned pictures, one of them empty, in folders that sort otherwise than their names."""
    files: dict[str, object] = {"a/empty.jpg": b""}
    for number in range(60):
        name = f"{'abc'[number % 3]}{'.d' * (number % 2)}/{number}"
        files |= {f"{name}.jpg": picture(20 + number), f"{name}.txt": f"picture {number}"}
    return put(tmp_path_factory.mktemp("many") / "in", files)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces of work even for few pictures."""
    monkeypatch.setattr(steps, "CHUNK", 7)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process writes that nobody disturbs."""
    out = tmp_path_factory.mktemp("expected") / "out"
    shard(str(source), str(out), OPTIONS, workers=1)
    return contents(out)


def started(source: Path, out: Path, *more: str, **environment: str) -> "subprocess.Popen[str]":
    """`muse shard` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "muse_cli", "shard", str(source), "--out", str(out), *COMMAND, *more],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_names_come_in_the_order_of_whole_paths(source: Path) -> None:
    names = [item.name for item in tree(Place(str(source)), Beside())]
    assert names == sorted(names)
    assert names.index("a.d/3.jpg") < names.index("a/0.jpg")  # . sorts before /


@pytest.mark.parametrize("workers", [2, 5])
def test_any_number_of_processes_writes_the_same_bytes(
    workers: int, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    shard(str(source), str(tmp_path / "out"), OPTIONS, workers=workers)
    assert contents(tmp_path / "out") == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_moving_the_pictures_changes_nothing(source: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "other-name"
    for path in sorted(source.rglob("*"), reverse=True):
        if path.is_file():
            put(moved, {str(path.relative_to(source)): path.read_bytes()})
    shard(str(moved), str(tmp_path / "out"), OPTIONS, workers=1)
    assert contents(tmp_path / "out") == expected


@pytest.mark.slow
def test_ranks_of_a_launcher_share_one_plan(source: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    launched = [started(source, out, "--workers", "1", RANK=str(rank), WORLD_SIZE="2") for rank in range(2)]
    ended = [process.communicate(timeout=120) for process in launched]
    assert [process.returncode for process in launched] == [0, 0], ended
    assert contents(out) == expected
    assert "shards, 60 images" in ended[0][0]


def test_a_rank_that_comes_too_late_finds_everything_done(source: Path, tmp_path: Path) -> None:
    shard(str(source), str(tmp_path / "out"), OPTIONS, workers=1)
    late = {"RANK": "1", "WORLD_SIZE": "2"}
    assert shard(str(source), str(tmp_path / "out"), OPTIONS, workers=1, environ=late) is None


def test_launchers_are_recognised_and_a_batch_script_is_alone() -> None:
    assert rank_of({"RANK": "1", "WORLD_SIZE": "4"}) == Rank(1, 4)
    assert rank_of({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8"}) == Rank(2, 8)
    assert rank_of({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) == Rank(0, 1)
    for wrong in ({"RANK": "4", "WORLD_SIZE": "4"}, {"RANK": "x", "WORLD_SIZE": "1"}):
        with pytest.raises(MuseError, match="do not fit"):
            rank_of(wrong)


@pytest.mark.slow
def test_killed_in_any_step_it_is_continued_to_the_same_bytes(
    source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out, work = tmp_path / "out", tmp_path / ".out.partial" / ".partial"
    unfinished = 0
    for reached in ("listed.json", "planned.json", "written/000003.json"):
        process = started(source, out, *(["--resume"] if work.exists() else []), "--workers", "2")
        while not (work / reached).exists() and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        process.communicate()
        unfinished += not out.exists()
    assert unfinished
    if not out.exists():
        assert shard(str(source), str(out), OPTIONS, workers=1, resume=True) is not None
    assert contents(out) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class StopError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture
def interrupted(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An attempt that ended after its first three shards."""
    real = TarWriter.close
    written: list[TarWriter] = []

    def close(tar: TarWriter) -> None:
        if len(written) == 3:
            raise StopError
        written.append(tar)
        real(tar)

    with monkeypatch.context() as patch:
        patch.setattr(TarWriter, "close", close)
        with pytest.raises(StopError):
            shard(str(source), str(tmp_path / "out"), OPTIONS, workers=1)
    return tmp_path / "out"


def test_what_is_finished_is_not_written_again(
    interrupted: Path, source: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not interrupted.exists()
    added: list[str] = []
    real = TarWriter.add

    def add(tar: TarWriter, key: str, members: Mapping[str, bytes]) -> None:
        added.append(key)
        real(tar, key, members)

    monkeypatch.setattr(TarWriter, "add", add)
    shard(str(source), str(interrupted), OPTIONS, workers=1, resume=True)
    assert contents(interrupted) == expected
    assert len(added) == 60 - 15


def test_an_interrupted_attempt_is_neither_ignored_nor_mixed_with_another(interrupted: Path, source: Path) -> None:
    with pytest.raises(MuseError, match="was interrupted") as refused:
        shard(str(source), str(interrupted), OPTIONS, workers=1)
    assert refused.value.hint == "--resume continues it, --overwrite begins anew"
    with pytest.raises(MuseError, match="per_shard: 5 -> 6") as refused:
        shard(str(source), str(interrupted), ShardOptions(per_shard=6), workers=1, resume=True)
    assert refused.value.exit_code == 3
    late = source / "a" / "late.jpg"
    late.write_bytes(picture())
    try:
        with pytest.raises(MuseError, match="has changed since"):
            shard(str(source), str(interrupted), OPTIONS, workers=1, resume=True)
    finally:
        late.unlink()


def test_beginning_anew_replaces_the_attempt(interrupted: Path, source: Path, expected: dict[str, bytes]) -> None:
    shard(str(source), str(interrupted), OPTIONS, workers=1, overwrite=True)
    assert contents(interrupted) == expected


def test_resuming_what_is_finished_does_nothing(source: Path, tmp_path: Path) -> None:
    first = shard(str(source), str(tmp_path / "out"), OPTIONS, workers=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = shard(str(source), str(tmp_path / "out"), OPTIONS, workers=1, resume=True)
    assert first is not None
    assert again is not None
    assert again.shards == first.shards
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_an_attempt_of_0_1_0_goes_on_with_its_size_of_shards(source: Path, tmp_path: Path) -> None:
    """It recorded 10,000 samples a shard where nobody had said how many."""
    first = shard(str(source), str(tmp_path / "out"), ShardOptions(per_shard=10_000), workers=1)
    again = shard(str(source), str(tmp_path / "out"), ShardOptions(), workers=1, resume=True)
    assert first is not None
    assert again is not None
    assert again.shards == first.shards
    with pytest.raises(MuseError, match="per_shard: 10000 -> 9"):
        shard(str(source), str(tmp_path / "out"), ShardOptions(per_shard=9), workers=1, resume=True)


def test_only_shards_are_ever_replaced(source: Path, tmp_path: Path) -> None:
    out = put(tmp_path / "out", {"thesis.tex": "years of work"})
    for overwrite in (False, True):
        with pytest.raises(MuseError):
            shard(str(source), str(out), OPTIONS, workers=1, overwrite=overwrite)
    shard(str(source), str(tmp_path / "mine"), OPTIONS, workers=1)
    put(tmp_path / "mine", {"notes.txt": "kept here by mistake"})
    with pytest.raises(MuseError, match=r"more than shards.*notes.txt"):
        shard(str(source), str(tmp_path / "mine"), ShardOptions(), workers=1, overwrite=True)
    (tmp_path / "mine" / "notes.txt").unlink()
    shard(str(source), str(tmp_path / "mine"), ShardOptions(per_shard=100), workers=1, overwrite=True)
    assert sorted(contents(tmp_path / "mine")) == ["000000.tar", "index.json", "skipped.csv"]


@pytest.mark.parametrize("out", [".", "inside", ".."])
def test_source_and_shards_do_not_lie_inside_one_another(source: Path, out: str) -> None:
    before = contents(source)
    with pytest.raises(MuseError, match="inside one another"):
        shard(str(source), str(source / out), OPTIONS, workers=1, overwrite=True)
    assert contents(source) == before


def test_a_dry_run_says_the_same_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    planned = shard(str(source), str(tmp_path / "out"), OPTIONS, workers=1, dry_run=True)
    assert list(tmp_path.iterdir()) == []
    done = shard(str(source), str(tmp_path / "out"), OPTIONS, workers=1)
    assert planned is not None
    assert done is not None
    assert [(one.name, one.count) for one in planned.shards] == [(one.name, one.count) for one in done.shards]
    assert (planned.skipped, planned.splits, planned.errors) == (done.skipped, done.splits, 1)


def test_what_changes_while_it_is_being_read_is_left_out_and_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = put(tmp_path / "in", {f"{n}.jpg": picture() for n in range(4)})
    real = steps.plan

    def plan_then_change(*arguments: object) -> object:
        (moving / "1.jpg").write_bytes(picture()[:-1])
        (moving / "2.jpg").unlink()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("muse_core.data.sharding.shard.plan", plan_then_change)
    report = shard(str(moving), str(tmp_path / "out"), workers=1)
    assert report is not None
    assert report.count == 2
    assert report.skipped == {"file changed after it was listed": 1, "file cannot be read": 1}
    assert "1.jpg,file changed" in (tmp_path / "out" / "skipped.csv").read_text()


def test_source_and_target_may_be_addresses(source: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(f"{source}/", "/shard-test/in/", recursive=True)
    try:
        shard("memory://shard-test/in", "memory://shard-test/out", OPTIONS, workers=4)
        found = {name.removeprefix("/shard-test/out/"): memory.cat(name) for name in memory.find("/shard-test/out")}
        assert found == expected
        with pytest.raises(MuseError, match="not empty"):
            shard("memory://shard-test/in", "memory://shard-test/out", OPTIONS)
        shard("memory://shard-test/in", "memory://shard-test/out", ShardOptions(per_shard=99), overwrite=True)
        names = sorted(name.rpartition("/")[2] for name in memory.find("/shard-test/out"))
        assert names == ["000000.tar", "index.json", "skipped.csv"]
    finally:
        memory.rm("/shard-test", recursive=True)
    shard(f"file://{source}", f"file://{tmp_path}/out", OPTIONS, workers=1)
    assert contents(tmp_path / "out") == expected


def test_addresses_that_nothing_knows_are_refused() -> None:
    with pytest.raises(MuseError, match="nowhere://"):
        shard("nowhere://x", "nowhere://y")
