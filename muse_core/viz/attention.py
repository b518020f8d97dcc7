"""What `muse attn-viz` writes: a figure as png or svg, or a page to move through.

The values are in `maps`, the drawing in `figures`, the page in `explorer`.
"""

from pathlib import Path

from muse_core.errors import ExitCode, MuseError
from muse_core.marks import Mark
from muse_core.ownership import refuse_taken, write_file
from muse_core.viz.explorer import explorer_page
from muse_core.viz.figures import Look, Style, attention_figure, figure_bytes
from muse_core.viz.maps import AttentionMap, Scene, heads_of, measure

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
    scene: Scene,
    out: Path,
    *,
    style: Style = "overlay",
    smooth: bool = True,
    look: Look = "received",
    overwrite: bool = False,
) -> Path:
    """Write the attention of one image; the ending of `out` says as what.

    Args:
        scene: what to draw.
        out: .png, .svg, or .html (one offline file in which moving the pointer moves the query).
        style: "overlay" lays maps over the image; "grid" draws the bare maps, one cell per patch.
        smooth: interpolate overlaid maps; otherwise they are laid on in blocks.
        look: what is drawn where no query is given: attention "received" by each patch, or the "salient" region.
        overwrite: replace whatever file has that name.

    Raises:
        MuseError: the ending is none of these, or `out` is there.
    """
    refuse_taken(out, overwrite)
    content = attention_content(scene, out, style=style, smooth=smooth, look=look)
    return write_file(out, content, Mark("attention"), overwrite=overwrite)


def attention_content(
    scene: Scene, out: Path, *, style: Style = "overlay", smooth: bool = True, look: Look = "received"
) -> bytes:
    """Return what `save_attention` writes.

    Raises:
        MuseError: the ending of `out` is none of those it knows.
    """
    kind = out.suffix.lower().lstrip(".")
    if kind not in ("png", "svg", "html"):
        raise MuseError(
            f"{out.name} does not end in .png, .svg or .html, so the kind of picture is not known",
            hint=f"write to {out.with_suffix('.png').name}",
            exit_code=ExitCode.SETTINGS,
        )
    if kind == "html":
        return explorer_page([scene], title=scene.title or "Attention").encode()
    return figure_bytes(attention_figure(scene, style=style, smooth=smooth, look=look), kind)
