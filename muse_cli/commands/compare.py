"""`muse compare`: several tokenizers under one ruler, as a table, as files, and as one page."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_cli.options import BatchSize, ConfigFile, Data, Devices, Limit, Sets, TrainLimit
from muse_cli.output import out, table
from muse_core.errors import ExitCode, MuseError
from muse_core.home import expanded

if TYPE_CHECKING:
    from muse_core.compare import Compared, Ruler
    from muse_core.evaluation.generation import GenerationOptions
    from muse_core.ownership import FolderKind
    from muse_core.settings.measuring import CompareSettings
    from muse_core.viz.comparison import Comparison, Published

INDEX, FORMAT = "comparison.json", "muse-comparison/1"
MEASURES = "eval,generate,zeroshot,linear,segment"
TrainData = Annotated[
    str | None, typer.Option("--train-data", metavar="WHERE", help="What probes learn from.", show_default="demo:train")
]
SizePx = Annotated[
    int | None,
    typer.Option("--size-px", min=1, metavar="N", help="Shorter side for all.", show_default="the first one's own"),
]
Measure = Annotated[
    str | None,
    typer.Option("--measure", metavar="A,B", help=f"Of {MEASURES.replace(',', ', ')}.", show_default="all of them"),
]
Generator = Annotated[
    list[str] | None,
    typer.Option("--generator", metavar="TOKENIZER=NAME:PATH", help="What makes its latents, for gFID; repeatable."),
]
Samples = Annotated[
    int | None,
    typer.Option("--samples", min=2, metavar="N", help="Images to generate, for gFID.", show_default="50000"),
]
Folder = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Also write JSON, CSV, Markdown and a report there."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison in --out.")]


def compare(
    tokenizers: Annotated[list[str], typer.Argument(metavar="TOKENIZER...", help="Names, NAME:PATH, runs.")],
    data: Data = None,
    train_data: TrainData = None,
    size_px: SizePx = None,
    measure: Measure = None,
    generator: Generator = None,
    samples: Samples = None,
    limit: Limit = None,
    train_limit: TrainLimit = None,
    batch_size: BatchSize = None,
    out_dir: Folder = None,
    overwrite: Overwrite = False,
    devices: Devices = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Measure several tokenizers under one protocol, beside what others published."""
    from muse_cli.settings import resolve_as
    from muse_cli.stopping import ending_soon
    from muse_cli.tokenizer import data_or_demo
    from muse_core.files import written_aside
    from muse_core.machine import pick_device
    from muse_core.settings.measuring import CompareSettings

    flags: dict[str, object] = {
        "data": data,
        "train_data": train_data,
        "size_px": size_px,
        "limit": limit,
        "train_limit": train_limit,
    }
    flags |= {"batch_size": batch_size, "devices": devices, "measures": measure.split(",") if measure else None}
    flags |= {"generators": generator or None, "samples": samples}
    settings, _ = resolve_as(CompareSettings, "compare", flags, sets, config)
    kind = comparisons()
    if out_dir is not None:
        kind.refuse(out_dir, overwrite)
    settings = settings.model_copy(update={"data": data_or_demo(settings.data)})
    tell_compared(settings, tokenizers)
    rule, device = ruler(settings, tokenizers), pick_device(settings.devices)
    from muse_core.compare import compare as measure_all

    with ending_soon():
        found = measure_all(tokenizers, rule, device=device, progress=out.progress())
    comparison = as_comparison(found)
    if out_dir is not None:
        with written_aside(out_dir, kind.in_the_way(overwrite)) as aside:
            write(found, comparison, aside)
        out.say(f"written to {out_dir}: comparison.json, table.csv, table.md, report.html")
    out.result(document(found, comparison), in_words(comparison))


def tell_compared(settings: "CompareSettings", tokenizers: list[str]) -> None:
    """Say what is compared, on what and how.

    Raises:
        MuseError: a tokenizer, the data or a metric is not there.
    """
    from muse_cli.briefing import DataWanted, brief
    from muse_core.evaluation.named import metrics_named, refuse_unnamed

    refuse_unnamed(settings.classes, settings.templates)
    for one in settings.generators:
        generator_of(one, tokenizers)
    how = ", ".join(settings.measures)
    if settings.metrics:
        how += f"; eval: {', '.join(metrics_named(settings.metrics))}"
    brief("compare", tokenizers, [DataWanted(str(settings.data), limit=settings.limit)], how, settings.devices)


def ruler(settings: "CompareSettings", tokenizers: list[str]) -> "Ruler":
    """Collect what all are measured by."""
    from muse_core.compare import Ruler
    from muse_core.evaluation.named import named_classes, named_templates
    from muse_core.evaluation.options import LinearOptions
    from muse_core.evaluation.segmentation import SegmentOptions

    return Ruler(
        data=str(settings.data),
        train_data=settings.train_data or "demo:train",
        size=settings.size_px,
        limit=settings.limit,
        train_limit=settings.train_limit,
        batch_size=settings.batch_size,
        metrics=settings.metrics,
        measures=settings.measures,
        classes=None if settings.classes is None else tuple(named_classes(settings.classes)),
        templates=tuple(named_templates(settings.templates)),
        linear=LinearOptions(epochs=settings.probe_epochs, least_steps=settings.probe_steps),
        segment=SegmentOptions(labels=settings.label_rule, epochs=settings.segment_epochs),
        generators=dict(generator_of(one, tokenizers) for one in settings.generators),
        generation=generation(settings),
    )


def generation(settings: "CompareSettings") -> "GenerationOptions":
    """Collect how samples are drawn for gFID."""
    from muse_core.evaluation.generation import GenerationOptions
    from muse_core.model.generating import Sampling

    sampling = Sampling(
        points=settings.sample_points,
        shift=settings.sample_shift,
        guidance=settings.guidance,
        guidance_channels=settings.guidance_channels,
        guidance_start=settings.guidance_start,
    )
    reference = None if settings.reference == "self" else expanded(settings.reference)
    return GenerationOptions(settings.samples, sampling, settings.sample_seed, reference)


def generator_of(text: str, tokenizers: list[str]) -> tuple[str, str]:
    """Read TOKENIZER=NAME:PATH; the tokenizer is told as it was typed, or by its name alone where only one has that.

    Raises:
        MuseError: it has no such form, or names no tokenizer that is compared, or several.
    """
    typed = next((where for where in tokenizers if text.startswith(f"{where}=")), None)
    name, _, generator = text.partition("=")
    meant = [typed] if typed else [where for where in tokenizers if where.partition(":")[0] == name]
    if typed:
        generator = text.removeprefix(f"{typed}=")
    if not generator or len(meant) != 1:
        raise MuseError(
            f"--generator {text} does not name one of the tokenizers that are compared, and what makes its latents",
            hint=f"--generator {tokenizers[0]}=lightningdit:PATH",
            exit_code=ExitCode.USAGE,
        )
    return meant[0], generator


def comparisons() -> "FolderKind":
    """Return what a folder of a comparison is known by: comparison.json lists its files."""
    from muse_core.files import read_json
    from muse_core.ownership import FolderKind, unchanged

    def own_files(folder: Path) -> list[str] | None:
        try:
            document = read_json(folder / INDEX)
        except MuseError:
            return None
        return [INDEX, *unchanged(folder, document.get("files"))] if document.get("format") == FORMAT else None

    return FolderKind("a comparison", own_files)


def as_comparison(found: "list[Compared]") -> "Comparison":
    """Turn what was measured into a table; tokenizers of one name are told apart by what was typed."""
    from muse_core.viz.comparison import Comparison, Entry
    from muse_core.viz.runview import score_view

    names = [one.name for one in found]
    entries = [
        Entry(
            name=one.name if names.count(one.name) == 1 else f"{one.name} ({one.where})",
            licence=one.licence,
            scores=tuple(score_view(scores.to_json(), scores.command) for scores in one.scores),
            missing=one.missing,
            facts=f"{millions(one.parameters)} parameters, {one.tokens[0]} × {one.tokens[1]} tokens",
        )
        for one in found
    ]
    return Comparison(tuple(entries), published_of([one.where for one in found]))


def millions(count: int) -> str:
    """Write a number of parameters for people."""
    return f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count / 1e3:,.0f} k"


def published_of(wheres: list[str]) -> "tuple[Published, ...]":
    """Collect what was printed about the tokenizers that were named."""
    from muse_core.registry import discover
    from muse_core.viz.comparison import Published

    plugins = discover("muse.tokenizers")
    named = [plugins[name] for where in wheres if (name := where.partition(":")[0]) in plugins]
    told = [one for plugin in named for one in getattr(plugin.declaration, "published", ())]
    return tuple(dict.fromkeys(Published(**vars(one)) for one in told))


def document(found: "list[Compared]", comparison: "Comparison") -> dict[str, object]:
    """Make the document of --json: all scores with their protocols, and the table."""
    rows = [
        {
            "tokenizer": entry.name,
            "where": one.where,
            "source": one.source,
            "licence": one.licence,
            "parameters": one.parameters,
            "tokens": list(one.tokens),
            "table": {
                f"{column.command} {column.metric}": {"value": value, "column": column.fingerprint}
                for column in comparison.columns
                if (value := entry.value(column)) is not None
            },
            "missing": dict(one.missing),
            "scores": [scores.to_json() for scores in one.scores],
        }
        for one, entry in zip(found, comparison.entries, strict=True)
    ]
    return {"measured": rows, "published": [vars(one) for one in comparison.published]}


def in_words(comparison: "Comparison") -> str:
    """Lay out the table, why cells are empty, and apart from it what others published."""
    from muse_core.viz.comparison import APART, NOTHING, PUBLISHED_HEADS, published_rows

    columns = comparison.columns
    rows = [[entry.name, *comparison.cells(entry)] for entry in comparison.entries]
    rows.append(["protocol", *(column.fingerprint or NOTHING for column in columns)])
    lines = [table(rows, ["tokenizer", *(column.title for column in columns)]), ""]
    lines += [f"{NOTHING} {', '.join(names)}: {what}" for what, names in comparison.reasons().items()]
    lines += [*comparison.readers(), *comparison.generated()]
    if comparison.published:
        lines += ["", f"published elsewhere. {APART}"]
        lines.append(table(published_rows(comparison.published), PUBLISHED_HEADS))
    return "\n".join(lines)


def write(found: "list[Compared]", comparison: "Comparison", folder: Path) -> None:
    """Write the comparison in every form; each tokenizer's scores lie in a folder that `muse report` reads too."""
    from muse_cli.output import to_json
    from muse_core.files import write_atomically, write_json
    from muse_core.ownership import OutputNames, manifest
    from muse_core.viz.comparison import to_csv, to_markdown
    from muse_core.viz.report import read_run, write_report

    runs, names = [], OutputNames()
    for one, entry in zip(found, comparison.entries, strict=True):
        home = names.first_free(folder / (re.sub(r"[^\w.+-]+", "-", entry.name).strip("-") or "tokenizer"))
        for scores in one.scores:
            scores.save(home / "results" / f"{scores.command.replace(' ', '-')}.json")
        if one.scores:
            runs.append(replace(read_run(home), title=entry.name))
    write_atomically(folder / "table.csv", to_csv(comparison))
    write_atomically(folder / "table.md", to_markdown(comparison))
    if runs:
        write_report(
            runs,
            folder / "report.html",
            title=f"{len(found)} tokenizers under one ruler",
            intro="Measured on the same images, at the same size, by the same recipes; what others printed is apart.",
            comparison=comparison,
            next_steps=(),
        )
    listed = {"format": FORMAT, **document(found, comparison), "files": manifest(folder)}
    write_json(folder / INDEX, to_json(listed))
