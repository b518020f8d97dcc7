"""`make faults`: try every fault, and write what was seen into docs/faults.md."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from muse_core.files import write_atomically
from tests.faults.rows import FAULTS
from tests.faults.scene import Scene, fast_folder
from tests.faults.table import Row, markdown, tried

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


def main() -> int:
    """Try faults; 1 when one of them cost more than it may."""
    asked = _asked()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="muse-trials-", dir=fast_folder()) as folder:
        os.environ["MUSE_CACHE"] = str(Path(folder) / "cache")  # runs of trials are no runs of whoever tries
        scene = Scene(Path(folder))
        for fault in FAULTS:
            if asked.only not in fault.name:
                continue
            began = time.monotonic()
            rows.append(tried(fault, scene, asked.trials, asked.seed))
            print(" | ".join([*rows[-1].cells(), f"{time.monotonic() - began:.0f} s"]), flush=True)
            for problem in rows[-1].problems:
                print(f"  {problem}", flush=True)
            if asked.write:
                write_between(BEGIN, END, markdown(rows))
    return int(any(row.problems for row in rows))


def write_between(begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks of the document."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(begin)
    write_atomically(DOCUMENT, f"{before}{begin}\n{text}{end}{rest.partition(end)[2]}")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="faults whose name has this in it")
    parser.add_argument("--write", action="store_true", help="write the table into docs/faults.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
