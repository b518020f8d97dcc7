"""What the page says of gradients: where two losses meet, and whether they pull the same weights apart."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ablation_rule import ENOUGH

Conflicts = Mapping[str, Mapping[int, Any]]
DESTRUCTIVE = 0.1  # a cosine further below 0 than any of the prototype's, which lay between -0.09 and +0.17

CONFLICT = """## Do the losses pull apart?

`muse probe conflict` on finished stage-3 tokenizers: cosines of the gradients of two losses, 0 where they do
not interfere, negative where they pull apart; the prototype saw -0.09 to +0.17 and called that no destructive
interference. `stress` and `stress-joint` are **meant to provoke conflict**: a connector a quarter as wide and a
contrastive weight twenty to forty times as large. They recommend nothing. Under `strict` and `open`, "disjoint"
inside the blocks is a property of the design and no finding; the two right-hand columns are of the routing as
trained.
"""


def meetings(conflict: Conflicts) -> Iterator[str]:
    """Yield the table of gradient cosines: over all weights, without stop-gradients, and the lowest of any group."""
    yield (
        "| configuration | pair | cosine, as trained | without stop-gradients | lowest mean of a group | "
        "a step that lowers the second by 1 % moves the first by |"
    )
    yield "|---|---|--:|--:|---|--:|"
    for name, runs in conflict.items():
        documents = [document for _, document in sorted(runs.items())]
        pairs = dict.fromkeys(row["pair"] for row in documents[0]["tables"]["where streams meet"])
        for pair in pairs:
            cosines = " | ".join(_cosine(documents, pair, column) for column in ("cosine", "without stop-gradients"))
            yield f"| `{name}` | {pair} | {cosines} | {_lowest(documents, pair)} | {_moved(documents, pair)} |"


def group_means(documents: Sequence[Any], pair: str, column: str) -> dict[str, list[float]]:
    """Return the cosines of a pair by group of weights, one per seed; a group where they never meet is absent."""
    found: dict[str, list[float]] = {}
    for document in documents:
        for row in document["tables"]["where streams meet"]:
            if row["pair"] == pair and isinstance(row[column], float):
                found.setdefault(row["weights"], []).append(row[column])
    return found


def _cosine(documents: Sequence[Any], pair: str, column: str) -> str:
    values = group_means(documents, pair, column).get("all weights", [])
    if not values:
        return "disjoint"
    return f"{statistics.mean(values):+.3f} ({min(values):+.3f} to {max(values):+.3f})"


def _lowest(documents: Sequence[Any], pair: str) -> str:
    means = {group: statistics.mean(values) for group, values in group_means(documents, pair, "cosine").items()}
    if not means:
        return "disjoint"
    lowest = min(means, key=lambda group: means[group])
    return f"{means[lowest]:+.3f} in {lowest}"


def _moved(documents: Sequence[Any], pair: str) -> str:
    first, second = pair.split("-")
    changes = [
        row["relative change"]
        for document in documents
        for row in document["tables"]["one step on one loss"]
        if (row["step on"], row["loss"]) == (second, first)
    ]
    return f"{statistics.mean(changes):+.2%}"


def interference(conflict: Conflicts, names: Sequence[str]) -> str:
    """Say whether any two losses pull shared weights apart in these configurations, beyond what seeds explain."""
    found = list(_cosines(conflict, names))
    which = " and ".join(f"`{name}`" for name in names)
    if not found:
        return f"{which}: the gradients of too few seeds were compared."
    below = [entry for entry in found if entry[0] < -ENOUGH * entry[1]]
    above = [entry for entry in found if entry[0] > ENOUGH * entry[1]]
    apart = [f"{mean:+.3f} ± {error:.3f} ({where})" for mean, error, where in sorted(below) if mean < -DESTRUCTIVE]
    verdict = "is **refuted**" if apart else "is **confirmed**"
    mean, error, where = min(found)
    furthest = "; ".join(apart) if apart else f"none; the lowest is {mean:+.3f} ± {error:.3f} ({where})"
    return (
        f'{which}: "no destructive interference" {verdict}. Of {len(found)} cosines (a configuration, a pair, a group '
        f"of weights where they meet; means over seeds) {len(below)} lie more than {ENOUGH:g} standard errors below 0 "
        f"and {len(above)} above. Of the former, further below than -{DESTRUCTIVE:g}: {furthest}."
    )


def _cosines(conflict: Conflicts, names: Sequence[str]) -> Iterator[tuple[float, float, str]]:
    """Yield mean, standard error over seeds, and place of each cosine that at least two seeds have."""
    for name in names:
        documents = [document for _, document in sorted(conflict.get(name, {}).items())]
        rows = documents[0]["tables"]["where streams meet"] if len(documents) > 1 else []
        for pair in dict.fromkeys(row["pair"] for row in rows):
            for group, values in group_means(documents, pair, "cosine").items():
                if len(values) > 1:
                    error = statistics.stdev(values) / len(values) ** 0.5
                    yield statistics.mean(values), error, f"`{name}`, {pair}, {group}"
