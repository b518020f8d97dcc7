"""Batches are the same for any number of processes and workers, and continue at the exact next sample."""

import itertools
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from muse_core.data.loader import Batches, LanePlan, eval_batches
from muse_core.data.mixing import MixedSource
from muse_core.data.sample import UNKNOWN_MASK, Batch, Sample, collate
from muse_core.data.shards import ShardSource
from muse_core.data.source import SceneSource, Source, open_source
from muse_core.data.transforms import train_transform
from muse_core.errors import MuseError
from tests.data.conftest import MakeTar, good, picture

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def global_batches(
    source: Source, steps: int, *, world: int = 1, workers: int = 0, cursor: dict[int, int] | None = None
) -> list[Batch]:
    """What all processes together see: their batches joined in the order of their ranks."""
    streams = [
        iter(
            Batches(
                source,
                batch_size=8,
                lanes=4,
                seed=1,
                rank=rank,
                world=world,
                workers=workers,
                cursor=cursor,
                transform=train_transform(24, flip=True),
            )
        )
        for rank in range(world)
    ]
    return [joined([next(stream) for stream in streams]) for _ in range(steps)]


def joined(parts: list[Batch]) -> Batch:
    return Batch(
        images=torch.cat([part.images for part in parts]),
        captions=[caption for part in parts for caption in part.captions],
        labels=torch.cat([part.labels for part in parts]),
        masks=torch.cat([part.masks for part in parts if part.masks is not None]),
        keys=[key for part in parts for key in part.keys],
        cursor={lane: position for part in parts for lane, position in part.cursor.items()},
    )


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert (one.keys, one.captions, one.cursor) == (other.keys, other.captions, other.cursor)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert one.masks is not None
        assert other.masks is not None
        assert torch.equal(one.masks, other.masks)


def sources(scene_shards: Path) -> list[Source]:
    scenes, shards = SceneSource("train", size=32), ShardSource(str(scene_shards), shuffle=4)
    return [scenes, shards, MixedSource([scenes, shards], [1, 2])]


def test_a_batch_has_the_shapes_and_ranges_it_promises(scene_shards: Path) -> None:
    batch = next(iter(Batches(open_source(str(scene_shards)), batch_size=8, lanes=4, transform=train_transform(24))))
    assert batch.masks is not None
    assert (batch.images.shape, batch.images.dtype) == ((8, 3, 24, 24), torch.float32)
    assert 0 <= batch.images.min() < 0.5 < batch.images.max() <= 1
    assert (batch.labels.shape, batch.labels.dtype) == ((8,), torch.int64)
    assert (batch.masks.shape, batch.masks.dtype) == ((8, 24, 24), torch.uint8)
    assert len(batch) == len(batch.captions) == len(set(batch.keys)) == 8
    assert batch.cursor == dict.fromkeys(range(4), 2)
    assert batch.to("cpu").keys == batch.keys


@pytest.mark.parametrize(("world", "workers"), [(1, 1), (1, 2), (1, 4), (2, 0), (2, 1), (2, 2), (4, 0)])
def test_processes_and_workers_never_change_what_is_read(scene_shards: Path, world: int, workers: int) -> None:
    source = sources(scene_shards)[1]
    steps = 18  # three passes over 48 samples
    assert_same(global_batches(source, steps, world=world, workers=workers), global_batches(source, steps))


RANK = """
import itertools, json, sys
from muse_core.data.loader import Batches
from muse_core.data.shards import ShardSource
from muse_core.data.transforms import train_transform

folder, rank, steps, lanes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
source = ShardSource(folder, shuffle=4)
for workers in (1, 2, 4):
    batches = Batches(source, batch_size=8, lanes=lanes, seed=1, rank=rank, world=2, workers=workers,
                      transform=train_transform(24, flip=True))
    seen = [(batch.keys, float(batch.images.double().sum())) for batch in itertools.islice(batches, steps)]
    print(json.dumps(seen))
"""


@pytest.mark.slow
def test_two_real_processes_see_for_three_epochs_what_one_sees_with_1_2_and_4_workers(scene_shards: Path) -> None:
    steps, lanes = 18, 8  # three passes over 48 samples; four lanes, so up to four workers, for each process
    whole = Batches(
        ShardSource(str(scene_shards), shuffle=4),
        batch_size=8,
        lanes=lanes,
        seed=1,
        transform=train_transform(24, flip=True),
    )
    expected = list(itertools.islice(whole, steps))
    commands = [[sys.executable, "-c", RANK, str(scene_shards), str(rank), str(steps), str(lanes)] for rank in (0, 1)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for command in commands
    ]
    said = [process.communicate(timeout=300)[0].splitlines() for process in processes]
    assert [len(lines) for lines in said] == [3, 3]
    for ours, theirs in zip(*said, strict=True):
        for batch, (first, first_sum), (second, second_sum) in zip(
            expected, json.loads(ours), json.loads(theirs), strict=True
        ):
            assert first + second == batch.keys
            assert first_sum == float(batch.images[:4].double().sum())
            assert second_sum == float(batch.images[4:].double().sum())


HELD = """
from muse_core.data.loader import Batches
from muse_core.data.source import SceneSource
from muse_core.data.transforms import train_transform

held = iter(Batches(SceneSource("train"), batch_size=2, lanes=2, workers=2, transform=train_transform(16)))
print(len(next(held)))
"""


def test_readers_end_with_the_process_even_while_someone_holds_the_batches() -> None:
    """They leave SIGTERM to their parent, and the loader's own clean-up sends SIGTERM and waits."""
    ended = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "2\n"), ended.stderr


FAILED = """
import sys
from muse_core.data.loader import Batches
from muse_core.data.source import SceneSource
from muse_core.errors import MuseError

def refuses(sample, rng):
    raise MuseError("no")

try:
    for batch in Batches(SceneSource("train"), batch_size=2, lanes=2, workers=2, transform=refuses):
        pass
except MuseError as error:
    sys.kept = error  # and so is its traceback, with all its frames, as a debugger or a notebook does
print(sys.kept.what)
"""


def test_readers_end_with_the_process_even_while_someone_holds_the_error() -> None:
    ended = subprocess.run([sys.executable, "-c", FAILED], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "no\n"), ended.stderr


KILLED = """
import multiprocessing, os, signal, time
from muse_core.data.loader import Batches
from muse_core.data.source import SceneSource
from muse_core.data.transforms import train_transform

held = iter(Batches(SceneSource("train"), batch_size=32, lanes=2, workers=2, transform=train_transform(64)))
next(held)
time.sleep(3)  # until the pipes are full
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_readers_of_a_killed_training_do_not_stay_behind() -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, timeout=120)
    readers = [int(pid) for pid in ended.stdout.split()]
    assert (ended.returncode, len(readers)) == (-signal.SIGKILL, 2)
    deadline = time.monotonic() + 60
    while any(_runs(pid) for pid in readers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [pid for pid in readers if _runs(pid)]


def _runs(pid: int) -> bool:
    """Whether a process is there and is no zombie, which a container without an init keeps."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("which", [0, 2])
def test_scenes_and_mixes_too_are_the_same_for_two_processes_with_workers(scene_shards: Path, which: int) -> None:
    source = sources(scene_shards)[which]
    assert_same(global_batches(source, 6, world=2, workers=2), global_batches(source, 6))


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 0), (1, 2)])
def test_b6_a_cursor_continues_at_the_exact_next_sample(
    scene_shards: Path, which: int, world: int, workers: int
) -> None:
    source = sources(scene_shards)[which]
    whole = global_batches(source, 12)
    rest = global_batches(source, 5, world=world, workers=workers, cursor=whole[6].cursor)
    assert_same(rest, whole[7:])


def test_b6_the_first_batch_follows_from_the_seed(scene_shards: Path) -> None:
    def first(seed: int) -> list[str]:
        source = ShardSource(str(scene_shards))
        return next(iter(Batches(source, batch_size=8, lanes=4, seed=seed, transform=train_transform(24)))).keys

    assert first(3) == first(3) != first(4)


def test_reading_leaves_the_random_numbers_of_the_training_alone() -> None:
    state = torch.get_rng_state()
    next(iter(Batches(SceneSource(size=32), batch_size=4, lanes=4, transform=train_transform(32))))
    assert torch.equal(torch.get_rng_state(), state)


def test_a9_batches_mix_their_sources_in_the_given_ratio() -> None:
    mix = MixedSource([SceneSource(split, size=32) for split in ("train", "val", "ood")], [0.2, 0.6, 0.2])
    batches = Batches(mix, batch_size=32, lanes=4, transform=train_transform(32))
    origins = [[key.split("-")[0] for key in batch.keys] for batch in itertools.islice(batches, 40)]
    assert all(len(set(batch)) > 1 for batch in origins)
    counts = Counter(origin for batch in origins for origin in batch)
    np.testing.assert_allclose([counts[name] / 1280 for name in ("train", "val", "ood")], [0.2, 0.6, 0.2], atol=0.05)


@pytest.mark.parametrize(
    ("batch_size", "lanes", "world", "fitting"),
    [(10, 4, 1, 5), (8, 3, 1, 2), (12, 4, 3, 3), (16, 6, 2, 4), (7, 2, 2, None)],
)
def test_what_does_not_divide_is_refused_with_the_number_to_use(
    batch_size: int, lanes: int, world: int, fitting: int | None
) -> None:
    with pytest.raises(MuseError) as refused:
        LanePlan(batch_size, lanes, world).check(SceneSource())
    assert refused.value.exit_code == 3
    assert refused.value.hint == (
        f"--set data.lanes={fitting}" if fitting else "make the batch a multiple of the 2 processes"
    )


def test_more_lanes_than_shards_are_refused_before_reading(scene_shards: Path) -> None:
    with pytest.raises(MuseError) as refused:
        Batches(ShardSource(str(scene_shards)), batch_size=36, lanes=12, transform=train_transform(24))
    assert refused.value.hint == "--set data.lanes=6"


def test_every_lane_belongs_to_one_worker_of_one_process() -> None:
    plan = LanePlan(48, 12, 2)
    blocks = [block for rank in range(2) for block in plan.of_workers(rank, 4)]
    assert [lane for block in blocks for lane in block] == list(range(12))
    assert len(plan.of_workers(0, 100)) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_samples_reach_the_batch_with_reason_and_first_key(make_tar: MakeTar, workers: int) -> None:
    for name in ("a.tar", "b.tar"):
        path = make_tar(name, [*good(3), ("00003.jpg", b"text"), *good(2, first=4)])
    source = ShardSource(str(path.parent), shuffle=1)
    batches = Batches(source, batch_size=10, lanes=2, workers=workers, transform=train_transform(16))
    batch = next(iter(batches))
    assert batch.skipped == {"image cannot be decoded": 2}
    assert batch.examples == {"image cannot be decoded": "a/00003"}
    assert batch.cursor == {0: 6, 1: 6}


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_damaged_samples_stop_the_run_with_exit_code_7(make_tar: MakeTar, workers: int) -> None:
    for name in ("a.tar", "b.tar"):
        path = make_tar(name, [*good(30), ("1.jpg", b"text")])
    batches = Batches(
        ShardSource(str(path.parent)), batch_size=60, lanes=2, workers=workers, transform=train_transform(8)
    )
    with pytest.raises(MuseError, match=r"could not be used.*image cannot be decoded \(first: [ab]/1\)") as stopped:
        for _ in batches:
            pass
    assert stopped.value.exit_code == 7
    assert "limit_errors" in str(stopped.value.hint)


@pytest.mark.parametrize("workers", [0, 2])
def test_where_no_damage_is_allowed_the_first_stops_the_run_before_it_is_passed_over(
    make_tar: MakeTar, workers: int
) -> None:
    for name in ("a.tar", "b.tar"):
        path = make_tar(name, [*good(30), ("1.jpg", b"text")])
    source = ShardSource(str(path.parent), shuffle=1)
    strict = Batches(source, batch_size=8, lanes=2, workers=workers, limit_errors=0.0, transform=train_transform(8))
    used: list[Batch] = []
    with pytest.raises(MuseError, match="1 of 31 samples could not be used"):
        used.extend(strict)
    assert [batch.skipped for batch in used] == [{}] * 7


def test_damage_is_counted_over_all_workers_of_a_process(make_tar: MakeTar) -> None:
    for name in ("a.tar", "b.tar"):
        path = make_tar(name, [*good(30), ("1.jpg", b"text")])
    batches = Batches(ShardSource(str(path.parent)), batch_size=60, lanes=2, workers=2, transform=train_transform(8))
    used: list[int] = []
    with pytest.raises(MuseError, match="could not be used"):
        used.extend(map(len, batches))
    assert 1000 // 62 <= len(used) < 2 * 1000 // 62  # a worker by itself would have needed twice as many


def test_the_plan_says_in_words_who_reads_what(scene_shards: Path) -> None:
    assert LanePlan(12, 6, 2).describe(ShardSource(str(scene_shards)), workers=2) == (
        "8 shards of 48 samples, 1 or 2 in each of 6 lanes, 3 per process, 2 sample(s) of each per batch; 4 reader(s)"
    )
    assert LanePlan(8, 4).describe(SceneSource(), workers=0) == (
        "4 lanes, 4 per process, 2 sample(s) of each per batch; 1 reader(s)"
    )


def test_evaluation_sees_every_sample_once_and_keeps_the_last_partial_batch(scene_shards: Path) -> None:
    source = ShardSource(str(scene_shards))
    sizes = [len(batch) for batch in eval_batches(source, batch_size=20, size=24)]
    assert sizes == [20, 20, 8]
    shared = [
        key
        for rank in range(3)
        for b in eval_batches(source, batch_size=5, size=24, rank=rank, world=3)
        for key in b.keys
    ]
    assert sorted(shared) == [item.key for item in source.once()]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_evaluation_limit_counts_over_all_processes(world: int) -> None:
    found = [
        key
        for rank in range(world)
        for batch in eval_batches(
            open_source("demo:val", size=32), batch_size=4, size=32, limit=10, rank=rank, world=world
        )
        for key in batch.keys
    ]
    assert sorted(found) == [f"val-{index:09d}" for index in range(10)]


def test_an_evaluation_that_reads_nothing_fails(make_tar: MakeTar) -> None:
    source = ShardSource(str(make_tar("a.tar", [("a.jpg", b"text"), ("b.txt", b"x")])))
    with pytest.raises(MuseError, match="no usable sample"):
        list(eval_batches(source, batch_size=4, size=16))


def test_masks_missing_from_some_samples_are_marked_unknown() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    batch = collate([Sample("a", image), Sample("b", image, mask=np.ones((4, 4), np.uint8))])
    assert batch.masks is not None
    assert batch.masks[:, 0, 0].tolist() == [UNKNOWN_MASK, 1]
    assert collate([Sample("a", image)]).masks is None


def test_empty_captions_stay_empty_for_the_loss_to_mask(make_tar: MakeTar) -> None:
    path = make_tar("a.tar", [("a.png", picture()), ("b.png", picture()), ("b.txt", b"a dog")])
    (batch,) = eval_batches(ShardSource(str(path)), batch_size=4, size=16)
    assert batch.captions == ["", "a dog"]


def test_what_is_skipped_behind_the_last_full_batch_is_counted_too(make_tar: MakeTar) -> None:
    tar = make_tar("a.tar", [*good(7), ("99999.jpg", b"this is text"), ("99999.txt", b"a cat")])
    batches = list(eval_batches(open_source(str(tar)), batch_size=7, size=24, limit_errors=1.0))
    assert [len(batch) for batch in batches] == [7]
    assert sum(batches[-1].skipped.values()) == 1
