"""Records of steps, one JSON object a line, as a run appends them while it goes."""

import json
from pathlib import Path
from typing import Any

from muse_core.errors import MuseError


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read records, none where there is no file; a last line that was cut short is left out.

    Raises:
        MuseError: another line is no record of a step.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    whole = lines if not lines or is_record(lines[-1]) else lines[:-1]
    damaged = [number for number, line in enumerate(whole, start=1) if not is_record(line)]
    if damaged:
        raise MuseError(f"{path}, line {damaged[0]}: not a record of a step", hint="remove that line")
    return [json.loads(line) for line in whole]


def is_record(line: str) -> bool:
    """Say whether a line is the record of a step."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and isinstance(record.get("step"), int)
