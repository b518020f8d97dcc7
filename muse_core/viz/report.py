"""One page from one or more runs: a single offline html file.

    write_report([read_run(folder)], out)

Everything is inside the file: pictures as WebP, curves as SVG, attention as bytes that a small script draws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import muse_core
from muse_core.errors import MuseError
from muse_core.json_text import utf8
from muse_core.marks import Mark
from muse_core.ownership import write_file
from muse_core.viz.comparison import APART, NOTHING, PUBLISHED_HEADS, Comparison, published_rows
from muse_core.viz.curves import Curve, curve_svg, curves_of
from muse_core.viz.embedding import EFFORTS, Effort, embed
from muse_core.viz.explorer import explorer, templates
from muse_core.viz.maps import Scene
from muse_core.viz.pareto import tradeoff
from muse_core.viz.runview import RunView, Sample, ScoreView, read_run, tell_apart
from muse_core.viz.scores import command_title, headlines, look_of, score_tables
from muse_core.viz.story import (
    NEXT_STEPS,
    NextStep,
    card,
    default_intro,
    default_title,
    environments_of,
    settings_of,
)

__all__ = ["Figure", "NextStep", "RunView", "Sample", "Scene", "ScoreView", "read_run", "write_report"]

LARGEST = 8 * 1000 * 1000
"""A report is never larger than this many bytes; pictures give way until it fits."""

FILM_CAPTION = (
    "What the run keeps in its samples folder: of each image the input, its reconstruction, where the model looks, and "
    "where the teacher looks."
)

PICTURED = {
    "segment": "Image, named classes, true classes",
    "zeroshot": "Which class was said for which",
    "probe conflict": "Where the losses pull the same weights apart",
}
"""What the pictures of a command show."""


@dataclass(frozen=True)
class Figure:
    """A picture that goes into the report as it is: png (or any format Pillow reads) with a title and a caption."""

    title: str
    caption: str
    png: bytes


def write_report(
    runs: Sequence[RunView],
    out: Path,
    *,
    title: str | None = None,
    intro: str | None = None,
    figures: Sequence[Figure] = (),
    attention: Sequence[Scene] = (),
    next_steps: Sequence[NextStep] = NEXT_STEPS,
    comparison: Comparison | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the report of some runs.

    Args:
        runs: in the order they are shown; the headline scores are those of the last run that has them.
        out: the html file.
        title, intro: what stands on top; made from the runs unless given.
        figures: further pictures.
        attention: images with their maps, to be explored by moving the pointer.
        next_steps: what the page suggests at its end.
        comparison: tokenizers side by side, with what others published about them.
        overwrite: replace whatever file has that name.

    Returns:
        `out`.

    Raises:
        MuseError: there are no runs, a picture cannot be read, the page would be larger than 8 MB, or `out` is there.
    """
    page = report_page(
        runs,
        title=title,
        intro=intro,
        figures=figures,
        attention=attention,
        next_steps=next_steps,
        comparison=comparison,
    )
    return write_file(out, page, Mark("report"), overwrite=overwrite)


def report_page(
    runs: Sequence[RunView],
    *,
    title: str | None = None,
    intro: str | None = None,
    figures: Sequence[Figure] = (),
    attention: Sequence[Scene] = (),
    next_steps: Sequence[NextStep] = NEXT_STEPS,
    comparison: Comparison | None = None,
) -> str:
    """Return the page that `write_report` writes.

    Raises:
        MuseError: there are no runs, a picture cannot be read, or the page would be larger than 8 MB.
    """
    if not runs:
        raise MuseError("a report needs at least one run", hint="muse report RUN")
    shown = tell_apart(runs)
    values: dict[str, object] = {
        "version": muse_core.__version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "title": title or default_title(shown),
        "intro": intro or default_intro(shown),
        "cards": [card(run) for run in shown if run.status or run.metrics or run.problems],
        "headlines": [] if comparison else headlines(shown),
        "tables": score_tables(shown),
        "tradeoff": tradeoff(shown),
        "comparison": _comparison(comparison) if comparison else None,
        "published": published_rows(comparison.published) if comparison else [],
        "stages": _stages(shown),
        "film_caption": FILM_CAPTION,
        "settings": [listing for run in shown if (listing := settings_of(run))],
        "environments": environments_of(shown),
        "steps": list(next_steps),
    }
    return _fitted(values, lambda effort: _pictures(shown, figures, attention, effort))


def _comparison(comparison: Comparison) -> dict[str, object]:
    return {
        "columns": comparison.columns,
        "rows": [(entry, comparison.cells(entry)) for entry in comparison.entries],
        "reasons": [(", ".join(names), what) for what, names in comparison.reasons().items()],
        "readers": comparison.readers(),
        "licences": [(entry.name, entry.licence or NOTHING) for entry in comparison.entries],
        "nothing": NOTHING,
        "apart": APART,
        "heads": PUBLISHED_HEADS,
    }


def _fitted(values: Mapping[str, object], pictures: Callable[[Effort], Mapping[str, object]]) -> str:
    """Render with the best pictures that keep the page within its size."""
    template = templates().get_template("report.html.jinja")
    size = 0
    for effort in EFFORTS:
        content = {**values, **pictures(effort)}
        page = template.render(**content, contents=_contents(content))
        size = len(utf8(page))
        if size <= LARGEST:
            return page
    raise MuseError(
        f"the report would have {size / 1e6:.1f} MB even with small pictures, and {LARGEST / 1e6:.0f} MB is the limit",
        hint="give fewer runs, figures or attention pictures",
    )


def _contents(values: Mapping[str, object]) -> list[tuple[str, str]]:
    sections = [
        ("explorer", "attention", "Attention"),
        ("comparison", "comparison", "Comparison"),
        ("headlines", "results", "Results"),
        ("tradeoff", "tradeoff", "Trade-off"),
        ("film", "samples", "Reconstructions"),
        ("stages", "training", "Training"),
        ("figures", "figures", "Figures"),
        ("tables", "scores", "All scores"),
        ("published", "published", "Published elsewhere"),
        ("settings", "settings", "How it was made"),
        ("steps", "next", "What to try next"),
    ]
    return [(anchor, name) for key, anchor, name in sections if values.get(key)]


def _pictures(
    runs: Sequence[RunView], figures: Sequence[Figure], attention: Sequence[Scene], effort: Effort
) -> dict[str, object]:
    frames = [(run, sample) for run in runs for sample in _spread(run.samples, effort.samples)]
    return {
        "film": [_frame(run, sample, effort) for run, sample in frames],
        "figures": [_figure(figure, effort) for figure in figures],
        "drawn": _drawn(runs, effort),
        "explorer": explorer(attention, effort.grid) if attention else None,
    }


def _frame(run: RunView, sample: Sample, effort: Effort) -> dict[str, object]:
    picture = embed(sample.path, effort)
    label = f"{run.label}, step {sample.step:,}"
    return {"source": picture.source, "width": picture.width, "height": picture.height, "label": label}


def _figure(figure: Figure, effort: Effort) -> dict[str, object]:
    picture = embed(figure.png, effort)
    words = {"title": figure.title, "caption": figure.caption}
    return {"source": picture.source, "width": picture.width, "height": picture.height, **words}


def _drawn(runs: Sequence[RunView], effort: Effort) -> dict[str, list[dict[str, object]]]:
    """The pictures that came with scores, by command."""
    found: dict[str, list[dict[str, object]]] = {}
    for run in runs:
        for score in run.scores:
            words = f"{PICTURED.get(score.command, command_title(score.command))}: {run.label}"
            figures = [Figure(words, words, path.read_bytes()) for path in score.pictures]
            found.setdefault(score.command, []).extend(_figure(figure, effort) for figure in figures)
    return found


def _spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most `most` samples, evenly spread, the last one always among them."""
    if len(samples) <= most:
        return list(samples)
    last = len(samples) - 1
    return [
        samples[round(last * (index + 1) / most) if most == 1 else round(last * index / (most - 1))]
        for index in range(most)
    ]


@dataclass(frozen=True)
class _Panel:
    title: str
    svg: str
    lost: int


@dataclass(frozen=True)
class _Stage:
    """Curves of the runs that share a stage; `names` are those runs."""

    title: str
    names: tuple[str, ...]
    panels: tuple[_Panel, ...]
    others: tuple[_Panel, ...]


TOPICS = {"loss": "", "val": "held-out ", "conflict": "conflict "}
"""Quantities shown at once are named topic/what; what stands before `what` in the heading."""


def _stages(runs: Sequence[RunView]) -> list[_Stage]:
    groups: dict[tuple[str, str], list[RunView]] = {}
    for run in runs:
        if run.metrics:
            groups.setdefault((run.size, run.stage or run.name), []).append(run)
    return [_stage(members) for members in groups.values()]


def _stage(runs: Sequence[RunView]) -> _Stage:
    curves = [curves_of(run.metrics) for run in runs]
    keys = dict.fromkeys(key for each in curves for key in each)
    main = sorted((key for key in keys if _topic(key) in TOPICS), key=lambda key: list(TOPICS).index(_topic(key)))
    others = [key for key in keys if _topic(key) not in TOPICS]
    names = tuple(run.name for run in runs)
    title = runs[0].label if len(runs) == 1 else runs[0].label.removesuffix(f" · {runs[0].name}")
    panels, rest = (tuple(_panels(chosen, curves, names)) for chosen in (main, others))
    return _Stage(title, names, panels, rest)


def _topic(key: str) -> str:
    return key.partition("/")[0] if "/" in key else ""


def _panels(keys: Sequence[str], curves: Sequence[Mapping[str, Curve]], names: Sequence[str]) -> list[_Panel]:
    panels = []
    for key in keys:
        drawn = [each.get(key, Curve(key, (), ())) for each in curves]
        title = TOPICS[_topic(key)] + look_of(key.partition("/")[2]).label if _topic(key) in TOPICS else key
        panels.append(_Panel(title, curve_svg(drawn, title=title, names=names), sum(each.not_finite for each in drawn)))
    return panels
