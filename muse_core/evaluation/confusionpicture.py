"""A picture of which class was said for which.

Letters: C classes.
"""

from io import BytesIO

from torch import Tensor

from muse_core.json_text import utf8

_MOST_NAMED = 60  # more names than that cannot be read


def draw_confusion(counts: Tensor, names: tuple[str, ...]) -> bytes:
    """Draw counts (C, C) of true and said classes as a PNG: rows are shares of the true class that occurs."""
    from matplotlib.figure import Figure

    present = (counts.sum(0) + counts.sum(1)).nonzero().flatten()
    shown = counts[present][:, present].double()
    shares = shown / shown.sum(1, keepdim=True).clamp_min(1)
    side = max(4.0, min(14.0, 0.18 * len(present) + 2))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares.numpy(), cmap="magma_r", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
    axes.set_xlabel("said")
    axes.set_ylabel("true")
    if len(present) <= _MOST_NAMED:
        labels = [utf8(names[index]).decode() for index in present.tolist()]  # no font has half letters
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6)
        axes.set_yticks(range(len(labels)), labels, fontsize=6)
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
