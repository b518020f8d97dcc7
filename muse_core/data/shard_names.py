"""What names of shards and of their members mean, as webdataset says it: late, because it imports torch."""

from typing import Any

_GRAMMAR = ("{", "::", "$", "\\")


def expand_urls(where: str) -> list[str]:
    """Return the names that a pattern with braces, `::` and variables stands for.

    Raises:
        ValueError: it is no pattern.
    """
    if not any(sign in where for sign in _GRAMMAR):
        return [where]
    from webdataset.shardlists import expand_urls as expand

    return list(expand(where))


def base_plus_ext(name: str) -> tuple[Any, Any]:
    """Return what stands before and behind the first dot of a member's name; None twice where there is no dot."""
    from webdataset.tariterators import base_plus_ext as split

    found: tuple[str, str] | tuple[None, None] = split(name)
    return found
