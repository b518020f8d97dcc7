"""The figure of the conflict probe: where streams meet, where they would, where they learn, and what a step does."""

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from muse_core.evaluation.conflict import EVERYTHING, ConflictMeter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RED_BLUE = "RdBu"


def draw(routed: ConflictMeter, joint: ConflictMeter, changes: Mapping[tuple[str, str], float], title: str) -> bytes:
    """Draw four panels as a PNG.

    (a) cosine of each pair by group, as trained; (b) the same with every stop-gradient removed; (c) which part of each
    stream's gradient energy lies in each group; (d) the relative change of each loss after a step on one.
    """
    from matplotlib.figure import Figure

    groups = [group for group in routed.groups if group != EVERYTHING]
    figure = Figure(figsize=(13, 2.2 + 0.3 * len(groups)), layout="constrained")
    panels: Any = figure.subplots(1, 4)
    figure.suptitle(title, fontsize=11)
    _cosines(panels[0], routed, groups, "(a) cosine, as trained")
    _cosines(panels[1], joint, groups, "(b) without stop-gradients")
    _energies(panels[2], routed, groups)
    _steps(panels[3], changes)
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _cosines(panel: "Axes", meter: ConflictMeter, groups: list[str], title: str) -> None:
    values = np.array(
        [[_or_nan(meter.meeting(group, a, b).cosine) for a, b in meter.pairs] for group in groups], dtype=float
    )
    panel.imshow(values, cmap=_RED_BLUE, vmin=-1, vmax=1, aspect="auto")
    for row, column in np.ndindex(*values.shape):
        value = values[row, column]
        text = "disjoint" if np.isnan(value) else f"{value:+.2f}"
        panel.text(column, row, text, ha="center", va="center", fontsize=7, color=_ink(abs(float(value))))
    _label(panel, [f"{a}\n{b}" for a, b in meter.pairs], groups, title)


def _energies(panel: "Axes", meter: ConflictMeter, groups: list[str]) -> None:
    streams = list(dict.fromkeys(stream for pair in meter.pairs for stream in pair))
    values = np.array([[meter.share(group, stream) for stream in streams] for group in groups])
    panel.imshow(values, cmap="Greens", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*values.shape):
        text = f"{100 * values[row, column]:.0f} %" if values[row, column] else "–"
        panel.text(column, row, text, ha="center", va="center", fontsize=7, color=_ink(float(values[row, column])))
    _label(panel, streams, groups, "(c) share of gradient energy")


def _steps(panel: "Axes", changes: Mapping[tuple[str, str], float]) -> None:
    streams = list(dict.fromkeys(i for i, _ in changes))
    values = 100 * np.array([[changes[i, j] for j in streams] for i in streams])
    limit = max(float(np.abs(values).max()), 1e-9)
    panel.imshow(-values, cmap=_RED_BLUE, vmin=-limit, vmax=limit, aspect="auto")
    for row, column in np.ndindex(*values.shape):
        share = abs(values[row, column]) / limit
        text = f"{values[row, column]:+.2f} %"
        panel.text(column, row, text, ha="center", va="center", fontsize=8, color=_ink(float(share)))
    _label(panel, streams, [f"step on\n{name}" for name in streams], "(d) change of each loss")


def _label(panel: "Axes", columns: list[str], rows: list[str], title: str) -> None:
    panel.set_xticks(range(len(columns)), columns, fontsize=7)
    panel.set_yticks(range(len(rows)), rows, fontsize=7)
    panel.set_title(title, fontsize=9)


def _ink(strength: float) -> str:
    return "white" if strength > 0.6 else "black"


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
