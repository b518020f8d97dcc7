"""Which settings belong to which command, and how its flags become settings."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from muse_cli.output import out
from muse_core.errors import MEASURING_MEMORY, TRAINING_MEMORY, ExitCode, MuseError
from muse_core.registry import find, import_path
from muse_core.settings import Origins, resolve
from muse_core.settings.measuring import ProbeSettings
from muse_core.settings.presets import preset_for
from muse_core.settings.train import TrainSettings
from muse_core.suggestions import choices

S = TypeVar("S", bound=BaseModel)

MODELS: Mapping[str, str] = {
    "train": "muse_core.settings.train:TrainSettings",
    "eval": "muse_core.settings.measuring:EvalSettings",
    "zeroshot": "muse_core.settings.measuring:ZeroshotSettings",
    "probe": "muse_core.settings.measuring:ProbeSettings",
    "segment": "muse_core.settings.measuring:SegmentSettings",
    "compare": "muse_core.settings.measuring:CompareSettings",
    "infer": "muse_core.settings.measuring:InferSettings",
    "attn-viz": "muse_core.settings.measuring:AttentionSettings",
    "shard": "muse_core.settings.sharding:ShardSettings",
}


def model_for(command: str) -> type[BaseModel]:
    """Return the settings class of a command; of a probe as "probe-NAME".

    Raises:
        MuseError: the command has no settings, or there is no such probe.
    """
    if command.startswith("probe-"):
        plugin = find("muse.probes", command.removeprefix("probe-"))
        return cast(type[BaseModel], plugin.load_path(plugin.load().settings))
    if command not in MODELS:
        hint = choices(command, [*MODELS, "probe-NAME"])
        raise MuseError(f"{command!r} has no settings", hint=hint, exit_code=ExitCode.USAGE)
    return cast(type[BaseModel], import_path(MODELS[command]))


def resolve_for(
    command: str,
    flags: Mapping[str, Any],
    sets: Iterable[str] | None,
    file: Path | None,
) -> tuple[BaseModel, Origins]:
    """Resolve the settings of a command by name."""
    return resolve_as(model_for(command), command, flags, sets, file)


def resolve_as(
    model: type[S],
    command: str,
    flags: Mapping[str, Any],
    sets: Iterable[str] | None,
    file: Path | None,
) -> tuple[S, Origins]:
    """Resolve settings, with the preset of `train`, and pass on warnings about variables."""
    chosen = preset_for if model is TrainSettings else None
    settings, origins = resolve(model, command=command, flags=flags, sets=sets or (), file=file, preset=chosen)
    out.memory_hint = memory_hint(settings)
    for warning in origins.warnings:
        out.warn(warning)
    for key, origin in origins.items():
        if origin not in ("default", "preset"):
            out.detail(f"{key} is set by {origin}")
    return settings, origins


def memory_hint(settings: BaseModel) -> str:
    """Return what to type when memory is too small for these settings, what changes least first."""
    if isinstance(settings, TrainSettings):
        again = "--set training.checkpointing=true, then "
        return TRAINING_MEMORY.removeprefix(again if settings.training.checkpointing else "")
    names, batch = type(settings).model_fields, getattr(settings, "batch_size", 1)
    if type(settings) is ProbeSettings:  # probes have no --batch-size
        return "fewer images: --limit and --train-limit"
    if "workers" in names:
        return "fewer --workers"
    if "size_px" not in names:
        return "a smaller --batch-size" if batch != 1 else "fewer images: --limit"
    return MEASURING_MEMORY if batch != 1 else "a smaller --size-px"
