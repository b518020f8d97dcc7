"""Seeded cases of every kind, tried group by group."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.checkpoints import checkpoints, runs, torch_files
from tests.fuzz.kinds import Bug, Cases, Kind
from tests.fuzz.oddpictures import odd_pictures
from tests.fuzz.pickles import pickles
from tests.fuzz.pictures import captions, pictures
from tests.fuzz.plugins import plugins
from tests.fuzz.settings import settings
from tests.fuzz.surroundings import surroundings
from tests.fuzz.tables import tables
from tests.fuzz.tars import tars

KINDS = (
    Kind("pictures", 0.18, 30, pictures),
    Kind("odd pictures", 0.10, 20, odd_pictures),
    Kind("captions", 0.10, 30, captions),
    Kind("tables", 0.08, 10, tables),
    Kind("tars", 0.18, 30, tars),
    Kind("settings", 0.14, 30, settings),
    Kind("checkpoints", 0.08, 10, checkpoints),
    Kind("torch files", 0.04, 10, torch_files),
    Kind("pickles", 0.04, 20, pickles),
    Kind("run folders", 0.04, 10, runs),
    Kind("surroundings", 0.06, 20, surroundings),
    Kind("plugin metadata", 0.04, 10, plugins),
)


@dataclass
class Tried:
    """How many cases of each kind were tried, and what was found."""

    cases: Counter[str] = field(default_factory=Counter)
    bugs: list[Bug] = field(default_factory=list)


def tried(folder: Path, cases: int, seed: int, only: str = "") -> Iterator[Tried]:
    """Try cases; what has been tried so far is told after every group."""
    so_far = Tried()
    for kind in KINDS:
        if not any(part in kind.name for part in only.split(",")):
            continue
        of, numbers = Cases(seed, kind.name), list(range(round(cases * kind.share)))
        for start in range(0, len(numbers), kind.group):
            group = numbers[start : start + kind.group]
            so_far.bugs += kind.run(folder / f"{kind.name}-{start}".replace(" ", "-"), group, of)
            so_far.cases[kind.name] += len(group)
            yield so_far
