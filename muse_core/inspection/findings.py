"""What looking at something gives: facts, what is odd, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["shards", "images", "latents", "checkpoint", "tokenizer", "run"]


@dataclass(frozen=True)
class Finding:
    """Something odd or wrong: how often it was seen, and where first."""

    what: str
    count: int
    first: str

    def line(self) -> str:
        """Say it."""
        return f"{self.count:,} x {self.what} (first: {self.first})"


@dataclass
class Findings:
    """Findings while they are gathered: one for each kind of them."""

    seen: dict[str, tuple[int, str]] = field(default_factory=dict)

    def note(self, what: str, where: str, count: int = 1) -> None:
        """Count something that was seen."""
        before, first = self.seen.get(what, (0, where))
        self.seen[what] = (before + count, first)

    def merge(self, other: Findings) -> None:
        """Add what was found elsewhere, later."""
        for what, (count, first) in other.seen.items():
            self.note(what, first, count)

    def all(self) -> tuple[Finding, ...]:
        """Everything, in the order in which it was first seen."""
        return tuple(Finding(what, count, first) for what, (count, first) in self.seen.items())


@dataclass(frozen=True)
class Inspection:
    """The result.

    facts: JSON-able. lines: the facts for people. notes: what is odd but harms nothing here. problems: what is wrong.
    next: the command that comes next, "" where none is known.
    """

    kind: Kind
    name: str
    facts: Mapping[str, Any]
    lines: tuple[str, ...]
    notes: tuple[Finding, ...] = ()
    problems: tuple[Finding, ...] = ()
    next: str = ""

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {
            "kind": self.kind,
            "name": self.name,
            **self.facts,
            **({"next": self.next} if self.next else {}),
            "notes": [asdict(one) for one in self.notes],
            "problems": [asdict(one) for one in self.problems],
        }
