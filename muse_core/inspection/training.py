"""Whether data can be trained on as `muse train` does by default, and the command that does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from muse_core.command_lines import quote
from muse_core.data.loader import LanePlan, lane_unit
from muse_core.data.source import Source
from muse_core.data.vocabulary import counted
from muse_core.settings.presets import STAGES, preset

SIZE = "tiny"
"""The size that trains anywhere: others need weights that somebody has to fetch first."""


def training_facts(source: Source, captioned: int) -> dict[str, Any]:
    """Return what `muse train` would do with a source in each stage that can learn from it.

    Args:
        source: as training opens it. captioned: samples with a caption.
    """
    stages = list(STAGES) if captioned else [1]
    batches = [int(preset(SIZE, stage)["training"]["batch_size"]) for stage in stages]
    lanes = [LanePlan.of(batch, None, 1, source).lanes for batch in batches]
    return {"size": SIZE, "stages": stages, "batch_sizes": batches, "lanes": lanes, "unit": lane_unit(source)}


def training_line(facts: Mapping[str, Any], samples: int) -> str:
    """Return the facts in words: which stages, how many images at once, through how many lanes."""
    stages = _range(facts["stages"])
    because = "" if len(facts["stages"]) > 1 else " alone, as the others learn from captions"
    batches = ", ".join(map(str, facts["batch_sizes"]))
    counts = sorted(set(facts["lanes"]))
    lanes = " or ".join([*map(str, counts[:-1]), counted(counts[-1], "lane")])
    few = f"; {counted(samples, 'sample')} fill a batch several times" if samples < min(facts["batch_sizes"]) else ""
    return f"training  stage {stages}{because}: {batches} images at once through {lanes}{few}"


def train_command(where: str, facts: Mapping[str, Any], *, held_out: bool) -> str:
    """Return the command that trains on a source, as it can be typed; held_out: it has a split for validation."""
    name = quote(where)
    validation = f" --val-data {name}" if held_out else ""
    return f"muse train --stage {_range(facts['stages'])} --size {facts['size']} --data {name}{validation}"


def sharding_hint(where: str) -> str:
    """Return why image files are better made shards before long training, and how."""
    return f"faster    muse shard {quote(where)} makes tars: one file to open instead of many"


def _range(stages: Sequence[int]) -> str:
    return f"{stages[0]}-{stages[-1]}" if len(stages) > 1 else str(stages[0])
