"""muse: train and measure unified visual tokenizers.

The names below are the stable Python interface; each is imported when first used, so that
``import muse_core`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muse_core.api import (
        evaluate as evaluate,
        load_tokenizer as load_tokenizer,
        probe as probe,
        train as train,
        zeroshot as zeroshot,
    )
    from muse_core.data.writer import write_shards as write_shards

__version__ = "0.1.0"

_HOMES = {
    "load_tokenizer": "muse_core.api",
    "train": "muse_core.api",
    "evaluate": "muse_core.api",
    "probe": "muse_core.api",
    "zeroshot": "muse_core.api",
    "write_shards": "muse_core.data.writer",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'muse_core' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
