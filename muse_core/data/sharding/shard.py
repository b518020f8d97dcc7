"""Pictures to shards: the whole way, alone or with others, again from where it was interrupted."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from muse_core.data.owned import SHARDS
from muse_core.data.sharding.attempt import (
    SETTINGS,
    as_begun,
    begin_anew_if_read_otherwise,
    read,
    recorded,
    refuse_other_listing,
    settings_of,
)
from muse_core.data.sharding.damage import Damage, refuse_nothing_left
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.origin import fingerprint, refuse_other_source
from muse_core.data.sharding.places import Place
from muse_core.data.sharding.report import INDEX_NAME, SKIPPED_NAME, Sharded, ShardEntry
from muse_core.data.sharding.steps import (
    LISTED,
    PLANNED,
    Task,
    check_chunk,
    csv_row,
    list_source,
    plan,
    write_shard,
)
from muse_core.data.sharding.target import Target, refuse_overlap, refuse_taken, remove_shards
from muse_core.data.sharding.team import spread, usable_cores, wait_for
from muse_core.data.sharding.unchanged import moved_places
from muse_core.distributed import Rank, rank_of
from muse_core.errors import ExitCode, MuseError
from muse_core.files import publish
from muse_core.json_text import json_text
from muse_core.progress import Progress, Silent


def shard(
    source: str,
    out: str,
    options: ShardOptions | None = None,
    *,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> Sharded | None:
    """Write the pictures of `source` to WebDataset tars and index.json in `out`.

    The bytes depend on the source and the options only. Started several times by torchrun, srun or mpirun, the commands
    share the work; the first one returns what was written, the others None.

    Args:
        source, out: folders, or addresses that fsspec knows.
        options: what is stored, and how.
        workers: processes of this command; default: as many as there are cores.
        resume: continue an interrupted attempt; what is finished already stays.
        overwrite: replace shards that are there, or begin an interrupted attempt anew.
        dry_run: list, check and plan, and write nothing.
        progress: who is told.
        environ: the variables in which launchers say who is who; those of this process unless given.

    Raises:
        MuseError: nothing is there to store or too much is damaged; `out` holds something; the options contradict.
    """
    options, progress = options or ShardOptions(), progress or Silent()
    rank = rank_of(os.environ if environ is None else environ)
    target = Target.of(out)
    options = as_begun(options, Place(target.work), Place(target.out)) if resume else options
    refuse_overlap(source, target.out)
    if overwrite and rank.count > 1:
        raise MuseError(
            "--overwrite is for one process: others might read what it removes",
            hint=f"remove {target.out} first",
            exit_code=ExitCode.SETTINGS,
        )
    if dry_run:
        return _planned(source, target, options, workers, progress, resume, overwrite) if rank.index == 0 else None
    with target.naming(), target.held() if rank.index == 0 else nullcontext():
        return _shard(source, target, options, rank, workers, progress, resume=resume, overwrite=overwrite)


def _shard(
    source: str,
    target: Target,
    options: ShardOptions,
    rank: Rank,
    workers: int | None,
    progress: Progress,
    *,
    resume: bool,
    overwrite: bool,
) -> Sharded | None:
    """Write the shards, in a target that the first of the commands holds."""
    if rank.index == 0:
        finished = _prepare(source, target, options, resume=resume, overwrite=overwrite)
        if finished is not None:
            task = Task(Place(source).path(), target.aside, target.work, options)
            refuse_other_source(source, finished, options, _workers(workers, task), progress)
            progress.say(f"{target.out} is finished already")
            return finished
        begin_anew_if_read_otherwise(Place(target.work), target.out, alone=rank.count == 1, progress=progress)
    moved = moved_places(recorded(Place(target.work)), settings_of(source, options))
    task = Task(Place(source).path(), target.aside, target.work, options, moved)
    team = _Team(task, target, rank, _workers(workers, task), progress)
    try:
        return team.run(overwrite)
    except MuseError as problem:
        # What was refused is not continued, unlike what was interrupted.
        if rank.index == 0 and not resume and problem.exit_code != ExitCode.STOPPED:
            Place(target.aside if Place(target.aside).is_local else target.work).remove()
        raise


@dataclass(frozen=True)
class _Team:
    """One of the commands that make the same shards."""

    task: Task
    target: Target
    rank: Rank
    workers: int
    progress: Progress

    def run(self, overwrite: bool) -> Sharded | None:
        listed = self._listed()
        if listed is None or not self._check(listed):
            return None
        planned = self._planned(listed)
        if planned is None:
            return None
        try:
            records = self._write(listed["items"], planned)
            if records is None:
                return None
            refuse_nothing_left(self.task.source, listed["items"], planned, records, self.task.options)
        except MuseError as problem:
            if problem.exit_code != ExitCode.STOPPED and not Place(self.task.out).is_local:
                for shard in planned["shards"]:  # what is not here is not hidden until all is there
                    Place(self.task.out).remove(shard["name"])
            raise
        for record in records:
            if not record["count"]:  # readers would take a tar without samples for a damaged one
                Place(self.task.out).remove(record["name"])
        return _finish(self.task, self.target, listed, planned, records, overwrite)

    def _listed(self) -> dict[str, Any] | None:
        if self.rank.index:
            return self._others(LISTED, "listing")
        work = Place(self.task.work)
        before = json.loads(work.read(LISTED)) if work.exists(LISTED) else None
        with self.progress.track("listing", 0) as tracker:
            # An earlier listing is compared by listing again beside it, because others may be reading it already.
            again = replace(self.task, work=work.path("again")) if before else self.task
            listed = list_source(again, tracker.advance)
        if before:
            refuse_other_listing(self.task.source, work, before, work.folder("again"), listed)
            work.remove("again")
            return {**before, "files": listed["files"]}  # which an attempt of an older muse did not record
        work.write(LISTED, json.dumps(listed))
        return listed

    def _check(self, listed: dict[str, Any]) -> bool:
        chunks = range(listed["chunks"])
        mine = self.rank.share(chunks)
        with self.progress.track("checking", listed["items"] // self.rank.count) as tracker:
            for count in spread(partial(check_chunk, self.task), mine, self.workers):
                tracker.advance(count)
        if self.rank.index == 0:
            wait_for(Place(self.task.work), [f"checked/{n:06d}.json" for n in chunks], "checked files", self.progress)
        return True

    def _planned(self, listed: dict[str, Any]) -> dict[str, Any] | None:
        if self.rank.index:
            return self._others(PLANNED, "plan")
        work = Place(self.task.work)
        if work.exists(PLANNED):
            return read(work, PLANNED)
        planned = plan(self.task, listed)
        work.write(PLANNED, json.dumps(planned))
        return planned

    def _write(self, items: int, planned: dict[str, Any]) -> list[dict[str, Any]] | None:
        shards, damage = planned["shards"], Damage.of(planned)
        mine = self.rank.share(shards)
        work = Place(self.task.work)
        with self.progress.track("writing", sum(one["count"] for one in mine)) as tracker:
            for record in spread(partial(write_shard, self.task, planned["width"]), mine, self.workers):
                tracker.advance(record["count"])
                if self.rank.count == 1:  # else others write on, and the first one judges when all is there
                    damage.note_late(record)
                    damage.refuse_much(items, self.task.options)
        self.progress.say(f"{len(mine)} of {len(shards)} shards written") if self.rank.count > 1 else None
        if self.rank.index:
            return None
        names = [f"written/{one['number']:06d}.json" for one in shards]
        wait_for(work, names, "shards", self.progress)
        return [read(work, name) for name in names]

    def _others(self, name: str, what: str) -> dict[str, Any] | None:
        """What the first command found, or None when everything is finished and gone."""
        work, out = Place(self.task.work), Place(self.target.out)
        if wait_for(work, [name], what, self.progress, unless=lambda: out.exists(INDEX_NAME)):
            return read(work, name)
        return None


def _planned(
    source: str,
    target: Target,
    options: ShardOptions,
    workers: int | None,
    progress: Progress,
    resume: bool,
    overwrite: bool,
) -> Sharded:
    """Find out what would be written, in a folder that is gone afterwards; refuses what writing would."""
    done = refuse_taken(source, target, options, resume=resume, overwrite=overwrite)
    if done is not None:
        return replace(done, planned=True)
    with tempfile.TemporaryDirectory() as folder:
        task = Task(Place(source).path(), folder, folder, options)
        team = _Team(task, Target(folder, folder), Rank(), _workers(workers, task), progress)
        listed = team._listed() or {}
        team._check(listed)
        planned = team._planned(listed) or {}
        listed["listing"] = fingerprint(task, listed)
    shards = [{**one, "sha256": "", "fields": {}, "skipped": []} for one in planned["shards"]]
    refuse_nothing_left(task.source, listed["items"], planned, shards, options)
    return replace(_report(task, target, listed, planned, shards), planned=True)


def _prepare(source: str, target: Target, options: ShardOptions, *, resume: bool, overwrite: bool) -> Sharded | None:
    """Make the folder of the attempt, or find that all is done already."""
    done = refuse_taken(source, target, options, resume=resume, overwrite=overwrite)
    if done is not None or (target.is_unfinished() and resume):
        return done
    out, work = Place(target.out), Place(target.work)
    if out.is_local:
        target.clear()
    else:
        remove_shards(out)
    work.write(SETTINGS, json.dumps(settings_of(source, options)))
    return None


def _finish(
    task: Task,
    target: Target,
    listed: dict[str, Any],
    planned: dict[str, Any],
    records: list[dict[str, Any]],
    overwrite: bool,
) -> Sharded:
    aside, work = Place(task.out), Place(task.work)
    listed = {**listed, "listing": fingerprint(task, listed)}
    report = _report(task, target, listed, planned, records)
    late = [csv_row(*row) for record in records for row in record["skipped"]]
    if report.skipped:
        aside.write(SKIPPED_NAME, csv_row("file", "reason") + work.read("skipped.csv") + b"".join(late))
    for split in report.splits:
        aside.write(f"{split}/{INDEX_NAME}", _document(report, split))
    if not aside.is_local:
        aside.write(INDEX_NAME, _document(report))
        work.remove()
        return report
    work.remove()
    for torn in Path(target.aside).rglob("*.tmp"):  # of processes that were killed
        torn.unlink()
    aside.write(INDEX_NAME, _document(report))
    target.let_go()
    publish(Path(target.aside), Path(target.out), SHARDS.in_the_way(overwrite))
    return report


def _report(
    task: Task, target: Target, listed: dict[str, Any], planned: dict[str, Any], records: list[dict[str, Any]]
) -> Sharded:
    fields: Counter[str] = Counter()
    skipped: Counter[str] = Counter(planned["skipped"])
    counts = {split: 0 for split in planned["counts"] if split}
    errors = sum(planned["damaged"].values())
    for record in records:
        fields.update(record["fields"])
        skipped.update(reason for _, reason in record["skipped"])
        errors += len(record["skipped"])
        if record["split"]:
            counts[record["split"]] += record["count"]
    return Sharded(
        out=target.out,
        shards=tuple(
            ShardEntry(one["name"], one["count"], one["bytes"], one["sha256"]) for one in records if one["count"]
        ),
        fields=dict(sorted(fields.items())),
        classes=tuple(planned["classes"]),
        coverage=tuple(planned["coverage"]),
        splits=counts,
        skipped=dict(sorted(skipped.items())),
        errors=errors,
        settings=task.options.as_settings(),
        more=listed["more"],
        notes=planned.get("notes", {}),
        listing=listed["listing"],
    )


def _workers(asked: int | None, task: Task) -> int:
    # What lives in the memory of one process is not there for another.
    alone = not all(Place(where).shared for where in (task.source, task.out, task.work))
    return 1 if alone else asked or usable_cores()


def _document(report: Sharded, split: str | None = None) -> str:
    return json_text(report.as_index(split), sort_keys=True) + "\n"
