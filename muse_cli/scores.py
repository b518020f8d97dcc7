"""Scores on the screen and on disk: the numbers, what they stand beside, and the conditions they hold under."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_cli.output import out, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from muse_core.evaluation.protocol import Scores


def give(scores: "Scores", where: str, target: Path | None, *, overwrite: bool = False) -> None:
    """Print scores, and write them to `target` or into the run that `where` belongs to."""
    path, document = kept(scores, where, target, overwrite)
    if path is not None:
        out.say(f"written to {path}")
        for picture in document.get("pictures", {}).values():
            out.say(f"drawn in {path.with_name(picture)}")
    elif scores.pictures:
        out.say("--out FILE.json keeps the scores, and draws a picture beside them")
    out.result(document, in_words(scores))


def kept(scores: "Scores", where: str, target: Path | None, overwrite: bool) -> tuple[Path | None, "Mapping[str, Any]"]:
    """Write scores to `target`, or to RUN/results/NAME.json when the tokenizer is a run or a checkpoint of one.

    Returns:
        Where they are, and what the file holds; None and the scores where nothing was written.
    """
    from muse_core.evaluation.kept_scores import keep
    from muse_core.run_search import run_of

    if target is not None:
        return keep(scores, target, named=True, overwrite=overwrite)
    run = run_of(Path(where))
    return keep(scores, run.result_path(scores.command.replace(" ", "-"))) if run else (None, scores.to_json())


def in_words(scores: "Scores") -> str:
    """Lay scores out as a table with the protocol beneath it."""
    beside = list(scores.baselines)
    errors = scores.standard_errors
    from muse_core.data.vocabulary import counted

    rows = [
        (name, with_error(float(value), errors.get(name)), *(scores.baselines[other].get(name) for other in beside))
        for name, value in scores.metrics.items()
    ]
    skipped = "".join(f", {count} skipped ({reason})" for reason, count in scores.counts["skipped"].items())
    lines = [
        f"{scores.command} of {scores.tokenizer}",
        table(rows, ("metric", scores.tokenizer, *beside)),
        f"{counted(int(scores.counts['seen']), 'image')}{skipped}, {scores.seconds:.0f} s",
        *conditions(scores),
        f"fingerprint: {scores.protocol.fingerprint}",
        *(f"not measured: {name}: {why}" for name, why in scores.not_measured.items()),
        *(f"note: {note}" for note in scores.notes),
    ]
    return "\n".join(lines)


def conditions(scores: "Scores") -> list[str]:
    """Lay out what the numbers hold under; a metric that has a field of its own is named beside it."""
    own: dict[str, dict[str, list[str]]] = {}
    for metric, recipe in scores.protocol.metrics.items():
        for key in recipe.keys() & scores.protocol.fields.keys():
            own.setdefault(key, {}).setdefault(str(recipe[key]), []).append(metric)
    return [
        f"{key}: {value}" + "".join(f"; of {', '.join(names)}: {other}" for other, names in own.get(key, {}).items())
        for key, value in scores.protocol.fields.items()
        if not isinstance(value, dict)
    ]


def with_error(value: float, error: float | None) -> float | str:
    """Put the standard error beside a number, with two digits of it."""
    if error is None or not math.isfinite(error):
        return value
    digits = min(6, max(0, 1 - math.floor(math.log10(error)))) if error else 4
    return f"{value:.{digits}f} ± {error:.{digits}f}"
