"""How many lanes a run reads through: as asked for, or what shards, batch, accumulation and processes all allow."""

from muse_core.command_lines import quote
from muse_core.data.folders import FolderSource
from muse_core.data.loader import MOST_LANES, LanePlan, lane_unit
from muse_core.data.mixing import MixedSource
from muse_core.data.source import Source, open_source, remarks_of
from muse_core.data.vocabulary import counted
from muse_core.errors import MuseError
from muse_core.settings.train import TrainSettings


def images_at_once(settings: TrainSettings) -> int:
    """Return the images that all processes together read for one part of a step's batch."""
    return settings.training.batch_size // settings.training.accumulation


def lane_plan(settings: TrainSettings, source: Source, world: int) -> LanePlan:
    """Return how `world` processes share out the training data.

    Raises:
        MuseError: they cannot, with a number that would do.
    """
    return LanePlan.of(images_at_once(settings), settings.data.lanes, world, source)


def with_lanes(settings: TrainSettings, world: int) -> TrainSettings:
    """Return settings that say the number of lanes; without one where data are missing, or none would do.

    A run keeps the number: it goes on the same also by another number of processes.
    """
    if settings.data.lanes is not None or settings.data.train is None:
        return settings
    try:
        lanes = lane_plan(settings, _training_data(settings), world).lanes
    except MuseError:  # the plan tells it with everything else that is missing
        return settings
    return settings.model_copy(update={"data": settings.data.model_copy(update={"lanes": lanes})})


def lane_lines(asked: TrainSettings, settings: TrainSettings, world: int) -> list[str]:
    """Return what a plan says of how data are read: lanes that were chosen, where there are not as many as usual, few
    images, and image files that are no shards."""
    if settings.data.lanes is None or settings.data.train is None:
        return []
    try:
        source = _training_data(settings)
    except MuseError:  # the plan tells it with everything else that is missing
        return []
    at_once, lines = images_at_once(settings), [f"note     {remark}" for remark in remarks_of(source)]
    if asked.data.lanes is None and settings.data.lanes != MOST_LANES:
        needs = [counted(at_once, "image") + " at once", counted(world, "process")]
        limit = [] if source.max_lanes is None else [_limit(source)]
        allowed = f"{', '.join([*limit, needs[0]])} and {needs[1]} allow"
        lines.append(f"lanes    {settings.data.lanes} in place of {MOST_LANES}: {allowed} that many")
    if source.count and source.count < at_once:
        lines.append(
            f"few      {counted(source.count, 'image')} for {at_once} at once: each is in every batch about "
            f"{round(at_once / source.count)} times"
        )
    parts = source.sources if isinstance(source, MixedSource) else (source,)
    return lines + [
        f"faster   muse shard {quote(part.name)} makes tars: one file to open instead of many"
        for part in parts
        if isinstance(part, FolderSource)
    ]


def _training_data(settings: TrainSettings) -> Source:
    return open_source(str(settings.data.train), size=settings.model.resolution)


def _limit(source: Source) -> str:
    """Return what a source can feed lanes with, of a mix the part that can feed the fewest."""
    if isinstance(source, MixedSource):
        limited = [part for part in source.sources if part.max_lanes is not None]
        return _limit(min(limited, key=lambda part: part.max_lanes or 0))
    return f"{counted(source.max_lanes or 0, lane_unit(source))} of {source.name}"
