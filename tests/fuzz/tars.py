"""Damaged tars: through inspect, eval, and the readers of a training."""

import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path

from muse_core.data.sample import Sample
from muse_core.data.shards import ShardSource
from muse_core.data.writer import write_scene_shards
from muse_core.errors import ExitCode, MuseError
from tests.fuzz.judge import HangError, guarded, muse
from tests.fuzz.kinds import Bug, Cases
from tests.fuzz.mutate import damaged

SAMPLES = 4
EVALUATED = 25
"""One case in so many is also measured, which takes longer."""


@cache
def base(folder: Path) -> Path:
    """One shard of a few scenes, with its index."""
    return write_scene_shards("train", SAMPLES, folder, per_shard=SAMPLES, size=16).folder


def tars(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """A tar in which anything is damaged: its index tells, and without one no caption goes to another picture."""
    whole = base(folder.parent / "base-tar")
    known = {one.key: one.caption for one in ShardSource(str(whole)).once() if isinstance(one, Sample)}
    for case in cases:
        shards = folder / f"{case}"
        shutil.copytree(whole, shards)
        tar = shards / "000000.tar"
        tar.write_bytes(damaged(tar.read_bytes(), of.rng(case)))
        yield from _inspected(case, shards, of)
        yield from _read(case, shards, known, of)
        if case % EVALUATED == 0:
            ended = muse("eval", "tiny", "--data", str(shards), "--metric", "psnr", "--size-px", "16", "--json")
            if ended.bug:
                yield of.bug(case, ended)
        shutil.rmtree(shards)


def _inspected(case: int, shards: Path, of: Cases) -> Iterator[Bug]:
    ended = muse("inspect", str(shards), "--deep", "--json")
    if ended.bug:
        yield of.bug(case, ended)
    elif ended.code not in (ExitCode.PROBLEMS, ExitCode.FILE):
        yield of.bug(case, ended, "the index says otherwise, and inspect is content")


def _read(case: int, shards: Path, known: Mapping[str, str], of: Cases) -> Iterator[Bug]:
    """Read as a training does; the tar's own index is taken away, as strangers' tars have none."""
    (shards / "index.json").unlink()
    source = ShardSource(str(shards))
    try:
        with guarded():
            read = list(islice(source.lane(0, 1, seed=0), 3 * SAMPLES))
    except MuseError:
        return
    except (Exception, HangError) as error:
        yield Bug(of.kind, case, f"{type(error).__name__}: {error}", ("(read as for training)",))
        return
    for one in read:
        if isinstance(one, Sample) and one.caption != known.get(one.key) and one.caption in known.values():
            yield Bug(of.kind, case, f"{one.key} has the caption of another: {one.caption!r}", ("(read)",))
