"""How a source becomes shards, as values that do not depend on where and by how many it is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from muse_core.data.sharding.plan import MOST_EACH
from muse_core.errors import ExitCode, MuseError

RECIPES = ("imagenet1k", "ade20k", "cc12m", "blip3o")
SHARD_BYTES = 512_000_000
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class ShardOptions:
    """What decides the bytes of the shards.

    captions: auto (NAME.txt, else caption or text of NAME.json), none, txt, json:FIELD or csv:FILE.
    classes: auto, none, folders or csv:FILE. masks: a folder with NAME.png for each picture.
    recipe: one of `RECIPES`, or None for any tree of pictures.
    split: name -> share, drawn by a hash of each name. per_shard, shard_bytes: whichever is reached first ends a shard;
    None of both: as `plan.room` says, so that training can read several shards at once.
    resize: the shorter side in pixels, never enlarged; None leaves the bytes alone, as format "keep" does then.
    quality: of re-encoded jpg and webp. verify: decode every picture instead of reading its header.
    min_long_side (pixels), max_ratio (longer over shorter side, itself included): None keeps everything.
    shuffle, seed: order by a hash of seed and name. on_error: what a damaged file does.
    limit_errors: share of damaged files above which nothing is written.
    """

    captions: str = "auto"
    classes: str = "auto"
    masks: str | None = None
    recipe: str | None = None
    split: Mapping[str, float] | None = None
    per_shard: int | None = None
    shard_bytes: int | None = None
    resize: int | None = None
    quality: int = 95
    format: Literal["keep", "jpg", "webp"] = "keep"
    min_long_side: int | None = None
    max_ratio: float | None = None
    verify: bool = False
    shuffle: bool = False
    seed: int = 0
    on_error: Literal["skip", "stop"] = "skip"
    limit_errors: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, with exit code 3."""
        _one_of("captions", self.captions, ("auto", "none", "txt", "json:FIELD", "csv:FILE"))
        _one_of("classes", self.classes, ("auto", "none", "folders", "csv:FILE"))
        if self.recipe is not None:
            _one_of("recipe", self.recipe, RECIPES)
            given = [name for name in ("captions", "classes") if getattr(self, name) != "auto"]
            given += ["masks"] if self.masks else []
            given += ["split"] if self.split and self.recipe in ("imagenet1k", "ade20k") else []
            if given:
                raise _wrong(f"recipe {self.recipe} decides {' and '.join(given)} itself", "leave it out")
        if self.split is not None and (not self.split or abs(sum(self.split.values()) - 1) > 1e-6):
            raise _wrong(
                f"the shares of split must add up to 1: {_in_words(self.split)}", "--split train=0.95,val=0.05"
            )
        nothing = next((name for name, share in (self.split or {}).items() if share <= 0), None)
        if nothing is not None:
            raise _wrong(f"split {nothing} has no share, and no split stays empty", f"leave {nothing} out of --split")

    @property
    def table(self) -> tuple[str | None, str | None]:
        """The files of csv:FILE, of captions and of classes."""
        found = [value.partition(":")[2] if value.startswith("csv:") else None for value in self._from_tables()]
        return found[0], found[1]

    @property
    def most_samples(self) -> int | None:
        """Samples in a shard, at most; None where nothing was said of its size."""
        return MOST_EACH if self.per_shard is None and self.shard_bytes is not None else self.per_shard

    @property
    def most_bytes(self) -> int:
        """Bytes in a shard, at most."""
        return SHARD_BYTES if self.shard_bytes is None else self.shard_bytes

    @property
    def reencodes(self) -> bool:
        """Whether pictures are unpacked and packed again."""
        return self.resize is not None or self.format != "keep"

    def as_settings(self) -> dict[str, Any]:
        """What index.json records: everything that decided the bytes, and nothing about this machine."""
        settings = asdict(self)
        for name in ("captions", "classes"):
            kind, colon, rest = settings[name].partition(":")
            settings[name] = f"csv:{rest.replace(chr(92), '/').rpartition('/')[2]}" if kind == "csv" else settings[name]
        settings["per_shard"], settings["shard_bytes"] = self.most_samples, self.most_bytes
        settings["masks"] = self.masks is not None
        settings["split"] = dict(self.split) if self.split else None
        return settings

    def _from_tables(self) -> tuple[str, str]:
        return self.captions, self.classes


def read_split(text: str) -> dict[str, float]:
    """Read train=0.95,val=0.05.

    Raises:
        MuseError: it is not of this form.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.strip().partition("=")
        if (
            not re.fullmatch(r"[A-Za-z0-9_-]+", name)
            or not re.fullmatch(r"0?\.\d+|0|1(\.0+)?", share)
            or name in shares
        ):
            raise _wrong(f"split {text!r} is not NAME=SHARE,NAME=SHARE", "--split train=0.95,val=0.05")
        shares[name] = float(share)
    return shares


def read_size(text: str | int) -> int:
    """Read a number of bytes such as 512MB (10^6) or 512MiB (2^20).

    Raises:
        MuseError: it is not of this form.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(text).strip())
    if not match or match[2].upper() not in _UNITS or float(match[1]) <= 0:
        raise _wrong(f"{text!r} is not a size", "--shard-size 512MB")
    return max(1, int(float(match[1]) * _UNITS[match[2].upper()]))


def read_share(text: str | float) -> float:
    """Read 1% or 0.01.

    Raises:
        MuseError: it is neither.
    """
    match = re.fullmatch(r"(\d*\.?\d+)(%?)", str(text).strip())
    share = float(match[1]) / (100 if match[2] else 1) if match else -1
    if not 0 <= share <= 1:
        raise _wrong(f"{text!r} is not a share", "--limit-errors 1%")
    return share


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    kind, colon, rest = value.partition(":")
    fits = any(one == value or (colon and rest and one.partition(":")[0] == kind and ":" in one) for one in allowed)
    if not fits:
        raise _wrong(f"{name} is one of {', '.join(allowed)}, not {value!r}", f"--{name} {allowed[0]}")


def _in_words(split: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={share:g}" for name, share in split.items())


def _wrong(what: str, hint: str) -> MuseError:
    return MuseError(what, hint=hint, exit_code=ExitCode.SETTINGS)
