"""The files of a run folder that muse wrote, told from what the user put beside them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from muse_core.files import HOLD
from muse_core.marks import KEY, mark_in, mark_of
from muse_core.ownership import FolderKind, files_in, is_scratch

STATES = ("running", "finished", "failed", "interrupted")
CHAIN = "chain.json"
"""What a run keeps of the stages after it, until the next of them begins."""
_TOP = r"chain\.json|config\.yaml|(origins|identity|environment|status|trackers)\.json|metrics\.jsonl|log(-\d+)?\.txt"
_IN_STEP = r"(state\.json|(model|average|training)\.safetensors)"
_NAMES = re.compile(
    rf"{_TOP}|checkpoints/(last|best)|checkpoints/step-\d{{7,}}/{_IN_STEP}|samples/step-\d{{7,}}\.png|tensorboard/events\.out\.tfevents\.[^/]+"
)
_BEFORE_STATUS = ("config.yaml", "origins.json", "environment.json")
"""What a run has before it has a status."""
_BEGUN = {*_BEFORE_STATUS, "identity.json", CHAIN, HOLD}
_OLD_REPORT = re.compile(rb'<meta name="generator" content="muse [0-9.]+">')


def own_files(folder: Path) -> list[str] | None:
    """List the files of a run; None where status.json is not that of one.

    What only muse gives such a name in a run is known by it; reports and scores, which users edit, by their content.
    """
    if not _is_status(_document(folder / "status.json")):
        return None
    names = [name for name in files_in(folder) if not (folder / name).is_symlink()]
    own = ["status.json", *(name for name in names if _NAMES.fullmatch(name) and name != "status.json")]
    own += [name for name in names if re.fullmatch(r"report(-\d+)?\.html", name) and _is_report(folder / name)]
    return own + list(_results(folder / "results", names))


RUNS = FolderKind("a run", own_files)


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run: it has the status of one, or a damaged one among a run's other files."""
    status = folder / "status.json"
    try:
        others = all((folder / name).is_file() for name in _BEFORE_STATUS)
        return status.is_file() and (others or _is_status(_document(status)))
    except (OSError, ValueError):  # a folder that may not be entered, a name that cannot be one
        return False


def may_be_run(folder: Path) -> bool:
    """Return whether a folder among runs is one, or was: a status.json that is no JSON object is damaged."""
    status = folder / "status.json"
    try:
        return is_run(folder) or (status.is_file() and _parsed_or_none(status.read_bytes()) is None)
    except OSError:  # it is there and may not be read
        return True


def remove_begun(folder: Path) -> None:
    """Remove what a killed process left of a run that has no status yet; nothing where anything else lies there.

    Only for who knows that nobody writes there.
    """
    names = list(files_in(folder))
    if "status.json" in names or not all(name in _BEGUN or is_scratch(name) for name in names):
        return
    for name in names:
        if name != HOLD:
            (folder / name).unlink()


def _is_status(document: dict[str, Any]) -> bool:
    return {"step", "started", "updated"} <= document.keys() and document.get("state") in STATES


def strangers_in_step(step: Path) -> list[str]:
    """List what lies in the folder of a checkpoint and is none of its files."""
    return [name for name in files_in(step) if not re.fullmatch(_IN_STEP, name)]


def is_left_over(step: Path) -> bool:
    """Say whether a checkpoint was removed and only what somebody put beside it is left."""
    return not any(re.fullmatch(_IN_STEP, entry.name) for entry in step.iterdir())


def remove_step(step: Path) -> None:
    """Remove a checkpoint; a file that somebody put beside it stays, and its folder with it."""
    for name in files_in(step):
        if re.fullmatch(_IN_STEP, name):
            (step / name).unlink()
    if not any(step.iterdir()):
        step.rmdir()


def _results(results: Path, names: list[str]) -> Iterator[str]:
    """Yield the scores that were not changed since, and the figures that they name."""
    for name in names:
        if not re.fullmatch(r"results/[^/]+\.json", name):
            continue
        content = (results.parent / name).read_bytes()
        document = _parsed(content)
        is_old = KEY not in document and {"command", "muse", "protocol", "metrics"} <= document.keys()
        if is_old or (KEY in document and mark_in(content)):
            yield name
            drawn = [str(figure) for figure in dict(document.get("pictures", {})).values()]
            yield from (f"results/{figure}" for figure in drawn if is_old or mark_of(results / figure))


def _is_report(path: Path) -> bool:
    start = path.read_bytes()[:4096]
    return mark_of(path) is not None or (b'<meta name="muse"' not in start and _OLD_REPORT.search(start) is not None)


def _document(path: Path) -> dict[str, Any]:
    return _parsed(path.read_bytes()) if path.is_file() else {}


def _parsed(content: bytes) -> dict[str, Any]:
    return _parsed_or_none(content) or {}


def _parsed_or_none(content: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
