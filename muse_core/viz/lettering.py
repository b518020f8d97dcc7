"""Words in figures: which typeface, how wide they are, and how they are made to fit. Lengths are pixels at DPI."""

from functools import cache, lru_cache

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, fontManager

from muse_core.text_files import readable

DPI = 200
INK, SOFT = "#1b1d22", "#5f6570"
FACES = ("Inter", "Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")


@cache
def face() -> str:
    """The first preferred typeface on this machine; asking matplotlib for a missing one would make it complain."""
    present = {entry.name for entry in fontManager.ttflist}
    return next((face for face in FACES if face in present), "sans-serif")


@lru_cache(4096)
def text_width(words: str, size: float, weight: str = "normal") -> float:
    """Return how wide words are at a size in points."""
    font = FontProperties(family=face(), size=size, weight=weight)
    return float(_renderer().get_text_width_height_descent(readable(words), font, False)[0])


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(8, 8, DPI)


def shortened(words: str, width: float, size: float, weight: str = "normal") -> str:
    """Return words that fit into a width, with an ellipsis in the middle if need be: names differ at their ends.

    No typeface has what is no text: bytes of a name that are not UTF-8 are spelled as escapes.
    """
    words = readable(words)
    if text_width(words, size, weight) <= width:
        return words
    kept = next(
        (
            kept
            for kept in range(len(words) - 1, 0, -1)
            if text_width(_without_middle(words, kept), size, weight) <= width
        ),
        0,
    )
    return _without_middle(words, kept)


def _without_middle(words: str, kept: int) -> str:
    tail = kept // 2
    return f"{words[: kept - tail].rstrip()}…{words[len(words) - tail :].lstrip() if tail else ''}"


def joined(parts: list[str], width: float, size: float, between: str = "  ·  ") -> list[str]:
    """Set parts one after the other, in as many lines as a width asks for; a part that is too wide is shortened."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{between}{part}" if lines else part
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(shortened(part, width, size))
    return lines


def balanced(parts: list[str], width: float, size: float) -> list[str]:
    """As `joined`, with lines of about equal length: four parts that need two lines are two and two."""
    lines = joined(parts, width, size)
    for tenth in range(9, 4, -1):
        tighter = joined(parts, width * tenth / 10, size)
        if len(tighter) > len(lines) or any("…" in line for line in tighter):
            break
        lines = tighter
    return lines


def wrapped(words: str, width: float, size: float) -> list[str]:
    """Set a sentence in as many lines as a width asks for; no-break spaces hold."""
    return joined(words.split(" "), width, size, between=" ") if words else []
