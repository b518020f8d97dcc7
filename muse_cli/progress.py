"""How progress looks: live bars on a terminal, one line every half minute elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress, ProgressColumn, TaskID

    from muse_cli.output import Output

LINE_EVERY_S = 30.0
SETTLING_S = 0.5
"""What is counted as done this early was done before: a resumed run begins with its old steps."""


def time_text(seconds: float) -> str:
    """Write a duration for people, as in 3 h 12 m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {rest} s" if minutes else f"{rest} s"


def count_text(done: float, total: float | None) -> str:
    """Write how much is done, of how much where that is known: a total that is passed was no total."""
    return f"{done:.0f}/{total:.0f}" if total and done <= total else f"{done:.0f}"


class _LineTracker:
    def __init__(self, what: str, total: int, tell: Callable[[str], None]) -> None:
        self.what, self.total, self.done, self.before = what, total, 0, 0
        self.started = self.told = time.monotonic()
        self._tell = tell

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.started < SETTLING_S:
            self.before = self.done
        if now - self.told >= LINE_EVERY_S:
            self.told = now
            self._tell(self.line(now - self.started, note))

    def line(self, elapsed: float, note: str = "") -> str:
        rate = (self.done - self.before) / elapsed if elapsed else 0.0
        left = ""
        if self.done <= self.total:
            left = f"{time_text((self.total - self.done) / rate)} left" if rate else "time left unknown"
        return "  ".join(filter(None, [f"{self.what} {self.counted}", f"{rate:.3g}/s", left, note]))

    @property
    def counted(self) -> str:
        return count_text(self.done, self.total)


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
    def track(self, what: str, total: int) -> Iterator[_LineTracker]:
        """Tell of a piece of work every half minute, and at its end if it told before."""
        tracker = _LineTracker(what, total, self._out.tell)
        yield tracker
        if tracker.told > tracker.started:
            self._out.tell(f"{what} {tracker.counted} in {time_text(time.monotonic() - tracker.started)}")


class _BarTracker:
    def __init__(self, bars: "RichProgress", task: "TaskID", total: int) -> None:
        self._bars, self._task, self._total = bars, task, total
        self._done, self._before, self._started, self._note = 0, 0, time.monotonic(), ""

    def advance(self, amount: int = 1, note: str = "") -> None:
        elapsed = time.monotonic() - self._started
        self._done += amount
        if elapsed < SETTLING_S:
            self._before = self._done
        new = self._done - self._before
        self._note = note or self._note
        self._bars.update(
            self._task,
            completed=self._done,
            note=self._note,
            rate=f"{new / elapsed:.3g}/s" if new else "",
            count=count_text(self._done, self._total),
        )
        if self._done > self._total:
            for task in self._bars.tasks:
                task.total = None if task.id == self._task else task.total


def _bar() -> "ProgressColumn":
    from rich.console import RenderableType
    from rich.progress import BarColumn, ProgressColumn, Task

    class KnownBarColumn(ProgressColumn):
        """A bar where the total is known: one of unknown length would look full."""

        known = BarColumn(bar_width=24)

        def render(self, task: Task) -> RenderableType:
            return self.known.render(task) if task.total else ""

    return KnownBarColumn()


class BarProgress:
    """Progress on a terminal: bars with count, rate, time left and a note."""

    def __init__(self, out: "Output") -> None:
        from rich.console import Console
        from rich.progress import Progress, TextColumn, TimeRemainingColumn

        self._out = out
        self._open = 0
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            _bar(),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )

    def say(self, text: str) -> None:
        """Tell one line, above the bars."""
        if self._open:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            self._out.say(text)

    def warn(self, text: str) -> None:
        """Tell one line that the user should not miss."""
        if self._open:
            self._bars.console.print(f"warning: {text}", style="yellow", markup=False, highlight=False)
        else:
            self._out.warn(text)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[_BarTracker]:
        """Show a bar while the block runs."""
        if self._open == 0:
            self._bars.start()
        self._open += 1
        task = self._bars.add_task(what, total=total or None, note="", rate="", count=count_text(0, total))
        try:
            yield _BarTracker(self._bars, task, total)
        finally:
            self._bars.remove_task(task)
            self._open -= 1
            if self._open == 0:
                self._bars.stop()
