"""The settings of `muse shard`."""

from typing import Annotated, Literal

from pydantic import Field

from muse_core.settings.section import Section

Positive = Annotated[int, Field(gt=0)]


class ShardSettings(Section):
    """Settings of `muse shard`."""

    recipe: Literal["imagenet1k", "ade20k", "cc12m", "blip3o"] | None = Field(
        None, description="a data set in its published layout; empty: any tree of pictures"
    )
    captions: str = Field("auto", description="auto (NAME.txt, else NAME.json), none, txt, json:FIELD, csv:FILE")
    classes: str = Field("auto", description="auto (folders, if that is all they can mean), none, folders, csv:FILE")
    masks: str | None = Field(None, description="folder with NAME.png for each picture")
    split: str | None = Field(None, description="as in train=0.95,val=0.05; drawn by a hash of each name")
    per_shard: Positive | None = Field(
        None, description="samples in a shard, at most; empty: for 16 shards or more from 128 images on, at most 10000"
    )
    shard_size: str | None = Field(None, description="size of a shard, at most; empty: 512MB")
    resize: Positive | None = Field(None, description="shorter side in pixels; never enlarged; empty: bytes untouched")
    quality: int = Field(95, ge=1, le=100, description="of re-encoded jpg and webp")
    format: Literal["keep", "jpg", "webp"] = Field("keep", description="keep: bytes untouched unless resized")
    min_size: Positive | None = Field(None, description="leave out pictures whose longer side is shorter, in pixels")
    max_ratio: Annotated[float, Field(ge=1)] | None = Field(
        None, description="leave out pictures that are more elongated: longer over shorter side"
    )
    verify: bool = Field(False, description="decode every picture, instead of reading its header")
    shuffle: bool = Field(False, description="order by a hash of seed and name, instead of by name")
    seed: int = Field(0, ge=0, description="of --shuffle")
    on_error: Literal["skip", "stop"] = Field("skip", description="what a damaged file does")
    limit_errors: str = Field("1%", description="share of damaged files above which nothing is written")
    workers: Positive | Literal["auto"] = Field("auto", description="processes; the bytes do not depend on it")
