"""How progress looks: live bars on a terminal, one line every ten seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from muse_cli.terminal import fitted
from muse_core.progress import Timing, time_text as time_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from muse_cli.output import Output

LINE_EVERY_S = 10.0
BAR_CELLS, NARROWEST_BAR = 24, 4
NOTE_LINES = 4
"""Of a note that is too long for one line."""
INDENT = "  "


class _LineTracker:
    def __init__(self, timing: Timing, tell: Callable[[str], None]) -> None:
        self.timing, self.is_told = timing, False
        self._told, self._note, self._tell = time.monotonic(), "", tell

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.timing.advance(amount)
        self._note = note or self._note
        if time.monotonic() - self._told >= LINE_EVERY_S:
            self._tell(self.line())

    def line(self) -> str:
        """Return what is told now."""
        self._told, self.is_told = time.monotonic(), True
        return self.timing.line(self._note)


class LineProgress:
    """Progress for logs and pipes."""

    def __init__(self, out: "Output") -> None:
        self._out = out

    def say(self, text: str) -> None:
        """Tell one line."""
        self._out.say(text)

    def warn(self, text: str) -> None:
        """Tell one line that the user should not miss."""
        self._out.warn(text)

    @contextmanager
    def track(self, what: str, total: int, unit: str = "") -> Iterator[_LineTracker]:
        """Tell of a piece of work every ten seconds, and at its end if it told before."""
        tracker = _LineTracker(Timing(what, total, unit), self._out.tell)
        with self._out.pulse.doing(tracker.line):
            yield tracker
        if tracker.is_told:
            self._out.tell(tracker.timing.ended())


class _BarTracker:
    """One piece of work, drawn in its first line; what is noted of it gives way to the width in lines beneath."""

    def __init__(self, timing: Timing) -> None:
        self._timing, self._note = timing, ""
        self._facts = timing.facts()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._timing.advance(amount)
        self._note, self._facts = note or self._note, self._timing.facts()

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        yield from self._head(options.max_width)
        for line in wrapped(self._note.split("  "), options.max_width - len(INDENT))[:NOTE_LINES]:
            yield Text(f"{INDENT}{line}")

    def _head(self, width: int) -> "Iterator[RenderableType]":
        from rich.cells import cell_len
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        timing, facts = self._timing, "  ".join(self._facts)
        room = width - cell_len(timing.what) - len(facts) - 2
        if timing.total and timing.done <= timing.total and room >= NARROWEST_BAR:
            row = Table.grid(padding=(0, 1))
            bar = ProgressBar(timing.total, timing.done, width=min(room, BAR_CELLS))
            row.add_row(Text(timing.what, no_wrap=True), bar, Text(facts, no_wrap=True))
            yield row
        else:
            yield from map(Text, wrapped([timing.what, *self._facts], width))


def wrapped(parts: list[str], width: int) -> list[str]:
    """Join parts by two spaces into lines of a width; a part is not broken."""
    from rich.cells import cell_len

    lines: list[str] = []
    for part in filter(None, parts):
        if lines and cell_len(lines[-1]) + 2 + cell_len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(part)
    return lines


class BarProgress:
    """Progress on a terminal: bars with count, rate and time left, and notes beneath."""

    def __init__(self, out: "Output") -> None:
        from rich.console import Console
        from rich.live import Live

        self._out = out
        self._shown: list[_BarTracker] = []
        self._live = Live(
            console=Console(stderr=True), get_renderable=self.drawn, transient=True, refresh_per_second=10
        )

    def drawn(self) -> "RenderableType":
        """Return what is on the screen now."""
        from rich.console import Group

        return Group(*self._shown)

    def say(self, text: str) -> None:
        """Tell one line, above the bars."""
        if self._shown:
            self._print(fitted(text, self._live.console.width))
        else:
            self._out.say(text)

    def warn(self, text: str) -> None:
        """Tell one line that the user should not miss."""
        if self._shown:
            self._print(f"warning: {text}", "yellow")
        else:
            self._out.warn(text)

    def _print(self, text: str, style: str | None = None) -> None:
        """Print above the bars; the terminal breaks what is too long, so that a command is copied as one line."""
        self._live.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def track(self, what: str, total: int, unit: str = "") -> Iterator[_BarTracker]:
        """Show a bar while the block runs."""
        tracker = _BarTracker(Timing(what, total, unit))
        self._shown.append(tracker)
        if len(self._shown) == 1:
            self._live.start(refresh=True)
        try:
            with self._out.doing(""):  # what is drawn needs no words
                yield tracker
        finally:
            self._shown.remove(tracker)
            if not self._shown:
                self._live.stop()
