"""Scores on disk: which file they go to, and reading them again."""

from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from muse_core.errors import MuseError
from muse_core.evaluation.protocol import Protocol, Scores
from muse_core.files import read_json
from muse_core.marks import KEY, mark_of
from muse_core.ownership import NameTakenError


def keep(scores: Scores, first: Path, *, named: bool = False, overwrite: bool = False) -> tuple[Path, dict[str, Any]]:
    """Write scores to `first`, or where that is taken by others to NAME-2.json, and so on.

    Args:
        scores: what to write.
        first: where.
        named: the user gave the name, so that what has it is replaced with `overwrite` only; somebody may have taken it
            while this was measured. Otherwise scores of the same protocol and weights are replaced, and no others.
        overwrite: replace whatever has the name that the user gave.

    Returns:
        Where they are, and what the file holds.
    """
    for number in count(1):
        path = first if number == 1 else first.with_name(f"{first.stem}-{number}{first.suffix}")
        replace = overwrite and number == 1 if named else is_same(path, scores)
        with suppress(NameTakenError):
            return path, scores.save(path, overwrite=replace)
    raise AssertionError("numbers do not end")


def is_same(path: Path, scores: Scores) -> bool:
    """Return whether a file holds what these scores measured, unchanged: the same weights by the same protocol."""
    try:
        document = read_json(path)
    except MuseError:
        return False
    return _measured(document) == _measured(scores.to_json()) and (KEY not in document or mark_of(path) is not None)


def _measured(document: Mapping[str, Any]) -> tuple[object, object]:
    """Return the hash of the weights and of the protocol, as far as a document of scores has them."""
    weights, protocol = document.get("checkpoint"), document.get("protocol")
    return (
        weights.get("sha256") if isinstance(weights, dict) else None,
        protocol.get("fingerprint") if isinstance(protocol, dict) else None,
    )


def read_kept(path: Path) -> Scores | None:
    """Read scores that muse wrote, without their pictures; None where they are not there or were changed since."""
    if mark_of(path) is None:
        return None
    document = read_json(path)
    told = {name: document[name] for name in Scores.__dataclass_fields__ if name in document and name != "pictures"}
    fields = {name: value for name, value in document["protocol"].items() if name not in ("metrics", "fingerprint")}
    return Scores(**{**told, "protocol": Protocol(fields, document["protocol"].get("metrics", {}))})
