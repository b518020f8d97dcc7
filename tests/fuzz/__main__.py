"""`make fuzz`: damaged pictures, captions, tars, settings, checkpoints, runs and plugins through the commands."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults.__main__ import write_between
from tests.faults.scene import fast_folder
from tests.fuzz.run import Tried, tried

BEGIN, END = "<!-- fuzz: begin -->", "<!-- fuzz: end -->"


def main() -> int:
    """Try cases; 1 when a bug was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds whose name has this, or one of a,b, in it")
    parser.add_argument("--write", action="store_true", help="write the numbers into docs/faults.md")
    asked = parser.parse_args()
    done, told = Tried(), 0
    with tempfile.TemporaryDirectory(prefix="muse-trials-", dir=fast_folder()) as folder:
        for done in tried(Path(folder), asked.cases, asked.seed, asked.only):
            print(f"{done.cases.total()} cases, {len(done.bugs)} bugs", flush=True)
            for bug in done.bugs[told:]:
                print(bug.line(), flush=True)
            told = len(done.bugs)
    if asked.write:
        write_between(BEGIN, END, table(done, asked.seed))
    return int(bool(done.bugs))


def table(done: Tried, seed: int) -> str:
    """Lay out how many cases of each kind were tried."""
    found = {kind: sum(bug.kind == kind for bug in done.bugs) for kind in done.cases}
    lines = ["| what is damaged | cases | not as it should be |", "| --- | --- | --- |"]
    lines += [f"| {kind} | {count} | {found[kind]} |" for kind, count in done.cases.items()]
    return "\n".join([*lines, f"| all, seed {seed} | {done.cases.total()} | {len(done.bugs)} |", ""])


if __name__ == "__main__":
    sys.exit(main())
