"""What the tests of going on share."""

import os
from pathlib import Path
from typing import Any

LANES: dict[str, Any] = {"data.lanes": 1, "training.batch_size": 4, "training.steps": 2, "training.save_every": 1}
"""A run of two steps, saved after each, on data of a single shard."""


def overwrite(path: Path, content: bytes, *, keep_time: bool = True) -> None:
    """Replace a file by other bytes, with the time of change that it had."""
    state = path.stat()
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
