"""`muse ls`: what there is to use."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from muse_cli.output import out, table
from muse_core.errors import MuseError

if TYPE_CHECKING:
    from muse_core.runs import RunFolder

Row = dict[str, object]


class Kind(StrEnum):
    """What can be listed."""

    RUNS = "runs"
    SIZES = "sizes"
    STAGES = "stages"
    PRESETS = "presets"
    PROBES = "probes"
    METRICS = "metrics"
    TOKENIZERS = "tokenizers"
    GENERATORS = "generators"


def ls(kind: Annotated[Kind | None, typer.Argument(help="What to list; everything if left out.")] = None) -> None:
    """List runs, sizes, stages, presets, probes, metrics, tokenizers or generators."""
    kinds = [kind] if kind else OVERVIEW
    found = {str(chosen): LISTINGS[chosen]() for chosen in kinds}
    sections = [section(name, rows, titled=kind is None) for name, rows in found.items()]
    out.result(found, "\n\n".join(sections))


def section(name: str, rows: list[Row], *, titled: bool) -> str:
    """Lay out one listing."""
    body = table([list(row.values()) for row in rows], list(rows[0])) if rows else f"no {name}"
    return f"{name}\n{body}" if titled and rows else body


def runs() -> list[Row]:
    """List runs, the one updated last first; those outside the runs folder by their whole path."""
    from muse_core.run_search import list_runs
    from muse_core.runs import resume_command, runs_dir

    found = list_runs()
    if not found:
        out.say(f"no run in {runs_dir()}, and none is remembered elsewhere: `muse demo` makes some")
    rows = [_run(run) for run in found]
    for run in [run for run, row in zip(found, rows, strict=True) if row["state"] == "stopped"]:
        out.say(f"{run.path} {run.seen.progress()}, and no process writes to it: {resume_command(run.path)}")
    return rows


def _run(run: "RunFolder") -> Row:
    row: Row = {"run": str(run.path)}
    try:
        status = run.seen
    except MuseError as error:
        out.warn(f"{error.what}; {error.hint}" if error.hint else error.what)
        return row | {"kind": None, "size": None, "stage": None, "state": "unreadable", "step": None, "best": None}
    best = ", ".join(f"{name} {_short(value)}" for name, value in status.details.items()) or None
    step = f"{status.step}/{status.steps}" if status.steps else status.step
    row |= {"kind": status.kind, "size": status.size, "stage": status.stage}
    return row | {"state": status.state, "step": step, "best": best}


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sizes() -> list[Row]:
    """List sizes, and whether the parts each is made from are on this machine."""
    from muse_core.model.weights.parts import find_parts
    from muse_core.settings.presets import SIZES

    parts = {size: find_parts(size) for size in SIZES}
    return [
        {"size": size, "parts here": f"{sum(part.folder is not None for part in of_size)} of {len(of_size)}"}
        for size, of_size in parts.items()
    ]


def stages() -> list[Row]:
    """List the training stages."""
    from muse_core.settings.presets import STAGES

    return [{"stage": stage, "what": what} for stage, what in STAGES.items()]


def presets() -> list[Row]:
    """List the recipe of each size and stage."""
    from muse_core.settings import resolve
    from muse_core.settings.presets import SIZES, STAGES, preset_for
    from muse_core.settings.train import TrainSettings

    rows: list[Row] = []
    for size in SIZES:
        for stage in STAGES:
            flags = {"run.size": size, "run.stage": stage}
            settings, _ = resolve(TrainSettings, command="train", flags=flags, preset=preset_for, environ={})
            rows.append(
                {
                    "size": size,
                    "stage": stage,
                    "steps": settings.training.steps,
                    "batch": settings.training.batch_size,
                    "lr": settings.optim.lr,
                    "routing": settings.training.routing,
                    "pixel": settings.losses.pixel,
                    "perceptual": settings.losses.perceptual,
                    "topology": settings.losses.topology,
                    "contrastive": settings.losses.contrastive,
                    "adversarial": settings.losses.adversarial,
                }
            )
    return rows


def plugins_of(group: str) -> list[Row]:
    """List what one entry-point group offers, whose it is, and what it answers."""
    from muse_core.registry import discover

    return [
        {
            group.removeprefix("muse.").removesuffix("s"): plugin.name,
            "package": f"{plugin.package} {plugin.version}",
            "what": f"broken: {plugin.error}" if plugin.error else plugin.declaration.help,
        }
        for plugin in discover(group).values()
    ]


def tokenizers() -> list[Row]:
    """List tokenizers with what each can do and the licence of its weights."""
    from muse_core.registry import discover

    plugins = discover("muse.tokenizers")
    return [
        row
        | {
            "abilities": " ".join(getattr(plugins[str(row["tokenizer"])].declaration, "abilities", ())) or None,
            "licence": getattr(plugins[str(row["tokenizer"])].declaration, "licence", "") or None,
        }
        for row in plugins_of("muse.tokenizers")
    ]


OVERVIEW = [
    Kind.SIZES,
    Kind.STAGES,
    Kind.PROBES,
    Kind.METRICS,
    Kind.TOKENIZERS,
    Kind.GENERATORS,
    Kind.RUNS,
]
LISTINGS: Mapping[Kind, Callable[[], list[Row]]] = {
    Kind.RUNS: runs,
    Kind.SIZES: sizes,
    Kind.STAGES: stages,
    Kind.PRESETS: presets,
    Kind.PROBES: lambda: plugins_of("muse.probes"),
    Kind.METRICS: lambda: plugins_of("muse.metrics"),
    Kind.TOKENIZERS: tokenizers,
    Kind.GENERATORS: lambda: plugins_of("muse.generators"),
}
