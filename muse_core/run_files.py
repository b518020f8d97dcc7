"""The files of a run folder that muse wrote, told from what the user put beside them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from muse_core.marks import KEY, mark_in, mark_of
from muse_core.ownership import FolderKind, files_in

STATES = ("running", "finished", "failed", "interrupted")
_TOP = r"config\.yaml|origins\.json|identity\.json|environment\.json|status\.json|metrics\.jsonl|log(-\d+)?\.txt"
_IN_STEP = r"(state\.json|(model|average|training)\.safetensors)"
_NAMES = re.compile(
    rf"{_TOP}|checkpoints/(last|best)|checkpoints/step-\d{{7,}}/{_IN_STEP}|samples/step-\d{{7,}}\.png|tensorboard/events\.out\.tfevents\.[^/]+"
)
_OLD_REPORT = re.compile(rb'<meta name="generator" content="muse [0-9.]+">')


def own_files(folder: Path) -> list[str] | None:
    """List the files of a run; None where status.json is not that of one.

    What only muse gives such a name in a run is known by it; reports and scores, which users edit, by their content.
    """
    status = _document(folder / "status.json")
    if not {"step", "started", "updated"} <= status.keys() or status.get("state") not in STATES:
        return None
    names = [name for name in files_in(folder) if not (folder / name).is_symlink()]
    own = ["status.json", *(name for name in names if _NAMES.fullmatch(name) and name != "status.json")]
    own += [name for name in names if re.fullmatch(r"report(-\d+)?\.html", name) and _is_report(folder / name)]
    return own + list(_results(folder / "results", names))


RUNS = FolderKind("a run", own_files)


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
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
