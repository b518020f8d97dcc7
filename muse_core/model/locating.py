"""Where a word for a tokenizer leads, and what lies there: told by names and small files, without importing torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_core.errors import MuseError
from muse_core.files import read_json
from muse_core.registry import Plugin, discover
from muse_core.run_checkpoints import split_pointer
from muse_core.run_search import find, list_runs
from muse_core.runs import is_run
from muse_core.suggestions import did_you_mean

SHIPPED = Path(__file__).parent / "weights" / "tiny_checkpoint"
"""The finished tiny tokenizer that comes with muse."""

STATS_NAME = "latents_stats.json"
"""What lies beside latents: their mean and deviation."""

EXPORTED = "muse"
"""What the config.json of an exported tokenizer calls its format."""

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
IN_FOLDER = (
    "ema_model/pytorch_model.bin",
    "pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "model.safetensors.index.json",
    "unwrapped_model/pytorch_model.bin",
)
"""Where the public trainer leaves weights in a folder: the average is preferred, and its last output is safetensors."""


@dataclass(frozen=True)
class Named:
    """A tokenizer as far as small files tell.

    text: names it in a sentence. resolution: in pixels. blocks, heads: how many synergistic blocks, and heads of each.
    abilities: those announced. None where the files do not tell.
    """

    text: str
    resolution: int | None = None
    blocks: int | None = None
    heads: int | None = None
    abilities: tuple[str, ...] | None = None


def released_file(where: Path) -> Path | None:
    """Return the file of weights that a path means: itself, or the preferred one in a folder; None without one."""
    if where.is_file() and (where.suffix in SUFFIXES or where.name.endswith(".index.json")):
        return where
    return next((where / name for name in IN_FOLDER if (where / name).is_file()), None)


def is_export(folder: Path) -> bool:
    """Return whether a folder was written by `muse export`."""
    config = folder / "config.json"
    if not config.is_file() or not (folder / "model.safetensors").is_file():
        return False
    try:
        return bool(json.loads(config.read_text(encoding="utf-8")).get("format") == EXPORTED)
    except (ValueError, AttributeError):
        return False


def locate(where: str | Path) -> Path:
    """Return what a path means: a checkpoint folder of ours, or a file or folder of the public code as it is.

    Raises:
        MuseError: there is nothing to load; the hint says how to get something.
    """
    if split_pointer(where):
        return find(where)
    path = Path(where)
    if path.is_file() and ((path.parent / "state.json").is_file() or is_export(path.parent)):
        return path.parent  # a file inside a checkpoint of ours
    if not is_run(path) and not (path / "state.json").is_file() and released_file(path):
        return path
    if not path.exists() and str(where) != "latest":
        hint = " ".join(filter(None, [did_you_mean(str(where), known_names()), "muse ls tokenizers, muse ls runs"]))
        raise MuseError(f"{where} does not exist", hint=hint)
    return find(where)


def known_names() -> list[str]:
    """List what may be said for a tokenizer and is no path that was typed: names of plugins, `latest`, the runs."""
    return [*discover("muse.tokenizers"), "latest", *(str(run.path) for run in list_runs())]


def look_up(where: str) -> Named:
    """Return what a word for a tokenizer names, as `load_tokenizer` takes it.

    Raises:
        MuseError: there is nothing of that name.
    """
    plugin = named_plugin(where)
    return _announced(plugin, where, where.partition(":")[2]) if plugin else _at(locate(where))


def named_plugin(where: str | Path) -> Plugin | None:
    """Return the tokenizer that NAME or NAME:PATH means; None for what lies there, and for every other word."""
    return None if Path(where).exists() else discover("muse.tokenizers").get(str(where).partition(":")[0])


def _announced(plugin: Plugin, where: str, path: str) -> Named:
    abilities = tuple(getattr(plugin.declaration, "abilities", ())) or None
    if plugin.own and not path and plugin.name == "tiny" and (SHIPPED / "state.json").is_file():
        return _described("tiny", read_json(SHIPPED / "state.json"), "shipped with muse", abilities)
    return Named(f"{where} ({plugin.package} {plugin.version})", abilities=abilities)


def _at(path: Path) -> Named:
    if (path / "state.json").is_file():
        return _described(str(path), read_json(path / "state.json"))
    if is_export(path):
        return _described(str(path), read_json(path / "config.json"), "exported")
    return Named(f"{path} (checkpoint of the public code)")


def _described(
    name: str, document: Mapping[str, Any], more: str = "", abilities: tuple[str, ...] | None = None
) -> Named:
    spec = document.get("spec")
    numbers = spec if isinstance(spec, dict) else {}  # loading says what is wrong with it
    facts = [f"{key} {document[key]}" for key in ("size", "stage", "step") if key in document]
    return Named(
        f"{name} ({', '.join([*facts, *([more] if more else [])])})",
        resolution=_whole(numbers.get("resolution")),
        blocks=_whole(numbers.get("blocks")),
        heads=_whole(numbers.get("heads")),
        abilities=abilities,
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
