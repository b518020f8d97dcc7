"""muse: train and measure unified visual tokenizers.

The names below are the stable Python interface; each is imported when first used, so that
``import muse_core`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muse_core.api import (
        ShardOptions as ShardOptions,
        evaluate as evaluate,
        inspect as inspect,
        load_tokenizer as load_tokenizer,
        probe as probe,
        segment as segment,
        shard as shard,
        train as train,
        write_shards as write_shards,
        zeroshot as zeroshot,
    )

__version__ = "0.1.0"

_NAMES = (
    "ShardOptions",
    "evaluate",
    "inspect",
    "load_tokenizer",
    "probe",
    "segment",
    "shard",
    "train",
    "write_shards",
    "zeroshot",
)
__all__ = [*_NAMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'muse_core' has no attribute {name!r}")
    return getattr(import_module("muse_core.api"), name)
