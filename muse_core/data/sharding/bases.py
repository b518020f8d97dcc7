"""Where the paths in a table may begin, besides the folder of the pictures: anywhere, at the table, where one works."""

from __future__ import annotations

import os
from collections.abc import Iterator


class Bases:
    """Folders that a path of a table may be relative to.

    Args:
        source: the folder of the pictures; None where it is at an address, to which alone paths are relative then.
        table: the file with the paths.
    """

    def __init__(self, source: str | None, table: str) -> None:
        self._source = source or ""
        beside = [] if "://" in table else [os.path.dirname(os.path.abspath(table))]
        bases = [*beside, os.getcwd()] if source else []
        self._bases = [base for base in dict.fromkeys(bases) if not _same(base, self._source)]
        self._prefixes = list(dict.fromkeys(self._begins())) if source else []

    def of(self, path: str) -> list[str]:
        """Return what else a table may call a picture, by its path in the source."""
        return [f"{prefix}/{path}" for prefix in self._prefixes]

    def other(self, name: str, path: str) -> bool:
        """Say whether what a table calls a picture, by its path in the source, is the path of another file, too."""
        mine = os.path.join(self._source, path)
        files = [] if os.path.isabs(name) else [os.path.join(base, name) for base in (self._source, *self._bases)]
        return any(os.path.lexists(file) and not _same(file, mine) for file in files)

    def _begins(self) -> Iterator[str]:
        """Yield how the path of the source begins: from the root, also through links, and from each folder."""
        yield self._source
        yield os.path.realpath(self._source)
        for base in self._bases:
            yield os.path.relpath(self._source, base)
            yield os.path.relpath(os.path.realpath(self._source), os.path.realpath(base))


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
