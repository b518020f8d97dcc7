"""The words of the report: what a run is, how it went, what to type next."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from muse_core.viz.curves import curves_of
from muse_core.viz.runview import Json, RunView, ScoreView, flatten
from muse_core.viz.scores import look_of, text_of

BY_ITSELF = ("default", "preset")
"""Layers of settings that nobody typed."""


@dataclass(frozen=True)
class NextStep:
    """A command worth typing, and why."""

    command: str
    why: str


NEXT_STEPS = (
    NextStep(
        "muse attn-viz your-photo.jpg --teacher --out attention.html",
        "See where it looks in a picture of yours; in the page that opens, move the pointer.",
    ),
    NextStep(
        "muse infer your-photo.jpg --compare", "See what survives of a picture: original, reconstruction, difference."
    ),
    NextStep(
        "muse train --stage 1-3 --size tiny --seed 1",
        "Train your own with another seed; then muse report RUN RUN puts both on one page.",
    ),
)


@dataclass(frozen=True)
class Card:
    """One run in a few words."""

    label: str
    facts: str
    state: str
    pace: str
    trouble: str
    hint: str
    problems: tuple[str, ...]


def card(run: RunView) -> Card:
    """Tell how one run went."""
    state = str(run.status.get("state") or ("results only" if run.scores and not run.status else "state unknown"))
    trouble = run.status.get("error")
    if state in ("interrupted", "stopped") and not trouble:
        trouble = f"The run was {'killed' if state == 'stopped' else state}; it can be resumed."
    return Card(
        label=run.label,
        facts=_facts(run),
        state=state,
        pace=_pace(run),
        trouble=text_of(trouble) if trouble else "",
        hint=text_of(run.status["hint"]) if trouble and run.status.get("hint") else "",
        problems=run.problems,
    )


def _facts(run: RunView) -> str:
    settings = flatten(run.settings)
    steps, batch = _steps(run), settings.get("training.batch_size")
    parts = [run.size, steps, f"batch {batch}" if batch is not None else ""]
    return " · ".join(part for part in parts if part)


def _steps(run: RunView) -> str:
    wanted = run.status.get("steps")
    if run.step is None:
        return ""
    if isinstance(wanted, int) and wanted != run.step:
        return f"{run.step:,} of {wanted:,} steps"
    return f"{run.step:,} steps"


def _pace(run: RunView) -> str:
    seconds = duration(run)
    parts = [] if seconds is None else [in_words(seconds)]
    pace = curves_of(run.metrics).get("images_per_s")
    if pace and pace.values:
        middle = sorted(pace.values)[len(pace.values) // 2]
        parts.append(f"{middle:,.0f} images/s")
    return " · ".join(parts)


def duration(run: RunView) -> float | None:
    """Seconds between the first and the last sign of life, None where they are not told."""
    times = []
    for key in ("started", "updated"):
        try:
            times.append(datetime.fromisoformat(str(run.status.get(key))))
        except ValueError:
            return None
    return (times[1] - times[0]).total_seconds()


def in_words(seconds: float) -> str:
    """A length of time as one would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def default_title(runs: Sequence[RunView]) -> str:
    """What the page is called when nobody says."""
    sizes = _distinct(run.size for run in runs)
    stages = sorted(_distinct(run.stage for run in runs))
    if len(sizes) == 1 and stages and _one_after_another(runs):
        span = f"stage {stages[0]}" if len(stages) == 1 else f"stages {stages[0]} to {stages[-1]}"
        return f"{sizes[0]}, {span}"
    return runs[0].name if len(runs) == 1 else f"{len(runs)} runs side by side"


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def default_intro(runs: Sequence[RunView]) -> str:
    """What the runs are, in two sentences: what was trained on what, and how well it does."""
    return " ".join(part for part in (_what(runs), _how_well(runs)) if part)


def _what(runs: Sequence[RunView]) -> str:
    trained = [run for run in runs if run.step]
    if not trained:
        return f"Results of {runs[0].name}." if len(runs) == 1 else f"Results of {len(runs)} folders."
    sizes = _distinct(run.size for run in trained)
    size = f" of size {sizes[0]}" if len(sizes) == 1 else ""
    steps, on, took = sum(run.step or 0 for run in trained), _on(trained), _took(trained)
    if len(trained) == 1:
        return f"A visual tokenizer{size}, trained{on} for {steps:,} steps{took}."
    if _one_after_another(trained):
        return f"A visual tokenizer{size}, trained{on} in {len(trained)} stages and {steps:,} steps{took}."
    return f"{len(trained)} training runs{size}{on}, {steps:,} steps in all{took}."


def _on(runs: Sequence[RunView]) -> str:
    data = _distinct(text_of(flatten(run.settings).get("data.train") or "") for run in runs)
    if len(data) != 1:
        return ""
    # The end of a path is enough to recognise it by.
    return " on built-in scenes" if data == ["demo"] else f" on {'/'.join(data[0].split('/')[-2:])}"


def _took(runs: Sequence[RunView]) -> str:
    spans = [seconds for run in runs if (seconds := duration(run)) is not None]
    return f" in {in_words(sum(spans))}" if len(spans) == len(runs) and sum(spans) >= 1 else ""


def _how_well(runs: Sequence[RunView]) -> str:
    """The sentence of the last run that has the numbers for it."""
    parts = [part for part in (_reconstructs(runs), _names(runs)) if part]
    who = "It" if _one_after_another(runs) else "The last one"
    return f"{who} {' and '.join(parts)}." if parts else ""


def _one_after_another(runs: Sequence[RunView]) -> bool:
    """Whether the runs are stages of one tokenizer: no stage comes twice."""
    stages = [run.stage for run in runs if run.stage]
    return len(set(stages)) == len(stages)


def _reconstructs(runs: Sequence[RunView]) -> str:
    score = _last(runs, "eval", "psnr")
    if score is None:
        return ""
    seen = score.counts.get("seen")
    images = f"{seen:,} images" if isinstance(seen, int) else "images"
    return f"reconstructs {images} at {score.metrics['psnr']:.1f} dB"


def _names(runs: Sequence[RunView]) -> str:
    score = _last(runs, "zeroshot", "top1")
    if score is None:
        return ""
    show = look_of("top1").show
    chance = [metrics["top1"] for name, metrics in score.baselines.items() if name == "chance" and "top1" in metrics]
    against = f" (chance: {show(chance[0])})" if chance else ""
    return f"names what {show(score.metrics['top1'])} of images show by comparing them with text{against}"


def _last(runs: Sequence[RunView], command: str, metric: str) -> ScoreView | None:
    for run in reversed(runs):
        for score in run.scores:
            if score.command == command and metric in score.metrics:
                return score
    return None


@dataclass(frozen=True)
class Listing:
    """A collapsed table: rows are (key, value) or (key, value, where from, chosen by hand)."""

    label: str
    rows: tuple[tuple[str, ...] | tuple[str, str, str, bool], ...]
    chosen: int = 0
    summary: str = ""


def settings_of(run: RunView) -> Listing | None:
    """Every setting of a run with the layer that set it."""
    origins = {key: text_of(value) for key, value in flatten(run.origins).items()}
    rows = tuple(
        (key, text_of(value), origins.get(key, ""), not origins.get(key, "default").startswith(BY_ITSELF))
        for key, value in flatten(run.settings).items()
    )
    return Listing(run.label, rows, sum(row[3] for row in rows)) if rows else None


def environments_of(runs: Sequence[RunView]) -> list[Listing]:
    """The machines, each once however many runs it made."""
    groups: dict[str, tuple[list[str], Mapping[str, Json]]] = {}
    for run in runs:
        if run.environment:
            shared = {key: value for key, value in run.environment.items() if key != "command"}
            groups.setdefault(text_of(shared), ([], run.environment))[0].append(run.label)
    listings = []
    for labels, environment in groups.values():
        rows = tuple((key, text_of(value)) for key, value in flatten(environment).items())
        label = ", ".join(labels) if len(groups) > 1 else ""
        listings.append(Listing(label, rows, summary=_machine(environment)))
    return listings


def _machine(environment: Mapping[str, Json]) -> str:
    flat = flatten(environment)
    told = [("muse", "versions.muse"), ("python", "versions.python"), ("torch", "versions.torch")]
    return " · ".join(f"{name} {text_of(flat[key])}" for name, key in told if flat.get(key))
