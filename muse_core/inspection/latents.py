"""Shards of latents looked through: whole, as their index says, and each sample with its latents."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from muse_core.data.decode import RawSample
from muse_core.data.sample import Skip
from muse_core.data.shards import Shard, find_shards, read_index, read_shard
from muse_core.errors import MuseError
from muse_core.inspection.findings import Findings, Inspection
from muse_core.model.latent_stats import LatentStats

LATENTS = ("safetensors", "latents.npy")


def inspect_latents(folder: Path) -> Inspection:
    """Look through a folder that `muse infer --latents` wrote; of samples, names and lengths are read, no numbers."""
    problems = Findings()
    shards = find_shards(str(folder), "train")
    entries = {one["name"]: one for one in (read_index(folder) or {}).get("shards", [])}
    fields: Counter[str] = Counter()
    for shard in shards:
        _judge(shard, entries.pop(shard.name, None), fields, problems)
    for name in entries:
        problems.note("shard of the index is missing", name)
    samples = sum(fields[suffix] for suffix in LATENTS)
    size = sum(shard.path.stat().st_size for shard in shards)
    facts: dict[str, Any] = {
        "shards": len(shards),
        "bytes": size,
        "samples": samples,
        "fields": dict(sorted(fields.items())),
    }
    lines = [
        f"latents   {len(shards):,} shards, {size / 2**20:,.1f} MiB",
        f"samples   {samples:,}; {', '.join(f'{name} {count:,}' for name, count in facts['fields'].items())}",
    ]
    try:
        stats = LatentStats.read(folder)
    except MuseError as error:
        problems.note(error.what, str(folder))
    else:
        facts["channels"] = len(stats.mean)
        lines.append(f"channels  {len(stats.mean)}, {stats.count:,} values of each in their statistics")
    return Inspection("latents", str(folder), facts, tuple(lines), (), problems.all())


def _judge(shard: Shard, entry: dict[str, Any] | None, fields: Counter[str], problems: Findings) -> None:
    """Compare a shard with its entry in the index, and count what its samples carry."""
    if entry is None:
        problems.note("shard is not in the index", shard.name)
    else:
        with shard.path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != entry["sha256"]:
                problems.note("checksum differs from the index", shard.name)
    for item in read_shard(shard):
        if isinstance(item, Skip):
            problems.note(item.reason, item.key)
        elif isinstance(item, RawSample):
            fields.update(item.members.keys())
            if not any(suffix in item.members for suffix in LATENTS):
                problems.note("sample without latents", item.key)
