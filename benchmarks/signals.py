"""Seconds from Ctrl-C and SIGTERM to the end of a command at work: `python -m benchmarks.signals`.

Each command gets the signal some seconds after its first line, when it is importing, loading or computing.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.old.archive import ROOT

CHECKPOINT = ROOT / "muse_core" / "model" / "weights" / "tiny_checkpoint"
LINES = (
    "infer large.png --size-px native",
    "infer demo:train:5000 --latents latents",
    "eval tiny --data demo:val:5000",
    "eval tiny --data demo:val:5000 --devices cpu:2",
    "inspect photos --deep",
    "attn-viz large.png --size-px native",
    "probe linear tiny --data demo:train:5000",
    "segment tiny --data demo:train:5000",
    "zeroshot tiny --data demo:val:5000",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--after", type=float, nargs="+", default=[1.0, 15.0], help="seconds after the first line")
    after = parser.parse_args().after
    with tempfile.TemporaryDirectory(prefix="muse-signals-") as scratch:
        make_images(Path(scratch))
        print("| command | signal | after, s | ended in, s | exit code |\n|---|---|---:|---:|---:|")
        for line in LINES:
            for number, seconds in zip((signal.SIGINT, signal.SIGTERM), after, strict=False):
                took, code = ended_in(line, number, seconds, scratch)
                print(f"| `muse {line}` | {number.name} | {seconds:g} | {took:.2f} | {code} |", flush=True)


def make_images(folder: Path) -> None:
    """Write a large image and a folder of images."""
    (folder / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "large.png")
    for count in range(200):
        Image.fromarray(pixels).save(folder / "photos" / f"{count}.jpg")


def ended_in(line: str, number: signal.Signals, after: float, folder: str) -> tuple[float, int]:
    """Return seconds between a signal and the end of a command, and its exit code."""
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MUSE_CACHE": f"{folder}/cache", "MUSE_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "muse_cli", *line.split()],
        cwd=folder,
        env={**os.environ, **own},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(after)
    sent = time.monotonic()
    process.send_signal(number)
    process.communicate()
    return time.monotonic() - sent, process.returncode


if __name__ == "__main__":
    main()
