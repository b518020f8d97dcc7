"""What `muse attn-viz` writes: a figure as png, svg or pdf, or a page to move through.

The values are in `maps`, what a figure shows in `panels`, the drawing in `figures`, the page in `explorer`.
"""

from collections.abc import Sequence
from pathlib import Path

from muse_core.json_text import utf8
from muse_core.marks import Mark
from muse_core.ownership import refuse_taken, write_file
from muse_core.viz.explorer import explorer_page
from muse_core.viz.figures import Style, attention_figure, figure_bytes
from muse_core.viz.kinds import kind_of
from muse_core.viz.maps import AttentionMap, Scene, heads_of, measure
from muse_core.viz.panels import Look

__all__ = [
    "AttentionMap",
    "Look",
    "Scene",
    "Style",
    "attention_content",
    "attention_figure",
    "figure_bytes",
    "heads_of",
    "measure",
    "save_attention",
]


def save_attention(
    scenes: Scene | Sequence[Scene],
    out: Path,
    *,
    style: Style = "overlay",
    smooth: bool = True,
    look: Look = "query",
    scale: float | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the attention of one image or several; the ending of `out` says as what.

    Args:
        scenes: what to draw.
        out: .png, .svg, .pdf, or .html (one offline file in which moving the pointer moves the query).
        style, smooth, look, scale: as in `attention_figure`; a page knows only the scale.
        overwrite: replace whatever file has that name.

    Raises:
        MuseError: the ending is none of these, or `out` is there.
    """
    refuse_taken(out, overwrite)
    content = attention_content(scenes, out, style=style, smooth=smooth, look=look, scale=scale)
    return write_file(out, content, Mark("attention"), overwrite=overwrite)


def attention_content(
    scenes: Scene | Sequence[Scene],
    out: Path,
    *,
    style: Style = "overlay",
    smooth: bool = True,
    look: Look = "query",
    scale: float | None = None,
) -> bytes:
    """Return what `save_attention` writes.

    Raises:
        MuseError: the ending of `out` is none of those it knows.
    """
    kind = kind_of(out)
    several = [scenes] if isinstance(scenes, Scene) else list(scenes)
    if kind == "html":
        only = several[0].title if len(several) == 1 else ""
        return utf8(explorer_page(several, title=f"Attention in {only}" if only else "Attention", scale=scale))
    return figure_bytes(attention_figure(several, style=style, smooth=smooth, look=look, scale=scale), kind)
