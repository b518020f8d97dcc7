"""What somebody meant who typed a name that is nearly right."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(typed: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like what was typed, whatever its case; None where none is like it."""
    by_form = {name.casefold(): name for name in known}
    found = get_close_matches(typed.casefold(), by_form, n=1)
    return by_form[found[0]] if found else None


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """Return "did you mean NAME?" for what is nearly a known name, else nothing."""
    name = nearest(typed, known)
    return f"did you mean {name}?" if name else ""


def choices(typed: str, known: Iterable[str]) -> str:
    """Return the hint for a name that does not exist: the nearest one, then all."""
    names = list(known)
    return " ".join(filter(None, [did_you_mean(typed, names), f"choose from {', '.join(names) or 'none'}"]))
